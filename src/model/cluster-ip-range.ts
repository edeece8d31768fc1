/** What listed cluster IPs tell of the network that they are taken from, where no ServiceCIDR says it. */
import { type Address, type Family, familyOf } from './address.ts'
import { type Cidr, contains, networkAt } from './cidr.ts'
import type { ServiceName } from './facts.ts'

/** Its cluster IP is the first one of the network: where it is listed, the others are an API server's, too. */
const API_SERVER: ServiceName = 'default/kubernetes'
/** An API server takes no larger network (cmd/kube-apiserver/app/options/validation.go: 20 bits for addresses). */
const SHORTEST: Readonly<Record<Family, number>> = { IPv4: 12, IPv6: 108 }

/** The smallest network that holds all cluster IPs of a family so far; `tooLarge`: they are of several. */
type Range = Cidr | 'tooLarge'

export class ClusterIpRange {
  readonly #ranges = new Map<Family, Range>()
  #isKnown = false

  /** A Service has this cluster IP. Returns whether that makes a network larger. */
  note(owner: ServiceName, address: Address): boolean {
    const wasKnown = this.#isKnown
    this.#isKnown ||= owner === API_SERVER
    const range = this.#ranges.get(familyOf(address))
    const isInside = range === 'tooLarge' || (range !== undefined && contains(range, address))
    if (!isInside) this.#ranges.set(familyOf(address), extended(range, address))
    return this.#isKnown && (!wasKnown || !isInside)
  }

  /** The network of each family; a part of the true one, which may be larger. */
  get networks(): Cidr[] {
    if (!this.#isKnown) return []
    return [...this.#ranges.values()].filter((range) => range !== 'tooLarge')
  }
}

function extended(range: Cidr | undefined, address: Address): Range {
  const width = familyOf(address) === 'IPv4' ? 32 : 128
  for (let prefix = range?.prefix ?? width; prefix >= SHORTEST[familyOf(address)]; prefix--) {
    const network = networkAt(address, prefix)
    if (range === undefined || contains(network, range.address)) return network
  }
  return 'tooLarge'
}
