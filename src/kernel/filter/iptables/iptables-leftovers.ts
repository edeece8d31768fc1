/** What kube-proxy's iptables mode leaves in iptables, and how chains are taken away without touching anybody else's. */
import type { TableName } from './iptables-save.ts'

/** Chains of the iptables mode whose names are not ours, too (pkg/proxy/iptables/proxier.go). */
const LEFTOVER_CHAINS: Readonly<Record<TableName, RegExp>> = {
  nat: /^KUBE-(?:(?:SVC|SVL|SEP|EXT|FW|XLB)-.*|NODEPORTS|PROXY-CANARY)$/,
  filter: /^KUBE-(?:SERVICES|EXTERNAL-SERVICES|NODEPORTS|PROXY-CANARY)$/,
  mangle: /^KUBE-PROXY-CANARY$/,
}
/** Chains that the kernel calls. */
const BUILT_IN = /^(?:PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)$/
/** The iptables mode has jumps to chains of our names as well; they differ from ours in this match. */
const ONLY_NEW = '-m conntrack --ctstate NEW '

type Chains = ReadonlyMap<string, readonly string[]>

/** Where a rule leads. */
function targetOf(rule: string): string | undefined {
  return /(?:^| )-[jg] (\S+)/.exec(rule)?.[1]
}

/** Chains to take away: those that are doomed, but for what a chain that stays leads to. */
function removable(chains: Chains, isDoomed: (chain: string) => boolean): Set<string> {
  const going = new Set([...chains.keys()].filter(isDoomed))
  for (;;) {
    const held = [...chains]
      .filter(([chain]) => !going.has(chain) && !BUILT_IN.test(chain))
      .flatMap(([, rules]) => rules.map(targetOf))
      .filter((target) => target !== undefined && going.has(target))
    if (held.length === 0) return going
    for (const target of held) going.delete(target!)
  }
}

/** Rules of the kernel's own chains, with the line that deletes each. */
function deletions(chains: Chains, isUnwanted: (rule: string) => boolean): string[] {
  return [...chains].flatMap(([chain, rules]) =>
    BUILT_IN.test(chain) ? rules.filter(isUnwanted).map((rule) => `-D ${chain} ${rule}`) : [],
  )
}

/** Lines of `iptables-restore` that empty, unlink and delete chains of a table. */
export function removalLines(
  name: TableName,
  actual: Chains | undefined,
  isOurs: (chain: string) => boolean,
): string[] {
  if (actual === undefined) return []
  const going = removable(actual, (chain) => isOurs(chain) || LEFTOVER_CHAINS[name].test(chain))
  return [
    ...[...going].map((chain) => `:${chain} - [0:0]`),
    ...deletions(actual, (rule) => going.has(targetOf(rule) ?? '')),
    ...[...going].map((chain) => `-X ${chain}`),
  ]
}

/** The same for what the iptables mode has left beside `ours`, which stay. */
export function leftoverLines(name: TableName, actual: Chains | undefined, ours: Chains): string[] {
  if (actual === undefined) return []
  const others = new Map([...actual].filter(([chain]) => !ours.has(chain)))
  const doubles = deletions(actual, (rule) => rule.includes(ONLY_NEW) && ours.has(targetOf(rule) ?? ''))
  return [...removalLines(name, others, () => false), ...doubles]
}
