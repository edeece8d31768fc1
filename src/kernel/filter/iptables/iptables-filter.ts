/** The filter of kube-proxy's mode ipvs: sets of ipset, over netlink, and rules of iptables, by its programs. */
import type { Family } from '../../../model/address.ts'
import { setsOf } from '../../../model/sets.ts'
import type { Socket } from '../../../netlink/socket.ts'
import type { Filter, FilterOptions, RuleOptions } from '../filter.ts'
import { together } from '../../../waiting/promises.ts'
import { Ipset } from './ipset.ts'
import { type Host, linuxHost } from './iptables-host.ts'
import { detectVariant, type IptablesVariant } from './iptables-variant.ts'
import { setQuestion, traceRules } from './iptables-trace.ts'
import { Iptables, removeRules } from './iptables.ts'
import { rulesGeneration } from './rules-generation.ts'

/** `host` is whose programs are run. */
export function openIptablesFilter(
  { addon, families, readOnly = false, signal }: FilterOptions,
  host: Host = linuxHost(signal),
): Filter {
  const ipset = new Ipset(addon, families)
  let detected: Promise<IptablesVariant> | undefined
  const detect = (): Promise<IptablesVariant> => (detected ??= detectVariant(host))
  const generation = (): Promise<number | undefined> => rulesGeneration(addon)
  const rules = new Map(
    [...families].map((family) => [family, new Iptables(family, host, detect, generation)]),
  )
  return {
    get faults() {
      return ipset.faults
    },
    get creations() {
      return ipset.creations
    },
    prepare: () => void detect(),
    read: () => ipset.read(readOnly),
    execute: (changes) => ipset.execute(changes),
    ensure: (family, options) => rules.get(family)!.ensure({ ...options, sets: ipset.names }),
    preview: (family, options) => rules.get(family)!.preview(withAllSets(family, options)),
    trace: async (packet, realServers) => {
      const [saved, members] = await together([rules.get(packet.family)!.saved(), ipset.read(true)])
      return traceRules(saved, packet, setQuestion(members, packet), realServers)
    },
    close: () => {
      ipset.close()
    },
  }
}

function withAllSets(
  family: Family,
  options: RuleOptions,
): RuleOptions & { readonly sets: ReadonlySet<string> } {
  return { ...options, sets: new Set(setsOf(family).map(({ name }) => name)) }
}

/** Rules ask sets: these go last. Attempts every part, and returns what went wrong. */
export async function removeIptablesFilter(
  { addon, families }: Pick<FilterOptions, 'addon' | 'families'>,
  host: Host = linuxHost(),
): Promise<readonly unknown[]> {
  const removals = [...families].map((family) => (): Promise<unknown> => removeRules(family, host))
  const failures: unknown[] = []
  for (const part of [...removals, () => destroySets(addon, families)])
    await part().catch((error: unknown) => failures.push(error))
  return failures
}

async function destroySets(addon: Socket, families: Iterable<Family>): Promise<void> {
  const ipset = new Ipset(addon, families)
  try {
    await ipset.destroy()
  } finally {
    ipset.close()
  }
}
