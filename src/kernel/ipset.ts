/** Sets of the kernel's ipset over nfnetlink. No process is started. */
import type { Address, Family } from '../model/address.ts'
import { NetlinkConnection } from '../netlink/connection.ts'
import { isAlreadyExists, isNotFound, NetlinkError } from '../netlink/error.ts'
import type { Socket } from '../netlink/socket.ts'
import {
  decodeSetPart,
  decodeSetType,
  encodeSetCreate,
  encodeSetList,
  encodeSetTypeGet,
} from './ipset-codec.ts'

const NETLINK_NETFILTER = 12
const TYPE = 'hash:ip'

/** IPSET_ERR_* are errnos of their own. */
const IPSET_ERRORS: ReadonlyMap<number, string> = new Map([
  [4097, 'the kernel speaks another protocol'],
  [4098, `the kernel lacks the type ${TYPE}: load it with "modprobe ip_set_hash_ip"`],
  [4102, 'a set of this name has another type'],
  [4352, 'the set is full'],
])

/** Says an ipset errno in words. */
export function explainSetError(error: NetlinkError): Error {
  const words = IPSET_ERRORS.get(error.errno)
  return words === undefined ? error : new Error(`${error.message}: ${words}`, { cause: error })
}

export class Ipset {
  readonly connection: NetlinkConnection

  constructor(addon: Socket) {
    this.connection = new NetlinkConnection(addon, NETLINK_NETFILTER)
  }

  /** Creates a set; one of this name that somebody else creates meanwhile will do. */
  async createSet(name: string, family: Family): Promise<void> {
    const [type] = await this.connection.read((batch) => {
      encodeSetTypeGet(batch, TYPE, family)
    }, 'Cannot use ipset: load it with "modprobe ip_set_hash_ip"')
    const batch = this.connection.batch()
    encodeSetCreate(batch, name, family, decodeSetType(type!))
    const { errors } = await this.connection.exchange(batch, `Cannot create set ${name}`)
    for (const error of errors.values()) if (!isAlreadyExists(error)) throw explainSetError(error)
  }

  /** The members of a set; undefined when there is no set of this name. */
  async readMembers(name: string): Promise<Address[] | undefined> {
    try {
      const messages = await this.connection.read((batch) => {
        encodeSetList(batch, name)
      }, `Cannot read set ${name}`)
      const parts = messages.map(decodeSetPart)
      const type = parts.find((part) => part.type !== undefined)?.type
      if (type !== undefined && type !== TYPE) {
        throw new Error(
          `Set ${name} is of type ${type}, expected ${TYPE}: delete it with "ipset destroy ${name}"`,
        )
      }
      return parts.flatMap(({ members }) => members)
    } catch (error) {
      if (isNotFound(error)) return undefined
      throw error
    }
  }

  close(): void {
    this.connection.close()
  }
}
