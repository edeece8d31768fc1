/** Virtual servers to and from what the kernel calls services. */
import { type Family, familyOf } from '../../model/address.ts'
import {
  type Protocol,
  PROTOCOL_NUMBERS,
  type VirtualServer,
  virtualServerId,
  type VirtualServerId,
  type VirtualServerSettings,
} from '../../model/virtual-server.ts'
import { type AttributeIndex, expectLength } from '../../netlink/attribute.ts'
import { type Message, type MessageWriter, NLM_F_DUMP } from '../../netlink/message.ts'
import * as ip_vs from './ipvs-constants.ts'
import {
  attributesNamed,
  beginCommand,
  decodeAddress,
  decodeFamily,
  fillFromNested,
  putIdentity,
} from './ipvs-message.ts'

const PROTOCOL_NAMES = new Map(
  Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [number, name as Protocol]),
)

/** A virtual server as the kernel has it; its real servers are read for themselves. */
export type ObservedVirtualServer = Pick<VirtualServer, 'id' | 'settings'>

/** A prefix length as the kernel wants it: an IPv4 mask in network byte order, an IPv6 length as a number. */
function putNetmask(batch: MessageWriter, family: Family, prefix: number): void {
  if (family === 'IPv6') batch.putU32(ip_vs.IPVS_SVC_ATTR_NETMASK, prefix)
  else batch.putU32be(ip_vs.IPVS_SVC_ATTR_NETMASK, prefix === 0 ? 0 : (~0 << (32 - prefix)) >>> 0)
}

function putSettings(batch: MessageWriter, family: Family, settings: VirtualServerSettings): void {
  batch.putString(ip_vs.IPVS_SVC_ATTR_SCHED_NAME, settings.scheduler)
  // struct ip_vs_flags: the flags, and a mask of those that are meant.
  batch.putU32Pair(ip_vs.IPVS_SVC_ATTR_FLAGS, settings.flags, 0xffffffff)
  batch.putU32(ip_vs.IPVS_SVC_ATTR_TIMEOUT, settings.persistenceSeconds)
  putNetmask(batch, family, settings.persistencePrefix)
  if (settings.persistenceEngine !== undefined) {
    batch.putString(ip_vs.IPVS_SVC_ATTR_PE_NAME, settings.persistenceEngine)
  }
}

/** One message: creates, updates or, without settings, deletes a virtual server. */
export function encodeVirtualServer(
  batch: MessageWriter,
  genlFamilyId: number,
  verb: 'NEW' | 'SET' | 'DEL',
  id: VirtualServerId,
  settings?: VirtualServerSettings,
): void {
  beginCommand(batch, genlFamilyId, ip_vs[`IPVS_CMD_${verb}_SERVICE`])
  const nested = batch.beginNested(ip_vs.IPVS_CMD_ATTR_SERVICE)
  putIdentity(batch, id)
  if (settings !== undefined) putSettings(batch, familyOf(id.address), settings)
  batch.endNested(nested)
  batch.end()
}

/** Asks for all virtual servers of both families. */
export function encodeVirtualServerDump(batch: MessageWriter, genlFamilyId: number): void {
  beginCommand(batch, genlFamilyId, ip_vs.IPVS_CMD_GET_SERVICE, NLM_F_DUMP)
  batch.end()
}

/**
 * Decodes messages one after the other: each a virtual server; undefined for one by firewall mark or of another protocol,
 * which is never ours. What it returns throws DecodeError.
 */
export function virtualServerDecoder(): (message: Message) => ObservedVirtualServer | undefined {
  const outer = attributesNamed('IPVS_CMD_ATTR_')
  const attributes = attributesNamed('IPVS_SVC_ATTR_')
  return (message) => {
    fillFromNested(attributes, outer, ip_vs.IPVS_CMD_ATTR_SERVICE, message)
    return decodeVirtualServer(message.buffer, attributes)
  }
}

function decodeVirtualServer(buffer: Buffer, from: AttributeIndex): ObservedVirtualServer | undefined {
  const family = decodeFamily(from.u16(buffer, ip_vs.IPVS_SVC_ATTR_AF))
  if (from.has(ip_vs.IPVS_SVC_ATTR_FWMARK) || !from.has(ip_vs.IPVS_SVC_ATTR_PROTOCOL)) return undefined
  const protocol = PROTOCOL_NAMES.get(from.u16(buffer, ip_vs.IPVS_SVC_ATTR_PROTOCOL))
  if (protocol === undefined) return undefined
  const address = decodeAddress(buffer, from, ip_vs.IPVS_SVC_ATTR_ADDR, family)
  return {
    id: virtualServerId(address, from.u16be(buffer, ip_vs.IPVS_SVC_ATTR_PORT), protocol),
    settings: decodeSettings(buffer, from, family),
  }
}

function decodeSettings(buffer: Buffer, from: AttributeIndex, family: Family): VirtualServerSettings {
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
