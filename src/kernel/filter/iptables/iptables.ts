/**
 * Our rules in iptables, through the host's programs: one that prints what stands, and, when something is not as it
 * should be, one that repairs it. No shell is started.
 */
import type { Family } from '../../../model/address.ts'
import { asCommands } from './iptables-commands.ts'
import { type Host, isUnexplained, linuxHost, restoreRules, runTool, VARIANTS } from './iptables-host.ts'
import { asPrinted, planRemoval, planRestore } from './iptables-plan.ts'
import { type RenderOptions, renderRules, type Rules } from './iptables-rules.ts'
import { parseSave, type SavedRules } from './iptables-save.ts'
import { detectVariant, type IptablesVariant, look } from './iptables-variant.ts'

/** The first release of iptables with `MASQUERADE --random-fully`. */
const RANDOM_FULLY_SINCE = [1, 6, 2]

/** A number that is another one whenever rules of nftables have changed, those of iptables-nft included; undefined where there is none. */
export type Generation = () => Promise<number | undefined>

/** What the rules depend on, but for what is found out here. */
export type WantedRules = Omit<RenderOptions, 'family' | 'randomFully'>

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

  /** The rules of everybody, as they stand. Throws as `ensure`. */
  async saved(): Promise<SavedRules> {
    return this.#look()
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
    const version = await runTool(this.#host, [this.#family, this.#variant!.name, 'restore'], ['--version'])
    return offersRandomFully(version) ?? false
  }

  async #save(): Promise<SavedRules> {
    return this.#read(await runTool(this.#host, [this.#family, this.#variant!.name, 'save'], []))
  }

  async #restore(input: string): Promise<void> {
    await restoreRules(this.#host, this.#family, this.#variant!.name, input)
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
    await restoreRules(host, family, name, input)
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
