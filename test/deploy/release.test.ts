/** scripts/release and scripts/verify-lock, in repositories of their own; and that CI runs what is here. */
import { execFileSync, spawnSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { expect } from 'chai'
import { parse } from 'yaml'

const RELEASE = resolve('scripts/release')
const VERIFY_LOCK = resolve('scripts/verify-lock')
const SHA512 = `sha512-${'A'.repeat(86)}==`

interface Ended {
  readonly code: number | null
  readonly said: string
}

function run(program: string, args: readonly string[], cwd: string): Ended {
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8' })
  return { code: status, said: stdout + stderr }
}

interface Lock {
  lockfileVersion: number
  packages: Record<string, Record<string, unknown>>
}

describe('scripts/verify-lock', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-lock-'))
  after(() => {
    rmSync(folder, { recursive: true })
  })

  /** Its verdict on our files, after a change. */
  function verdict(change: (lock: Lock, manifest: Record<string, Record<string, unknown>>) => void): Ended {
    const lock = JSON.parse(readFileSync('package-lock.json', 'utf8')) as Lock
    const manifest = JSON.parse(readFileSync('package.json', 'utf8')) as Record<
      string,
      Record<string, unknown>
    >
    change(lock, manifest)
    writeFileSync(join(folder, 'package.json'), JSON.stringify(manifest))
    writeFileSync(join(folder, 'package-lock.json'), JSON.stringify(lock))
    return run(VERIFY_LOCK, [folder], folder)
  }

  it('takes the lock file that is here', () => {
    const { code, said } = run(VERIFY_LOCK, [], '/')
    expect(code, said).to.equal(0)
    expect(said).to.match(/\d{3} packages, each with its sha512/)
  })

  const chai = 'node_modules/chai'
  const faults: readonly (readonly [string, RegExp, Parameters<typeof verdict>[0]])[] = [
    [
      'a package without a hash',
      /chai: no sha512, but undefined/,
      (lock) => delete lock.packages[chai]!.integrity,
    ],
    [
      'a package with a weak hash',
      /chai: no sha512, but sha1-/,
      (lock) => (lock.packages[chai]!.integrity = 'sha1-x'),
    ],
    [
      'a package with an address',
      /chai: has an address of its own: http:/,
      (lock) => (lock.packages[chai]!.resolved = 'http://x'),
    ],
    [
      'a folder in place of a package',
      /chai: comes from elsewhere/,
      (lock) => (lock.packages[chai]!.link = true),
    ],
    [
      'a package that would run scripts',
      /chai@[\d.]+ may not run scripts/,
      (lock) => (lock.packages[chai]!.hasInstallScript = true),
    ],
    [
      'a permission that nobody needs',
      /gone@1\.0\.0 has no scripts/,
      (_, { allowScripts }) => (allowScripts!['gone@1.0.0'] = true),
    ],
    [
      'a lock of another version',
      /chai is 1\.0\.0 in package\.json/,
      (_, { devDependencies }) => (devDependencies!.chai = '1.0.0'),
    ],
    [
      'a range of versions',
      /chai is no exact version: \^6/,
      ({ packages }, { devDependencies }) => {
        devDependencies!.chai = '^6'
        Object.assign(packages['']!.devDependencies as object, { chai: '^6' })
      },
    ],
  ]
  for (const [what, message, change] of faults) {
    it(`refuses ${what}`, () => {
      const { code, said } = verdict(change)
      expect(code).to.equal(1)
      expect(said).to.match(message)
    })
  }
})

const CHANGELOG = `# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-31\n\n- New.\n\nIn the kernel: nothing.\n`

describe('scripts/release', function () {
  this.timeout(120_000)
  let folder: string

  const git = (...args: readonly string[]): string =>
    execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@x', ...args], {
      cwd: folder,
      encoding: 'utf8',
    })
  const write = (file: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(folder, file)), { recursive: true })
    writeFileSync(join(folder, file), text, { mode })
  }
  const commit = (): void => {
    git('add', '--all')
    git('commit', '--quiet', '--allow-empty', '--message', 'x')
  }
  /** After a change, which is committed. */
  const release = (...args: readonly string[]): Ended => {
    commit()
    return run(RELEASE, args.length > 0 ? args : ['--ci-passed'], folder)
  }

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-release-'))
    git('init', '--quiet')
    const files = ['dist/main.cjs', 'docs', 'native/prebuilds']
    // As ours, it is not in git, and says something.
    const prepack = 'mkdir -p native/prebuilds && touch native/prebuilds/addon.node && echo added 1 package'
    const manifest = {
      name: 'kube-ipvs',
      version: '1.2.3',
      type: 'module',
      files,
      scripts: { prepack, 'test:image': 'echo image tested' },
    }
    write('package.json', JSON.stringify(manifest))
    const packages = { '': {}, 'node_modules/a': { version: '1.0.0', integrity: SHA512 } }
    write('package-lock.json', JSON.stringify({ lockfileVersion: 3, packages }))
    write('docs/CHANGELOG.md', CHANGELOG)
    write('docs/operations.md', 'kube-ipvs:1.2.3, kube-ipvs-1.2.3.tgz\n')
    write('test/previous-version', '0123abc\n')
    write('.gitignore', 'dist/\nnative/prebuilds/\n')
    write('dist/main.cjs', '')
    write('.ci/run', '#!/bin/sh\necho tests run\n', 0o755)
    mkdirSync(join(folder, 'scripts'))
    copyFileSync(VERIFY_LOCK, join(folder, 'scripts/verify-lock'))
  })
  afterEach(() => {
    rmSync(folder, { recursive: true })
  })

  it('goes through all steps, prints the commands that publish, and changes nothing', () => {
    const { code, said } = release()
    expect(code, said).to.equal(0)
    expect(said.match(/==> /g)).to.have.length(9)
    for (const command of [
      "git tag --sign v1.2.3 --message 'kube-ipvs 1.2.3'",
      'git push origin v1.2.3',
      'scripts/publish REGISTRY',
      'echo v1.2.3 >test/previous-version',
    ])
      expect(said).to.contain(command)
    expect(git('status', '--porcelain') + git('tag')).to.equal('')
  })

  it('runs what CI runs, where it is told to, and stops where that fails', () => {
    expect(release('--run-ci').said).to.match(/tests run\nimage tested\n/)
    write('.ci/run', '#!/bin/sh\nexit 1\n', 0o755)
    const { code, said } = release('--run-ci')
    expect(code).to.equal(1)
    expect(said).to.contain('no: it has failed')
    expect(said).not.to.contain('git tag')
  })

  it('says how it is used from wherever it is called', () => {
    for (const script of ['release', 'publish']) {
      const { said } = run(`./${script}`, ['--help'], resolve('scripts'))
      expect(said).to.match(new RegExp(`^ +${script} `))
    }
  })

  it('does not take silence for an answer', () => {
    commit()
    const { code, said } = run(RELEASE, [], folder)
    expect(code).to.equal(1)
    expect(said).to.match(/no: nobody is here to ask\n +do: add --run-ci/)
  })

  it('stops at changes that no commit has', () => {
    commit()
    write('docs/note.md', '')
    const { code, said } = run(RELEASE, ['--ci-passed'], folder)
    expect(code).to.equal(1)
    expect(said).to.contain('no: there are changes that no commit has')
    expect(said.match(/==> /g)).to.have.length(1)
  })

  const faults: readonly (readonly [string, RegExp, () => void])[] = [
    [
      'a changelog of another version',
      /no: the top entry is: ## \[1\.2\.2\] - 2026/,
      () => write('docs/CHANGELOG.md', CHANGELOG.replace('[1.2.3]', '[1.2.2]')),
    ],
    [
      'an entry without a date',
      /no: the top entry is: ## \[1\.2\.3\]\n/,
      () => write('docs/CHANGELOG.md', CHANGELOG.replace(' - 2026-01-31', '')),
    ],
    [
      'what is still unreleased',
      /no: something is still below \[Unreleased\]\n +do: move it below ## \[1\.2\.3\]/,
      () => write('docs/CHANGELOG.md', CHANGELOG.replace('[Unreleased]\n', '[Unreleased]\n\n- Later.\n')),
    ],
    [
      'an entry that does not say what changes in the kernel',
      /no: it does not say what changes in the kernel/,
      () => write('docs/CHANGELOG.md', CHANGELOG.replace('In the kernel', 'Elsewhere')),
    ],
    [
      'manifests with an image of another version',
      /no: they also name kube-ipvs:1\.2\.2/,
      () => write('deploy/base/daemonset.yaml', 'image: kube-ipvs:1.2.2\n'),
    ],
    [
      'a page with a package of another version',
      /no: they also name kube-ipvs-1\.2\.2/,
      () => write('docs/operations.md', 'kube-ipvs:1.2.3, kube-ipvs-1.2.2.tgz\n'),
    ],
    [
      'an origin that cannot be asked for its tags',
      /no: origin does not answer/,
      () => {
        git('remote', 'add', 'origin', join(folder, 'gone'))
      },
    ],
    [
      'a package that cannot be made',
      /no: it has failed\n +do: see above; npm pack/,
      () => {
        const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as object
        write('package.json', JSON.stringify({ ...manifest, scripts: { prepack: 'exit 1' } }))
      },
    ],
    [
      'a tag that is there',
      /no: there is one here/,
      () => {
        commit()
        git('tag', 'v1.2.3')
      },
    ],
    [
      'upgrades that are tested from an older release',
      /no: they are from v1\.2\.1, and the last is v1\.2\.2\n +do: echo v1\.2\.2 >test\/previous-version/,
      () => {
        write('test/previous-version', 'v1.2.1\n')
        commit()
        for (const tag of ['v1.2.1', 'v1.2.2']) git('tag', tag)
      },
    ],
    [
      'a lock file with a fault',
      /no: package-lock\.json is not what it should be/,
      () => write('package-lock.json', JSON.stringify({ lockfileVersion: 2, packages: { '': {} } })),
    ],
    [
      'a package without what was built',
      /no: there is no dist\/main\.cjs/,
      () => rmSync(join(folder, 'dist/main.cjs')),
    ],
    [
      'a package with what git does not have',
      /no: missing \(<\) or too much \(>\): > docs\/secret\.txt/,
      () => {
        write('.gitignore', 'dist/\nnative/prebuilds/\nsecret.txt\n')
        write('.npmignore', '')
        write('docs/secret.txt', '')
      },
    ],
  ]
  for (const [what, message, change] of faults) {
    it(`stops at ${what}, and says what to do`, () => {
      change()
      const { code, said } = release()
      expect(code).to.equal(1)
      expect(said).to.match(message)
      expect(said).to.match(/\n +do: \S/)
      expect(said).not.to.contain('git push')
    })
  }
})

interface Workflow {
  readonly permissions: unknown
  readonly jobs: Readonly<
    Record<
      string,
      { 'timeout-minutes'?: number; steps: { uses?: string; run?: string; with?: Record<string, unknown> }[] }
    >
  >
}

describe('the workflows', () => {
  for (const file of readdirSync('.github/workflows')) {
    const text = readFileSync(`.github/workflows/${file}`, 'utf8')
    const { permissions, jobs } = parse(text) as Workflow
    const steps = Object.values(jobs).flatMap((job) => job.steps)

    it(`${file}: may only read, and ends`, () => {
      expect(permissions).to.deep.equal({ contents: 'read' })
      for (const [name, job] of Object.entries(jobs))
        expect(job['timeout-minutes'], name).to.be.within(1, 360)
    })

    it(`${file}: takes actions by their commit, says which release that is, and leaves no credentials`, () => {
      for (const [, reference] of text.matchAll(/^ +(?:- )?uses: (.*)$/gm))
        expect(reference).to.match(/^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
      for (const { uses, with: given } of steps)
        if (uses?.startsWith('actions/checkout@') === true)
          expect(given).to.include({ 'persist-credentials': false })
    })

    it(`${file}: runs the scripts that are here`, () => {
      const scripts = steps.flatMap(({ run: line = '' }) => line.match(/(?:scripts|\.ci)\/[\w-]+/g) ?? [])
      expect(scripts).not.to.be.empty
      for (const script of scripts) expect(existsSync(script), script).to.equal(true)
    })
  }

  it('take all of the history where tests run, as the version before this one is made of it', () => {
    for (const file of ['ci.yml', 'release.yml']) {
      const { jobs } = parse(readFileSync(`.github/workflows/${file}`, 'utf8')) as Workflow
      for (const { steps } of Object.values(jobs)) {
        if (!steps.some(({ run: line = '' }) => /^(\.ci\/run|scripts\/release .*)$/.test(line))) continue
        expect(steps[0]!.with, file).to.include({ 'fetch-depth': 0 })
      }
    }
  })

  it('look at the lock file, and at signatures, before anything of it runs', () => {
    const { jobs } = parse(readFileSync('.github/workflows/ci.yml', 'utf8')) as Workflow
    const lines = Object.values(jobs).flatMap(({ steps }) => steps.flatMap(({ run: line }) => line ?? []))
    expect(lines).to.deep.equal([
      'scripts/verify-lock',
      'npm ci --ignore-scripts --no-audit --no-fund && npm audit signatures',
      '.ci/run',
      'sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0',
      'npm run test:image',
    ])
  })
})
