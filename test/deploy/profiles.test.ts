/** deploy/profiles: each call and each file that is allowed is one that the lab has seen, or there is a reason for it. */
import { existsSync, readFileSync } from 'node:fs'
import { expect } from 'chai'
import {
  ADDED,
  allowed,
  ARM64,
  LEFT_OUT,
  NOT_THERE,
  readRecorded,
  type Recorded,
  seccompProfile,
  seccompText,
} from '../../scripts/profiles.ts'
import { arm64Names, syscallNames } from '../support/syscalls.ts'

const recorded = readRecorded()

/** What is no business of a proxy: to change the machine, to look into others, or to get more. */
const NEVER = `
  bpf chroot delete_module finit_module init_module io_uring_setup kexec_load keyctl mknod mount move_mount open_by_handle_at
  perf_event_open pivot_root process_vm_readv process_vm_writev ptrace reboot setns setuid swapon umount2 unshare userfaultfd`
  .trim()
  .split(/\s+/)

describe('deploy/profiles/recorded.yaml', () => {
  it('names tests that there are', () => {
    const who = [recorded.calls, ...Object.values(recorded.files)].flatMap((part) => Object.values(part))
    const tests = new Set(who.map((text) => / in ([\w-]+)$/.exec(text)![1]!))
    for (const name of tests) expect(existsSync(`test/lab/${name}.lab.ts`), name).to.equal(true)
  })
})

describe('deploy/profiles/seccomp.json', () => {
  const names = seccompProfile().syscalls.flatMap((rule) => rule.names)
  const x86 = new Set(syscallNames().values())
  const arm64 = arm64Names()

  it('is made by scripts/profiles.ts of recorded.yaml: node scripts/profiles.ts', async () => {
    expect(readFileSync('deploy/profiles/seccomp.json', 'utf8')).to.equal(await seccompText())
  })

  it('refuses by default, on both architectures of the image', () => {
    const { defaultAction, architectures } = seccompProfile()
    expect(defaultAction).to.equal('SCMP_ACT_ERRNO')
    expect(architectures).to.deep.equal(['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'])
  })

  it('has all that was recorded but for what is left out, all that is added, and nothing else', () => {
    const wanted = [recorded.calls, ADDED, NOT_THERE].flatMap((part) => Object.keys(part))
    const onArm64 = wanted.flatMap((name) => ARM64[name] ?? [])
    const expected = [...wanted, ...onArm64].filter((name) => !Object.hasOwn(LEFT_OUT, name))
    expect(new Set(names)).to.deep.equal(new Set(expected))
    expect(new Set(allowed()).size).to.equal(allowed().length)
  })

  it('adds, and leaves out, only what there is a reason for', () => {
    const known = Object.keys(recorded.calls)
    expect(Object.keys(ADDED).filter((name) => known.includes(name))).to.deep.equal([])
    const refused = [...Object.keys(LEFT_OUT), ...Object.keys(NOT_THERE)]
    expect(refused.filter((name) => !known.includes(name))).to.deep.equal([])
  })

  it('names calls of Linux; what arm64 has no longer is there by its newer names', () => {
    for (const name of names) expect(x86.has(name) || arm64.has(name), name).to.equal(true)
    for (const name of allowed().filter((name) => !arm64.has(name))) {
      expect(ARM64, `what arm64 has in place of ${name}`).to.have.property(name)
      for (const other of ARM64[name]!) {
        expect(arm64.has(other), other).to.equal(true)
        expect(names).to.include(other)
      }
    }
  })

  it('has nothing that changes the machine, looks into others, or gets more', () => {
    for (const name of NEVER) expect(x86.has(name), name).to.equal(true)
    expect(allowed().filter((name) => NEVER.includes(name))).to.deep.equal([])
  })
})

const TEXT = readFileSync('deploy/profiles/apparmor', 'utf8')

interface Rule {
  readonly path: string
  readonly pattern: RegExp
  readonly modes: string
  /** Why it is there though no test has needed it. */
  readonly isExempt: boolean
}

/** A glob of AppArmor. */
function patternOf(glob: string): RegExp {
  let depth = 0
  const text = glob.replaceAll(/\*\*|\*|\{|\}|,|\.|\[[^\]]*\]/g, (token) => {
    if (token === '{' || token === '}') depth += token === '{' ? 1 : -1
    const found: Readonly<Record<string, string>> = {
      ...{ '**': '.*', '*': '[^/]*', '{': '(?:', '}': ')', '.': '\\.' },
      ',': depth > 0 ? '|' : ',',
    }
    return found[token] ?? token
  })
  return new RegExp(`^${text}$`)
}

/** Those of files; a comment is about the rules up to the next one or an empty line. */
function fileRules(): Rule[] {
  let isExempt = false
  return TEXT.split('\n').flatMap((line) => {
    if (line.trim() === '' || line.includes('#')) isExempt = line.includes('Not recorded')
    const [, path, modes] = /^ {2}(\/\S*) (\w+),$/.exec(line) ?? []
    return path === undefined ? [] : [{ path, pattern: patternOf(path), modes: modes!, isExempt }]
  })
}

/** Sysctls, and a namespace to try one out in. */
const OF_INIT = [/^\/proc\/sys\/net\/\S+ w$/, /^\/usr\/bin\/unshare x$/]

const MODES: Readonly<Record<keyof Recorded['files'], string>> = { read: 'r', written: 'w', run: 'x' }

describe('deploy/profiles/apparmor', () => {
  const rules = fileRules()
  const files = (['read', 'written', 'run'] as const).flatMap((kind) =>
    Object.keys(recorded.files[kind]).map((path) => ({ path, mode: MODES[kind] })),
  )
  // AppArmor has folders end with a slash.
  const covers = ({ pattern, modes }: Rule, { path, mode }: (typeof files)[number]): boolean =>
    modes.includes(mode) && (pattern.test(path) || pattern.test(`${path}/`))

  it('has a rule for each file that was opened or run, but for what the init container does', () => {
    expect(files.length).to.be.above(20)
    const uncovered = files.filter((file) => !rules.some((rule) => covers(rule, file)))
    const texts = uncovered.map(({ path, mode }) => `${path} ${mode}`)
    expect(texts.filter((text) => !OF_INIT.some((pattern) => pattern.test(text)))).to.deep.equal([])
    for (const pattern of OF_INIT)
      expect(
        texts.some((text) => pattern.test(text)),
        pattern.source,
      ).to.equal(true)
  })

  it('has no rule that nothing was seen of, unless it says so', () => {
    const unused = rules.filter((rule) => !rule.isExempt && !files.some((file) => covers(rule, file)))
    expect(unused.map(({ path }) => path)).to.deep.equal([])
  })

  it('lets nothing be written but locks, sockets, devices and what is about the process itself', () => {
    const written = rules.filter(({ modes }) => /[wa]/.test(modes)).map(({ path }) => path)
    expect(written).to.have.length(5)
    for (const path of written) expect(path).to.match(/^\/(dev|proc|\{,var\/\}run)\//)
  })
})
