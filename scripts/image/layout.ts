/**
 * Makes an OCI image layout of the layers that scripts/image/build has packed, and beside it a bill of materials for each
 * architecture, and what it was built from.
 *   node scripts/image/layout.ts WORK OUT       WORK: a folder for each architecture, as scripts/image/roots has made
 * SOURCE_DATE_EPOCH and REVISION say which commit it is. There is no other time in it.
 */
import { createHash } from 'node:crypto'
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import packageJson from '../../package.json' with { type: 'json' }
import { billOf } from './bill.ts'
import { provenanceOf } from './provenance.ts'

const ARCHITECTURES = ['amd64', 'arm64'] as const
/** The lower one changes rarely. */
const LAYERS = ['base', 'app'] as const
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json'
const INDEX = 'application/vnd.oci.image.index.v1+json'

interface Descriptor {
  readonly mediaType: string
  readonly digest: string
  readonly size: number
}

const [work, out] = process.argv.slice(2) as [string, string]
const revision = process.env.REVISION!
const created = new Date(Number(process.env.SOURCE_DATE_EPOCH) * 1000).toISOString().replace('.000', '')
const layout = join(out, 'oci')
const sha256 = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`

function put(mediaType: string, bytes: Uint8Array): Descriptor {
  const digest = sha256(bytes)
  writeFileSync(join(layout, 'blobs', digest.replace(':', '/')), bytes)
  return { mediaType, digest, size: bytes.length }
}

const putJson = (mediaType: string, value: object): Descriptor =>
  put(mediaType, Buffer.from(JSON.stringify(value)))

function labels(): Record<string, string> {
  const { name, description, version, license } = packageJson
  const { repository } = packageJson as { repository?: { url: string } }
  return {
    'org.opencontainers.image.title': name,
    'org.opencontainers.image.description': description,
    'org.opencontainers.image.version': version,
    'org.opencontainers.image.revision': revision,
    'org.opencontainers.image.created': created,
    'org.opencontainers.image.licenses': license,
    ...(repository && { 'org.opencontainers.image.source': repository.url }),
  }
}

/** What a container runs, as the Dockerfile says it. */
function configOf(architecture: string, diffIds: readonly string[]): object {
  return {
    created,
    architecture,
    os: 'linux',
    config: {
      Env: ['PATH=/usr/local/bin:/usr/sbin:/usr/bin'],
      Entrypoint: ['/usr/local/bin/kube-ipvs'],
      WorkingDir: '/usr/local/lib/kube-ipvs',
      Labels: labels(),
    },
    rootfs: { type: 'layers', diff_ids: diffIds },
    history: LAYERS.map((layer) => ({ created, created_by: `scripts/image/build: ${layer}` })),
  }
}

function putManifest(architecture: string): Descriptor {
  const packed = LAYERS.map((layer) => readFileSync(join(work, architecture, `${layer}.tar.gz`)))
  const diffIds = packed.map((layer) => sha256(gunzipSync(layer)))
  return putJson(MANIFEST, {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: putJson('application/vnd.oci.image.config.v1+json', configOf(architecture, diffIds)),
    layers: packed.map((layer) => put('application/vnd.oci.image.layer.v1.tar+gzip', layer)),
    annotations: labels(),
  })
}

/** A tag for all architectures, and one for each: umoci takes no image of many. */
function putIndex(manifests: ReadonlyMap<string, Descriptor>): Descriptor {
  const index = putJson(INDEX, {
    schemaVersion: 2,
    mediaType: INDEX,
    manifests: [...manifests].map(([architecture, manifest]) => ({
      ...manifest,
      platform: { architecture, os: 'linux' },
    })),
    annotations: labels(),
  })
  const tag = (image: Descriptor, name: string): object => ({
    ...image,
    annotations: { 'org.opencontainers.image.ref.name': name },
  })
  const { version } = packageJson
  const single = [...manifests].map(([architecture, one]) => tag(one, `${version}-${architecture}`))
  const entry = { schemaVersion: 2, mediaType: INDEX, manifests: [tag(index, version), ...single] }
  writeFileSync(join(layout, 'index.json'), JSON.stringify(entry))
  writeFileSync(join(layout, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }))
  return index
}

function writeJson(name: string, value: object): void {
  writeFileSync(join(out, name), JSON.stringify(value, undefined, 2) + '\n')
}

mkdirSync(join(layout, 'blobs/sha256'), { recursive: true })
const manifests = new Map(ARCHITECTURES.map((architecture) => [architecture, putManifest(architecture)]))
const index = putIndex(manifests)
for (const [architecture, { digest, size }] of manifests) {
  const folder = join(work, architecture)
  writeJson(`sbom-${architecture}.cdx.json`, billOf({ architecture, digest, created, folder }))
  // For the npm package, too.
  cpSync(
    join(folder, 'app/usr/local/lib/kube-ipvs/native/build/Release/netlink_socket.node'),
    join(out, `netlink_socket-${architecture}.node`),
  )
  console.log(`${architecture}  ${digest}  manifest of ${size} bytes`)
}
writeJson('provenance.json', provenanceOf(revision, created))
writeFileSync(join(out, 'digest'), `${index.digest}\n`)
console.log(`all    ${index.digest}`)
