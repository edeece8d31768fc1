/** What the kernel counts of virtual and real servers: struct ip_vs_kstats (linux/ip_vs.h), in attributes of 64 bits since Linux 4.1. */
import { DecodeError } from '../../netlink/error.ts'
import { visitAttributes } from '../../netlink/attribute.ts'
import type { Message } from '../../netlink/message.ts'
import { GENERIC_HEADER_BYTES } from '../../netlink/generic.ts'
import * as ip_vs from './ipvs-constants.ts'

/** Connections, packets and bytes, from clients (in) and to them (out). */
export interface Traffic {
  readonly connections: number
  readonly inPackets: number
  readonly outPackets: number
  readonly inBytes: number
  readonly outBytes: number
}

export interface Stats {
  /** Since it was made. */
  readonly total: Traffic
  /** The kernel's own average of the last seconds; it stands still where net.ipv4.vs.run_estimation is 0. */
  readonly perSecond: Traffic
}

const NAMES = ['connections', 'inPackets', 'outPackets', 'inBytes', 'outBytes'] as const

/** IPVS_STATS_ATTR_CONNS to _OUTBYTES are 1 to 5, _CPS to _OUTBPS 6 to 10. */
function trafficOf(values: readonly number[], first: number): Traffic {
  return Object.fromEntries(NAMES.map((name, i) => [name, values[first + i] ?? 0])) as unknown as Traffic
}

function decodeNested(buffer: Buffer, start: number, end: number): Stats {
  const values: number[] = []
  visitAttributes(buffer, start, end, (type, at, length) => {
    if (length === 8) values[type] = Number(buffer.readBigUInt64LE(at))
  })
  return { total: trafficOf(values, 1), perSecond: trafficOf(values, 6) }
}

/** The counters in a message about a virtual or a real server. Throws DecodeError when there are none. */
export function decodeStats({ buffer, start, end }: Message, of: 'virtualServer' | 'realServer'): Stats {
  const [outer, inner] =
    of === 'virtualServer'
      ? [ip_vs.IPVS_CMD_ATTR_SERVICE, ip_vs.IPVS_SVC_ATTR_STATS64]
      : [ip_vs.IPVS_CMD_ATTR_DEST, ip_vs.IPVS_DEST_ATTR_STATS64]
  let stats: Stats | undefined
  visitAttributes(buffer, start + GENERIC_HEADER_BYTES, end, (type, at, length) => {
    if (type !== outer) return
    visitAttributes(buffer, at, at + length, (nested, from, size) => {
      if (nested === inner) stats = decodeNested(buffer, from, from + size)
    })
  })
  if (stats === undefined) throw new DecodeError('Cannot decode statistics: IPVS has sent none')
  return stats
}
