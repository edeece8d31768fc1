/** Tracked UDP flows to and from ctnetlink (linux/netfilter/nfnetlink_conntrack.h). */
import { type Address, addressBytes, type Family, familyOf } from '../../model/address.ts'
import { PROTOCOL_NUMBERS } from '../../model/virtual-server.ts'
import { NLA_F_NESTED, readU16be, readU32be, readU8, visitAttributes } from '../../netlink/attribute.ts'
import { DecodeError } from '../../netlink/error.ts'
import { type Message, type MessageWriter, NLM_F_DUMP } from '../../netlink/message.ts'
import { putIp } from '../ip-attribute.ts'
import { familyNumber } from '../address-family.ts'
import { NFGENMSG_BYTES } from '../netfilter.ts'

const NFNL_SUBSYS_CTNETLINK = 1

const IPCTNL_MSG_CT_GET = 1
const IPCTNL_MSG_CT_DELETE = 2

export const CTA_TUPLE_ORIG = 1
export const CTA_TUPLE_REPLY = 2
const CTA_ID = 12
const CTA_ZONE = 18
const CTA_FILTER = 25

/** In a tuple. */
export const CTA_TUPLE_IP = 1
export const CTA_TUPLE_PROTO = 2

/** In CTA_TUPLE_IP. */
export const CTA_IP_V4_SRC = 1
export const CTA_IP_V4_DST = 2
export const CTA_IP_V6_SRC = 3
export const CTA_IP_V6_DST = 4

/** In CTA_TUPLE_PROTO. */
export const CTA_PROTO_NUM = 1
export const CTA_PROTO_SRC_PORT = 2
export const CTA_PROTO_DST_PORT = 3

/** In CTA_FILTER: which fields of the tuples count, in the machine's byte order. */
const CTA_FILTER_ORIG_FLAGS = 1
const CTA_FILTER_REPLY_FLAGS = 2

/** net/netfilter/nf_internals.h. */
const CTA_FILTER_F_CTA_IP_SRC = 1 << 0
const CTA_FILTER_F_CTA_IP_DST = 1 << 1
const CTA_FILTER_F_CTA_PROTO_NUM = 1 << 3
const CTA_FILTER_F_CTA_PROTO_SRC_PORT = 1 << 4
const CTA_FILTER_F_CTA_PROTO_DST_PORT = 1 << 5

const IPPROTO_UDP = PROTOCOL_NUMBERS.UDP

/** UDP flows through one frontend: all of them, or those that go to one backend. */
export interface FlowTarget {
  readonly address: Address
  readonly port: number
  readonly realServer?: { readonly address: Address; readonly port: number }
}

/** Hexadecimal address, colon, port: made of a message's bytes without a detour over an address's text. */
export type EndpointKey = string

/** A tracked UDP flow, as far as we need it. */
export interface Flow {
  /** Where the sender sends to. */
  readonly destination: EndpointKey
  /** Who answers. */
  readonly backend: EndpointKey
  /** The payload of CTA_TUPLE_ORIG, with the zone of this direction if it has one. */
  readonly tuple: Uint8Array
  /** Of both directions. */
  readonly zone: number | undefined
  /** Tells the flow from a later one with the same tuple. */
  readonly id: number | undefined
}

/** One end of a tuple: its attributes, and how a filter names it. */
interface End {
  readonly tuple: number
  readonly ipv4: number
  readonly ipv6: number
  readonly port: number
  readonly addressFlag: number
  readonly portFlag: number
}

const DESTINATION: End = {
  tuple: CTA_TUPLE_ORIG,
  ipv4: CTA_IP_V4_DST,
  ipv6: CTA_IP_V6_DST,
  port: CTA_PROTO_DST_PORT,
  addressFlag: CTA_FILTER_F_CTA_IP_DST,
  portFlag: CTA_FILTER_F_CTA_PROTO_DST_PORT,
}

const BACKEND: End = {
  tuple: CTA_TUPLE_REPLY,
  ipv4: CTA_IP_V4_SRC,
  ipv6: CTA_IP_V6_SRC,
  port: CTA_PROTO_SRC_PORT,
  addressFlag: CTA_FILTER_F_CTA_IP_SRC,
  portFlag: CTA_FILTER_F_CTA_PROTO_SRC_PORT,
}

function begin(batch: MessageWriter, command: number, family: Family, flags = 0): void {
  batch.begin((NFNL_SUBSYS_CTNETLINK << 8) | command, flags)
  batch.appendBytes(familyNumber(family))
}

/** The value that all items have; undefined when they differ. */
function commonValue<Item, Value>(items: readonly Item[], valueOf: (item: Item) => Value): Value | undefined {
  const value = items[0] === undefined ? undefined : valueOf(items[0])
  return items.every((item) => valueOf(item) === value) ? value : undefined
}

/**
 * Writes what is known of one end and returns the flags that name it. An IPv6 address is left out: Linux 5.8 to 6.18,
 * at least, compare it the wrong way round, and would send all flows but those that have it.
 */
function putEnd(
  batch: MessageWriter,
  end: End,
  address: Address | undefined,
  port: number | undefined,
  protocol: number,
): number {
  let flags = CTA_FILTER_F_CTA_PROTO_NUM
  const tuple = batch.beginNested(end.tuple | NLA_F_NESTED)
  if (address !== undefined && familyOf(address) === 'IPv4') {
    const ip = batch.beginNested(CTA_TUPLE_IP | NLA_F_NESTED)
    putIp(batch, end.ipv4, address)
    batch.endNested(ip)
    flags |= end.addressFlag
  }
  const upper = batch.beginNested(CTA_TUPLE_PROTO | NLA_F_NESTED)
  batch.putU8(CTA_PROTO_NUM, protocol)
  if (port !== undefined) {
    batch.putU16be(end.port, port)
    flags |= end.portFlag
  }
  batch.endNested(upper)
  batch.endNested(tuple)
  return flags
}

/**
 * Asks for the flows of a family and a protocol that have what all targets, which are of that family, have in common. Kernels
 * before 5.8 do not know the filter and send the flows of all protocols: ask `flowMatcher` about each.
 */
export function encodeFlowDump(
  batch: MessageWriter,
  family: Family,
  targets: readonly FlowTarget[],
  protocol: number = IPPROTO_UDP,
): void {
  const address = commonValue(targets, (target) => target.address)
  const port = commonValue(targets, (target) => target.port)
  const backendAddress = commonValue(targets, ({ realServer }) => realServer?.address)
  const backendPort = commonValue(targets, ({ realServer }) => realServer?.port)
  begin(batch, IPCTNL_MSG_CT_GET, family, NLM_F_DUMP)
  const flags = putEnd(batch, DESTINATION, address, port, protocol)
  const backendFlags = putEnd(batch, BACKEND, backendAddress, backendPort, protocol)
  const filter = batch.beginNested(CTA_FILTER | NLA_F_NESTED)
  batch.putU32(CTA_FILTER_ORIG_FLAGS, flags)
  batch.putU32(CTA_FILTER_REPLY_FLAGS, backendFlags)
  batch.endNested(filter)
  batch.end()
}

/** One message: deletes a flow that was read; ENOENT when it has gone. */
export function encodeFlowDelete(batch: MessageWriter, family: Family, { tuple, zone, id }: Flow): void {
  begin(batch, IPCTNL_MSG_CT_DELETE, family)
  batch.putBytes(CTA_TUPLE_ORIG | NLA_F_NESTED, tuple)
  if (zone !== undefined) batch.putU16be(CTA_ZONE, zone)
  if (id !== undefined) batch.putU32be(CTA_ID, id)
  batch.end()
}

/** An address and a port as flows name them. */
export function endpointKey(address: Address, port: number): EndpointKey {
  return `${Buffer.from(addressBytes(address)).toString('hex')}:${port}`
}

/** Tells whether a flow is one of a target's, at a cost that does not grow with the targets. */
export function flowMatcher(targets: readonly FlowTarget[]): (flow: Flow) => boolean {
  const wanted = new Set(
    targets.map(({ address, port, realServer }) => {
      const destination = endpointKey(address, port)
      return realServer === undefined
        ? destination
        : `${destination} ${endpointKey(realServer.address, realServer.port)}`
    }),
  )
  return ({ destination, backend }) => wanted.has(destination) || wanted.has(`${destination} ${backend}`)
}

function decodeAddress(body: Buffer, start: number, length: number, end: End): string | undefined {
  let address: string | undefined
  visitAttributes(body, start, start + length, (type, at, size) => {
    if (type !== end.ipv4 && type !== end.ipv6) return
    const expected = type === end.ipv6 ? 16 : 4
    if (size !== expected)
      throw new DecodeError(`Cannot decode a flow: expected an address of ${expected} bytes, got ${size}`)
    address = body.toString('hex', at, at + size)
  })
  return address
}

/** One end of a tuple; undefined when it is not of UDP. */
function decodeEnd(tuple: Buffer, end: End): EndpointKey | undefined {
  let protocol: number | undefined
  let address: string | undefined
  let port: number | undefined
  visitAttributes(tuple, 0, tuple.length, (outer, start, length) => {
    if (outer === CTA_TUPLE_IP) address = decodeAddress(tuple, start, length, end)
    if (outer !== CTA_TUPLE_PROTO) return
    visitAttributes(tuple, start, start + length, (type, at, size) => {
      if (type === CTA_PROTO_NUM) protocol = readU8(tuple, at, size, 'CTA_PROTO_NUM')
      else if (type === end.port) port = readU16be(tuple, at, size, 'CTA_PROTO_*_PORT')
    })
  })
  if (protocol === undefined) throw new DecodeError('Cannot decode a flow: CTA_PROTO_NUM is missing')
  if (protocol !== IPPROTO_UDP) return undefined
  if (address === undefined || port === undefined)
    throw new DecodeError('Cannot decode a flow: a tuple has no address or no port')
  return `${address}:${port}`
}

/** The attributes of a flow, as far as it has them. */
interface FlowFields {
  original?: Buffer
  reply?: Buffer
  zone?: number
  id?: number
}

function readFlow({ buffer, start, end }: Message): FlowFields {
  const fields: FlowFields = {}
  visitAttributes(buffer, start + NFGENMSG_BYTES, end, (type, at, length) => {
    if (type === CTA_TUPLE_ORIG) fields.original = buffer.subarray(at, at + length)
    else if (type === CTA_TUPLE_REPLY) fields.reply = buffer.subarray(at, at + length)
    else if (type === CTA_ZONE) fields.zone = readU16be(buffer, at, length, 'CTA_ZONE')
    else if (type === CTA_ID) fields.id = readU32be(buffer, at, length, 'CTA_ID')
  })
  return fields
}

/** A UDP flow; undefined for one of another protocol. Throws DecodeError. */
export function decodeFlow(message: Message): Flow | undefined {
  const { original, reply, zone, id } = readFlow(message)
  if (original === undefined || reply === undefined)
    throw new DecodeError('Cannot decode a flow: a tuple is missing')
  const destination = decodeEnd(original, DESTINATION)
  const backend = decodeEnd(reply, BACKEND)
  if (destination === undefined || backend === undefined) return undefined
  return { destination, backend, tuple: original, zone, id }
}
