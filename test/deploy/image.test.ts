/** The Dockerfile's steps, by hand in an empty folder; and the package, installed as `npm i -g` does. */
import { execFileSync, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import { Copy, DockerfileParser, From, type Instruction, Run, Workdir } from 'dockerfile-ast'
import { validate } from 'dockerfile-utils'
import packageJson from '../../package.json' with { type: 'json' }
import { filesOfImage } from '../support/image-files.ts'

const TEXT = readFileSync('Dockerfile', 'utf8')
const INSTRUCTIONS = DockerfileParser.parse(TEXT).getInstructions()
/** The file system of a stage, in a folder. */
type Stage = ReturnType<typeof openStage>

const argumentsOf = (instruction: Instruction): string[] =>
  instruction.getArguments().map((argument) => argument.getValue())

/** The shell line of a RUN. */
const commandOf = (instruction: Instruction): string =>
  instruction
    .getTextContent()
    .replace(/^RUN\s+/, '')
    .replaceAll(/\\\n\s*/g, '')

function openStage(folder: string) {
  return { folder, workdir: '/', packages: [] as string[] }
}

const inside = ({ folder, workdir }: Stage, path: string): string =>
  join(folder, isAbsolute(path) ? path : join(workdir, path))

/** Copies files of the repository that git knows, or of another stage. */
function copy(stage: Stage, instruction: Copy, stages: ReadonlyMap<string, Stage>): void {
  const from = instruction
    .getFlags()
    .find((flag) => flag.getName() === 'from')
    ?.getValue()
  const paths = argumentsOf(instruction)
  const target = paths.pop()!
  for (const path of paths) {
    const source = from === undefined || from === null ? path : inside(stages.get(from)!, path)
    const isFolder = statSync(source).isDirectory()
    const place = inside(stage, target)
    const destination = !isFolder && target.endsWith('/') ? join(place, path.split('/').at(-1)!) : place
    mkdirSync(dirname(destination), { recursive: true })
    cpSync(source, destination, {
      recursive: true,
      verbatimSymlinks: true,
      filter: (file) => from !== undefined || !file.startsWith('native/build'),
    })
  }
}

/** Of what npm has installed here, only Node: the image has the same. */
function pathOfImage(): string {
  const folders = process.env.PATH!.split(':').filter((folder) => !folder.endsWith('node_modules/.bin'))
  return [dirname(process.execPath), ...folders].join(':')
}

/** Packages of Debian are what the image has beside Node; everything else is run. */
function run(stage: Stage, command: string): void {
  const packages = /apt-get install -y --no-install-recommends ([^&]+)/.exec(command)?.[1]
  if (packages !== undefined) stage.packages.push(...packages.trim().split(/\s+/))
  else if (command.startsWith('ln -s')) {
    for (const line of command.split('&&')) {
      const [source, target] = line.trim().split(' ').slice(2)
      expect(existsSync(join(stage.folder, source!)), `what ${target} leads to`).to.equal(true)
    }
  } else {
    execFileSync('sh', ['-ec', command], {
      cwd: inside(stage, '.'),
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, PATH: pathOfImage() },
    })
  }
}

const NODE_PATH = `${dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin`

interface Packed {
  readonly filename: string
}

/** What `npm i -g` makes of a package: the path of the program. */
function install(tarball: string, prefix: string): string {
  const args = ['install', '--global', '--prefix', prefix, '--prefer-offline', '--no-audit', '--no-fund']
  execFileSync('npm', [...args, '--loglevel=error', tarball], { stdio: ['ignore', 'ignore', 'inherit'] })
  return join(prefix, 'bin/kube-ipvs')
}

/**
 * A plan takes both addons and changes nothing. Expects that the program has come to ask the kernel, which may have no
 * IPVS.
 */
function expectKernel(program: string): void {
  const manifests = mkdtempSync(join(tmpdir(), 'kube-ipvs-manifests-'))
  const { status, stderr } = spawnSync(program, ['plan', '--manifests', manifests], {
    encoding: 'utf8',
    env: { PATH: NODE_PATH },
  })
  rmSync(manifests, { recursive: true })
  if (status !== 0) expect(stderr).to.match(/"This kernel has no IPVS|CAP_NET_ADMIN/)
}

describe('the image', () => {
  const root = mkdtempSync(join(tmpdir(), 'kube-ipvs-image-'))
  const stages = new Map<string, Stage>()
  let build: Stage
  let final: Stage

  before(function () {
    this.timeout(600_000)
    for (const instruction of INSTRUCTIONS) {
      if (instruction instanceof From) {
        const name = instruction.getBuildStage() ?? 'final'
        final = openStage(join(root, name))
        stages.set(name, final)
      } else if (instruction instanceof Workdir) {
        final.workdir = argumentsOf(instruction)[0]!
        mkdirSync(inside(final, '.'), { recursive: true })
      } else if (instruction instanceof Copy) copy(final, instruction, stages)
      else if (instruction instanceof Run) run(final, commandOf(instruction))
    }
    build = stages.get('build')!
  })
  after(() => rmSync(root, { recursive: true }))

  it('comes of a Dockerfile without a complaint, from images with a full tag', () => {
    expect(validate(TEXT).map(({ message }) => message)).to.deep.equal([])
    const images = INSTRUCTIONS.filter((one) => one instanceof From).map((one) => one.getImage())
    expect(images).to.deep.equal(
      Array<string>(2).fill(`node:${packageJson.devDependencies.node}-bookworm-slim`),
    )
  })

  it('is made of what .dockerignore lets through', () => {
    const copied = INSTRUCTIONS.filter((one) => one instanceof Copy).filter(
      (one) => one.getFlags().length === 0,
    )
    const paths = copied.flatMap((one) => argumentsOf(one).slice(0, -1))
    const lines = readFileSync('.dockerignore', 'utf8').trim().split('\n')
    expect(lines).to.have.members(['*', ...paths.map((path) => `!${path}`), 'native/build'])
  })

  it('starts, and answers --version, with only what is in it', () => {
    const program = inside(final, 'dist/kube-ipvs.cjs')
    const version = execFileSync(process.execPath, [program, '--version'], { encoding: 'utf8', env: {} })
    expect(version.trim()).to.equal(packageJson.version)
    const [, target] = /ln -s (\S+) \/usr\/local\/bin\/kube-proxy/.exec(TEXT)!
    expect(join(final.folder, target!)).to.equal(program)
  })

  it('takes what it, and Node, have been compiled to, and its text where there is none', () => {
    const dist = inside(final, 'dist')
    const program = join(dist, 'kube-ipvs.cjs')
    const [firstLine] = readFileSync(program, 'utf8').split('\n')
    const flags = firstLine!.match(/--\S+/g)!
    const ask = (flags: readonly string[], what: string): string =>
      execFileSync(process.execPath, [...flags, '-p', what], { cwd: dist, encoding: 'utf8' }).trim()
    const load = `new vm.Script(fs.readFileSync('main.cjs', 'latin1'), { cachedData: fs.readFileSync('main.compiled') })`
    expect(ask(flags, `${load}.cachedDataRejected`)).to.equal('false')
    const tag = 'v8.cachedDataVersionTag()'
    expect(ask(flags, tag), 'with the flags of the first line').to.equal(ask([], tag))
    const alone = mkdtempSync(join(dirname(dist), 'alone-'))
    for (const file of ['kube-ipvs.cjs', 'main.cjs']) cpSync(join(dist, file), join(alone, file))
    const version = execFileSync(join(alone, 'kube-ipvs.cjs'), ['--version'], {
      encoding: 'utf8',
      env: { PATH: NODE_PATH },
    })
    rmSync(alone, { recursive: true })
    expect(version.trim()).to.equal(packageJson.version)
  })

  it('has the thread that reads lists', async () => {
    const thread = new Worker(inside(final, 'dist/page-thread.cjs'))
    const bytes = Buffer.from(JSON.stringify({ metadata: { resourceVersion: '7' }, items: [] }))
    thread.postMessage({ resource: 'services', body: { bytes, isZipped: false } })
    const [answer] = (await once(thread, 'message')) as [{ head: { resourceVersion: string } }]
    expect(answer.head.resourceVersion).to.equal('7')
    await thread.terminate()
  })

  it('finds and loads its addons', () => {
    expectKernel(inside(final, 'dist/kube-ipvs.cjs'))
  })

  it('has no compiler and no package of developers', () => {
    expect(final.packages.sort()).to.deep.equal(['iptables', 'kmod', 'nftables'])
    expect(build.packages).to.include('g++')
    const files = readdirSync(final.folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(final.folder.length))
    const packages = new Set(
      files.flatMap((file) => /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []),
    )
    for (const name of Object.keys(packageJson.devDependencies)) expect([...packages]).not.to.include(name)
    expect([...packages]).to.include.members(Object.keys(packageJson.dependencies))
    expect(files.sort()).to.deep.equal(
      filesOfImage(process.arch).map((file) => join('/usr/local/lib/kube-ipvs', file)),
    )
    expect(
      files.filter((file) => /\.(cc?|cpp|h|hpp|o)$|(?<!\.d)\.ts$/.test(file)),
      'sources',
    ).to.deep.equal([])
  })

  describe('as a package', () => {
    /** What the image has no use for. */
    const BESIDE = ['README.md', 'LICENSE', 'docs', 'deploy/systemd']
    let tarball: string

    before(function () {
      this.timeout(600_000)
      const folder = inside(build, '.')
      // prepack compiles both from pinned packages, which npm run test:image does, too. Here this machine's stands for both.
      const addon = join(folder, 'native/build/Release/netlink_socket.node')
      for (const cpu of ['x64', 'arm64'])
        cpSync(addon, join(folder, `native/prebuilds/linux-${cpu}/netlink_socket.node`))
      for (const path of BESIDE) cpSync(path, join(folder, path), { recursive: true })
      const args = ['pack', '--json', '--ignore-scripts', '--loglevel=error']
      const [packed] = JSON.parse(execFileSync('npm', args, { cwd: folder, encoding: 'utf8' })) as [Packed]
      tarball = join(folder, packed.filename)
    })

    it('has what it takes to run and to compile, and nothing else', () => {
      const names = execFileSync('tar', ['-tzf', tarball], { encoding: 'utf8' }).trim().split('\n')
      const files = names.map((name) => name.replace('package/', ''))
      expect(files.filter((file) => !file.startsWith('docs/')).sort()).to.deep.equal([
        'LICENSE',
        'README.md',
        'deploy/systemd/kube-ipvs.service',
        'deploy/systemd/kube-proxy-config.yml',
        'dist/kube-ipvs.8',
        'dist/kube-ipvs.cjs',
        'dist/main.cjs',
        'dist/main.compiled',
        'dist/page-thread.cjs',
        'dist/status/index.html',
        'dist/status/page.css',
        'dist/status/page.js',
        'native/addon.cc',
        'native/addon.h',
        'native/binding.gyp',
        'native/exchange.cc',
        'native/listener.cc',
        'native/netlink_socket.cc',
        'native/netlink_socket.h',
        'native/prebuilds/linux-arm64/netlink_socket.node',
        'native/prebuilds/linux-x64/netlink_socket.node',
        'package.json',
      ])
      expect(files).to.include('docs/operations.md')
    })

    it('is installed by npm i -g, and starts', function () {
      this.timeout(300_000)
      const program = install(tarball, join(root, 'prefix'))
      const output = (argument: string): string =>
        execFileSync(program, [argument], { encoding: 'utf8', env: { PATH: NODE_PATH } })
      expect(output('--version').trim()).to.equal(packageJson.version)
      expect(output('--help')).to.contain('--config')
      expect(readFileSync(join(root, 'prefix/share/man/man8/kube-ipvs.8'), 'utf8')).to.contain('.SH COMMANDS')
      expectKernel(program)
    })

    it('compiles its addon where the one inside is for another machine', function () {
      this.timeout(300_000)
      const folder = join(root, 'elsewhere')
      mkdirSync(folder)
      execFileSync('tar', ['-xzf', tarball, '-C', folder])
      const addon = join(folder, `package/native/prebuilds/linux-${process.arch}/netlink_socket.node`)
      writeFileSync(addon, 'of another machine')
      const other = join(folder, 'other.tgz')
      execFileSync('tar', ['-czf', other, '-C', folder, 'package'])
      expectKernel(install(other, join(root, 'other-prefix')))
    })
  })
})
