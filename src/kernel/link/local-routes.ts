/** Virtual IPs that are bound as routes: reading all of them, and whether the kernel takes any. */
import { type Address, type Family, parseAddress } from '../../model/address.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { isAlreadyExists, isNotFound } from '../../netlink/error.ts'
import type { Socket } from '../../netlink/socket.ts'
import { mapInTurns } from '../../waiting/turns.ts'
import { decodeLocalRoute, encodeLocalRoute, encodeLocalRouteDump } from './local-route-codec.ts'
import { NETLINK_ROUTE } from './rtnetlink.ts'

/** Every address of 127.0.0.0/8 is local, and so is ::1: a route to it changes nothing. */
const PROBES: Readonly<Record<Family, Address>> = {
  IPv4: parseAddress('127.73.73.73')!,
  IPv6: parseAddress('::1')!,
}

/** `connection` is of NETLINK_ROUTE (0). Throws NetlinkError, and DecodeError. */
export async function readLocalRoutes(connection: NetlinkConnection): Promise<Address[]> {
  const messages = await connection.read(encodeLocalRouteDump, 'Cannot read the routes of virtual IPs')
  const addresses = await mapInTurns(messages, decodeLocalRoute)
  const probes = Object.values(PROBES)
  return addresses.filter((address) => address !== undefined && !probes.includes(address)) as Address[]
}

/** Adds a route and deletes it, of each family, in one datagram. Throws NetlinkError: why the kernel takes none. */
export async function probeLocalRoutes(
  connection: NetlinkConnection,
  families: Iterable<Family>,
): Promise<void> {
  const batch = connection.batch()
  for (const family of families) {
    encodeLocalRoute(batch, 'NEW', PROBES[family])
    encodeLocalRoute(batch, 'DEL', PROBES[family])
  }
  const { refusals } = await connection.exchange(batch, 'Cannot bind virtual IPs as routes')
  for (const error of refusals.values()) if (!isAlreadyExists(error)) throw error
}

/** Deletes all of them, and returns how many there were. Throws NetlinkError. */
export async function deleteLocalRoutes(addon: Socket): Promise<number> {
  const connection = new NetlinkConnection(addon, NETLINK_ROUTE)
  try {
    const addresses = await readLocalRoutes(connection)
    const batch = connection.batch()
    for (const address of addresses) encodeLocalRoute(batch, 'DEL', address)
    const { refusals } = await connection.exchange(batch, 'Cannot delete the routes of virtual IPs')
    for (const error of refusals.values()) if (!isNotFound(error)) throw error
    return addresses.length
  } finally {
    connection.close()
  }
}
