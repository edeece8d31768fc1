/** What IPVS has counted in this network namespace, of all virtual servers together: without a dump of them. */
import { readFile } from 'node:fs/promises'

const FILE = '/proc/net/ip_vs_stats'

/** New connections so far, in the first column of the third line, as ip_vs_stats_show writes it (net/netfilter/ipvs/ip_vs_ctl.c). */
export function parseConnections(text: string): number | undefined {
  const [, hexadecimal] = /^.*\n.*\n\s*([0-9A-Fa-f]+)\s/.exec(text) ?? []
  return hexadecimal === undefined ? undefined : Number.parseInt(hexadecimal, 16)
}

/** Undefined where the kernel does not tell. */
export async function readConnectionTotal(): Promise<number | undefined> {
  return readFile(FILE, 'latin1').then(parseConnections, () => undefined)
}
