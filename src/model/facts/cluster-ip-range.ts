/** What listed cluster IPs tell of the network that they are taken from, where no ServiceCIDR says it. */
import { type Address, type Family, familyOf } from '../address.ts'
import { type Cidr, contains, networkAt } from '../cidr.ts'
import { API_SERVER, type ServiceName } from './facts.ts'

/** An API server takes no larger network (cmd/kube-apiserver/app/options/validation.go: 20 bits for addresses). */
const SHORTEST: Readonly<Record<Family, number>> = { IPv4: 12, IPv6: 108 }

/**
 * The smallest network of each family that holds all its cluster IPs: a part of the true one. None of a family whose cluster
 * IPs are too far apart to be of one network, and none at all where the API server's own is not among them.
 */
export function clusterIpNetworks(clusterIps: Iterable<readonly [ServiceName, Address]>): Cidr[] {
  const ranges = new Map<Family, Cidr | undefined>()
  let isKnown = false
  for (const [owner, address] of clusterIps) {
    // Where its own is listed, the others are an API server's, too.
    isKnown ||= owner === API_SERVER
    const family = familyOf(address)
    const range = ranges.get(family)
    if (ranges.has(family) && (range === undefined || contains(range, address))) continue
    ranges.set(family, extended(range, address))
  }
  return isKnown ? [...ranges.values()].filter((range) => range !== undefined) : []
}

/** The smallest network that holds a range and an address; undefined when it would be too large. */
function extended(range: Cidr | undefined, address: Address): Cidr | undefined {
  const width = familyOf(address) === 'IPv4' ? 32 : 128
  for (let prefix = range?.prefix ?? width; prefix >= SHORTEST[familyOf(address)]; prefix--) {
    const network = networkAt(address, prefix)
    if (range === undefined || contains(network, range.address)) return network
  }
  return undefined
}
