/** Sets of the kernel's ipset to and from nfnetlink (linux/netfilter/ipset/ip_set.h). */
import { type Address, addressFromBytes, familyOf } from '../../../model/address.ts'
import type { SetSpec } from '../../../model/sets.ts'
import { fullPrefix } from '../../../model/virtual-server.ts'
import {
  NLA_F_NESTED,
  NLA_F_NET_BYTEORDER,
  readString,
  readU16be,
  readU32be,
  readU8,
  visitAttributes,
} from '../../../netlink/attribute.ts'
import { DecodeError } from '../../../netlink/error.ts'
import {
  type Message,
  type MessageWriter,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
} from '../../../netlink/message.ts'
import { putIp } from '../../ip-attribute.ts'
import { AF_INET, familyNumber } from '../../address-family.ts'
import { NFGENMSG_BYTES } from '../../netfilter.ts'

const NFNL_SUBSYS_IPSET = 6
/** The protocol of Linux 2.6.39 and later; 7 adds nothing we use. */
const PROTOCOL = 6

const IPSET_CMD_CREATE = 2
const IPSET_CMD_DESTROY = 3
const IPSET_CMD_SWAP = 6
const IPSET_CMD_LIST = 7
const IPSET_CMD_ADD = 9
const IPSET_CMD_DEL = 10
const IPSET_CMD_TYPE = 13

const IPSET_ATTR_PROTOCOL = 1
const IPSET_ATTR_SETNAME = 2
/** Of the second set of a swap. */
const IPSET_ATTR_SETNAME2 = 3
const IPSET_ATTR_TYPENAME = 3
const IPSET_ATTR_REVISION = 4
const IPSET_ATTR_FAMILY = 5
const IPSET_ATTR_DATA = 7
const IPSET_ATTR_ADT = 8

/** In the data of a set or a member. */
const IPSET_ATTR_IP = 1
const IPSET_ATTR_PORT = 4
const IPSET_ATTR_PORT_TO = 5
const IPSET_ATTR_TIMEOUT = 6
const IPSET_ATTR_PROTO = 7
const IPSET_ATTR_HASHSIZE = 18
const IPSET_ATTR_MAXELEM = 19
/** In the data of a set; the same number is IPSET_ATTR_IP2 in that of a member. */
const IPSET_ATTR_NETMASK = 20
const IPSET_ATTR_IP2 = 20
const IPSET_ATTR_CIDR2 = 21

const IPSET_ATTR_IPADDR_IPV4 = 1
const IPSET_ATTR_IPADDR_IPV6 = 2

/** kube-proxy's sizes: the table grows by itself, up to maxelem members. */
const HASH_SIZE = 1024
export const MAX_ELEMENTS = 65_536
const LAST_PORT = 65_535

const PROTOCOL_NUMBERS: Readonly<Record<string, number>> = { tcp: 6, udp: 17, sctp: 132 }
const PROTOCOL_NAMES = new Map(Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [number, name]))

function begin(batch: MessageWriter, command: number, flags = 0): void {
  batch.begin((NFNL_SUBSYS_IPSET << 8) | command, flags)
  batch.appendBytes(AF_INET)
  batch.putU8(IPSET_ATTR_PROTOCOL, PROTOCOL)
}

/** Asks for the revisions of a set type that the kernel has; loads its module. */
export function encodeSetTypeGet(
  batch: MessageWriter,
  { type, family }: Pick<SetSpec, 'type' | 'family'>,
): void {
  begin(batch, IPSET_CMD_TYPE)
  batch.putString(IPSET_ATTR_TYPENAME, type)
  batch.putU8(IPSET_ATTR_FAMILY, familyNumber(family))
  batch.end()
}

/** The newest revision. */
export function decodeSetType({ buffer, start, end }: Message): number {
  let revision: number | undefined
  visitAttributes(buffer, start + NFGENMSG_BYTES, end, (type, at, length) => {
    if (type === IPSET_ATTR_REVISION) revision = readU8(buffer, at, length, 'IPSET_ATTR_REVISION')
  })
  if (revision === undefined)
    throw new DecodeError('Cannot decode a set type: IPSET_ATTR_REVISION is missing')
  return revision
}

/** Creates a set; EEXIST when there is one of this name. `maxElements` is of no concern to a set of ports. */
export function encodeSetCreate(
  batch: MessageWriter,
  { name, type, family }: SetSpec,
  revision: number,
  maxElements = MAX_ELEMENTS,
): void {
  begin(batch, IPSET_CMD_CREATE, NLM_F_CREATE | NLM_F_EXCL)
  batch.putString(IPSET_ATTR_SETNAME, name)
  batch.putString(IPSET_ATTR_TYPENAME, type)
  batch.putU8(IPSET_ATTR_REVISION, revision)
  // A set of ports has no family.
  batch.putU8(IPSET_ATTR_FAMILY, type === 'bitmap:port' ? 0 : familyNumber(family))
  const data = batch.beginNested(IPSET_ATTR_DATA | NLA_F_NESTED)
  if (type === 'bitmap:port') {
    batch.putU16be(IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, 0)
    batch.putU16be(IPSET_ATTR_PORT_TO | NLA_F_NET_BYTEORDER, LAST_PORT)
  } else {
    batch.putU32be(IPSET_ATTR_HASHSIZE | NLA_F_NET_BYTEORDER, HASH_SIZE)
    batch.putU32be(IPSET_ATTR_MAXELEM | NLA_F_NET_BYTEORDER, maxElements)
  }
  batch.endNested(data)
  batch.end()
}

/** Destroys a set; EBUSY (IPSET_ERR_BUSY) when rules ask it, ENOENT when there is none. */
export function encodeSetDestroy(batch: MessageWriter, name: string): void {
  begin(batch, IPSET_CMD_DESTROY)
  batch.putString(IPSET_ATTR_SETNAME, name)
  batch.end()
}

/** Exchanges the contents of two sets of one type: rules that ask either notice nothing else. */
export function encodeSetSwap(batch: MessageWriter, name: string, other: string): void {
  begin(batch, IPSET_CMD_SWAP)
  batch.putString(IPSET_ATTR_SETNAME, name)
  batch.putString(IPSET_ATTR_SETNAME2, other)
  batch.end()
}

function putAddress(batch: MessageWriter, attribute: number, address: Address): void {
  const ip = batch.beginNested(attribute | NLA_F_NESTED)
  const type = familyOf(address) === 'IPv6' ? IPSET_ATTR_IPADDR_IPV6 : IPSET_ATTR_IPADDR_IPV4
  putIp(batch, type | NLA_F_NET_BYTEORDER, address)
  batch.endNested(ip)
}

/** `tcp:80`, or `80` in a set of ports. */
function putPort(batch: MessageWriter, text: string): void {
  const [first, second] = text.split(':')
  batch.putU16be(IPSET_ATTR_PORT | NLA_F_NET_BYTEORDER, Number(second ?? first))
  if (second !== undefined) batch.putU8(IPSET_ATTR_PROTO, PROTOCOL_NUMBERS[first!]!)
}

/** `10.0.0.0/8`, or an address. */
function putNetwork(batch: MessageWriter, text: string): void {
  const [network, prefix] = text.split('/')
  putAddress(batch, IPSET_ATTR_IP2, network as Address)
  batch.putU8(IPSET_ATTR_CIDR2, prefix === undefined ? fullPrefix(network as Address) : Number(prefix))
}

/**
 * One message: adds or deletes one member, given as `ipset save` prints it. Neither minds what is so already (no
 * NLM_F_EXCL).
 */
export function encodeMember(
  batch: MessageWriter,
  verb: 'ADD' | 'DEL',
  { name, type }: Pick<SetSpec, 'name' | 'type'>,
  element: string,
): void {
  begin(batch, verb === 'ADD' ? IPSET_CMD_ADD : IPSET_CMD_DEL)
  batch.putString(IPSET_ATTR_SETNAME, name)
  const data = batch.beginNested(IPSET_ATTR_DATA | NLA_F_NESTED)
  const [first, port, third] = element.split(',')
  if (type === 'bitmap:port') putPort(batch, element)
  else putAddress(batch, IPSET_ATTR_IP, first as Address)
  if (port !== undefined) putPort(batch, port)
  if (type === 'hash:ip,port,ip') putAddress(batch, IPSET_ATTR_IP2, third as Address)
  if (type === 'hash:ip,port,net') putNetwork(batch, third!)
  batch.endNested(data)
  batch.end()
}

/** Asks for a set and its members; ENOENT when there is none of this name. */
export function encodeSetList(batch: MessageWriter, name: string): void {
  begin(batch, IPSET_CMD_LIST, NLM_F_DUMP)
  batch.putString(IPSET_ATTR_SETNAME, name)
  batch.end()
}

/** How a set was made. */
export interface SetHeader {
  readonly name: string
  readonly type: string
  /** 0 for a set of ports. */
  readonly family: number
  /** 0 for a set of ports. */
  readonly maxElements: number
  /** Made with options of which we know nothing good: members expire, or stand for networks. */
  readonly isOdd: boolean
}

/** A part of a listed set: its header, where this part has it, and elements as `ipset save` prints them. */
export interface SetPart {
  readonly header: SetHeader | undefined
  readonly elements: string[]
}

function decodeAddress(body: Buffer, start: number, length: number): string {
  let address: string | undefined
  visitAttributes(body, start, start + length, (kind, at, size) => {
    const expected = kind === IPSET_ATTR_IPADDR_IPV6 ? 16 : 4
    if (size !== expected)
      throw new DecodeError(`Cannot decode a set member: expected ${expected} bytes, got ${size}`)
    address = addressFromBytes(body, at, size)
  })
  if (address === undefined) throw new DecodeError('Cannot decode a set member: an address is empty')
  return address
}

/** The fields of a member, as far as it has them. */
interface MemberFields {
  ip?: string
  ip2?: string
  port?: number
  protocol?: number
  prefix2?: number
}

function readMember(body: Buffer, start: number, length: number): MemberFields {
  const fields: MemberFields = {}
  visitAttributes(body, start, start + length, (type, at, size) => {
    if (type === IPSET_ATTR_IP) fields.ip = decodeAddress(body, at, size)
    else if (type === IPSET_ATTR_IP2) fields.ip2 = decodeAddress(body, at, size)
    else if (type === IPSET_ATTR_PORT) fields.port = readU16be(body, at, size, 'IPSET_ATTR_PORT')
    else if (type === IPSET_ATTR_PROTO) fields.protocol = readU8(body, at, size, 'IPSET_ATTR_PROTO')
    else if (type === IPSET_ATTR_CIDR2) fields.prefix2 = readU8(body, at, size, 'IPSET_ATTR_CIDR2')
  })
  return fields
}

/** As `ipset save` prints it: a network that is one address has no prefix. */
function formatMember({ ip, ip2, port, protocol, prefix2 }: MemberFields): string | undefined {
  if (ip === undefined) return port === undefined ? undefined : String(port)
  const parts = [ip]
  if (port !== undefined) parts.push(`${PROTOCOL_NAMES.get(protocol ?? 6) ?? String(protocol)}:${port}`)
  if (ip2 !== undefined) {
    const isWhole = prefix2 === undefined || prefix2 === fullPrefix(ip2 as Address)
    parts.push(isWhole ? ip2 : `${ip2}/${prefix2}`)
  }
  return parts.join(',')
}

interface HeaderFields {
  name?: string
  type?: string
  family: number
  maxElements: number
  isOdd: boolean
}

function readHeaderData(body: Buffer, start: number, length: number, header: HeaderFields): void {
  visitAttributes(body, start, start + length, (type, at, size) => {
    if (type === IPSET_ATTR_MAXELEM) header.maxElements = readU32be(body, at, size, 'IPSET_ATTR_MAXELEM')
    if (type === IPSET_ATTR_TIMEOUT || type === IPSET_ATTR_NETMASK) header.isOdd = true
    if (type === IPSET_ATTR_PORT && readU16be(body, at, size, 'IPSET_ATTR_PORT') !== 0) header.isOdd = true
    if (type === IPSET_ATTR_PORT_TO && readU16be(body, at, size, 'IPSET_ATTR_PORT_TO') !== LAST_PORT)
      header.isOdd = true
  })
}

/** Throws DecodeError. */
export function decodeSetPart({ buffer, start: from, end }: Message): SetPart {
  const header: HeaderFields = { family: 0, maxElements: 0, isOdd: false }
  const elements: string[] = []
  visitAttributes(buffer, from + NFGENMSG_BYTES, end, (attribute, start, length) => {
    if (attribute === IPSET_ATTR_SETNAME) header.name = readString(buffer, start, length)
    else if (attribute === IPSET_ATTR_TYPENAME) header.type = readString(buffer, start, length)
    else if (attribute === IPSET_ATTR_FAMILY)
      header.family = readU8(buffer, start, length, 'IPSET_ATTR_FAMILY')
    else if (attribute === IPSET_ATTR_DATA) readHeaderData(buffer, start, length, header)
    else if (attribute === IPSET_ATTR_ADT) {
      visitAttributes(buffer, start, start + length, (_data, at, size) => {
        const element = formatMember(readMember(buffer, at, size))
        if (element !== undefined) elements.push(element)
      })
    }
  })
  const { name, type } = header
  return {
    header: name === undefined || type === undefined ? undefined : { ...header, name, type },
    elements,
  }
}
