/** scripts/publish, with a real registry over TLS. Only cosign is a stand-in, as it asks services of the internet. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect } from 'chai'
import packageJson from '../../package.json' with { type: 'json' }
import { cleanFolder } from '../support/clean-folder.ts'
import { eventually } from '../support/eventually.ts'

const { version } = packageJson
const HOST = 'localhost:15543'
const IMAGE = `${HOST}/team/kube-ipvs`
const CHART = `${HOST}/team/charts/kube-ipvs`

/** Takes what cosign takes here, says no where there is nothing to sign, and notes what it has signed. */
const COSIGN = `#!/usr/bin/env bash
set -euo pipefail
echo "$*" >>"$COSIGN_LOG"
there() { skopeo inspect --raw "docker://$1" >/dev/null; }
case $* in
  'sign --yes --recursive '*@sha256:* | 'sign --yes '*@sha256:*) there "\${!#}" ;;
  'attest --yes --type slsaprovenance1 --predicate '* | 'attest --yes --type cyclonedx --predicate '*)
    [[ -s $6 ]] && there "$7" ;;
  'sign-blob --yes --bundle '*) [[ -s $5 ]] && echo '{}' >"$4" ;;
  *) echo "cosign: what is $*?" >&2; exit 1 ;;
esac
`

const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-publish-'))
const inFolder = (name: string): string => join(folder, name)

/** A certificate of the registry's own, which whoever pushes trusts beside those of the machine. */
function certificate(): void {
  const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
  const key = ['-newkey', 'rsa:2048', '-nodes', '-keyout', inFolder('key.pem')]
  const args = ['req', '-x509', '-days', '2', ...key, '-out', inFolder('cert.pem'), ...subject]
  execFileSync('openssl', args, { stdio: 'ignore' })
  const trusted = readFileSync('/etc/ssl/certs/ca-certificates.crt', 'utf8')
  writeFileSync(inFolder('trusted.pem'), trusted + readFileSync(inFolder('cert.pem'), 'utf8'))
}

function startRegistry(): ChildProcess {
  const config = {
    version: 0.1,
    log: { level: 'error' },
    storage: { filesystem: { rootdirectory: inFolder('registry') } },
    http: { addr: HOST, tls: { certificate: inFolder('cert.pem'), key: inFolder('key.pem') } },
  }
  writeFileSync(inFolder('registry.yaml'), JSON.stringify(config))
  const program = resolve('.cache/registry/usr/bin/docker-registry')
  return spawn(program, ['serve', inFolder('registry.yaml')], { stdio: 'ignore' })
}

const environment = (): NodeJS.ProcessEnv => ({
  ...process.env,
  PATH: `${inFolder('bin')}:${process.env.PATH}`,
  SSL_CERT_FILE: inFolder('trusted.pem'),
  COSIGN_LOG: inFolder('cosign.log'),
  HOME: inFolder('home'),
})

const run = (cwd: string, program: string, ...args: string[]): string =>
  execFileSync(program, args, {
    cwd,
    env: environment(),
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
const raw = (name: string): string => run(folder, 'skopeo', 'inspect', '--raw', `docker://${name}`)
const digestOf = (text: string): string => `sha256:${createHash('sha256').update(text).digest('hex')}`

/** A repository with one commit, whose downloads are those of this folder. */
function repository(): string {
  const place = cleanFolder(inFolder('clone'))
  mkdirSync(join(place, '.cache/image'), { recursive: true })
  symlinkSync(resolve('.cache/image/downloads'), join(place, '.cache/image/downloads'))
  for (const shared of ['kubectl', 'registry'])
    symlinkSync(resolve('.cache', shared), join(place, '.cache', shared))
  run(place, 'git', 'init', '--quiet')
  run(place, 'git', 'add', '--all')
  run(place, 'git', '-c', 'user.name=x', '-c', 'user.email=x@x', 'commit', '--quiet', '--message', 'x')
  return place
}

describe('scripts/publish', function () {
  this.timeout(1_800_000)
  let clone: string
  let server: ChildProcess

  const publish = (registry = `${HOST}/team`): { readonly code: number | null; readonly said: string } => {
    const { status, stdout, stderr } = spawnSync('scripts/publish', [registry], {
      cwd: clone,
      env: environment(),
      encoding: 'utf8',
    })
    return { code: status, said: stdout + stderr }
  }
  const signed = (): string[] => readFileSync(inFolder('cosign.log'), 'utf8').trim().split('\n')

  before(async () => {
    for (const name of ['bin', 'home', 'registry']) mkdirSync(inFolder(name))
    writeFileSync(inFolder('bin/cosign'), COSIGN, { mode: 0o755 })
    mkdirSync('.cache/image/downloads', { recursive: true })
    certificate()
    server = startRegistry()
    clone = repository()
    const ask = ['--silent', '--fail', '--cacert', inFolder('trusted.pem')]
    await eventually(() => run(folder, 'curl', ...ask, `https://${HOST}/v2/`), 10_000)
  })
  after(() => {
    server.kill()
    execFileSync('chmod', ['-R', 'u+w', folder])
    rmSync(folder, { recursive: true })
  })

  it('refuses what has no tag', () => {
    const { code, said } = publish()
    expect(code).to.equal(1)
    expect(said).to.contain(`no: the commit that is checked out has no tag v${version}`)
  })

  it('refuses a tree that nobody else has', () => {
    run(clone, 'git', 'tag', `v${version}`)
    writeFileSync(join(clone, 'note'), '')
    const { code, said } = publish()
    rmSync(join(clone, 'note'))
    expect(code).to.equal(1)
    expect(said).to.contain('no: there are changes that no commit has')
  })

  it('takes no silence for an empty place: a registry that does not answer gets nothing', () => {
    const { code, said } = publish('localhost:1/team')
    expect(code).to.equal(1)
    expect(said).to.match(/no: whether localhost:1\/team\/kube-ipvs:\S+ is there: .*connection refused/)
  })

  it('puts the image, the chart and their signatures into the registry, and the package beside them', () => {
    const { code, said } = publish()
    expect(code, said).to.equal(0)
    const digest = digestOf(raw(`${IMAGE}:${version}`))
    expect(said).to.contain(`${IMAGE}@${digest} is published`)
    const { manifests } = JSON.parse(raw(`${IMAGE}:${version}`)) as { manifests: { digest: string }[] }
    const file = `dist/kube-ipvs-${version}.tgz`
    expect(signed()).to.deep.equal([
      `sign --yes --recursive ${IMAGE}@${digest}`,
      `attest --yes --type slsaprovenance1 --predicate dist/image/provenance.json ${IMAGE}@${digest}`,
      ...['amd64', 'arm64'].map(
        (architecture, i) =>
          `attest --yes --type cyclonedx --predicate dist/image/sbom-${architecture}.cdx.json ${IMAGE}@${manifests[i]!.digest}`,
      ),
      `sign --yes ${CHART}@${digestOf(raw(`${CHART}:${version}`))}`,
      `sign-blob --yes --bundle ${file}.sigstore.json ${file}`,
    ])
    expect(run(clone, 'tar', 'tzf', file)).to.contain('package/dist/kube-ipvs.cjs')
    expect(run(clone, 'git', 'status', '--porcelain')).to.equal('')
  })

  it('has made a chart that takes this image', () => {
    const helm = run(clone, 'scripts/helm').trim()
    const of = ['kube-ipvs', `oci://${CHART}`, '--version', version]
    const objects = run(
      folder,
      helm,
      'template',
      ...of,
      '-n',
      'kube-system',
      '--set',
      'replaceKubeProxy=true',
    )
    expect(objects).to.contain(`image: ${IMAGE}:${version}`)
  })

  it('goes on where it was cut off: what is there stays as it is', () => {
    const chart = raw(`${CHART}:${version}`)
    const { code, said } = publish()
    expect(code, said).to.equal(0)
    expect(said).not.to.contain('Copying blob')
    expect(raw(`${CHART}:${version}`)).to.equal(chart)
  })

  it('never publishes a version twice', () => {
    const { manifests } = JSON.parse(raw(`${IMAGE}:${version}`)) as { manifests: { digest: string }[] }
    const other = `docker://${IMAGE}@${manifests[0]!.digest}`
    run(folder, 'skopeo', 'copy', '--preserve-digests', other, `docker://${IMAGE}:${version}`)
    const before = signed().length
    const { code, said } = publish()
    expect(code).to.equal(1)
    expect(said).to.match(
      /no: there is one already, sha256:\w+, and this is sha256:\w+\n +do: raise the version/,
    )
    expect(signed()).to.have.length(before)
  })
})
