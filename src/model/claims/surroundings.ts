/** Who else is around this node: other nodes, its gateways, and whoever is on its links. */
import type { Address } from '../address.ts'
import { type Cidr, contains } from '../cidr.ts'

/** Who is on the other end of a link. */
export interface Neighbour {
  /** The link's name. */
  readonly link: string
  /** Its hardware address, such as `02:00:00:00:00:01`; undefined where the link has none. */
  readonly lladdr: string | undefined
}

/** What the kernel knows of the node's links. */
export interface Links {
  /** Next hops of all unicast routes, each with the name of its link. */
  readonly gateways: ReadonlyMap<Address, string>
  /** Those in use: reachable, or once found and not known to be gone, or permanent. */
  readonly neighbours: ReadonlyMap<Address, Neighbour>
  /** Networks that packets are sent out to. */
  readonly routes: readonly Cidr[]
}

/** What is known of all that. */
export interface Surroundings {
  /** Whether it was known when an address was last looked for: before, it is not served. */
  readonly isSeen: (address: Address) => boolean
  /** Addresses of the cluster's other nodes. */
  readonly peers: ReadonlySet<Address>
  readonly gateways: Links['gateways']
  /** `eth0 (02:42:ac:11:00:02)`, by address. What another node of the cluster announces is not among them. */
  readonly neighbours: ReadonlyMap<Address, string>
  /** Networks from which this node's Pods have their addresses. */
  readonly podCidrs: readonly Cidr[]
}

/** Nobody else is there. */
export const ALONE: Surroundings = {
  isSeen: () => true,
  peers: new Set(),
  gateways: new Map(),
  neighbours: new Map(),
  podCidrs: [],
}

/**
 * What a node has on its links and in its cluster, put together. An address that has another node's address on the link
 * is a virtual one, which that node announces: serving it here, too, is as it should be.
 */
export function surroundingsOf(
  links: Links,
  peers: ReadonlySet<Address>,
  podCidrs: readonly Cidr[],
  isSeen: Surroundings['isSeen'],
): Surroundings {
  const announcers = new Set([...peers].flatMap((peer) => links.neighbours.get(peer)?.lladdr ?? []))
  const strangers = [...links.neighbours].filter(
    ([, { lladdr }]) => lladdr === undefined || !announcers.has(lladdr),
  )
  return {
    isSeen,
    peers,
    gateways: links.gateways,
    neighbours: new Map(strangers.map(([address, neighbour]) => [address, describe(neighbour)])),
    podCidrs: usedPodCidrs(podCidrs, links.routes),
  }
}

function describe({ link, lladdr }: Neighbour): string {
  return lladdr === undefined ? link : `${link} (${lladdr})`
}

/** A Node's podCIDRs say whose addresses these are only where a route leads to some: network plug-ins may use others. */
function usedPodCidrs(podCidrs: readonly Cidr[], routes: readonly Cidr[]): Cidr[] {
  return podCidrs.filter((cidr) =>
    routes.some((route) => route.prefix >= cidr.prefix && contains(cidr, route.address)),
  )
}
