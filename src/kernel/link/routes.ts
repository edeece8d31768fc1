/** What is around the node: its gateways, its neighbours, and the networks on its links. Read over rtnetlink. */
import type { Address } from '../../model/address.ts'
import { type Cidr, formatCidr } from '../../model/cidr.ts'
import type { Links, Neighbour as NeighbourOnLink } from '../../model/claims/surroundings.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import type { Socket } from '../../netlink/socket.ts'
import { INTERFACE_NAME } from './dummy-interface.ts'
import {
  decodeLink,
  decodeNeighbour,
  decodeNextHopObject,
  decodeRoute,
  encodeLinkDump,
  encodeNeighbourDump,
  encodeNextHopDump,
  encodeRouteDump,
  type Link,
  type Neighbour,
  type NextHop,
  type NextHopObject,
  type Route,
} from './route-codec.ts'
import { NETLINK_ROUTE } from './rtnetlink.ts'

const CANNOT_READ = 'Cannot read the routes and neighbours of the node'

/** What the kernel says, decoded. */
export interface LinkTables {
  readonly links: readonly Link[]
  readonly routes: readonly Route[]
  readonly nextHops: readonly NextHopObject[]
  readonly neighbours: readonly Neighbour[]
}

/** The ways of a next hop object. The kernel takes no groups in groups. */
function hopsOf(id: number, objects: ReadonlyMap<number, NextHopObject>): readonly NextHop[] {
  const object = objects.get(id)
  if (object === undefined) return []
  if (object.group.length === 0) return [object.hop]
  return object.group.flatMap((member) => objects.get(member)?.hop ?? [])
}

/** The ways of a route; of a next hop object where the kernel says no more of it (sysctl nexthop_compat_mode is 0). */
function waysOf({ hops, nextHopId }: Route, objects: ReadonlyMap<number, NextHopObject>): readonly NextHop[] {
  return hops.length > 0 ? hops : hopsOf(nextHopId, objects)
}

/**
 * Puts the tables together, without what is on lo or kube-ipvs0. An address on several links is named with the first of
 * them; of networks, each is named once, and the default route's not. Pure.
 */
export function linksOf({ links, routes, nextHops, neighbours }: LinkTables): Links {
  const known = new Map(links.map((link) => [link.index, link]))
  const objects = new Map(nextHops.map((object) => [object.id, object]))
  /** The link's name; undefined for one that does not count. One that has come meanwhile has no name yet. */
  const outside = (index: number): string | undefined => {
    const { name, isLoopback } = known.get(index) ?? { name: `#${index}`, isLoopback: false }
    return isLoopback || name === INTERFACE_NAME || index === 0 ? undefined : name
  }
  const gateways = new Map<Address, string>()
  const networks = new Map<string, Cidr>()
  for (const route of routes)
    for (const { gateway, interfaceIndex } of waysOf(route, objects)) {
      const link = outside(interfaceIndex)
      if (link === undefined) continue
      if (gateway !== undefined && !gateways.has(gateway)) gateways.set(gateway, link)
      if (route.destination.prefix > 0) networks.set(formatCidr(route.destination), route.destination)
    }
  const around = new Map<Address, NeighbourOnLink>()
  for (const { address, interfaceIndex, lladdr } of neighbours) {
    const link = outside(interfaceIndex)
    if (link !== undefined && !around.has(address)) around.set(address, { link, lladdr })
  }
  return { gateways, neighbours: around, routes: [...networks.values()] }
}

/**
 * Reads what is around the node, of this network namespace. `connection` is of NETLINK_ROUTE (0). Throws NetlinkError,
 * also when a table keeps changing while it is read (EINTR), and DecodeError: what may be a part only is none.
 */
export async function readLinks(connection: NetlinkConnection): Promise<Links> {
  const links = (await connection.read(encodeLinkDump, CANNOT_READ)).map(decodeLink)
  const routes = (await connection.read(encodeRouteDump, CANNOT_READ)).flatMap(
    (message) => decodeRoute(message) ?? [],
  )
  // Whoever has no such objects may have a kernel that does not know them.
  const needsObjects = routes.some(({ hops, nextHopId }) => nextHopId !== 0 && hops.length === 0)
  const nextHops = needsObjects
    ? (await connection.read(encodeNextHopDump, CANNOT_READ)).map(decodeNextHopObject)
    : []
  const neighbours = (await connection.read(encodeNeighbourDump, CANNOT_READ)).flatMap(
    (message) => decodeNeighbour(message) ?? [],
  )
  return linksOf({ links, routes, nextHops, neighbours })
}

/** Reads them as `readLinks`, over a connection of its own for each time. */
export async function readLinksOnce(addon: Socket): Promise<Links> {
  const connection = new NetlinkConnection(addon, NETLINK_ROUTE)
  try {
    return await readLinks(connection)
  } finally {
    connection.close()
  }
}
