/** The IPVS table over generic netlink. */
import { familyOf } from '../../model/address.ts'
import type { ObservedRealServer, VirtualServerId, VirtualServerKey } from '../../model/virtual-server.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { isNotPermitted, NetlinkError } from '../../netlink/error.ts'
import { NETLINK_GENERIC, resolveGenlFamilyId } from '../../netlink/generic.ts'
import type { Message } from '../../netlink/message.ts'
import type { Socket } from '../../netlink/socket.ts'
import { mapAtLeisure, mapInTurns } from '../../waiting/turns.ts'
import { IPVS_GENL_NAME } from './ipvs-constants.ts'
import { encodeRealServerDump, realServerDecoder } from './real-server-codec.ts'
import { decodeStats, type Stats } from './stats-codec.ts'
import { decodeTimeouts, encodeTimeouts, encodeTimeoutsGet, type Timeouts } from './timeouts-codec.ts'
import {
  encodeVirtualServerDump,
  type ObservedVirtualServer,
  virtualServerDecoder,
} from './virtual-server-codec.ts'

export interface CountedRealServer extends ObservedRealServer {
  readonly stats: Stats
}

/** What the kernel counts of a virtual server. */
export interface Counted {
  readonly id: VirtualServerId
  readonly stats: Stats
}

export interface CountedVirtualServer extends Counted {
  readonly realServers: readonly CountedRealServer[]
}

/** IPVS of the network namespace in which it was opened. */
export class Ipvs {
  readonly connection: NetlinkConnection
  /** For the long lists, which changes do not wait for. */
  readonly #reader: NetlinkConnection
  /** The number that generic netlink has given to IPVS: the type of its messages. */
  readonly genlFamilyId: number

  private constructor(connection: NetlinkConnection, reader: NetlinkConnection, genlFamilyId: number) {
    this.connection = connection
    this.#reader = reader
    this.genlFamilyId = genlFamilyId
  }

  /** Throws NetlinkError ENOENT when the kernel has no IPVS (module ip_vs). */
  static async open(addon: Socket): Promise<Ipvs> {
    const connection = new NetlinkConnection(addon, NETLINK_GENERIC)
    try {
      const genlFamilyId = await resolveGenlFamilyId(connection, IPVS_GENL_NAME)
      return new Ipvs(connection, new NetlinkConnection(addon, NETLINK_GENERIC), genlFamilyId)
    } catch (error) {
      connection.close()
      throw error
    }
  }

  async #dumpVirtualServers(): Promise<readonly Message[]> {
    return this.#reader.read((batch) => {
      encodeVirtualServerDump(batch, this.genlFamilyId)
    }, 'Cannot read the virtual servers')
  }

  /** All virtual servers by address, of both families. Those by firewall mark are left out. */
  async readVirtualServers(): Promise<ObservedVirtualServer[]> {
    const messages = await this.#dumpVirtualServers()
    const servers = await mapInTurns(messages, virtualServerDecoder())
    return servers.filter((server) => server !== undefined)
  }

  /** The real servers of each virtual server; an empty list also for one that does not exist. One dump for each, all in one exchange. */
  async readRealServers(
    ids: readonly VirtualServerId[],
  ): Promise<Map<VirtualServerKey, ObservedRealServer[]>> {
    return this.#dumpRealServers(this.connection, ids, (_, realServer) => realServer)
  }

  async #dumpRealServers<Read>(
    connection: NetlinkConnection,
    ids: readonly VirtualServerId[],
    read: (message: Message, realServer: ObservedRealServer) => Read,
  ): Promise<Map<VirtualServerKey, Read[]>> {
    const messages = await connection.read((batch) => {
      for (const id of ids) encodeRealServerDump(batch, this.genlFamilyId, id)
    }, 'Cannot read the real servers')
    const found = new Map(ids.map(({ key }) => [key, [] as Read[]]))
    const decode = realServerDecoder()
    for (const message of messages) {
      const of = ids[message.place]!
      found.get(of.key)!.push(read(message, decode(message, familyOf(of.address))))
    }
    return found
  }

  /** What the kernel counts of everybody's virtual servers: one dump, however many real servers there are. */
  async readCounters(): Promise<Counted[]> {
    const messages = await this.#dumpVirtualServers()
    const decode = virtualServerDecoder()
    const counted = await mapAtLeisure(messages, (message) => {
      const virtualServer = decode(message)
      return virtualServer && { id: virtualServer.id, stats: decodeStats(message, 'virtualServer') }
    })
    return counted.filter((one) => one !== undefined)
  }

  /** The same, with their real servers. */
  async readTraffic(): Promise<CountedVirtualServer[]> {
    const counted = await this.readCounters()
    const ids = counted.map(({ id }) => id)
    const realServers = await this.#dumpRealServers(this.#reader, ids, (message, realServer) => ({
      ...realServer,
      stats: decodeStats(message, 'realServer'),
    }))
    return counted.map((one) => ({ ...one, realServers: realServers.get(one.id.key)! }))
  }

  async readTimeouts(): Promise<Timeouts> {
    const messages = await this.connection.read((batch) => {
      encodeTimeoutsGet(batch, this.genlFamilyId)
    }, 'Cannot read the IPVS timeouts')
    return decodeTimeouts(messages[0]!)
  }

  /** In seconds; 0 leaves one as it is. */
  async writeTimeouts(timeouts: Timeouts): Promise<void> {
    const batch = this.connection.batch()
    encodeTimeouts(batch, this.genlFamilyId, timeouts)
    const { refusals } = await this.connection.exchange(batch, 'Cannot set the IPVS timeouts')
    for (const error of refusals.values()) throw error
  }

  close(): void {
    this.connection.close()
    this.#reader.close()
  }
}

/** What to do about an IPVS that does not answer. */
export function explainMissingIpvs(error: unknown): Error {
  if (error instanceof NetlinkError && error.code === 'ENOENT') {
    return new Error('This kernel has no IPVS: load it with "modprobe ip_vs" (CONFIG_IP_VS), on the host', {
      cause: error,
    })
  }
  if (isNotPermitted(error)) {
    return new Error('Not permitted to use IPVS: run as root, or with the capability NET_ADMIN', {
      cause: error,
    })
  }
  return error instanceof Error ? error : new Error(String(error))
}
