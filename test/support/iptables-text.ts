/** The rules of iptables as a node has them. */
import type { RenderOptions, Rules } from '../../src/kernel/filter/iptables/iptables-rules.ts'
import type { Family } from '../../src/model/address.ts'
import { setsOf } from '../../src/model/sets.ts'

export function optionsFor(family: Family, changes: Partial<RenderOptions> = {}): RenderOptions {
  return {
    family,
    masqueradeBit: 14,
    masqueradeAll: false,
    local: { kind: 'cidr', cidr: family === 'IPv4' ? '10.244.0.0/16' : 'fd00:10:244::/48' },
    randomFully: true,
    sets: new Set(setsOf(family).map(({ name }) => name)),
    ...changes,
  }
}

/** What a node without other rules holds: `nat OUTPUT` and its rules. */
export function standing(rules: Rules): Map<string, readonly string[]> {
  const chains = new Map<string, readonly string[]>()
  for (const [table, { chains: ours, jumps }] of Object.entries<Rules['nat']>(rules)) {
    for (const { chain, rule, place } of jumps) {
      const others = chains.get(`${table} ${chain}`) ?? []
      chains.set(`${table} ${chain}`, place === 'top' ? [rule, ...others] : [...others, rule])
    }
    for (const [chain, content] of ours) chains.set(`${table} ${chain}`, content)
  }
  return chains
}

/** `iptables-save` of a node that holds these rules and nothing else. */
export function asText(rules: Rules): string {
  const chains = [...standing(rules)].map(([name, content]) => [...name.split(' '), content] as const)
  return Object.keys(rules)
    .map((table) => {
      const inTable = chains.filter(([of]) => of === table) as [string, string, readonly string[]][]
      const names = inTable.map(([, chain]) => `:${chain} - [0:0]`)
      const lines = inTable.flatMap(([, chain, content]) => content.map((rule) => `-A ${chain} ${rule}`))
      return [`*${table}`, ...names, ...lines, 'COMMIT', ''].join('\n')
    })
    .join('')
}
