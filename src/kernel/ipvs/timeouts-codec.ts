/** The configuration of IPVS: its timeouts. */
import type { Message, MessageWriter } from '../../netlink/message.ts'
import * as ip_vs from './ipvs-constants.ts'
import { attributesNamed, beginCommand, fillFrom } from './ipvs-message.ts'

/** Idle times in seconds after which IPVS forgets a connection. */
export interface Timeouts {
  readonly tcp: number
  readonly tcpFin: number
  readonly udp: number
}

/** Sets timeouts; 0 leaves one as it is. */
export function encodeTimeouts(batch: MessageWriter, genlFamilyId: number, timeouts: Timeouts): void {
  beginCommand(batch, genlFamilyId, ip_vs.IPVS_CMD_SET_CONFIG)
  batch.putU32(ip_vs.IPVS_CMD_ATTR_TIMEOUT_TCP, timeouts.tcp)
  batch.putU32(ip_vs.IPVS_CMD_ATTR_TIMEOUT_TCP_FIN, timeouts.tcpFin)
  batch.putU32(ip_vs.IPVS_CMD_ATTR_TIMEOUT_UDP, timeouts.udp)
  batch.end()
}

export function encodeTimeoutsGet(batch: MessageWriter, genlFamilyId: number): void {
  beginCommand(batch, genlFamilyId, ip_vs.IPVS_CMD_GET_CONFIG)
  batch.end()
}

/** Throws DecodeError. */
export function decodeTimeouts(message: Message): Timeouts {
  const attributes = attributesNamed('IPVS_CMD_ATTR_')
  fillFrom(attributes, message)
  return {
    tcp: attributes.u32(message.buffer, ip_vs.IPVS_CMD_ATTR_TIMEOUT_TCP),
    tcpFin: attributes.u32(message.buffer, ip_vs.IPVS_CMD_ATTR_TIMEOUT_TCP_FIN),
    udp: attributes.u32(message.buffer, ip_vs.IPVS_CMD_ATTR_TIMEOUT_UDP),
  }
}
