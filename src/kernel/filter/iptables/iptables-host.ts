/** The programs of iptables: their names, how they are run, without a shell, and what it means when one fails. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { Family } from '../../../model/address.ts'

/** As kube-proxy has it: a program that looks for modules that are not there takes its time for every rule. */
const LIMIT_MS = 300_000
/** How long a program waits for /run/xtables.lock. */
const LOCK_SECONDS = 5

const execute = promisify(execFile)

/** What rules need of the machine. */
export interface Host {
  /** Standard output; throws, as execFile does, when the program cannot be started or fails. */
  readonly run: (program: string, args: readonly string[], input?: string) => Promise<string>
  /** The tables that the legacy variant has. */
  readonly legacyTables: (family: Family) => Promise<string>
}

/** This machine. The signal ends programs that run, and lets no other one begin. */
export function linuxHost(signal?: AbortSignal): Host {
  const limits = { timeout: LIMIT_MS, killSignal: 'SIGKILL', maxBuffer: Infinity, signal } as const
  return {
    async run(program, args, input = '') {
      signal?.throwIfAborted()
      const running = execute(program, args, limits)
      // A program that ends without reading says why by its exit code.
      running.child.stdin?.on('error', () => undefined).end(input)
      return (await running).stdout
    },
    legacyTables: (family) =>
      readFile(`/proc/net/${family === 'IPv4' ? 'ip' : 'ip6'}_tables_names`, 'utf8').catch(() => ''),
  }
}

/** The kernel has two places for rules, and each has programs of its own. */
export const VARIANTS = ['nft', 'legacy'] as const
export type Variant = (typeof VARIANTS)[number]
/** `default`: what the plain `iptables` is. */
export type VariantName = Variant | 'default'

type Tool = 'save' | 'restore'

export function programOf(family: Family, variant: VariantName, tool: Tool): string {
  const iptables = family === 'IPv4' ? 'iptables' : 'ip6tables'
  return variant === 'default' ? `${iptables}-${tool}` : `${iptables}-${variant}-${tool}`
}

/** Standard output of a program. Throws an Error that names the cause and the remedy. */
export async function runTool(
  host: Host,
  [family, variant, tool]: readonly [Family, VariantName, Tool],
  args: readonly string[],
  input?: string,
): Promise<string> {
  const program = programOf(family, variant, tool)
  try {
    return await host.run(program, args, input)
  } catch (error) {
    throw explain(program, family, error as Failure)
  }
}

/** Adds to the rules that stand, and takes away what the input says. Throws as `runTool`. */
export async function restoreRules(
  host: Host,
  family: Family,
  variant: VariantName,
  input: string,
): Promise<void> {
  await runTool(host, [family, variant, 'restore'], ['-w', String(LOCK_SECONDS), '--noflush'], input)
}

/** What execFile throws. */
interface Failure extends Error {
  /** An errno when the program could not be started, else its exit code. */
  readonly code?: string | number
  readonly stderr?: string
  readonly killed?: boolean
}

/** What the programs say when they fail, and what that means. The first that fits. */
const REASONS: readonly (readonly [RegExp, (family: Family, ...groups: string[]) => string])[] = [
  [
    /Permission denied|Operation not permitted/,
    () => 'we may not: run kube-ipvs as root with CAP_NET_ADMIN and CAP_NET_RAW',
  ],
  [
    /open socket to ipset/,
    () => 'rules that ask sets take a raw socket: run kube-ipvs as root with CAP_NET_RAW',
  ],
  [
    /xtables lock/,
    () =>
      `another program has held /run/xtables.lock for ${LOCK_SECONDS} s: find it with "fuser /run/xtables.lock"`,
  ],
  [
    /open lock file (\S+): (.*)/,
    (_, file, why) => `cannot open ${file} (${why}): mount it from the host, writable`,
  ],
  [/Set (\S+) doesn't exist/, (_, set) => `the set ${set} does not exist: something has destroyed it`],
  [
    /Kernel module (\S+) is not loaded/,
    (_, module) => `this kernel has no ${module}: load it with "modprobe ${module}", on the host`,
  ],
  [
    /Extension (\S+) (?:revision \d+ )?(?:is )?not supported/,
    (_, extension) =>
      `this kernel has no xt_${extension}: load it with "modprobe xt_${extension}", on the host`,
  ],
  [
    /initialize table '(\w+)'/,
    (family, table) => {
      const module = `${family === 'IPv4' ? 'iptable' : 'ip6table'}_${table}`
      return `there is no table ${table}: load it with "modprobe ${module}", on the host, and run kube-ipvs with CAP_NET_ADMIN`
    },
  ],
  [
    /Could not fetch rule set generation id/,
    () => 'this kernel has no nf_tables: load it with "modprobe nf_tables", on the host',
  ],
]

/** What `runTool` has thrown is a failure that none of the reasons fits. */
export function isUnexplained(error: unknown): boolean {
  const { stderr, killed, code } = ((error as Error).cause ?? {}) as Partial<Failure>
  return typeof code === 'number' && killed !== true && !REASONS.some(([text]) => text.test(stderr ?? ''))
}

function explain(program: string, family: Family, failure: Failure): Error {
  return new Error(`${program} failed for ${family}: ${reasonOf(program, family, failure)}`, {
    cause: failure,
  })
}

function reasonOf(program: string, family: Family, { code, stderr = '', killed, message }: Failure): string {
  if (code === 'ENOENT') return `there is no program ${program}: install iptables`
  if (killed === true) return `no result within ${LIMIT_MS / 1_000} s`
  for (const [text, say] of REASONS) {
    const match = text.exec(stderr)
    if (match !== null) return say(family, ...match.slice(1))
  }
  return stderr.trim().replaceAll(/\s*\n\s*/g, '; ') || message
}
