/**
 * Virtual and real servers to and from the kernel's "services" and "destinations". The two vocabularies
 * meet in this file. Ports, and an IPv4 netmask, are in network byte order; the rest of a message is not.
 */
import { type Address, addressFromBytes, type Family, familyOf } from '../../model/address.ts'
import {
  type Connections,
  type ForwardingMethod,
  IN_SERVICE,
  type Protocol,
  type RealServer,
  realServerKeyOf,
  type RealServerSettings,
  type Tunnel,
  virtualServerId,
  type VirtualServerId,
  type VirtualServerSettings,
} from '../../model/virtual-server.ts'
import { AttributeIndex, expectLength, readU32, readU64, visitAttributes } from '../../netlink/attribute.ts'
import { DecodeError } from '../../netlink/error.ts'
import { appendGenericHeader, GENERIC_HEADER_BYTES } from '../../netlink/generic.ts'
import { type Message, type MessageWriter, NLM_F_DUMP } from '../../netlink/message.ts'
import { putIp } from '../ip-attribute.ts'
import { AF_INET, AF_INET6, familyNumber } from '../address-family.ts'
import * as ip_vs from './ipvs-constants.ts'

const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 }
const PROTOCOL_NAMES = new Map(
  Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [number, name as Protocol]),
)

/** In the order of IP_VS_CONN_F_MASQ, _LOCALNODE, _TUNNEL, _DROUTE. */
const FORWARDING_METHODS: readonly ForwardingMethod[] = ['masquerade', 'local', 'tunnel', 'directRoute']
/** In the order of IP_VS_CONN_F_TUNNEL_TYPE_*. */
const TUNNEL_TYPES: readonly Tunnel['type'][] = ['ipip', 'gue', 'gre']

/** Counters since creation, and rates over the last seconds (0 where the kernel does not estimate). */
export interface Statistics {
  readonly connections: number
  readonly packetsIn: number
  readonly packetsOut: number
  readonly bytesIn: number
  readonly bytesOut: number
  readonly connectionsPerSecond: number
  readonly packetsInPerSecond: number
  readonly packetsOutPerSecond: number
  readonly bytesInPerSecond: number
  readonly bytesOutPerSecond: number
}

/** The kernel's words for a virtual and for a real server, within the names of its attributes. */
type Kind = 'SVC' | 'DEST'

/** A virtual server as the kernel has it. */
export interface ServiceRecord {
  readonly id: VirtualServerId
  readonly settings: VirtualServerSettings
}

/** A real server as the kernel has it. */
export interface DestinationRecord extends RealServer {
  readonly connections: Connections
}

/** Idle times in seconds after which IPVS forgets a connection. */
export interface Timeouts {
  readonly tcp: number
  readonly tcpFin: number
  readonly udp: number
}

export interface IpvsInfo {
  /** As `1.2.1`. */
  readonly version: string
  /** Slots of the connection table. */
  readonly connectionTableSize: number
}

const NO_STATISTICS: Statistics = {
  connections: 0,
  packetsIn: 0,
  packetsOut: 0,
  bytesIn: 0,
  bytesOut: 0,
  connectionsPerSecond: 0,
  packetsInPerSecond: 0,
  packetsOutPerSecond: 0,
  bytesInPerSecond: 0,
  bytesOutPerSecond: 0,
}

const STATISTICS_FIELDS: Readonly<Record<number, keyof Statistics>> = {
  [ip_vs.IPVS_STATS_ATTR_CONNS]: 'connections',
  [ip_vs.IPVS_STATS_ATTR_INPKTS]: 'packetsIn',
  [ip_vs.IPVS_STATS_ATTR_OUTPKTS]: 'packetsOut',
  [ip_vs.IPVS_STATS_ATTR_INBYTES]: 'bytesIn',
  [ip_vs.IPVS_STATS_ATTR_OUTBYTES]: 'bytesOut',
  [ip_vs.IPVS_STATS_ATTR_CPS]: 'connectionsPerSecond',
  [ip_vs.IPVS_STATS_ATTR_INPPS]: 'packetsInPerSecond',
  [ip_vs.IPVS_STATS_ATTR_OUTPPS]: 'packetsOutPerSecond',
  [ip_vs.IPVS_STATS_ATTR_INBPS]: 'bytesInPerSecond',
  [ip_vs.IPVS_STATS_ATTR_OUTBPS]: 'bytesOutPerSecond',
}

// --- Requests -------------------------------------------------------------------------------------------

function begin(batch: MessageWriter, family: number, command: number, flags = 0): void {
  batch.begin(family, flags)
  appendGenericHeader(batch, command, ip_vs.IPVS_GENL_VERSION)
}

/** A prefix length as the kernel wants it: an IPv4 mask in network byte order, an IPv6 length as a number. */
function putNetmask(batch: MessageWriter, family: Family, prefix: number): void {
  if (family === 'IPv6') batch.putU32(ip_vs.IPVS_SVC_ATTR_NETMASK, prefix)
  else batch.putU32be(ip_vs.IPVS_SVC_ATTR_NETMASK, prefix === 0 ? 0 : (~0 << (32 - prefix)) >>> 0)
}

function putServiceSettings(batch: MessageWriter, family: Family, settings: VirtualServerSettings): void {
  batch.putString(ip_vs.IPVS_SVC_ATTR_SCHED_NAME, settings.scheduler)
  // struct ip_vs_flags: the flags, and a mask of those that are meant.
  batch.putU32Pair(ip_vs.IPVS_SVC_ATTR_FLAGS, settings.flags, 0xffffffff)
  batch.putU32(ip_vs.IPVS_SVC_ATTR_TIMEOUT, settings.persistenceSeconds)
  putNetmask(batch, family, settings.persistencePrefix)
  if (settings.persistenceEngine !== undefined) {
    batch.putString(ip_vs.IPVS_SVC_ATTR_PE_NAME, settings.persistenceEngine)
  }
}

function putService(batch: MessageWriter, id: VirtualServerId, settings?: VirtualServerSettings): void {
  const family = familyOf(id.address)
  const nested = batch.beginNested(ip_vs.IPVS_CMD_ATTR_SERVICE)
  batch.putU16(ip_vs.IPVS_SVC_ATTR_AF, familyNumber(family))
  batch.putU16(ip_vs.IPVS_SVC_ATTR_PROTOCOL, PROTOCOL_NUMBERS[id.protocol])
  putIp(batch, ip_vs.IPVS_SVC_ATTR_ADDR, id.address)
  batch.putU16be(ip_vs.IPVS_SVC_ATTR_PORT, id.port)
  if (settings !== undefined) putServiceSettings(batch, family, settings)
  batch.endNested(nested)
}

function putTunnel(batch: MessageWriter, { type, port, flags }: Tunnel): void {
  batch.putU8(ip_vs.IPVS_DEST_ATTR_TUN_TYPE, TUNNEL_TYPES.indexOf(type))
  batch.putU16be(ip_vs.IPVS_DEST_ATTR_TUN_PORT, port)
  batch.putU16(ip_vs.IPVS_DEST_ATTR_TUN_FLAGS, flags)
}

function putDestination(
  batch: MessageWriter,
  { address, port }: RealServer,
  settings?: RealServerSettings,
): void {
  const nested = batch.beginNested(ip_vs.IPVS_CMD_ATTR_DEST)
  batch.putU16(ip_vs.IPVS_DEST_ATTR_ADDR_FAMILY, familyNumber(familyOf(address)))
  putIp(batch, ip_vs.IPVS_DEST_ATTR_ADDR, address)
  batch.putU16be(ip_vs.IPVS_DEST_ATTR_PORT, port)
  if (settings !== undefined) {
    batch.putU32(ip_vs.IPVS_DEST_ATTR_FWD_METHOD, FORWARDING_METHODS.indexOf(settings.forwarding))
    batch.putU32(ip_vs.IPVS_DEST_ATTR_WEIGHT, settings.weight)
    batch.putU32(ip_vs.IPVS_DEST_ATTR_U_THRESH, settings.upperThreshold)
    batch.putU32(ip_vs.IPVS_DEST_ATTR_L_THRESH, settings.lowerThreshold)
    if (settings.tunnel !== undefined) putTunnel(batch, settings.tunnel)
  }
  batch.endNested(nested)
}

/** One message: creates, updates or deletes a virtual server. `family` is the number of the IPVS family. */
export function encodeService(
  batch: MessageWriter,
  family: number,
  verb: 'NEW' | 'SET' | 'DEL',
  id: VirtualServerId,
  settings?: VirtualServerSettings,
): void {
  begin(batch, family, ip_vs[`IPVS_CMD_${verb}_SERVICE`])
  putService(batch, id, settings)
  batch.end()
}

/** One message: creates, updates or deletes a real server of `of`. */
export function encodeDestination(
  batch: MessageWriter,
  family: number,
  verb: 'NEW' | 'SET' | 'DEL',
  of: VirtualServerId,
  destination: RealServer,
): void {
  begin(batch, family, ip_vs[`IPVS_CMD_${verb}_DEST`])
  putService(batch, of)
  putDestination(batch, destination, verb === 'DEL' ? undefined : destination.settings)
  batch.end()
}

/** Asks for all virtual servers of both families. */
export function encodeServiceDump(batch: MessageWriter, family: number): void {
  begin(batch, family, ip_vs.IPVS_CMD_GET_SERVICE, NLM_F_DUMP)
  batch.end()
}

/** Asks for one virtual server; ESRCH when there is none. */
export function encodeServiceGet(batch: MessageWriter, family: number, id: VirtualServerId): void {
  begin(batch, family, ip_vs.IPVS_CMD_GET_SERVICE)
  putService(batch, id)
  batch.end()
}

/** Asks for all real servers of a virtual server: none when there is no such virtual server. */
export function encodeDestinationDump(batch: MessageWriter, family: number, of: VirtualServerId): void {
  begin(batch, family, ip_vs.IPVS_CMD_GET_DEST, NLM_F_DUMP)
  putService(batch, of)
  batch.end()
}

/** Sets timeouts; 0 leaves one as it is. */
export function encodeTimeouts(batch: MessageWriter, family: number, { tcp, tcpFin, udp }: Timeouts): void {
  begin(batch, family, ip_vs.IPVS_CMD_SET_CONFIG)
  batch.putU32(ip_vs.IPVS_CMD_ATTR_TIMEOUT_TCP, tcp)
  batch.putU32(ip_vs.IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, tcpFin)
  batch.putU32(ip_vs.IPVS_CMD_ATTR_TIMEOUT_UDP, udp)
  batch.end()
}

export function encodeConfigGet(batch: MessageWriter, family: number): void {
  begin(batch, family, ip_vs.IPVS_CMD_GET_CONFIG)
  batch.end()
}

export function encodeInfoGet(batch: MessageWriter, family: number): void {
  begin(batch, family, ip_vs.IPVS_CMD_GET_INFO)
  batch.end()
}

// --- Answers --------------------------------------------------------------------------------------------

/** The names of attribute types, by number. */
function namesOf(kind: Kind): readonly string[] {
  const names: string[] = []
  for (const [name, value] of Object.entries(ip_vs))
    if (name.startsWith(`IPVS_${kind}_ATTR_`)) names[value as number] = name
  return names
}

/** The attributes that a message is about, those of a virtual or of a real server. */
const ATTRIBUTES: Readonly<Record<Kind, AttributeIndex>> = {
  SVC: new AttributeIndex(namesOf('SVC')),
  DEST: new AttributeIndex(namesOf('DEST')),
}
const NESTS = { SVC: 'IPVS_CMD_ATTR_SERVICE', DEST: 'IPVS_CMD_ATTR_DEST' } as const

/** Until the next call for this kind; undefined when there are none. Throws DecodeError. */
function findAttributes({ buffer, start: from, end }: Message, kind: Kind): AttributeIndex | undefined {
  const nest = NESTS[kind]
  let found: AttributeIndex | undefined
  visitAttributes(buffer, from + GENERIC_HEADER_BYTES, end, (type, start, length) => {
    if (type !== ip_vs[nest]) return
    if (found !== undefined) throw new DecodeError(`Cannot decode a message: ${nest} occurs twice`)
    found = ATTRIBUTES[kind]
    found.fill(buffer, start, start + length)
  })
  return found
}

/** The same; throws DecodeError when there are none. */
function attributesOf(message: Message, kind: Kind): AttributeIndex {
  const found = findAttributes(message, kind)
  if (found === undefined) throw new DecodeError(`Cannot decode a message: ${NESTS[kind]} is missing`)
  return found
}

/** The kernel sends 16 bytes for either family. */
function decodeAddress(buffer: Buffer, from: AttributeIndex, type: number, family: number): Address {
  const expected = family === AF_INET ? 4 : 16
  const start = from.start(type)
  const length = from.length(type)
  if (length < expected)
    throw new DecodeError(`Cannot decode an address: expected ${expected} bytes, got ${length}`)
  return addressFromBytes(buffer, start, expected)
}

/** STATS carries counts and rates in 32 bits and bytes in 64, STATS64 everything in 64. */
function readStatistics(buffer: Buffer, start: number, length: number, bits: 32 | 64): Statistics {
  const statistics: { -readonly [field in keyof Statistics]: number } = { ...NO_STATISTICS }
  visitAttributes(buffer, start, start + length, (type, at, size) => {
    const field = STATISTICS_FIELDS[type]
    if (field === undefined) return
    const read = bits === 64 || size === 8 ? readU64 : readU32
    statistics[field] = read(buffer, at, size, field)
  })
  return statistics
}

/** The counters of a virtual (`SVC`) or real server (`DEST`): of 64 bits where the kernel sends them (since 4.1). */
export function decodeStatistics(message: Message, kind: Kind): Statistics {
  const attributes = findAttributes(message, kind)
  for (const bits of [64, 32] as const) {
    const type = ip_vs[`IPVS_${kind}_ATTR_STATS${bits === 64 ? '64' : ''}`]
    if (attributes?.has(type) === true)
      return readStatistics(message.buffer, attributes.start(type), attributes.length(type), bits)
  }
  return NO_STATISTICS
}

function decodeFamily(family: number): Family {
  if (family === AF_INET) return 'IPv4'
  if (family === AF_INET6) return 'IPv6'
  throw new DecodeError(`Cannot decode an address: family ${family}`)
}

/** A virtual server; undefined for one by firewall mark or of another protocol, which is never ours. Throws DecodeError. */
export function decodeService(message: Message): ServiceRecord | undefined {
  const from = attributesOf(message, 'SVC')
  const { buffer } = message
  const af = from.u16(buffer, ip_vs.IPVS_SVC_ATTR_AF)
  const family = decodeFamily(af)
  if (from.has(ip_vs.IPVS_SVC_ATTR_FWMARK) || !from.has(ip_vs.IPVS_SVC_ATTR_PROTOCOL)) return undefined
  const protocol = PROTOCOL_NAMES.get(from.u16(buffer, ip_vs.IPVS_SVC_ATTR_PROTOCOL))
  if (protocol === undefined) return undefined
  const address = decodeAddress(buffer, from, ip_vs.IPVS_SVC_ATTR_ADDR, af)
  return {
    id: virtualServerId(address, from.u16be(buffer, ip_vs.IPVS_SVC_ATTR_PORT), protocol),
    settings: decodeVirtualServerSettings(buffer, from, family),
  }
}

function decodeVirtualServerSettings(
  buffer: Buffer,
  from: AttributeIndex,
  family: Family,
): VirtualServerSettings {
  const settings: VirtualServerSettings = {
    scheduler: from.string(buffer, ip_vs.IPVS_SVC_ATTR_SCHED_NAME),
    flags: decodeFlags(buffer, from),
    persistenceSeconds: from.u32(buffer, ip_vs.IPVS_SVC_ATTR_TIMEOUT),
    persistencePrefix: decodePrefix(buffer, from, family),
  }
  if (!from.has(ip_vs.IPVS_SVC_ATTR_PE_NAME)) return settings
  return { ...settings, persistenceEngine: from.string(buffer, ip_vs.IPVS_SVC_ATTR_PE_NAME) }
}

/** Of IPv4 the leading ones of a mask. */
function decodePrefix(buffer: Buffer, from: AttributeIndex, family: Family): number {
  if (family === 'IPv6') return from.u32(buffer, ip_vs.IPVS_SVC_ATTR_NETMASK)
  return Math.clz32(~from.u32be(buffer, ip_vs.IPVS_SVC_ATTR_NETMASK))
}

/** struct ip_vs_flags: flags, then a mask of no meaning here. */
function decodeFlags(buffer: Buffer, from: AttributeIndex): number {
  const start = from.start(ip_vs.IPVS_SVC_ATTR_FLAGS)
  expectLength('IPVS_SVC_ATTR_FLAGS', from.length(ip_vs.IPVS_SVC_ATTR_FLAGS), 8)
  return buffer.readUInt32LE(start) & ~ip_vs.IP_VS_SVC_F_HASHED
}

function decodeTunnel(buffer: Buffer, from: AttributeIndex): Tunnel | undefined {
  if (!from.has(ip_vs.IPVS_DEST_ATTR_TUN_TYPE)) return undefined
  const type = from.u8(buffer, ip_vs.IPVS_DEST_ATTR_TUN_TYPE)
  const name = TUNNEL_TYPES[type]
  if (name === undefined) throw new DecodeError(`Cannot decode attribute IPVS_DEST_ATTR_TUN_TYPE: ${type}`)
  return {
    type: name,
    port: from.has(ip_vs.IPVS_DEST_ATTR_TUN_PORT) ? from.u16be(buffer, ip_vs.IPVS_DEST_ATTR_TUN_PORT) : 0,
    flags: from.has(ip_vs.IPVS_DEST_ATTR_TUN_FLAGS) ? from.u16(buffer, ip_vs.IPVS_DEST_ATTR_TUN_FLAGS) : 0,
  }
}

function decodeRealServerSettings(buffer: Buffer, from: AttributeIndex): RealServerSettings {
  const method = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_FWD_METHOD) & ip_vs.IP_VS_CONN_F_FWD_MASK
  const forwarding = FORWARDING_METHODS[method]
  if (forwarding === undefined)
    throw new DecodeError(`Cannot decode attribute IPVS_DEST_ATTR_FWD_METHOD: ${method}`)
  const weight = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_WEIGHT)
  const upperThreshold = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_U_THRESH)
  const lowerThreshold = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_L_THRESH)
  // Nearly all are as every Service wants them: they share one object.
  if (forwarding === 'masquerade' && weight === 1 && upperThreshold === 0 && lowerThreshold === 0)
    return IN_SERVICE
  const settings: RealServerSettings = { forwarding, weight, upperThreshold, lowerThreshold }
  const tunnel = forwarding === 'tunnel' ? decodeTunnel(buffer, from) : undefined
  return tunnel === undefined ? settings : { ...settings, tunnel }
}

const NO_CONNECTIONS: Connections = { active: 0, inactive: 0, persistent: 0 }

function decodeConnections(buffer: Buffer, from: AttributeIndex): Connections {
  const active = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_ACTIVE_CONNS)
  const inactive = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_INACT_CONNS)
  const persistent = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_PERSIST_CONNS)
  return active + inactive + persistent === 0 ? NO_CONNECTIONS : { active, inactive, persistent }
}

/** A real server of a virtual server of `family`. Kernels before 3.18 do not send the address family: it is `family`. */
export function decodeDestination(message: Message, family: Family): DestinationRecord {
  const from = attributesOf(message, 'DEST')
  const { buffer } = message
  const isTold = from.has(ip_vs.IPVS_DEST_ATTR_ADDR_FAMILY)
  const af = isTold ? from.u16(buffer, ip_vs.IPVS_DEST_ATTR_ADDR_FAMILY) : familyNumber(family)
  decodeFamily(af)
  const address = decodeAddress(buffer, from, ip_vs.IPVS_DEST_ATTR_ADDR, af)
  const port = from.u16be(buffer, ip_vs.IPVS_DEST_ATTR_PORT)
  const settings = decodeRealServerSettings(buffer, from)
  return {
    key: realServerKeyOf(address, port),
    address,
    port,
    settings,
    connections: decodeConnections(buffer, from),
  }
}

/** All numbers among the attributes of a message without nesting. */
function decodeNumbers({ buffer, start, end }: Message): Map<number, number> {
  const numbers = new Map<number, number>()
  visitAttributes(buffer, start + GENERIC_HEADER_BYTES, end, (type, at, length) => {
    numbers.set(type, readU32(buffer, at, length, `${type}`))
  })
  return numbers
}

function numberOf(numbers: Map<number, number>, name: keyof typeof ip_vs): number {
  const value = numbers.get(ip_vs[name] as number)
  if (value === undefined) throw new DecodeError(`Cannot decode a message: ${name} is missing`)
  return value
}

export function decodeTimeouts(message: Message): Timeouts {
  const numbers = decodeNumbers(message)
  return {
    tcp: numberOf(numbers, 'IPVS_CMD_ATTR_TIMEOUT_TCP'),
    tcpFin: numberOf(numbers, 'IPVS_CMD_ATTR_TIMEOUT_TCP_FIN'),
    udp: numberOf(numbers, 'IPVS_CMD_ATTR_TIMEOUT_UDP'),
  }
}

export function decodeInfo(message: Message): IpvsInfo {
  const numbers = decodeNumbers(message)
  const version = numberOf(numbers, 'IPVS_INFO_ATTR_VERSION')
  return {
    version: [16, 8, 0].map((shift) => (version >>> shift) & 0xff).join('.'),
    connectionTableSize: numberOf(numbers, 'IPVS_INFO_ATTR_CONN_TAB_SIZE'),
  }
}
