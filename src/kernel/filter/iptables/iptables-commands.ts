/** The input of `iptables-restore` as commands for people, who see only what differs from what stands. Pure. */
import type { Family } from '../../../model/address.ts'
import { isRule } from './iptables-plan.ts'
import type { SavedRules } from './iptables-save.ts'

type Chains = ReadonlyMap<string, readonly string[]>

/** One table of the input: the chains that it fills anew, and its other lines in their order. */
interface TableInput {
  readonly name: string
  readonly chains: Map<string, string[]>
  readonly others: string[]
}

/**
 * The input of `iptables-restore --noflush` as commands that lead to the same rules, one after the other. Of a chain that
 * stands, they change the rules that differ.
 */
export function asCommands(input: string, saved: SavedRules, family: Family): string[] {
  const program = family === 'IPv4' ? 'iptables' : 'ip6tables'
  return readInput(input).flatMap(({ name, chains, others }) => {
    const actual = saved.get(name) ?? new Map<string, string[]>()
    return [...fillingLines(chains, actual), ...others].map(
      // In double quotes, a shell keeps the backslash before a single one.
      (line) => `${program} -t ${name} ${line.replaceAll("\\'", "'")}`,
    )
  })
}

function readInput(input: string): TableInput[] {
  const tables: TableInput[] = []
  for (const line of input.split('\n')) {
    const [, mark, name = '', rest = ''] = /^(\*|:|-A )(\S+) ?(.*)$/.exec(line) ?? []
    const { chains, others } = tables.at(-1) ?? {}
    const filled = chains?.get(name)
    if (mark === '*') tables.push({ name, chains: new Map<string, string[]>(), others: [] })
    else if (mark === ':') chains?.set(name, [])
    else if (mark === '-A ' && filled !== undefined) filled.push(rest)
    else if (line.startsWith('-')) others?.push(line)
  }
  return tables
}

/** Chains that others lead to have to be there first. */
function fillingLines(chains: Chains, actual: Chains): string[] {
  const missing = [...chains.keys()].filter((chain) => !actual.has(chain))
  return [
    ...missing.map((chain) => `-N ${chain}`),
    ...[...chains].flatMap(([chain, wanted]) => chainLines(chain, wanted, actual.get(chain) ?? [])),
  ]
}

/** From the top down, so that a position counts what is done already. What is deleted stands behind `#`, for the reader. */
function chainLines(chain: string, wanted: readonly string[], actual: readonly string[]): string[] {
  if (wanted.length === 0) return actual.length === 0 ? [] : [`-F ${chain}`]
  const lines: string[] = []
  let position = 1
  let length = actual.length
  for (const { kind, rule } of compare(wanted, actual)) {
    if (kind === 'surplus') lines.push(`-D ${chain} ${position} # ${rule}`)
    else if (kind === 'missing')
      lines.push(position > length ? `-A ${chain} ${rule}` : `-I ${chain} ${position} ${rule}`)
    if (kind !== 'surplus') position++
    if (kind !== 'same') length += kind === 'missing' ? 1 : -1
  }
  return lines
}

interface Step {
  readonly kind: 'same' | 'missing' | 'surplus'
  readonly rule: string
}

/** The shortest way from `actual` to `wanted`: as many rules stay as can. What is missing comes before what is in its place. */
function compare(wanted: readonly string[], actual: readonly string[]): Step[] {
  const isSame = wanted.map(isRule)
  /** How many rules can stay of those from (w, a) on. */
  const stays = Array.from({ length: wanted.length + 1 }, () => new Array<number>(actual.length + 1).fill(0))
  for (let w = wanted.length - 1; w >= 0; w--) {
    for (let a = actual.length - 1; a >= 0; a--) {
      const skipping = Math.max(stays[w + 1]![a]!, stays[w]![a + 1]!)
      stays[w]![a] = isSame[w]!(actual[a]!) ? Math.max(skipping, stays[w + 1]![a + 1]! + 1) : skipping
    }
  }
  const steps: Step[] = []
  for (let w = 0, a = 0; w < wanted.length || a < actual.length;) {
    if (w < wanted.length && a < actual.length && isSame[w]!(actual[a]!)) {
      steps.push({ kind: 'same', rule: wanted[w++]! })
      a++
    } else if (w < wanted.length && stays[w + 1]![a] === stays[w]![a])
      steps.push({ kind: 'missing', rule: wanted[w++]! })
    else steps.push({ kind: 'surplus', rule: actual[a++]! })
  }
  return steps
}
