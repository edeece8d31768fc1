/** The bill of materials of an image, as CycloneDX 1.6: packages with their licences, and every file with its hash. */
import { createHash } from 'node:crypto'
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import packageJson from '../../package.json' with { type: 'json' }

interface Image {
  readonly architecture: string
  /** Of the manifest. */
  readonly digest: string
  readonly created: string
  /** What scripts/image/roots has made. */
  readonly folder: string
}

interface Component {
  readonly type: 'application' | 'container' | 'file' | 'library'
  readonly name: string
  readonly 'bom-ref': string
  readonly version?: string
  readonly purl?: string
  readonly cpe?: string
  readonly licenses?: readonly object[]
  readonly hashes?: readonly object[]
  readonly properties?: readonly object[]
  readonly components?: readonly Component[]
}

interface PackageJson {
  readonly name: string
  readonly version: string
  readonly license?: string
}

const readJson = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'))

/** A file has its hash, a symbolic link where it leads. */
function fileOf(folder: string, path: string): Component {
  const place = ['base', 'app'].map((layer) => join(folder, layer, path)).find((one) => lstatOf(one))!
  const file = { type: 'file', name: `/${path}`, 'bom-ref': `file:/${path}` } as const
  if (lstatSync(place).isSymbolicLink())
    return { ...file, properties: [{ name: 'kube-ipvs:link', value: readlinkSync(place) }] }
  const content = createHash('sha256').update(readFileSync(place)).digest('hex')
  return { ...file, hashes: [{ alg: 'SHA-256', content }] }
}

const lstatOf = (path: string): object | undefined => lstatSync(path, { throwIfNoEntry: false })

/** Files by the package that they are of. */
function readOwners(folder: string): Map<string, Component[]> {
  const owners = new Map<string, Component[]>()
  for (const line of readFileSync(join(folder, 'owners'), 'utf8').trim().split('\n')) {
    const [path, owner] = line.split('\t') as [string, string]
    owners.set(owner, [...(owners.get(owner) ?? []), fileOf(folder, path)])
  }
  return owners
}

/** The short names in Debian's copyright file; where it has none, the licences of Debian that its text points to. */
function licencesOf(copyright: string): object[] {
  const short = [...copyright.matchAll(/^License: *(\S.*?) *$/gm)].map((match) => match[1]!)
  const pointed = [...copyright.matchAll(/common-licenses\/([\w.-]*\w)/g)].map((match) => match[1]!)
  const names = new Set(short.length > 0 ? short : pointed)
  if (names.size === 0) names.add('see the copyright file')
  return [...names].sort().map((name) => ({ license: { name } }))
}

function debianPackage(folder: string, name: string, components: readonly Component[]): Component {
  const control = readFileSync(join(folder, 'control', name), 'utf8')
  const field = (key: string): string => new RegExp(`^${key}: (.*)$`, 'm').exec(control)![1]!
  const version = field('Version')
  const purl = `pkg:deb/debian/${encodeURIComponent(name)}@${encodeURIComponent(version)}?arch=${field('Architecture')}&distro=debian-12`
  const copyright = readFileSync(join(folder, 'base/usr/share/doc', name, 'copyright'), 'utf8')
  return {
    type: 'library',
    name,
    version,
    'bom-ref': purl,
    purl,
    licenses: licencesOf(copyright),
    components,
  }
}

function npmPackage(place: string, components: readonly Component[]): Component {
  const { name, version, license } = readJson(join(place, 'package.json')) as PackageJson
  const purl = `pkg:npm/${name.replace('@', '%40')}@${version}`
  const licenses =
    license === undefined ? [{ license: { name: 'see its files' } }] : [{ expression: license }]
  return { type: 'library', name, version, 'bom-ref': purl, purl, licenses, components }
}

function nodePackage(architecture: string, components: readonly Component[]): Component {
  const version = packageJson.devDependencies.node
  const purl = `pkg:npm/node-linux-${architecture === 'amd64' ? 'x64' : architecture}@${version}`
  return {
    type: 'application',
    name: 'node',
    version,
    'bom-ref': purl,
    purl,
    // By this scanners know it.
    cpe: `cpe:2.3:a:nodejs:node.js:${version}:*:*:*:*:*:*:*`,
    licenses: [{ license: { id: 'MIT' } }],
    components,
  }
}

/** Where the packages are whose text is in the bundles, or that stay beside them. */
function placesOfPackages(owners: Iterable<string>): Map<string, string> {
  const bundled = readJson('dist/packages.json') as string[]
  const beside = [...owners].flatMap((owner) => /^npm:(.*)/.exec(owner)?.[1] ?? [])
  const places = [...beside.map((name) => `node_modules/${name}`), ...bundled]
  return new Map(places.map((place) => [`npm:${place.split('node_modules/').at(-1)!}`, place]))
}

function kubeIpvs(components: readonly Component[]): Component {
  const { name, version, license } = packageJson
  const purl = `pkg:npm/${name}@${version}`
  return {
    type: 'application',
    name,
    version,
    'bom-ref': purl,
    purl,
    licenses: [{ expression: license }],
    components,
  }
}

function componentsOf({ folder, architecture }: Image): Component[] {
  const owners = readOwners(folder)
  const debian = readdirSync(join(folder, 'control')).sort()
  const of = (owner: string): Component[] => owners.get(owner) ?? []
  return [
    kubeIpvs(of('kube-ipvs')),
    nodePackage(architecture, of('node')),
    ...debian.map((name) => debianPackage(folder, name, of(name))),
    ...[...placesOfPackages(owners.keys())]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([owner, place]) => npmPackage(place, of(owner))),
  ]
}

export function billOf(image: Image): object {
  const { digest, created, architecture } = image
  const components = componentsOf(image)
  const { name, version } = packageJson
  const purl = `pkg:oci/${name}@${encodeURIComponent(digest)}?arch=${architecture}`
  const root: Component = { type: 'container', name, version, 'bom-ref': purl, purl }
  const [, a, b, c, d, e] = /^sha256:(.{8})(.{4})(.{3})(.{3})(.{12})/.exec(digest)!
  return {
    $schema: 'http://cyclonedx.org/schema/bom-1.6.schema.json',
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    // Of the digest, so that the same image has the same.
    serialNumber: `urn:uuid:${a}-${b}-4${c}-8${d}-${e}`,
    version: 1,
    metadata: { timestamp: created, component: root },
    components,
    dependencies: [{ ref: purl, dependsOn: components.map((one) => one['bom-ref']) }],
  }
}
