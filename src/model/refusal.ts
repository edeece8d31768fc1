/** External addresses that must not become local ones: each would cut this node off from what has it. */
import ipaddr from 'ipaddr.js'
import type { Address } from './address.ts'
import { type Cidr, contains, formatCidr } from './cidr.ts'

/** Who has which addresses. */
export interface Neighbourhood {
  /** The node's own, as its Node object says. */
  readonly nodeIps: readonly Address[]
  /** Networks of Pods. */
  readonly podCidrs: readonly Cidr[]
  readonly apiServers: readonly Address[]
}

/** Ranges of ipaddr.js, in a user's words. */
const SPECIAL: Readonly<Record<string, string>> = {
  unspecified: 'the unspecified address',
  loopback: 'a loopback address',
  linkLocal: 'a link-local address',
  multicast: 'a multicast address',
  broadcast: 'the broadcast address',
}

/**
 * Why an external or load-balancer IP must not be served; undefined when it may (kubernetes #127410, #104679: bound
 * to kube-ipvs0, such an address takes the node off the network).
 */
export function refusalOf(
  address: Address,
  { nodeIps, podCidrs, apiServers }: Neighbourhood,
): string | undefined {
  const special = SPECIAL[ipaddr.parse(address).range()]
  if (special !== undefined) return `${address} is ${special}`
  if (nodeIps.includes(address)) return `${address} is an address of this node`
  if (apiServers.includes(address)) return `${address} is an address of the API server`
  const podCidr = podCidrs.find((cidr) => contains(cidr, address))
  return podCidr && `${address} belongs to the Pods in ${formatCidr(podCidr)}`
}
