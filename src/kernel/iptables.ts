/**
 * Our rules in iptables, through the host's programs: one that prints what stands, and, when something is not as it
 * should be, one that repairs it. No shell is started.
 */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { promisify } from 'node:util'
import type { Family } from '../model/address.ts'
import {
  asPrinted,
  planRemoval,
  planRestore,
  renderRules,
  type RuleOptions,
  type Rules,
} from './iptables-rules.ts'
import { asCommands, parseSave, type SavedRules } from './iptables-save.ts'

/** As kube-proxy has it: a program that looks for modules that are not there takes its time for every rule. */
const LIMIT_MS = 300_000
/** How long a program waits for /run/xtables.lock. */
const LOCK_SECONDS = 5
/** The first release of iptables with `MASQUERADE --random-fully`. */
const RANDOM_FULLY_SINCE = [1, 6, 2]
/** Chains by which kubelet says which variant it uses: in table mangle, since Kubernetes 1.17. */
const HINTS = ['KUBE-IPTABLES-HINT', 'KUBE-KUBELET-CANARY']

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']
const VARIANTS = ['nft', 'legacy'] as const

const execute = promisify(execFile)

/** What this file needs of the machine. */
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

// --- Which iptables -------------------------------------------------------------------------------------

/** The kernel has two places for rules, and each has programs of its own: rules belong where the host's are. */
export interface IptablesVariant {
  /** `default`: what the plain `iptables` is. */
  readonly name: (typeof VARIANTS)[number] | 'default'
  /** For the log: "kubelet's chains are there". */
  readonly reason: string
  /** What its programs have just printed, by family, where they have. */
  readonly texts: ReadonlyMap<Family, string>
  /** What a program has said of its version, where one was asked. */
  readonly version?: string
}

type Tool = 'save' | 'restore'

function programOf(family: Family, { name }: Pick<IptablesVariant, 'name'>, tool: Tool): string {
  const iptables = family === 'IPv4' ? 'iptables' : 'ip6tables'
  return name === 'default' ? `${iptables}-${tool}` : `${iptables}-${name}-${tool}`
}

interface Candidate {
  readonly name: (typeof VARIANTS)[number]
  readonly hasHint: boolean
  readonly rules: number
  readonly texts: ReadonlyMap<Family, string>
}

const NO_TEXTS: ReadonlyMap<Family, string> = new Map()

/**
 * Which variant the host uses, in the manner of kubernetes-sigs/iptables-wrappers: the one with kubelet's chains,
 * else the one with more rules, else the plain programs. One whose programs do not work is out. Never throws.
 */
export async function detectVariant(host: Host): Promise<IptablesVariant> {
  const found = await Promise.all(VARIANTS.map((name) => inspect(host, name)))
  const candidates = found.filter((candidate) => candidate !== undefined)
  const chosen = ({ name, texts }: Candidate, reason: string): IptablesVariant => ({ name, texts, reason })
  const hinted = candidates.find(({ hasHint }) => hasHint)
  if (hinted !== undefined) return chosen(hinted, "kubelet's chains are there")
  const [first, second] = candidates.sort((a, b) => b.rules - a.rules)
  if (first !== undefined && first.rules > (second?.rules ?? 0)) return chosen(first, 'most rules are there')
  // Empty legacy tables were not looked at: their programs need not be there.
  const proven = await Promise.all(
    candidates.map(async (one) => {
      const version = await provenVersion(host, one)
      return version === undefined ? [] : [{ ...one, version }]
    }),
  )
  const [only, other] = proven.flat()
  if (only === undefined)
    return { name: 'default', reason: 'neither variant has programs that work', texts: NO_TEXTS }
  if (other === undefined) return chosen(only, 'only its programs work')
  const isEmpty = [only, other].every(({ texts }) => [...texts.values()].join('') === '')
  return {
    name: 'default',
    reason: 'both variants have as many rules',
    // The plain programs are one of the two.
    texts: isEmpty ? only.texts : NO_TEXTS,
    version: only.version || other.version,
  }
}

/** What a program of a variant says of its version, where it had to be asked whether it works; undefined: it does not. */
async function provenVersion(host: Host, { name, rules }: Candidate): Promise<string | undefined> {
  if (name === 'nft' || rules > 0) return ''
  return host.run(programOf('IPv4', { name }, 'save'), ['--version']).catch(() => undefined)
}

async function inspect(host: Host, name: Candidate['name']): Promise<Candidate | undefined> {
  const looks = FAMILIES.map(async (family) => {
    const text = await look(host, family, name).catch(() => undefined)
    return text === undefined ? [] : [[family, text] as const]
  })
  const texts = new Map((await Promise.all(looks)).flat())
  if (texts.size === 0) return undefined
  const saved = [...texts.values()]
  return {
    name,
    hasHint: saved.some((text) => HINTS.some((hint) => parseSave(text).get('mangle')?.has(hint) === true)),
    rules: saved.join('\n').match(/^-A /gm)?.length ?? 0,
    texts,
  }
}

/** What a variant holds. Looking at legacy tables may make them, so it is done only where there are some. */
async function look(host: Host, family: Family, name: Candidate['name']): Promise<string> {
  const program = programOf(family, { name }, 'save')
  const isEmpty = name === 'legacy' && (await host.legacyTables(family)).trim() === ''
  return isEmpty ? '' : host.run(program, [])
}

// --- The rules of a family ------------------------------------------------------------------------------

/** A number that is another one whenever rules of nftables have changed, those of iptables-nft included; undefined where there is none. */
export type Generation = () => Promise<number | undefined>

/** What the rules depend on, but for what is found out here. */
export type WantedRules = Omit<RuleOptions, 'family' | 'randomFully'>

export class Iptables {
  readonly #family: Family
  readonly #host: Host
  readonly #detect: () => Promise<IptablesVariant>
  readonly #generation: Generation
  #variant: IptablesVariant | undefined
  #randomFully: boolean | undefined
  /** The rules are among those that generations count. */
  #isNft = false
  /** What has been written last, in our words and, where these were not found again, in those of this iptables. */
  #written: { readonly key: string; readonly printed: Rules } | undefined
  /** These rules stood when the generation was this one. */
  #seen: { readonly generation: number; readonly key: string } | undefined

  /** The family's rules in this network namespace; `detect` says which variant the host uses, when it is needed. */
  constructor(
    family: Family,
    host: Host = linuxHost(),
    detect = () => detectVariant(host),
    generation: Generation = () => Promise.resolve(undefined),
  ) {
    this.#family = family
    this.#host = host
    this.#detect = detect
    this.#generation = generation
  }

  /** Each family; the host is looked at once, from now on. */
  static ofFamilies(
    families: Iterable<Family>,
    host: Host,
    generation?: Generation,
  ): ReadonlyMap<Family, Iptables> {
    const variant = detectVariant(host)
    const detect = (): Promise<IptablesVariant> => variant
    return new Map([...families].map((family) => [family, new Iptables(family, host, detect, generation)]))
  }

  /** Where the rules are; undefined before the first look at them. */
  get variant(): IptablesVariant | undefined {
    return this.#variant
  }

  /**
   * Makes the rules stand: `written` when something was not as it should be. Throws an Error that names the cause and
   * the remedy; then a later call may be luckier.
   */
  async ensure(options: WantedRules): Promise<'unchanged' | 'written'> {
    // Before the look: what changes after it is another generation.
    const generation = await this.#generation()
    if (this.#stands(options, generation)) return 'unchanged'
    this.#seen = undefined
    const saved = await this.#look()
    this.#randomFully ??= await this.#hasRandomFully()
    const wanted = this.#render(options, this.#randomFully)
    const input = planRestore(wanted, saved, this.#inItsWords(wanted))
    if (input === undefined) {
      if (generation !== undefined && this.#isNft) this.#seen = { generation, key: keyOf(wanted) }
      return 'unchanged'
    }
    const written = await this.#restore(input).then(
      () => wanted,
      (error: unknown) => this.#writePlain(options, saved, error),
    )
    await this.#noteWritten(written)
    return 'written'
  }

  /** Rules that have to be written again may be there in other words: these are looked up at once, before anybody changes them. */
  async #noteWritten(written: Rules): Promise<void> {
    const key = keyOf(written)
    const isAgain = this.#written?.key === key
    this.#written = { key, printed: isAgain ? asPrinted(written, await this.#save()) : written }
  }

  /** What `ensure` would do, as commands: nothing is changed. Throws as `ensure`. */
  async preview(options: WantedRules): Promise<string[]> {
    const saved = await this.#look()
    const randomFully = this.#randomFully ?? (await this.#hasRandomFully())
    const input = planRestore(this.#render(options, randomFully), saved)
    return input === undefined ? [] : asCommands(input, saved, this.#family)
  }

  /** Nothing has changed since these rules were seen to stand: no program need look. */
  #stands(options: WantedRules, generation: number | undefined): boolean {
    if (this.#seen === undefined || this.#seen.generation !== generation) return false
    return this.#seen.key === keyOf(this.#render(options, this.#randomFully!))
  }

  /** The first look is the one that has found out the variant. */
  async #look(): Promise<SavedRules> {
    if (this.#variant !== undefined) return this.#save()
    this.#variant = await this.#detect()
    this.#randomFully ??= offersRandomFully(this.#variant.version)
    const text = this.#variant.texts.get(this.#family)
    return text === undefined ? this.#save() : this.#read(text)
  }

  /** The first line of what is printed says which release prints. */
  #read(text: string): SavedRules {
    this.#randomFully ??= offersRandomFully(/^# Generated by \S+ (v\S+)/.exec(text)?.[1])
    this.#isNft = /^# Generated by .*\(nf_tables\)/.test(text)
    return parseSave(text)
  }

  #render(options: WantedRules, randomFully: boolean): Rules {
    return renderRules({ ...options, family: this.#family, randomFully })
  }

  #inItsWords(wanted: Rules): Rules {
    return this.#written?.key === keyOf(wanted) ? this.#written.printed : wanted
  }

  /** Without --random-fully, as a kernel may refuse what its iptables offers. */
  async #writePlain(options: WantedRules, saved: SavedRules, refusal: unknown): Promise<Rules> {
    if (this.#randomFully !== true || !isUnexplained(refusal)) throw refusal
    const wanted = this.#render(options, false)
    const input = planRestore(wanted, saved)
    if (input !== undefined) {
      await this.#restore(input).catch(() => {
        throw refusal
      })
    }
    this.#randomFully = false
    return wanted
  }

  async #hasRandomFully(): Promise<boolean> {
    return offersRandomFully(await this.#run('restore', ['--version'])) ?? false
  }

  async #save(): Promise<SavedRules> {
    return this.#read(await this.#run('save', []))
  }

  async #restore(input: string): Promise<void> {
    await this.#run('restore', ['-w', String(LOCK_SECONDS), '--noflush'], input)
  }

  async #run(tool: Tool, args: readonly string[], input?: string): Promise<string> {
    const program = programOf(this.#family, this.#variant!, tool)
    try {
      return await this.#host.run(program, args, input)
    } catch (error) {
      throw explain(program, this.#family, error as Failure)
    }
  }
}

/**
 * Takes away all that is ours, and kube-proxy's, of a family, whichever variant has it. Returns whether there was
 * anything; where there are no programs, there is nothing. Throws an Error as `ensure`.
 */
export async function removeRules(family: Family, host: Host = linuxHost()): Promise<boolean> {
  let isRemoved = false
  for (const name of VARIANTS) {
    const text = await look(host, family, name).catch(() => '')
    const input = planRemoval(parseSave(text))
    if (input === undefined) continue
    const program = programOf(family, { name }, 'restore')
    await host.run(program, ['-w', String(LOCK_SECONDS), '--noflush'], input).catch((error: unknown) => {
      throw explain(program, family, error as Failure)
    })
    isRemoved = true
  }
  return isRemoved
}

/** Whether a release has --random-fully; undefined when the text names none. */
function offersRandomFully(version = ''): boolean | undefined {
  const [, ...numbers] = /v(\d+)\.(\d+)\.(\d+)/.exec(version) ?? []
  if (numbers.length === 0) return undefined
  const differences = numbers.map((number, i) => Number(number) - RANDOM_FULLY_SINCE[i]!)
  return (differences.find((by) => by !== 0) ?? 0) >= 0
}

/** Equal for equal rules. */
function keyOf(rules: Rules): string {
  return planRestore(rules, new Map()) ?? ''
}

// --- What goes wrong ------------------------------------------------------------------------------------

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

/** A failure that none of the reasons fits. */
function isUnexplained(error: unknown): boolean {
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
