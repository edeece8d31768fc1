/**
 * Writes deploy/profiles/seccomp.json: what the kernel may be asked by the program, and by all that it starts.
 *   node scripts/profiles.ts            of deploy/profiles/recorded.yaml, and of what is added and left out below
 *   node scripts/profiles.ts record     adds to recorded.yaml first what `LAB_RECORD=1 scripts/test lab` has left behind
 */
import { existsSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { format } from 'prettier'
import { parse, stringify } from 'yaml'

const FOLDER = join(import.meta.dirname, '../deploy/profiles')
const CALLS = join(import.meta.dirname, '../.cache/lab/out/calls')
const RECORDED = join(FOLDER, 'recorded.yaml')

/** By name of a call, or of a file: who, and in which test. */
type Who = Readonly<Record<string, string>>
export interface Recorded {
  readonly calls: Who
  readonly files: Readonly<Record<'read' | 'written' | 'run', Who>>
}

const CLOCK = 'the C library asks the kernel where the clock cannot be read without it'
const KEYS = 'V8 protects the code that it has made, where the processor has keys for that'
const NEWER = 'newer releases of the C library, of Node and of runc try it first'
const LOCK =
  'iptables-legacy waits for /run/xtables.lock, which no test has it do in a program that is recorded'
const NAMES = 'the C library, which asks name servers for addresses of both families at once'
const RUNC = 'runc, which is written in Go, calls it after it has applied the profile'

/** What x86-64 has for older programs, and arm64 does not: these do the same. */
export const ARM64: Readonly<Record<string, readonly string[]>> = {
  access: ['faccessat'],
  alarm: ['setitimer'],
  arch_prctl: [],
  chmod: ['fchmodat'],
  dup2: ['dup3'],
  epoll_wait: ['epoll_pwait'],
  getpgrp: ['getpgid'],
  mkdir: ['mkdirat'],
  open: ['openat'],
  pipe: ['pipe2'],
  poll: ['ppoll'],
  readlink: ['readlinkat'],
  rename: ['renameat', 'renameat2'],
  select: ['pselect6'],
  stat: ['newfstatat'],
  lstat: ['newfstatat'],
  time: ['clock_gettime'],
  unlink: ['unlinkat'],
  vfork: ['clone'],
}

/** What no test happens to call, and why it may be called: on another processor, kernel or day. */
export const ADDED: Readonly<Record<string, string>> = {
  ...{ clock_getres: CLOCK, clock_gettime: CLOCK, getcpu: CLOCK, gettimeofday: CLOCK, time: CLOCK },
  ...{ pkey_alloc: KEYS, pkey_free: KEYS, pkey_mprotect: KEYS },
  ...{ close_range: NEWER, faccessat2: NEWER, futex_waitv: NEWER, openat2: NEWER },
  ...{ sendmmsg: NAMES, getpeername: NAMES },
  ...{ fstatfs: RUNC, nanosleep: RUNC, sigaltstack: RUNC },
  tgkill: `abort, and ${RUNC}`,
  ...{ alarm: LOCK, flock: LOCK },
  fsync: 'what ends with an error makes sure that its log is written',
  statfs: 'iptables-legacy looks whether /proc is what it should be',
  restart_syscall: 'a process that was stopped goes on to wait (SIGSTOP, SIGCONT)',
  membarrier: 'V8 and the C library, with other processors',
  mremap: 'the C library makes large memory larger',
}

/** What is refused as if the kernel did not have it, and which way is taken instead. */
export const NOT_THERE: Readonly<Record<string, string>> = {
  clone3: 'its flags are in memory, where no filter sees them: the C library takes clone',
  io_uring_setup: 'more of the kernel than a proxy should reach: libuv takes epoll_ctl',
  io_uring_enter: 'there is no ring without io_uring_setup',
}

/** What was recorded with all privileges, and is of no use without them. */
export const LEFT_OUT: Readonly<Record<string, string>> = {
  finit_module: 'the init container loads modules',
  unshare: 'the init container probes in a network namespace of its own',
}

/** Of the protocol families, by their number: sockets of all others are refused. */
const FAMILIES = { AF_UNIX: 1, AF_INET: 2, AF_INET6: 10, AF_NETLINK: 16 } as const
/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET: a namespace of one's own has all capabilities. */
const NEW_NAMESPACES = 0x7e020000
const ENOSYS = 38

interface Rule {
  readonly names: readonly string[]
  readonly action: 'SCMP_ACT_ALLOW' | 'SCMP_ACT_ERRNO'
  readonly errnoRet?: number
  readonly args?: readonly object[]
}
export interface SeccompProfile {
  readonly defaultAction: 'SCMP_ACT_ERRNO'
  readonly architectures: readonly string[]
  readonly syscalls: readonly Rule[]
}

export const readRecorded = (): Recorded => parse(readFileSync(RECORDED, 'utf8')) as Recorded

/** The calls that are allowed, whatever their arguments. */
export function allowed({ calls } = readRecorded()): string[] {
  const named = [...Object.keys(calls), ...Object.keys(ADDED)]
  const names = new Set(named.flatMap((name) => [name, ...(ARM64[name] ?? [])]))
  const others = [...Object.keys(NOT_THERE), ...Object.keys(LEFT_OUT), ...SPECIAL]
  return [...names].filter((name) => !others.includes(name)).sort()
}

/** Allowed with some arguments only. */
const SPECIAL: readonly string[] = ['clone', 'socket']

const allow = (names: readonly string[], args?: readonly object[]): Rule => ({
  names,
  action: 'SCMP_ACT_ALLOW',
  ...(args !== undefined && { args }),
})

export function seccompProfile(): SeccompProfile {
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64'],
    syscalls: [
      allow(allowed()),
      ...Object.values(FAMILIES).map((value) => allow(['socket'], [{ index: 0, value, op: 'SCMP_CMP_EQ' }])),
      allow(['clone'], [{ index: 0, value: NEW_NAMESPACES, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }]),
      { names: Object.keys(NOT_THERE), action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
    ],
  }
}

/** The profile's text as it has to be. */
export const seccompText = (): Promise<string> =>
  format(JSON.stringify(seccompProfile()), { parser: 'json', printWidth: 110 })

/** The names that strace shows of threads of Node. */
const NODE = /^(node|MainThread|V8Worker|libuv-worker|DelayedTaskSche|SignalInspector|WorkerThread|strace)$/

/** What this machine's folders are called in the image. */
const IMAGE: readonly (readonly [RegExp, string])[] = [
  [new RegExp(`^${join(import.meta.dirname, '..')}/node_modules/(node|\\.bin)/(bin/)?`), '/usr/local/bin/'],
  [new RegExp(`^${join(import.meta.dirname, '..')}/`), '/usr/local/lib/kube-ipvs/'],
  [/^\/proc\/(self|thread-self|\d+)\//, '/proc/1/'],
  [/^\/proc\/net\//, '/proc/1/net/'],
  [/^\/sys\/fs\/cgroup\/.*\//, '/sys/fs/cgroup/'],
  [/\/task\/\d+/, '/task/1'],
]

/** Where links lead, as AppArmor sees it; undefined for what was looked for in vain. The lab has this machine's files. */
function realPath(path: string): string | undefined {
  if (/^\/(proc|sys|dev|run)\//.test(path)) return path
  try {
    return realpathSync(path)
  } catch {
    return undefined
  }
}

const inImage = (path: string): string | undefined =>
  IMAGE.reduce<string | undefined>(
    (current, [pattern, name]) => current?.replace(pattern, name),
    realPath(path),
  )

/** Of the lab, and no matter of the image's. */
const ELSEWHERE = /^\/(tmp|root|home)\/|^(?!\/)/

function kindOf(call: string, flags: string): keyof Recorded['files'] {
  if (call === 'execve') return 'run'
  return /O_WRONLY|O_RDWR|O_CREAT/.test(flags) ? 'written' : 'read'
}

/** Adds what one line says. What is known stays as it is, so that only what is new has to be read. */
function note(recorded: Recorded, test: string, line: string): void {
  const [comm = '', call = '', path, flags = '', error] = line.split('\t')
  const who = `${NODE.test(comm) ? 'node' : comm} in ${test}`
  ;(recorded.calls as Record<string, string>)[call] ??= who
  const file = path === undefined || error === 'ENOENT' ? undefined : inImage(path)
  if (file !== undefined && !ELSEWHERE.test(file))
    (recorded.files[kindOf(call, flags)] as Record<string, string>)[file] ??= who
}

function record(): string {
  const recorded = existsSync(RECORDED)
    ? readRecorded()
    : { calls: {}, files: { read: {}, written: {}, run: {} } }
  for (const file of readdirSync(CALLS).sort()) {
    const lines = readFileSync(join(CALLS, file), 'utf8').split('\n').sort()
    for (const line of lines.filter(Boolean)) note(recorded, file.split('.')[0]!, line)
  }
  return `# Written by scripts/profiles.ts: what the tests of the lab have asked the kernel, and one of those who did.
${stringify(recorded, { sortMapEntries: true, lineWidth: 0 })}`
}

if (import.meta.main) {
  if (process.argv[2] === 'record') writeFileSync(RECORDED, record())
  writeFileSync(join(FOLDER, 'seccomp.json'), await seccompText())
}
