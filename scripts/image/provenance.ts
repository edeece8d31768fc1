/** From what an image was built: the predicate of SLSA 1.0, which `cosign attest` signs with the image's digest. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import packageJson from '../../package.json' with { type: 'json' }

interface Dependency {
  readonly uri: string
  readonly digest: Readonly<Record<string, string>>
}

/** Every file that packages.lock names. */
function pinned(): Dependency[] {
  const lines = readFileSync('scripts/image/packages.lock', 'utf8').split('\n')
  return lines
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [, sum, source] = line.split(' ') as [string, string, string]
      const sha512 = /^sha512-(.*)/.exec(sum)?.[1]
      return sha512 === undefined
        ? { uri: `https://deb.debian.org/${source}`, digest: { sha256: sum } }
        : { uri: `pkg:npm/${source}`, digest: { sha512: Buffer.from(sha512, 'base64').toString('hex') } }
    })
}

export function provenanceOf(revision: string, created: string): object {
  const lock = createHash('sha256').update(readFileSync('package-lock.json')).digest('hex')
  return {
    buildDefinition: {
      buildType: 'urn:kube-ipvs:npm-run-image:1',
      externalParameters: { version: packageJson.version, revision, sourceDate: created },
      resolvedDependencies: [
        { uri: 'git:kube-ipvs', digest: { gitCommit: revision } },
        { uri: 'file:package-lock.json', digest: { sha256: lock } },
        ...pinned(),
      ],
    },
    // Whoever signs says who has built; CI names itself.
    runDetails: { builder: { id: process.env.BUILDER_ID ?? 'urn:kube-ipvs:by-hand' } },
  }
}
