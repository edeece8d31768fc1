/**
 * Links, routes, next hops and neighbours from rtnetlink (linux/rtnetlink.h, linux/nexthop.h, linux/neighbour.h). Each
 * decoder throws DecodeError for bytes that are not what the protocol says.
 */
import type { Address, Family } from '../../model/address.ts'
import { type Cidr, parseCidr } from '../../model/cidr.ts'
import { readString, readU32, visitAttributes } from '../../netlink/attribute.ts'
import { DecodeError } from '../../netlink/error.ts'
import { type Message, type MessageWriter, NLM_F_DUMP } from '../../netlink/message.ts'
import { AF_INET, AF_INET6 } from '../address-family.ts'
import {
  decodeIp,
  expectHeader,
  RT_TABLE_LOCAL,
  RTA_DST,
  RTA_OIF,
  RTM_GETROUTE,
  RTMSG_BYTES,
} from './rtnetlink.ts'

const RTM_GETLINK = 18
const RTM_GETNEIGH = 30
const RTM_GETNEXTHOP = 106

/** struct ifinfomsg: family, padding, type, index, flags, change. */
const IFINFOMSG_BYTES = 16
const IFF_LOOPBACK = 0x8
const IFLA_IFNAME = 3
const IFLA_EXT_MASK = 29
/** Statistics are half of what is said of a link (Linux 4.6 and later). */
const RTEXT_FILTER_SKIP_STATS = 0x8

const RTN_UNICAST = 1
/** No route, but what a redirect or a smaller MTU has made of one. */
const RTM_F_CLONED = 0x200
const RTA_GATEWAY = 5
const RTA_MULTIPATH = 9
const RTA_TABLE = 15
const RTA_VIA = 18
const RTA_NH_ID = 30
/** struct rtnexthop: length, flags, hops, interface index; then attributes. */
const RTNEXTHOP_BYTES = 8

/** struct nhmsg: family, scope, protocol, padding, flags. */
const NHMSG_BYTES = 8
const NHA_ID = 1
const NHA_GROUP = 2
const NHA_OIF = 5
const NHA_GATEWAY = 6
/** struct nexthop_grp: id, weight, padding. */
const NEXTHOP_GRP_BYTES = 8

/** struct ndmsg: family, padding, interface index, state, flags, type. */
const NDMSG_BYTES = 12
/** REACHABLE, STALE, DELAY, PROBE and PERMANENT: none that is being asked for (INCOMPLETE), has not answered (FAILED) or needs none (NOARP). */
const NUD_IN_USE = 0x02 | 0x04 | 0x08 | 0x10 | 0x80
const NTF_PROXY = 0x08
const NDA_DST = 1
const NDA_LLADDR = 2

const FAMILIES: Readonly<Record<number, Family | undefined>> = { [AF_INET]: 'IPv4', [AF_INET6]: 'IPv6' }
const NO_ADDRESS: Readonly<Record<Family, string>> = { IPv4: '0.0.0.0', IPv6: '::' }

export interface Link {
  readonly index: number
  readonly name: string
  readonly isLoopback: boolean
}

/** One way of a route. */
export interface NextHop {
  /** Undefined: the destination is on the link itself. */
  readonly gateway: Address | undefined
  /** 0 for none. */
  readonly interfaceIndex: number
}

export interface Route {
  readonly destination: Cidr
  /** Empty where the kernel names a next hop object and does not say what is in it. */
  readonly hops: readonly NextHop[]
  /** Of the next hop object (`ip nexthop`); 0 for none. */
  readonly nextHopId: number
}

/** A next hop object: a way, or the ids of other objects. */
export interface NextHopObject {
  readonly id: number
  readonly hop: NextHop
  readonly group: readonly number[]
}

export interface Neighbour {
  readonly address: Address
  readonly interfaceIndex: number
  /** As `ip neigh` prints it; undefined where the link has none. */
  readonly lladdr: string | undefined
}

function encodeDump(batch: MessageWriter, type: number, headerBytes: number): void {
  batch.begin(type, NLM_F_DUMP)
  for (let i = 0; i < headerBytes; i += 4) batch.appendU32(0)
}

/** Asks for all links. */
export function encodeLinkDump(batch: MessageWriter): void {
  encodeDump(batch, RTM_GETLINK, IFINFOMSG_BYTES)
  batch.putU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS)
  batch.end()
}

/** Asks for the routes of all families and tables. */
export function encodeRouteDump(batch: MessageWriter): void {
  encodeDump(batch, RTM_GETROUTE, RTMSG_BYTES)
  batch.end()
}

/** Asks for all next hop objects (Linux 5.3 and later; EOPNOTSUPP before). */
export function encodeNextHopDump(batch: MessageWriter): void {
  encodeDump(batch, RTM_GETNEXTHOP, NHMSG_BYTES)
  batch.end()
}

/** Asks for the neighbours of all families and links. */
export function encodeNeighbourDump(batch: MessageWriter): void {
  encodeDump(batch, RTM_GETNEIGH, NDMSG_BYTES)
  batch.end()
}

export function decodeLink(message: Message): Link {
  expectHeader('a link', message, IFINFOMSG_BYTES)
  const { buffer, start, end } = message
  let name = ''
  visitAttributes(buffer, start + IFINFOMSG_BYTES, end, (type, at, length) => {
    if (type === IFLA_IFNAME) name = readString(buffer, at, length)
  })
  const isLoopback = (buffer.readUInt32LE(start + 8) & IFF_LOOPBACK) !== 0
  return { index: buffer.readUInt32LE(start + 4), name, isLoopback }
}

/** RTA_VIA: a gateway of a family that may be another than the route's. Undefined for one that is not IP. */
function decodeVia(buffer: Buffer, start: number, length: number): Address | undefined {
  if (length < 2) throw new DecodeError(`Cannot decode RTA_VIA: ${length} bytes`)
  if (FAMILIES[buffer.readUInt16LE(start)] === undefined) return undefined
  return decodeIp(buffer, start + 2, length - 2)
}

/** The gateway that an attribute of a route, or of one of its ways, names. */
function decodeGateway(buffer: Buffer, type: number, start: number, length: number): Address | undefined {
  if (type === RTA_GATEWAY) return decodeIp(buffer, start, length)
  return type === RTA_VIA ? decodeVia(buffer, start, length) : undefined
}

/** RTA_MULTIPATH: one way after another. */
function decodeMultipath(buffer: Buffer, start: number, length: number): NextHop[] {
  const end = start + length
  const hops: NextHop[] = []
  for (let offset = start; offset < end;) {
    const bytes = end - offset < RTNEXTHOP_BYTES ? 0 : buffer.readUInt16LE(offset)
    if (bytes < RTNEXTHOP_BYTES || offset + bytes > end)
      throw new DecodeError(`Cannot decode RTA_MULTIPATH at ${offset}: length ${bytes}, ${end - offset} left`)
    let gateway: Address | undefined
    visitAttributes(buffer, offset + RTNEXTHOP_BYTES, offset + bytes, (type, at, size) => {
      gateway = decodeGateway(buffer, type, at, size) ?? gateway
    })
    hops.push({ gateway, interfaceIndex: buffer.readUInt32LE(offset + 4) })
    offset += (bytes + 3) & ~3
  }
  return hops
}

function destinationOf(family: Family, address: Address | undefined, prefix: number): Cidr {
  const text = `${address ?? NO_ADDRESS[family]}/${prefix}`
  const cidr = parseCidr(text)
  if (cidr === undefined) throw new DecodeError(`Cannot decode a route: it leads to ${text}`)
  return cidr
}

/** Cheap for what is none of ours: of tens of thousands in the table local only the header is read. */
function isUnicast({ buffer, start }: Message): boolean {
  return (
    buffer.readUInt8(start + 7) === RTN_UNICAST &&
    buffer.readUInt8(start + 4) !== RT_TABLE_LOCAL &&
    (buffer.readUInt32LE(start + 8) & RTM_F_CLONED) === 0
  )
}

/** A unicast route of either family, of any table but `local`; undefined for any other. */
export function decodeRoute(message: Message): Route | undefined {
  expectHeader('a route', message, RTMSG_BYTES)
  const { buffer, start, end } = message
  const family = FAMILIES[buffer.readUInt8(start)]
  if (family === undefined || !isUnicast(message)) return undefined
  let address: Address | undefined
  let gateway: Address | undefined
  let [interfaceIndex, nextHopId, table] = [0, 0, 0]
  const several: NextHop[] = []
  visitAttributes(buffer, start + RTMSG_BYTES, end, (type, at, length) => {
    if (type === RTA_DST) address = decodeIp(buffer, at, length)
    else if (type === RTA_OIF) interfaceIndex = readU32(buffer, at, length, 'RTA_OIF')
    else if (type === RTA_NH_ID) nextHopId = readU32(buffer, at, length, 'RTA_NH_ID')
    else if (type === RTA_TABLE) table = readU32(buffer, at, length, 'RTA_TABLE')
    else if (type === RTA_MULTIPATH) several.push(...decodeMultipath(buffer, at, length))
    else gateway = decodeGateway(buffer, type, at, length) ?? gateway
  })
  if (table === RT_TABLE_LOCAL) return undefined
  const own = gateway === undefined && interfaceIndex === 0 ? [] : [{ gateway, interfaceIndex }]
  const destination = destinationOf(family, address, buffer.readUInt8(start + 1))
  return { destination, hops: [...own, ...several], nextHopId }
}

/** NHA_GROUP: the ids of its members. */
function decodeGroup(buffer: Buffer, start: number, length: number): number[] {
  if (length % NEXTHOP_GRP_BYTES !== 0) throw new DecodeError(`Cannot decode NHA_GROUP: ${length} bytes`)
  return Array.from({ length: length / NEXTHOP_GRP_BYTES }, (_, i) =>
    buffer.readUInt32LE(start + i * NEXTHOP_GRP_BYTES),
  )
}

export function decodeNextHopObject(message: Message): NextHopObject {
  expectHeader('a next hop', message, NHMSG_BYTES)
  const { buffer, start, end } = message
  let gateway: Address | undefined
  let [id, interfaceIndex] = [0, 0]
  let group: readonly number[] = []
  visitAttributes(buffer, start + NHMSG_BYTES, end, (type, at, length) => {
    if (type === NHA_ID) id = readU32(buffer, at, length, 'NHA_ID')
    else if (type === NHA_OIF) interfaceIndex = readU32(buffer, at, length, 'NHA_OIF')
    else if (type === NHA_GATEWAY) gateway = decodeIp(buffer, at, length)
    else if (type === NHA_GROUP) group = decodeGroup(buffer, at, length)
  })
  return { id, hop: { gateway, interfaceIndex }, group }
}

/** A neighbour of either family that is in use; undefined for any other, also for one that we answer for (`proxy`). */
export function decodeNeighbour(message: Message): Neighbour | undefined {
  expectHeader('a neighbour', message, NDMSG_BYTES)
  const { buffer, start, end } = message
  const isInUse = (buffer.readUInt16LE(start + 8) & NUD_IN_USE) !== 0
  const isProxy = (buffer.readUInt8(start + 10) & NTF_PROXY) !== 0
  if (FAMILIES[buffer.readUInt8(start)] === undefined || !isInUse || isProxy) return undefined
  let address: Address | undefined
  let lladdr: string | undefined
  visitAttributes(buffer, start + NDMSG_BYTES, end, (type, at, length) => {
    if (type === NDA_DST) address = decodeIp(buffer, at, length)
    else if (type === NDA_LLADDR) lladdr = decodeLladdr(buffer, at, length)
  })
  if (address === undefined) throw new DecodeError('Cannot decode a neighbour: it has no address')
  return { address, interfaceIndex: buffer.readUInt32LE(start + 4), lladdr }
}

function decodeLladdr(buffer: Buffer, start: number, length: number): string | undefined {
  const octets = [...buffer.subarray(start, start + length)]
  return length === 0 ? undefined : octets.map((octet) => octet.toString(16).padStart(2, '0')).join(':')
}
