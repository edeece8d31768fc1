/** Real servers to and from what the kernel calls destinations. */
import { type Family, familyOf } from '../../model/address.ts'
import {
  type Connections,
  type ForwardingMethod,
  IN_SERVICE,
  type ObservedRealServer,
  type RealServer,
  realServerKeyOf,
  type RealServerSettings,
  type Tunnel,
  type VirtualServerId,
} from '../../model/virtual-server.ts'
import type { AttributeIndex } from '../../netlink/attribute.ts'
import { DecodeError } from '../../netlink/error.ts'
import { type Message, type MessageWriter, NLM_F_DUMP } from '../../netlink/message.ts'
import { familyNumber } from '../address-family.ts'
import { putIp } from '../ip-attribute.ts'
import * as ip_vs from './ipvs-constants.ts'
import {
  attributesNamed,
  beginCommand,
  decodeAddress,
  decodeFamily,
  fillFromNested,
  putIdentity,
} from './ipvs-message.ts'

/** In the order of IP_VS_CONN_F_MASQ, _LOCALNODE, _TUNNEL, _DROUTE. */
const FORWARDING_METHODS: readonly ForwardingMethod[] = ['masquerade', 'local', 'tunnel', 'directRoute']
/** In the order of IP_VS_CONN_F_TUNNEL_TYPE_*. */
const TUNNEL_TYPES: readonly Tunnel['type'][] = ['ipip', 'gue', 'gre']

const NO_CONNECTIONS: Connections = { active: 0, inactive: 0, persistent: 0 }

function putTunnel(batch: MessageWriter, { type, port, flags }: Tunnel): void {
  batch.putU8(ip_vs.IPVS_DEST_ATTR_TUN_TYPE, TUNNEL_TYPES.indexOf(type))
  batch.putU16be(ip_vs.IPVS_DEST_ATTR_TUN_PORT, port)
  batch.putU16(ip_vs.IPVS_DEST_ATTR_TUN_FLAGS, flags)
}

function putSettings(batch: MessageWriter, settings: RealServerSettings): void {
  batch.putU32(ip_vs.IPVS_DEST_ATTR_FWD_METHOD, FORWARDING_METHODS.indexOf(settings.forwarding))
  batch.putU32(ip_vs.IPVS_DEST_ATTR_WEIGHT, settings.weight)
  batch.putU32(ip_vs.IPVS_DEST_ATTR_U_THRESH, settings.upperThreshold)
  batch.putU32(ip_vs.IPVS_DEST_ATTR_L_THRESH, settings.lowerThreshold)
  if (settings.tunnel !== undefined) putTunnel(batch, settings.tunnel)
}

function putVirtualServer(batch: MessageWriter, of: VirtualServerId): void {
  const nested = batch.beginNested(ip_vs.IPVS_CMD_ATTR_SERVICE)
  putIdentity(batch, of)
  batch.endNested(nested)
}

/** One message: creates, updates or deletes a real server of `of`. */
export function encodeRealServer(
  batch: MessageWriter,
  genlFamilyId: number,
  verb: 'NEW' | 'SET' | 'DEL',
  of: VirtualServerId,
  { address, port, settings }: RealServer,
): void {
  beginCommand(batch, genlFamilyId, ip_vs[`IPVS_CMD_${verb}_DEST`])
  putVirtualServer(batch, of)
  const nested = batch.beginNested(ip_vs.IPVS_CMD_ATTR_DEST)
  batch.putU16(ip_vs.IPVS_DEST_ATTR_ADDR_FAMILY, familyNumber(familyOf(address)))
  putIp(batch, ip_vs.IPVS_DEST_ATTR_ADDR, address)
  batch.putU16be(ip_vs.IPVS_DEST_ATTR_PORT, port)
  if (verb !== 'DEL') putSettings(batch, settings)
  batch.endNested(nested)
  batch.end()
}

/** Asks for all real servers of a virtual server: none when there is no such virtual server. */
export function encodeRealServerDump(batch: MessageWriter, genlFamilyId: number, of: VirtualServerId): void {
  beginCommand(batch, genlFamilyId, ip_vs.IPVS_CMD_GET_DEST, NLM_F_DUMP)
  putVirtualServer(batch, of)
  batch.end()
}

/**
 * Decodes messages one after the other: each a real server of a virtual server of `family`, which is its own where a kernel
 * before 3.18 sends none. What it returns throws DecodeError.
 */
export function realServerDecoder(): (message: Message, family: Family) => ObservedRealServer {
  const outer = attributesNamed('IPVS_CMD_ATTR_')
  const attributes = attributesNamed('IPVS_DEST_ATTR_')
  return (message, family) => {
    fillFromNested(attributes, outer, ip_vs.IPVS_CMD_ATTR_DEST, message)
    return decodeRealServer(message.buffer, attributes, family)
  }
}

function decodeRealServer(buffer: Buffer, from: AttributeIndex, familyOfServer: Family): ObservedRealServer {
  const family = from.has(ip_vs.IPVS_DEST_ATTR_ADDR_FAMILY)
    ? decodeFamily(from.u16(buffer, ip_vs.IPVS_DEST_ATTR_ADDR_FAMILY))
    : familyOfServer
  const address = decodeAddress(buffer, from, ip_vs.IPVS_DEST_ATTR_ADDR, family)
  const port = from.u16be(buffer, ip_vs.IPVS_DEST_ATTR_PORT)
  return {
    key: realServerKeyOf(address, port),
    address,
    port,
    settings: decodeSettings(buffer, from),
    connections: decodeConnections(buffer, from),
  }
}

function decodeSettings(buffer: Buffer, from: AttributeIndex): RealServerSettings {
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

function decodeConnections(buffer: Buffer, from: AttributeIndex): Connections {
  const active = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_ACTIVE_CONNS)
  const inactive = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_INACT_CONNS)
  const persistent = from.u32(buffer, ip_vs.IPVS_DEST_ATTR_PERSIST_CONNS)
  return active + inactive + persistent === 0 ? NO_CONNECTIONS : { active, inactive, persistent }
}
