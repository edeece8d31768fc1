/**
 * Virtual and real servers to and from the kernel's "services" and "destinations". The two vocabularies
 * meet in this file. Ports, and an IPv4 netmask, are in network byte order; the rest of a message is not.
 */
import { type Address, addressFromBytes, type Family, familyOf } from '../model/address.ts'
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
} from '../model/virtual-server.ts'
import {
  expectLength,
  readString,
  readU16,
  readU16be,
  readU32,
  readU32be,
  readU64,
  readU8,
  visitAttributes,
} from '../netlink/attribute.ts'
import { DecodeError } from '../netlink/error.ts'
import { appendGenericHeader, GENERIC_HEADER_BYTES } from '../netlink/generic.ts'
import { type Message, type MessageWriter, NLM_F_DUMP } from '../netlink/message.ts'
import { putIp } from './ip-attribute.ts'
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
  batch.putU16(ip_vs.IPVS_SVC_ATTR_AF, ip_vs.familyNumber(family))
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
  batch.putU16(ip_vs.IPVS_DEST_ATTR_ADDR_FAMILY, ip_vs.familyNumber(familyOf(address)))
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

/** The kernel sends 16 bytes for either family. */
function decodeAddress(body: Buffer, start: number, length: number, family: number, name: string): Address {
  const expected = family === ip_vs.AF_INET ? 4 : 16
  if (length < expected)
    throw new DecodeError(`Cannot decode attribute ${name}: expected ${expected} bytes, got ${length}`)
  return addressFromBytes(body, start, expected)
}

/** The leading ones of an IPv4 mask. */
function readMask(buffer: Buffer, start: number, length: number, name: string): number {
  return Math.clz32(~readU32be(buffer, start, length, name))
}

/** Attribute types of IPVS are below this. */
const TYPES = 32

/** Where each attribute of a nested attribute is, by type, so that they can be read in any order. */
class Slots {
  readonly #starts = new Int32Array(TYPES)
  readonly #lengths = new Int32Array(TYPES)

  clear(): void {
    this.#starts.fill(0)
  }

  add(type: number, start: number, length: number): void {
    if (type >= TYPES) return
    this.#starts[type] = start
    this.#lengths[type] = length
  }

  has(type: number): boolean {
    return this.#starts[type] !== 0
  }

  start(type: number): number {
    return this.#starts[type]!
  }

  length(type: number): number {
    return this.#lengths[type]!
  }
}

/** One for all, as messages are decoded one after the other, by the hundred thousand. */
const shared = new Slots()

/** The attributes in a nested one, until the next call; undefined when there is none. Throws DecodeError. */
function index({ body }: Message, nest: number, name: string): Slots | undefined {
  let count = 0 as number
  shared.clear()
  visitAttributes(body, GENERIC_HEADER_BYTES, body.length, (outer, outerStart, outerLength) => {
    if (outer !== nest) return
    if (count++ > 0) throw new DecodeError(`Cannot decode a message: ${name} occurs twice`)
    visitAttributes(body, outerStart, outerStart + outerLength, addSlot)
  })
  return count > 0 ? shared : undefined
}

const addSlot = (type: number, start: number, length: number): void => {
  shared.add(type, start, length)
}

type Reader<Value> = (buffer: Buffer, start: number, length: number, name: string) => Value

function required<Value>(
  message: Message,
  slots: Slots,
  name: keyof typeof ip_vs,
  read: Reader<Value>,
): Value {
  const type = ip_vs[name] as number
  if (!slots.has(type)) throw new DecodeError(`Cannot decode a message: ${name} is missing`)
  return read(message.body, slots.start(type), slots.length(type), name)
}

function optional<Value>(
  message: Message,
  slots: Slots,
  name: keyof typeof ip_vs,
  read: Reader<Value>,
): Value | undefined {
  return slots.has(ip_vs[name] as number) ? required(message, slots, name, read) : undefined
}

/** STATS carries counts and rates in 32 bits and bytes in 64, STATS64 everything in 64. */
function readStatistics(bits: 32 | 64): Reader<Statistics> {
  return (buffer, start, length) => {
    const statistics: { -readonly [field in keyof Statistics]: number } = { ...NO_STATISTICS }
    visitAttributes(buffer, start, start + length, (type, at, size) => {
      const field = STATISTICS_FIELDS[type]
      if (field === undefined) return
      const read = bits === 64 || size === 8 ? readU64 : readU32
      statistics[field] = read(buffer, at, size, field)
    })
    return statistics
  }
}

/** The counters of a virtual (`SVC`) or real server (`DEST`): of 64 bits where the kernel sends them (since 4.1). */
export function decodeStatistics(message: Message, kind: 'SVC' | 'DEST'): Statistics {
  const nest = kind === 'SVC' ? 'IPVS_CMD_ATTR_SERVICE' : 'IPVS_CMD_ATTR_DEST'
  const slots = index(message, ip_vs[nest], nest)
  if (slots === undefined) return NO_STATISTICS
  return (
    optional(message, slots, `IPVS_${kind}_ATTR_STATS64`, readStatistics(64)) ??
    optional(message, slots, `IPVS_${kind}_ATTR_STATS`, readStatistics(32)) ??
    NO_STATISTICS
  )
}

function decodeFamily(family: number): Family {
  if (family === ip_vs.AF_INET) return 'IPv4'
  if (family === ip_vs.AF_INET6) return 'IPv6'
  throw new DecodeError(`Cannot decode an address: family ${family}`)
}

/** A virtual server; undefined for one by firewall mark or of another protocol, which is never ours. Throws DecodeError. */
export function decodeService(message: Message): ServiceRecord | undefined {
  const slots = index(message, ip_vs.IPVS_CMD_ATTR_SERVICE, 'IPVS_CMD_ATTR_SERVICE')
  if (slots === undefined) throw new DecodeError('Cannot decode a message: IPVS_CMD_ATTR_SERVICE is missing')
  const af = required(message, slots, 'IPVS_SVC_ATTR_AF', readU16)
  const family = decodeFamily(af)
  const protocol = PROTOCOL_NAMES.get(optional(message, slots, 'IPVS_SVC_ATTR_PROTOCOL', readU16) ?? 0)
  if (slots.has(ip_vs.IPVS_SVC_ATTR_FWMARK) || protocol === undefined) return undefined
  const address = required(message, slots, 'IPVS_SVC_ATTR_ADDR', (buffer, start, length, name) =>
    decodeAddress(buffer, start, length, af, name),
  )
  const engine = optional(message, slots, 'IPVS_SVC_ATTR_PE_NAME', readString)
  return {
    id: virtualServerId(address, required(message, slots, 'IPVS_SVC_ATTR_PORT', readU16be), protocol),
    settings: {
      scheduler: required(message, slots, 'IPVS_SVC_ATTR_SCHED_NAME', readString),
      flags: required(message, slots, 'IPVS_SVC_ATTR_FLAGS', readFlags),
      persistenceSeconds: required(message, slots, 'IPVS_SVC_ATTR_TIMEOUT', readU32),
      persistencePrefix: required(
        message,
        slots,
        'IPVS_SVC_ATTR_NETMASK',
        family === 'IPv6' ? readU32 : readMask,
      ),
      ...(engine === undefined ? {} : { persistenceEngine: engine }),
    },
  }
}

/** struct ip_vs_flags: flags, then a mask of no meaning here. */
function readFlags(buffer: Buffer, start: number, length: number, name: string): number {
  expectLength(name, length, 8)
  return buffer.readUInt32LE(start) & ~ip_vs.IP_VS_SVC_F_HASHED
}

function decodeTunnel(message: Message, slots: Slots): Tunnel | undefined {
  const type = optional(message, slots, 'IPVS_DEST_ATTR_TUN_TYPE', readU8)
  if (type === undefined) return undefined
  const name = TUNNEL_TYPES[type]
  if (name === undefined) throw new DecodeError(`Cannot decode attribute IPVS_DEST_ATTR_TUN_TYPE: ${type}`)
  return {
    type: name,
    port: optional(message, slots, 'IPVS_DEST_ATTR_TUN_PORT', readU16be) ?? 0,
    flags: optional(message, slots, 'IPVS_DEST_ATTR_TUN_FLAGS', readU16) ?? 0,
  }
}

function decodeRealServerSettings(message: Message, slots: Slots): RealServerSettings {
  const method = required(message, slots, 'IPVS_DEST_ATTR_FWD_METHOD', readU32) & ip_vs.IP_VS_CONN_F_FWD_MASK
  const forwarding = FORWARDING_METHODS[method]
  if (forwarding === undefined)
    throw new DecodeError(`Cannot decode attribute IPVS_DEST_ATTR_FWD_METHOD: ${method}`)
  const weight = required(message, slots, 'IPVS_DEST_ATTR_WEIGHT', readU32)
  const upperThreshold = required(message, slots, 'IPVS_DEST_ATTR_U_THRESH', readU32)
  const lowerThreshold = required(message, slots, 'IPVS_DEST_ATTR_L_THRESH', readU32)
  // Nearly all are as every Service wants them: they share one object.
  if (forwarding === 'masquerade' && weight === 1 && upperThreshold === 0 && lowerThreshold === 0)
    return IN_SERVICE
  const settings: RealServerSettings = { forwarding, weight, upperThreshold, lowerThreshold }
  const tunnel = forwarding === 'tunnel' ? decodeTunnel(message, slots) : undefined
  return tunnel === undefined ? settings : { ...settings, tunnel }
}

const NO_CONNECTIONS: Connections = { active: 0, inactive: 0, persistent: 0 }

function decodeConnections(message: Message, slots: Slots): Connections {
  const active = required(message, slots, 'IPVS_DEST_ATTR_ACTIVE_CONNS', readU32)
  const inactive = required(message, slots, 'IPVS_DEST_ATTR_INACT_CONNS', readU32)
  const persistent = required(message, slots, 'IPVS_DEST_ATTR_PERSIST_CONNS', readU32)
  return active + inactive + persistent === 0 ? NO_CONNECTIONS : { active, inactive, persistent }
}

/** A real server of a virtual server of `family`. Kernels before 3.18 do not send the address family: it is `family`. */
export function decodeDestination(message: Message, family: Family): DestinationRecord {
  const slots = index(message, ip_vs.IPVS_CMD_ATTR_DEST, 'IPVS_CMD_ATTR_DEST')
  if (slots === undefined) throw new DecodeError('Cannot decode a message: IPVS_CMD_ATTR_DEST is missing')
  const af = optional(message, slots, 'IPVS_DEST_ATTR_ADDR_FAMILY', readU16) ?? ip_vs.familyNumber(family)
  decodeFamily(af)
  const address = required(message, slots, 'IPVS_DEST_ATTR_ADDR', (buffer, start, length, name) =>
    decodeAddress(buffer, start, length, af, name),
  )
  const port = required(message, slots, 'IPVS_DEST_ATTR_PORT', readU16be)
  const settings = decodeRealServerSettings(message, slots)
  return {
    key: realServerKeyOf(address, port),
    address,
    port,
    settings,
    connections: decodeConnections(message, slots),
  }
}

/** All numbers among the attributes of a message without nesting. */
function decodeNumbers({ body }: Message): Map<number, number> {
  const numbers = new Map<number, number>()
  visitAttributes(body, GENERIC_HEADER_BYTES, body.length, (type, start, length) => {
    numbers.set(type, readU32(body, start, length, `${type}`))
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
