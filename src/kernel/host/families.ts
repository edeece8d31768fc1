/** Which IP families this node can serve. */
import { readFile } from 'node:fs/promises'
import type { Family } from '../../model/address.ts'

/** IPv6 needs the protocol in the kernel (ipv6.disable=0) and not switched off for all interfaces. */
export async function supportedFamilies(root = '/proc'): Promise<ReadonlySet<Family>> {
  const addresses = await readFile(`${root}/net/if_inet6`, 'utf8').catch(() => undefined)
  const disabled = await readFile(`${root}/sys/net/ipv6/conf/all/disable_ipv6`, 'utf8').catch(() => '')
  const hasIpv6 = addresses !== undefined && disabled.trim() !== '1'
  return new Set<Family>(hasIpv6 ? ['IPv4', 'IPv6'] : ['IPv4'])
}
