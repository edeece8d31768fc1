/** The image of `npm run image`: built twice, in two clean folders, read by Debian's own tools, unpacked and run. */
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { Spec, Validation } from '@cyclonedx/cyclonedx-library'
import { expect } from 'chai'
import packageJson from '../../package.json' with { type: 'json' }
import { cleanFolder } from '../support/clean-folder.ts'
import { filesOfImage } from '../support/image-files.ts'

const CPUS = { amd64: 'x64', arm64: 'arm64' } as const
type Architecture = keyof typeof CPUS
const ARCHITECTURES = Object.keys(CPUS) as Architecture[]
/** What may be fetched, of an architecture, by a node that has nothing yet. */
const MOST_BYTES = 75_000_000

interface Component {
  readonly type: string
  readonly name: string
  readonly purl?: string
  readonly licenses?: readonly unknown[]
  readonly hashes?: readonly { readonly content: string }[]
  readonly components?: readonly Component[]
}

const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-layout-'))
const read = (...args: string[]): string => execFileSync(args[0]!, args.slice(1), { encoding: 'utf8' })

/** Downloads are checked against their sums, so they may be shared; the rest is made anew. */
function build(name: string, cache: string): string {
  const out = join(folder, `${name}-image`)
  const IMAGE_CACHE = join(folder, cache)
  mkdirSync(IMAGE_CACHE, { recursive: true })
  spawnSync('ln', ['-sfn', resolve('.cache/image/downloads'), join(IMAGE_CACHE, 'downloads')])
  execFileSync('scripts/image/build', [out], {
    cwd: cleanFolder(join(folder, name)),
    env: { ...process.env, IMAGE_CACHE, REVISION: 'tested', SOURCE_DATE_EPOCH: '1700000000' },
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return out
}

const sha256 = (path: string): string => createHash('sha256').update(readFileSync(path)).digest('hex')

/** By path, what each file is: its hash, or that it is a link. */
function contentsOf(root: string): Map<string, string> {
  const paths = read('find', root, '!', '-type', 'd').trim().split('\n').sort()
  return new Map(
    paths.map((path) => [path.slice(root.length), lstatSync(path).isSymbolicLink() ? 'link' : sha256(path)]),
  )
}

describe('the image layout', function () {
  this.timeout(300_000)
  let image: string
  let rootOf: (architecture: Architecture) => string

  before(function () {
    this.timeout(1_800_000)
    mkdirSync('.cache/image/downloads', { recursive: true })
    image = build('one', 'cache')
    for (const architecture of ARCHITECTURES) {
      const tag = `${image}/oci:${packageJson.version}-${architecture}`
      const rootless = process.getuid!() === 0 ? [] : ['--rootless']
      read('umoci', 'unpack', ...rootless, '--image', tag, join(folder, architecture))
    }
    rootOf = (architecture) => join(folder, architecture, 'rootfs')
  })
  after(() => {
    read('chmod', '-R', 'u+w', folder)
    rmSync(folder, { recursive: true })
  })

  it('is the same, byte for byte, when it is built in another folder', function () {
    this.timeout(1_800_000)
    expect(contentsOf(build('two', 'cache'))).to.deep.equal(contentsOf(image))
  })

  it('is read by skopeo: both architectures, labels, the way in', () => {
    const from = `oci:${image}/oci:${packageJson.version}`
    const raw = JSON.parse(read('skopeo', 'inspect', '--raw', from)) as {
      manifests: { platform: { architecture: string } }[]
    }
    expect(raw.manifests.map(({ platform }) => platform.architecture)).to.deep.equal(ARCHITECTURES)
    for (const architecture of ARCHITECTURES) {
      const options = ['--config', '--override-arch', architecture]
      const { config } = JSON.parse(read('skopeo', 'inspect', ...options, from)) as {
        config: { Entrypoint: string[]; Labels: Record<string, string> }
      }
      expect(config.Entrypoint).to.deep.equal(['/usr/local/bin/kube-ipvs'])
      expect(config.Labels).to.include({
        'org.opencontainers.image.title': 'kube-ipvs',
        'org.opencontainers.image.version': packageJson.version,
        'org.opencontainers.image.licenses': 'Apache-2.0',
        'org.opencontainers.image.revision': 'tested',
      })
    }
  })

  it('names in the SLSA provenance every file that it was built from', () => {
    const text = readFileSync(join(image, 'provenance.json'), 'utf8')
    const { buildDefinition } = JSON.parse(text) as { buildDefinition: { resolvedDependencies: object[] } }
    const pins = readFileSync('scripts/image/packages.lock', 'utf8').match(/^(amd64|arm64|build) /gm)!
    expect(buildDefinition.resolvedDependencies).to.have.length(pins.length + 2)
  })

  for (const architecture of ARCHITECTURES) {
    describe(`for ${architecture}`, () => {
      const run = (...command: string[]): string =>
        read('scripts/image/run', architecture, rootOf(architecture), ...command)

      it(`takes ${MOST_BYTES / 1e6} MB at most, packed`, () => {
        const from = `oci:${image}/oci:${packageJson.version}-${architecture}`
        const { layers } = JSON.parse(read('skopeo', 'inspect', '--raw', from)) as {
          layers: { size: number }[]
        }
        expect(layers.reduce((sum, { size }) => sum + size, 0)).to.be.below(MOST_BYTES)
      })

      it('has the files of the Dockerfile, no shell, no compiler, no package manager', () => {
        const paths = [...contentsOf(rootOf(architecture)).keys()]
        const home = '/usr/local/lib/kube-ipvs/'
        const own = paths.filter((path) => path.startsWith(home)).map((path) => path.slice(home.length))
        expect(own).to.deep.equal(filesOfImage(CPUS[architecture]))
        const programs = paths.filter((path) => /^\/usr\/(local\/)?s?bin\//.test(path))
        const others =
          /\/(env|node|kube-ipvs|kube-proxy|nft|kmod|modprobe|ip6?tables[\w-]*|xtables-(nft|legacy)-multi)$/
        expect(programs.filter((path) => !others.test(path))).to.deep.equal([])
      })

      it('can be written by nobody, and has no program that changes its user', () => {
        const root = rootOf(architecture)
        // umoci makes the uppermost folder itself.
        expect(read('find', root, '-mindepth', '1', '!', '-type', 'l', '-perm', '/7222')).to.equal('')
      })

      it('has every library that its programs load', () => {
        const root = rootOf(architecture)
        const programs = ['usr/local/bin/node', 'usr/bin/env', 'usr/sbin/nft', 'usr/bin/kmod']
        const variants = ['nft', 'legacy'].map((variant) => `usr/sbin/xtables-${variant}-multi`)
        for (const program of [...programs, ...variants]) {
          const loaded = run('--list', join(root, program)).trim().split('\n')
          const elsewhere = loaded.filter((line) => line.includes('=> ') && !line.includes(root))
          expect(elsewhere, program).to.deep.equal([])
        }
      })

      it('answers --version, and takes what V8 has compiled for it', () => {
        const home = join(rootOf(architecture), 'usr/local/lib/kube-ipvs/dist')
        expect(run('node', join(home, 'kube-ipvs.cjs'), '--version').trim()).to.equal(packageJson.version)
        const load = `new vm.Script(fs.readFileSync('${home}/main.cjs', 'latin1'), {
          cachedData: fs.readFileSync('${home}/main.compiled') }).cachedDataRejected`
        expect(run('node', '-p', load).trim()).to.equal('false')
      })

      it('loads both addons, and comes to ask the kernel', () => {
        const program = join(rootOf(architecture), 'usr/local/lib/kube-ipvs/dist/kube-ipvs.cjs')
        const manifests = mkdtempSync(join(folder, 'manifests-'))
        const command = [
          architecture,
          rootOf(architecture),
          'node',
          program,
          'plan',
          '--manifests',
          manifests,
        ]
        const { status, stderr } = spawnSync('scripts/image/run', command, { encoding: 'utf8' })
        // User-mode emulation has no generic netlink.
        if (status !== 0)
          expect(stderr).to.match(
            /This kernel has no IPVS|CAP_NET_ADMIN|netlink protocol 16: EPROTONOSUPPORT/,
          )
      })

      it('has a bill of materials after CycloneDX, with licences, and every file with its hash', async () => {
        const text = readFileSync(join(image, `sbom-${architecture}.cdx.json`), 'utf8')
        const validator = new Validation.JsonStrictValidator(Spec.Version.v1dot6)
        expect(await validator.validate(text)).to.equal(null)
        const { components } = JSON.parse(text) as { components: Component[] }
        const files = components.flatMap((one) => one.components ?? [])
        const listed = new Map(files.map(({ name, hashes }) => [name, hashes?.[0]?.content ?? 'link']))
        const contents = contentsOf(rootOf(architecture))
        // The merged folders of Debian, which are no package's.
        for (const link of ['/bin', '/lib', '/lib64', '/sbin']) contents.delete(link)
        expect(Object.fromEntries(listed)).to.deep.equal(Object.fromEntries(contents))
        expect(components.filter(({ licenses }) => (licenses ?? []).length === 0)).to.deep.equal([])
        const bundled = components.map(({ purl }) => purl?.split('@')[0])
        expect(bundled).to.include.members(['pkg:npm/pino', 'pkg:npm/preact', 'pkg:deb/debian/iptables'])
      })
    })
  }

  it('runs as a container would, in its own root', () => {
    const rootless = process.getuid!() === 0 ? [] : ['unshare', '--map-root-user']
    const root = rootOf('amd64')
    const version = (...command: string[]): string =>
      read('env', '-i', 'PATH=/usr/sbin:/usr/bin:/usr/local/bin', ...rootless, 'chroot', root, ...command)
    expect(version('/usr/local/bin/kube-ipvs', '--version').trim()).to.equal(packageJson.version)
    expect(version('/usr/local/bin/kube-proxy', '--version').trim()).to.equal(packageJson.version)
    expect(version('iptables-save', '--version')).to.contain('nf_tables')
    expect(version('ip6tables-legacy-save', '--version')).to.contain('legacy')
    for (const command of ['nft', 'modprobe']) expect(version(command, '--version')).to.match(/\d/)
  })
})
