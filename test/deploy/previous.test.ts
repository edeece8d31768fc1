/** scripts/previous: the version before this one is made of git, or it is said what to do. In repositories of their own. */
import { execFileSync, spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { expect } from 'chai'

const SCRIPT = resolve('scripts/previous')
/** In place of what installs, compiles and bundles: says that it ran, and what for. */
const NOTING = '#!/bin/sh\necho "${0##*/} $*" >>"$CALLS"\n'
const BUNDLE = `import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs'
appendFileSync(process.env.CALLS, 'bundle\\n')
mkdirSync('dist')
writeFileSync('dist/main.compiled', '')
`
/** Locks the package a, which is named, at a version, and b, which a takes, at a place. */
const lock = (version: string, place = 'node_modules/b'): string =>
  JSON.stringify({
    packages: {
      '': { devDependencies: { a: version } },
      'node_modules/a': { integrity: `a-${version}` },
      [place]: { integrity: 'b-1.0.0' },
    },
  })

describe('scripts/previous', () => {
  let folder: string
  let origin: string
  let first: string

  const git = (cwd: string, ...args: readonly string[]): string =>
    execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@x', ...args], {
      cwd,
      encoding: 'utf8',
    }).trim()
  const write = (root: string, files: Readonly<Record<string, string>>, mode = 0o644): void => {
    for (const [file, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, file)), { recursive: true })
      writeFileSync(join(root, file), text, { mode })
    }
  }
  const commit = (): void => {
    git(origin, 'add', '--all')
    git(origin, 'commit', '--quiet', '--message', 'x')
  }
  /** A clone, with what scripts/setup has installed. */
  const clone = (...args: readonly string[]): string => {
    const root = join(folder, 'clone')
    git(folder, 'clone', '--quiet', ...args, `file://${origin}`, root)
    const tools = { 'node_modules/.bin/npm': NOTING, 'node_modules/.bin/node-gyp': NOTING }
    write(root, tools, 0o755)
    return root
  }
  const calls = (): string[] =>
    existsSync(join(folder, 'calls')) ? readFileSync(join(folder, 'calls'), 'utf8').trim().split('\n') : []
  const previous = (root: string) =>
    spawnSync(join(root, 'scripts/previous'), {
      encoding: 'utf8',
      env: { ...process.env, CALLS: join(folder, 'calls') },
    })

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-previous-'))
    origin = join(folder, 'origin')
    mkdirSync(join(origin, 'scripts'), { recursive: true })
    git(origin, 'init', '--quiet')
    write(origin, {
      '.gitignore': 'node_modules/\n.cache/\n',
      'package.json': '{"type": "module"}',
      'package-lock.json': lock('1.0.0'),
      'native/binding.gyp': '',
      'scripts/bundle.ts': BUNDLE,
      'src/version': 'first',
    })
    commit()
    first = git(origin, 'rev-parse', 'HEAD')
    copyFileSync(SCRIPT, join(origin, 'scripts/previous'))
    write(origin, { 'src/version': 'second', 'test/previous-version': `${first}\n` })
    commit()
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  it('makes the version that is named, once, with the packages that are here', () => {
    const root = clone()
    const { status, stdout, stderr } = previous(root)
    expect(status, stderr).to.equal(0)
    const made = stdout.trim()
    expect(made).to.equal(join(root, '.cache/previous', first))
    expect(readFileSync(join(made, 'src/version'), 'utf8')).to.equal('first')
    expect(calls()).to.deep.equal(['node-gyp rebuild --silent', 'bundle'])

    expect(previous(root).stdout.trim()).to.equal(made)
    expect(calls()).to.have.length(2)
    expect(git(root, 'status', '--porcelain')).to.equal('')
  })

  for (const [what, text, isOwn] of [
    ['packages of its own, where it locks others', lock('2.0.0'), true],
    [
      'the packages that are here, where npm has put them elsewhere',
      lock('1.0.0', 'node_modules/a/b'),
      false,
    ],
  ] as const)
    it(`makes it with ${what}`, () => {
      write(origin, { 'package-lock.json': text })
      commit()
      expect(previous(clone()).status).to.equal(0)
      expect(calls().some((call) => call.startsWith('npm ci '))).to.equal(isOwn)
    })

  it('takes a tag', () => {
    git(origin, 'tag', 'v1.0.0', first)
    write(origin, { 'test/previous-version': 'v1.0.0\n' })
    commit()
    expect(previous(clone()).stdout.trim()).to.match(new RegExp(`${first}$`))
  })

  for (const named of ['a commit', 'a tag'])
    it(`fetches ${named} that a shallow clone lacks`, () => {
      git(origin, 'tag', 'v1.0.0', first)
      if (named === 'a tag') write(origin, { 'test/previous-version': 'v1.0.0\n' })
      if (named === 'a tag') commit()
      const { status, stdout, stderr } = previous(clone('--depth', '1', '--no-tags'))
      expect(status, stderr).to.equal(0)
      expect(stdout.trim()).to.match(new RegExp(`${first}$`))
    })

  it('says in one line what to do where it cannot be had', () => {
    const root = clone('--depth', '1')
    git(root, 'remote', 'remove', 'origin')
    const { status, stdout, stderr } = previous(root)
    expect(status).to.equal(1)
    expect(stdout).to.equal('')
    expect(stderr.trim().split('\n')).to.have.length(1)
    expect(stderr).to.contain(first).and.to.contain('git fetch --unshallow').and.to.contain('fetch-depth: 0')
  })
})
