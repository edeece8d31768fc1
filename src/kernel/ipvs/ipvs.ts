/** The IPVS table over generic netlink. */
import { familyOf } from '../../model/address.ts'
import type { RealServerKey, VirtualServerId, VirtualServerKey } from '../../model/virtual-server.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { isNotPermitted, NetlinkError } from '../../netlink/error.ts'
import { NETLINK_GENERIC, resolveFamily } from '../../netlink/generic.ts'
import type { Message } from '../../netlink/message.ts'
import type { Socket } from '../../netlink/socket.ts'
import { mapInTurns } from '../../waiting/turns.ts'
import {
  decodeDestination,
  decodeInfo,
  decodeService,
  decodeStatistics,
  decodeTimeouts,
  type DestinationRecord,
  encodeConfigGet,
  encodeDestinationDump,
  encodeInfoGet,
  encodeServiceDump,
  encodeServiceGet,
  encodeTimeouts,
  type IpvsInfo,
  type ServiceRecord,
  type Statistics,
  type Timeouts,
} from './ipvs-codec.ts'
import { IPVS_GENL_NAME } from './ipvs-constants.ts'

/** IPVS of the network namespace in which it was opened. */
export class Ipvs {
  readonly connection: NetlinkConnection
  /** For the long lists, which changes do not wait for. */
  readonly #reader: NetlinkConnection
  /** Number of the generic netlink family. */
  readonly family: number

  private constructor(connection: NetlinkConnection, reader: NetlinkConnection, family: number) {
    this.connection = connection
    this.#reader = reader
    this.family = family
  }

  /** Throws NetlinkError ENOENT when the kernel has no IPVS (module ip_vs). */
  static async open(addon: Socket): Promise<Ipvs> {
    const connection = new NetlinkConnection(addon, NETLINK_GENERIC)
    try {
      const family = await resolveFamily(connection, IPVS_GENL_NAME)
      return new Ipvs(connection, new NetlinkConnection(addon, NETLINK_GENERIC), family)
    } catch (error) {
      connection.close()
      throw error
    }
  }

  /** All virtual servers by address, of both families. Those by firewall mark are left out. */
  async readVirtualServers(): Promise<ServiceRecord[]> {
    const messages = await this.#reader.read((batch) => {
      encodeServiceDump(batch, this.family)
    }, 'Cannot read the virtual servers')
    const records = await mapInTurns(messages, decodeService)
    return records.filter((record) => record !== undefined)
  }

  /** One virtual server and its counters; undefined when there is none. */
  async readVirtualServer(
    id: VirtualServerId,
  ): Promise<(ServiceRecord & { statistics: Statistics }) | undefined> {
    const batch = this.connection.batch()
    encodeServiceGet(batch, this.family, id)
    const { messages, refusals } = await this.connection.exchange(
      batch,
      `Cannot read virtual server ${id.key}`,
    )
    for (const error of refusals.values()) {
      if (error.code === 'ESRCH') return undefined
      throw error
    }
    const record = messages[0] && decodeService(messages[0])
    return record && { ...record, statistics: decodeStatistics(messages[0]!, 'SVC') }
  }

  /** The real servers of each virtual server; an empty list also for one that does not exist. */
  async readRealServers(
    ids: readonly VirtualServerId[],
  ): Promise<Map<VirtualServerKey, DestinationRecord[]>> {
    const found = new Map(ids.map(({ key }) => [key, [] as DestinationRecord[]]))
    await this.#dumpDestinations(ids, (id, message) => {
      found.get(id.key)?.push(decodeDestination(message, familyOf(id.address)))
    })
    return found
  }

  /** The counters of the real servers of one virtual server. */
  async readRealServerStatistics(of: VirtualServerId): Promise<Map<RealServerKey, Statistics>> {
    const found = new Map<RealServerKey, Statistics>()
    await this.#dumpDestinations([of], (id, message) => {
      found.set(decodeDestination(message, familyOf(id.address)).key, decodeStatistics(message, 'DEST'))
    })
    return found
  }

  /** One dump for each virtual server, all in one exchange. */
  async #dumpDestinations(
    ids: readonly VirtualServerId[],
    visit: (id: VirtualServerId, message: Message) => void,
  ): Promise<void> {
    const messages = await this.connection.read((batch) => {
      for (const id of ids) encodeDestinationDump(batch, this.family, id)
    }, 'Cannot read the real servers')
    for (const message of messages) visit(ids[message.place]!, message)
  }

  async readTimeouts(): Promise<Timeouts> {
    const messages = await this.connection.read((batch) => {
      encodeConfigGet(batch, this.family)
    }, 'Cannot read the IPVS timeouts')
    return decodeTimeouts(messages[0]!)
  }

  /** In seconds; 0 leaves one as it is. */
  async writeTimeouts(timeouts: Timeouts): Promise<void> {
    const batch = this.connection.batch()
    encodeTimeouts(batch, this.family, timeouts)
    const { refusals } = await this.connection.exchange(batch, 'Cannot set the IPVS timeouts')
    for (const error of refusals.values()) throw error
  }

  async readInfo(): Promise<IpvsInfo> {
    const messages = await this.connection.read((batch) => {
      encodeInfoGet(batch, this.family)
    }, 'Cannot read the version of IPVS')
    return decodeInfo(messages[0]!)
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
