/** The Dockerfile's steps, by hand in an empty folder; and the package, installed as `npm i -g` does. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, isAbsolute, join } from 'node:path'
import { expect } from 'chai'
import { type Copy, DockerfileParser, type From, type Instruction } from 'dockerfile-ast'
import { validate } from 'dockerfile-utils'
import packageJson from '../../package.json' with { type: 'json' }

const TEXT = readFileSync('Dockerfile', 'utf8')
const INSTRUCTIONS = DockerfileParser.parse(TEXT).getInstructions()
/** The file system of a stage, in a folder. */
type Stage = ReturnType<typeof openStage>

const argumentsOf = (instruction: Instruction): string[] =>
  instruction.getArguments().map((argument) => argument.getValue())

/** The shell line of a RUN. */
const commandOf = (instruction: Instruction): string =>
  instruction.getTextContent().replace(/^RUN\s+/, '').replaceAll(/\\\n\s*/g, '')

function openStage(folder: string) {
  return { folder, workdir: '/', packages: [] as string[] }
}

const inside = ({ folder, workdir }: Stage, path: string): string =>
  join(folder, isAbsolute(path) ? path : join(workdir, path))

/** Copies files of the repository that git knows, or of another stage. */
function copy(stage: Stage, instruction: Copy, stages: ReadonlyMap<string, Stage>): void {
  const from = instruction.getFlags().find((flag) => flag.getName() === 'from')?.getValue()
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
      env: { ...process.env, PATH: process.env.PATH!.replaceAll(join(process.cwd(), 'node_modules/.bin:'), '') },
    })
  }
}

describe('the image', () => {
  const root = mkdtempSync(join(tmpdir(), 'kube-ipvs-image-'))
  const stages = new Map<string, Stage>()
  let build: Stage
  let final: Stage

  before(function () {
    this.timeout(600_000)
    for (const instruction of INSTRUCTIONS) {
      const keyword = instruction.getKeyword()
      if (keyword === 'FROM') {
        const name = (instruction as From).getBuildStage() ?? 'final'
        final = openStage(join(root, name))
        stages.set(name, final)
      } else if (keyword === 'WORKDIR') {
        final.workdir = argumentsOf(instruction)[0]!
        mkdirSync(inside(final, '.'), { recursive: true })
      } else if (keyword === 'COPY') copy(final, instruction as Copy, stages)
      else if (keyword === 'RUN') run(final, commandOf(instruction))
    }
    build = stages.get('build')!
  })
  after(() => rmSync(root, { recursive: true }))

  it('comes of a Dockerfile without a complaint, from images with a full tag', () => {
    expect(validate(TEXT).map(({ message }) => message)).to.deep.equal([])
    const images = INSTRUCTIONS.filter((one) => one.getKeyword() === 'FROM').map((one) => (one as From).getImage())
    expect(images).to.deep.equal(Array<string>(2).fill(`node:${packageJson.devDependencies.node}-bookworm-slim`))
  })

  it('starts, and answers --version, with only what is in it', () => {
    const program = inside(final, 'dist/kube-ipvs.cjs')
    const version = execFileSync(process.execPath, [program, '--version'], { encoding: 'utf8', env: {} })
    expect(version.trim()).to.equal(packageJson.version)
    const [, target] = /ln -s (\S+) \/usr\/local\/bin\/kube-proxy/.exec(TEXT)!
    expect(join(final.folder, target!)).to.equal(program)
  })

  it('can load its addons', () => {
    const script = `require('netlink'); require(${JSON.stringify(inside(final, 'native/build/Release/netlink_socket.node'))})`
    execFileSync(process.execPath, ['-e', script], { cwd: inside(final, '.') })
  })

  it('has no compiler and no package of developers', () => {
    expect(final.packages.sort()).to.deep.equal(['iptables', 'kmod', 'nftables'])
    expect(build.packages).to.include('g++')
    const files = readdirSync(final.folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name).slice(final.folder.length))
    const packages = new Set(files.flatMap((file) => /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []))
    for (const name of Object.keys(packageJson.devDependencies)) expect([...packages]).not.to.include(name)
    expect([...packages]).to.include.members(Object.keys(packageJson.dependencies))
    expect(files.filter((file) => !file.includes('/node_modules/')).sort()).to.deep.equal(
      ['dist/kube-ipvs.cjs', 'dist/kube-ipvs.cjs.map', 'native/build/Release/netlink_socket.node', 'package.json'].map(
        (file) => join('/usr/local/lib/kube-ipvs', file),
      ),
    )
  })

  it('is also a package, which npm i -g installs and which starts', function () {
    this.timeout(300_000)
    const folder = inside(build, '.')
    const [{ filename, files }] = JSON.parse(
      execFileSync('npm', ['pack', '--json', '--loglevel=error'], { cwd: folder, encoding: 'utf8' }),
    ) as [{ filename: string; files: { path: string }[] }]
    expect(files.map(({ path }) => path)).to.include.members([
      'dist/kube-ipvs.cjs',
      'native/build/Release/netlink_socket.node',
    ])
    const prefix = join(root, 'prefix')
    const args = ['install', '--global', '--prefix', prefix, '--no-audit', '--no-fund', '--loglevel=error']
    execFileSync('npm', [...args, join(folder, filename)], { stdio: ['ignore', 'ignore', 'inherit'] })
    const run = (argument: string): string =>
      execFileSync(join(prefix, 'bin/kube-ipvs'), [argument], {
        encoding: 'utf8',
        env: { PATH: `${dirname(process.execPath)}:/usr/bin:/bin` },
      })
    expect(run('--version').trim()).to.equal(packageJson.version)
    expect(run('--help')).to.contain('--config')
  })
})
