/** What has to be written so that our rules stand, or are gone, given what stands. Pure. */
import { leftoverLines, removalLines } from './iptables-leftovers.ts'
import { type Jump, renderRules, type Rules, setsOfRule, type Table } from './iptables-rules.ts'
import { type SavedRules, type TableName, TABLES } from './iptables-save.ts'

/**
 * The input of one `iptables-restore --noflush` that makes `wanted` stand; undefined when it stands. Chains of ours
 * that differ are filled anew; jumps that are missing, wherever in their chain, are put at their place; what kube-proxy
 * has left in its other modes goes. Nothing else is touched. `printed` is `wanted` as this iptables prints it.
 */
export function planRestore(wanted: Rules, saved: SavedRules, printed = wanted): string | undefined {
  const lines = TABLES.flatMap((name) => planTable(name, wanted[name], saved, printed[name]))
  return lines.length === 0 ? undefined : `${lines.join('\n')}\n`
}

function planTable(name: TableName, wanted: Table, saved: SavedRules, printed: Table): string[] {
  const actual = saved.get(name)
  const chains = [...wanted.chains].filter(
    ([chain]) => !isSame(actual?.get(chain), printed.chains.get(chain)!),
  )
  const jumps = wanted.jumps.filter(({ chain }, index) => {
    const isJump = isRule(printed.jumps[index]!.rule)
    return actual?.get(chain)?.some(isJump) !== true
  })
  const leftovers = leftoverLines(name, actual, wanted.chains)
  if (chains.length + jumps.length + leftovers.length === 0) return []
  return [
    `*${name}`,
    ...chains.map(([chain]) => `:${chain} - [0:0]`),
    ...chains.flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)),
    ...jumps.map(insertion),
    ...leftovers,
    'COMMIT',
  ]
}

function insertion({ chain, rule, place }: Jump): string {
  return place === 'top' ? `-I ${chain} 1 ${rule}` : `-A ${chain} ${rule}`
}

function isSame(actual: readonly string[] | undefined, expected: readonly string[]): boolean {
  if (actual?.length !== expected.length) return false
  return expected.every((rule, index) => isRule(rule)(actual[index]!))
}

/** Whether another rule is this one, however its words are quoted. */
export function isRule(rule: string): (other: string) => boolean {
  const expected = normalForm(rule)
  return (other) => normalForm(other) === expected
}

/** Rules that differ only in how words are quoted are the same. */
function normalForm(rule: string): string {
  const words = rule.matchAll(/"((?:\\.|[^"\\])*)"|(\S+)/g)
  return [...words].map(([, quoted, plain]) => (quoted ?? plain!).replaceAll(/\\(.)/g, '$1')).join('\0')
}

/**
 * `wanted` in the words of this iptables, from what it prints after `wanted` has been written: releases differ. What
 * cannot be the same rules, as somebody was faster with a change, stays as it is in `wanted`.
 */
export function asPrinted(wanted: Rules, saved: SavedRules): Rules {
  const table = (name: TableName): Table =>
    tableAsPrinted(wanted[name], saved.get(name) ?? new Map<string, string[]>())
  return { nat: table('nat'), filter: table('filter'), mangle: table('mangle') }
}

function tableAsPrinted({ chains, jumps }: Table, actual: ReadonlyMap<string, readonly string[]>): Table {
  return {
    chains: new Map(
      [...chains].map(([chain, rules]) => {
        const found = actual.get(chain) ?? []
        return [chain, found.map(skeleton).join() === rules.map(skeleton).join() ? found : rules]
      }),
    ),
    jumps: jumps.map((jump) => {
      const alike = (actual.get(jump.chain) ?? []).filter((rule) => skeleton(rule) === skeleton(jump.rule))
      return { ...jump, rule: alike.find(isRule(jump.rule)) ?? alike[0] ?? jump.rule }
    }),
  }
}

/** What every release prints alike: which sets a rule asks, and where it leads. */
function skeleton(rule: string): string {
  return [...setsOfRule(rule), /-j (\S+)/.exec(rule)?.[1]].join(' ')
}

/** The input of one `iptables-restore --noflush` that takes away all that is ours, and kube-proxy's; undefined when there is nothing. */
export function planRemoval(saved: SavedRules): string | undefined {
  const options = { masqueradeBit: 0, masqueradeAll: false, local: undefined, randomFully: false }
  const ours = renderRules({ ...options, family: 'IPv4', sets: new Set() })
  const lines = TABLES.flatMap((name) => {
    const removal = removalLines(name, saved.get(name), (chain) => ours[name].chains.has(chain))
    return removal.length === 0 ? [] : [`*${name}`, ...removal, 'COMMIT']
  })
  return lines.length === 0 ? undefined : `${lines.join('\n')}\n`
}
