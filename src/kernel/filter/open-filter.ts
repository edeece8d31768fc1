/** Which way the kernel keeps sets and rules is decided here. */
import type { Filter, FilterOptions } from './filter.ts'
import { openIptablesFilter, removeIptablesFilter } from './iptables/iptables-filter.ts'

/** Throws NetlinkError when the kernel has no nfnetlink. */
export function openFilter(options: FilterOptions): Filter {
  return openIptablesFilter(options)
}

/**
 * Takes away all rules and sets that are ours, and kube-proxy's, however they are kept. Attempts every part, and returns
 * what went wrong.
 */
export function removeFilter(
  options: Pick<FilterOptions, 'addon' | 'families'>,
): Promise<readonly unknown[]> {
  return removeIptablesFilter(options)
}
