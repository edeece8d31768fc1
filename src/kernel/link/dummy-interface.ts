/** kube-ipvs0: the dummy interface that makes every service address a local one. */
import { createRtNetlink } from 'netlink/dist/rt/rt.js'
import type { Address } from '../../model/address.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { NetlinkError } from '../../netlink/error.ts'
import type { Socket } from '../../netlink/socket.ts'
import { mapInTurns } from '../../waiting/turns.ts'
import { decodeAddressMessage, encodeAddressDump } from './address-codec.ts'
import { NETLINK_ROUTE } from './rtnetlink.ts'

export const INTERFACE_NAME = 'kube-ipvs0'

const IFLA_INFO_KIND = 1
const LINK_TIMEOUT_MS = 10_000
const NLM_F_CREATE_EXCL = 0x600

/** The IFLA_LINKINFO attribute of a dummy interface: one nested attribute, its kind. */
function dummyKind(): Buffer {
  const kind = Buffer.alloc(12)
  kind.writeUInt16LE(4 + 'dummy\0'.length, 0)
  kind.writeUInt16LE(IFLA_INFO_KIND, 2)
  kind.write('dummy\0', 4)
  return kind
}

/** The package's errors have no errno, only the words "Request rejected: ENODEV". */
function isErrno(error: unknown, name: string): boolean {
  return error instanceof Error && error.message.endsWith(`: ${name}`)
}

type RtSocket = ReturnType<typeof createRtNetlink>

async function lookUp(route: RtSocket): Promise<number | undefined> {
  try {
    const [link] = await route.getLink({}, { ifname: INTERFACE_NAME }, { timeout: LINK_TIMEOUT_MS })
    return link?.data.index
  } catch (error) {
    if (isErrno(error, 'ENODEV')) return undefined
    throw error
  }
}

/** The interface's index; undefined when it does not exist. */
export async function findInterface(): Promise<number | undefined> {
  const route = createRtNetlink()
  try {
    return await lookUp(route)
  } finally {
    route.socket.close()
  }
}

/** Creates the interface where it is missing, and returns its index. It is never set up: it carries no packets. */
export async function ensureInterface(): Promise<number> {
  const route = createRtNetlink()
  try {
    const found = await lookUp(route)
    if (found !== undefined) return found
    const attributes = { ifname: INTERFACE_NAME, linkinfo: dummyKind(), txqlen: 0 }
    await route.newLink({}, attributes, { flags: NLM_F_CREATE_EXCL, timeout: LINK_TIMEOUT_MS })
    const created = await lookUp(route)
    if (created === undefined) throw new Error('it is not there after its creation')
    return created
  } catch (cause) {
    const remedy = isErrno(cause, 'EOPNOTSUPP') ? ': load the dummy driver with "modprobe dummy"' : ''
    throw new Error(`Cannot create the interface ${INTERFACE_NAME}${remedy}`, { cause })
  } finally {
    route.socket.close()
  }
}

/** The command that creates it. */
export const INTERFACE_CREATION = `ip link add ${INTERFACE_NAME} txqueuelen 0 type dummy`

/** Deletes the interface with its addresses; false when there is none. Throws an Error. */
export async function deleteInterface(): Promise<boolean> {
  const route = createRtNetlink()
  try {
    const index = await lookUp(route)
    if (index === undefined) return false
    await route.delLink({ index }, {}, { timeout: LINK_TIMEOUT_MS })
    return true
  } catch (cause) {
    throw new Error(`Cannot delete the interface ${INTERFACE_NAME}`, { cause })
  } finally {
    route.socket.close()
  }
}

/** Reads and, through `connection`, changes the addresses of the interface. */
export class DummyInterface {
  readonly connection: NetlinkConnection
  readonly index: number
  /** For the list of all, which changes do not wait for. */
  readonly #reader: NetlinkConnection

  constructor(addon: Socket, index: number) {
    this.connection = new NetlinkConnection(addon, NETLINK_ROUTE)
    this.#reader = new NetlinkConnection(addon, NETLINK_ROUTE)
    this.index = index
  }

  async readAddresses(): Promise<Set<Address>> {
    const messages = await this.#reader.read((batch) => {
      encodeAddressDump(batch, this.index)
    }, `Cannot read the addresses of ${INTERFACE_NAME}`)
    const addresses = await mapInTurns(messages, (message) => decodeAddressMessage(message, this.index))
    return new Set(
      addresses.filter((address) => address !== undefined && !address.startsWith('fe80:')) as Address[],
    )
  }

  close(): void {
    this.connection.close()
    this.#reader.close()
  }
}

/** ENODEV: somebody has deleted the interface. */
export function isInterfaceGone(error: unknown): boolean {
  return error instanceof NetlinkError && error.code === 'ENODEV'
}
