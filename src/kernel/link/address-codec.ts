/** Addresses of one interface to and from rtnetlink (linux/if_addr.h). */
import { type Address, familyOf } from '../../model/address.ts'
import { fullPrefix } from '../../model/virtual-server.ts'
import { visitAttributes } from '../../netlink/attribute.ts'
import {
  type Message,
  type MessageWriter,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
} from '../../netlink/message.ts'
import { putIp } from '../ip-attribute.ts'
import { AF_INET6, familyNumber } from '../address-family.ts'
import { decodeIp, expectHeader } from './rtnetlink.ts'

const RTM_NEWADDR = 20
const RTM_DELADDR = 21
const RTM_GETADDR = 22
const IFA_ADDRESS = 1
const IFA_LOCAL = 2
/** struct ifaddrmsg: family, prefix length, flags, scope, interface index. */
const IFADDRMSG_BYTES = 8
/** Valid on one link only (linux/rtnetlink.h). */
const RT_SCOPE_LINK = 253

function appendIfaddrmsg(batch: MessageWriter, family: number, prefix: number, interfaceIndex: number): void {
  batch.appendBytes(family, prefix)
  batch.appendU32(interfaceIndex)
}

/** One message: adds (EEXIST when it is there) or deletes (EADDRNOTAVAIL when it is not) a /32 or /128. */
export function encodeAddress(
  batch: MessageWriter,
  verb: 'NEW' | 'DEL',
  address: Address,
  interfaceIndex: number,
): void {
  const family = familyNumber(familyOf(address))
  if (verb === 'NEW') batch.begin(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL)
  else batch.begin(RTM_DELADDR)
  appendIfaddrmsg(batch, family, fullPrefix(address), interfaceIndex)
  putIp(batch, IFA_LOCAL, address)
  putIp(batch, IFA_ADDRESS, address)
  batch.end()
}

/** Asks for the addresses of an interface, or with 0 of all. Kernels before 4.20 send those of all interfaces. */
export function encodeAddressDump(batch: MessageWriter, interfaceIndex: number): void {
  batch.begin(RTM_GETADDR, NLM_F_DUMP)
  appendIfaddrmsg(batch, 0, 0, interfaceIndex)
  batch.end()
}

/** What a message about an address, an answer or a notification, begins with. */
export interface AddressHeader {
  readonly interfaceIndex: number
  /** An IPv6 link-local address: the same one may be on several interfaces, and means nothing without its own. */
  readonly isLinkLocal: boolean
}

/** Cheap: it reads no attribute. Throws DecodeError. */
export function decodeAddressHeader(message: Message): AddressHeader {
  expectHeader('an address', message, IFADDRMSG_BYTES)
  const { buffer, start } = message
  return {
    interfaceIndex: buffer.readUInt32LE(start + 4),
    isLinkLocal: buffer.readUInt8(start) === AF_INET6 && buffer.readUInt8(start + 3) === RT_SCOPE_LINK,
  }
}

/** An address of the interface; undefined for one of another interface. Throws DecodeError. */
export function decodeAddressMessage(message: Message, interfaceIndex: number): Address | undefined {
  if (decodeAddressHeader(message).interfaceIndex !== interfaceIndex) return undefined
  const { buffer, start, end } = message
  let local: Address | undefined
  let peer: Address | undefined
  visitAttributes(buffer, start + IFADDRMSG_BYTES, end, (type, at, length) => {
    if (type === IFA_LOCAL) local = decodeIp(buffer, at, length)
    if (type === IFA_ADDRESS) peer = decodeIp(buffer, at, length)
  })
  return local ?? peer
}
