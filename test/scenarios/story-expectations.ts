/**
 * What must be after a step. Each is followed by the exact lines, or by `nothing` on its own line:
 *
 *   executed        what was changed in the kernel since the last step, in order
 *   refused         what was tried, and refused
 *   reads           what of the kernel was read: `tables`, `real servers`
 *   log             warnings and errors
 *   events          of the API: `Warning VirtualServerConflict shop/web: ...`
 *   triggers        what had led to changes that are in the kernel now: `IPv4 2026-01-01T00:00:00.000Z`
 *   ipvsadm         virtual servers as they are now; in any order, as the next two
 *   ipset           members of sets
 *   addresses       of kube-ipvs0
 *
 * `executed matching /regular expression/` looks at such lines only; `executed in any order` is that.
 *
 *   nothing                     nothing was executed, logged or made an Event
 *   metric kube_ipvs_x 6        the value of a metric
 *   synced yes                  the kernel has once been as it should be; or no
 *   settled yes                 since the last step it has been said that it is; or no
 *
 * What is executed and not told is an error, unless the step is `given` or a state (ipvsadm, ipset, addresses) is told;
 * what is logged or made an Event and not told is one always.
 */
import { boundLines } from '../support/bound.ts'
import { type Line, type Sentence, StoryError } from './story-parser.ts'
import type { Seen, World } from './story-world.ts'

type Kind = Exclude<keyof Seen, 'settled'> | 'ipvsadm' | 'ipset' | 'addresses'

const STATES: readonly Kind[] = ['ipvsadm', 'ipset', 'addresses']
const LISTS: readonly Kind[] = ['executed', 'refused', 'reads', 'log', 'events', 'triggers', ...STATES]
const NEVER_SILENT: readonly Kind[] = ['executed', 'log', 'events']
const LIST = /^(\w+)(?: matching \/(.+)\/)?( in any order)?( nothing)?$/
const VALUE = /^(metric \S+|synced|settled) (\S+)$/
/** Lines of a difference that are shown, and those before it. */
const SHOWN = 20
const BEFORE = 2

/** What is in one list and not in the other, as often as it is there. */
function without<Item>(
  items: readonly Item[],
  others: readonly string[],
  text: (item: Item) => string,
): Item[] {
  const left = [...others]
  return items.filter((item) => {
    const at = left.indexOf(text(item))
    if (at >= 0) left.splice(at, 1)
    return at < 0
  })
}

/** Where the two differ: `-` is expected, `+` is found. */
function showDifference(expected: readonly string[], found: readonly string[]): { at: number; text: string } {
  const at = expected.findIndex((line, i) => line !== found[i])
  const first = at < 0 ? expected.length : at
  let same = 0
  while (
    same < Math.min(expected.length, found.length) - first &&
    expected.at(-1 - same) === found.at(-1 - same)
  )
    same++
  const part = (sign: string, lines: readonly string[]): string[] => {
    const all = lines.slice(first, lines.length - same).map((line) => `  ${sign} ${line}`)
    return all.length > SHOWN ? [...all.slice(0, SHOWN), `  ${sign} ... ${all.length - SHOWN} more`] : all
  }
  const before = expected.slice(Math.max(0, first - BEFORE), first).map((line) => `    ${line}`)
  return { at: first, text: [...before, ...part('-', expected), ...part('+', found)].join('\n') }
}

function linesOf(kind: Kind, seen: Seen, { kernel }: World): readonly string[] {
  switch (kind) {
    case 'ipvsadm':
      return kernel.toString().split('\n').filter(Boolean)
    case 'ipset':
      return [...kernel.state.setMembers]
    case 'addresses':
      return boundLines(kernel.state.addresses)
    case 'executed':
    case 'refused':
    case 'reads':
    case 'log':
    case 'events':
    case 'triggers':
      return seen[kind]
  }
}

/** Compares what has been seen since the last step with what a story says of it. */
export class Expectations {
  readonly #file: string
  readonly #world: World
  /** The step that they are about, once there was one. */
  #step: { readonly sentence: Sentence; readonly seen: Seen; readonly told: Set<string> } | undefined

  constructor(file: string, world: World) {
    this.#file = file
    this.#world = world
  }

  /** A step has been taken. */
  begin(sentence: Sentence): void {
    this.#step = { sentence, seen: this.#world.take(), told: new Set() }
  }

  /** Another step is about to be taken: all that came of the last one must have been told. */
  end(): void {
    if (this.#step === undefined) return
    const { sentence, seen, told } = this.#step
    const isGiven = sentence.text.startsWith('given')
    if (told.size === 0 && !isGiven)
      this.#fail(sentence.number, `what must be after "${sentence.text}"? Say it, or: nothing`)
    const isStateTold = STATES.some((state) => told.has(state))
    for (const kind of NEVER_SILENT)
      if (kind !== 'executed' || !(isGiven || isStateTold))
        if (!told.has(kind))
          this.#compare(sentence.number, `${kind} after "${sentence.text}"`, [], seen[kind as 'log'])
    this.#step = undefined
  }

  /** False for a sentence that is no expectation. */
  async check(sentence: Sentence): Promise<boolean> {
    const value = VALUE.exec(sentence.text)
    const list = LIST.exec(sentence.text)
    const kind = LISTS.find((name) => name === list?.[1])
    if (sentence.text !== 'nothing' && value === null && kind === undefined) return false
    if (this.#step === undefined) this.#fail(sentence.number, `"${sentence.text}" comes before any step`)
    if (value !== null) await this.#checkValue(sentence, value[1]!, value[2]!)
    else if (kind === undefined) for (const silent of NEVER_SILENT) this.#tell(sentence, silent)
    else this.#checkList(sentence, kind, list!)
    return true
  }

  async #checkValue(sentence: Sentence, name: string, expected: string): Promise<void> {
    if (sentence.body.length > 0) this.#fail(sentence.number, `nothing belongs below "${sentence.text}"`)
    const { seen, told } = this.#step!
    told.add(name)
    const yes = (is: boolean): string => (is ? 'yes' : 'no')
    const found =
      name === 'synced'
        ? yes(this.#world.story.proxy.synced)
        : name === 'settled'
          ? yes(seen.settled > 0)
          : await this.#metric(name.slice('metric '.length))
    if (found !== expected) this.#fail(sentence.number, `${name} is ${found}, not ${expected}`)
  }

  async #metric(name: string): Promise<string> {
    const lines = (await this.#world.story.metrics.registry.metrics()).split('\n')
    return lines.find((line) => line.startsWith(`${name} `))?.slice(name.length + 1) ?? 'not there'
  }

  #checkList(
    sentence: Sentence,
    kind: Kind,
    [, , pattern, order, nothing]: readonly (string | undefined)[],
  ): void {
    if ((nothing !== undefined) === sentence.body.length > 0)
      this.#fail(sentence.number, `"${sentence.text}": its lines stand below, or "nothing" stands beside it`)
    this.#tell(sentence, kind, pattern === undefined ? undefined : new RegExp(pattern), order !== undefined)
  }

  #tell({ number, text, body }: Sentence, kind: Kind, only?: RegExp, inAnyOrder = false): void {
    const { seen, told } = this.#step!
    told.add(kind)
    const found = linesOf(kind, seen, this.#world).filter((line) => only?.test(line) !== false)
    const what = text === 'nothing' ? kind : text
    if (!inAnyOrder && !STATES.includes(kind)) this.#compare(number, what, body, found)
    else this.#compareSets(number, what, body, found)
  }

  #compareSets(number: number, what: string, body: readonly Line[], found: readonly string[]): void {
    const lines = body.map(({ text }) => text)
    const missing = without(body, found, ({ text }) => text)
    this.#compare(
      number,
      what,
      missing,
      without(found, lines, (line) => line),
    )
  }

  #compare(number: number, what: string, expected: readonly Line[], found: readonly string[]): void {
    const lines = expected.map(({ text }) => text)
    if (lines.length === found.length && lines.every((line, i) => line === found[i])) return
    const { at, text } = showDifference(lines, found)
    this.#fail(expected[at]?.number ?? number, `${what}: expected (-), found (+)\n${text}`)
  }

  #fail(line: number, message: string): never {
    throw new StoryError(this.#file, line, message)
  }
}
