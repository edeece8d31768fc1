/** What messages about addresses, routes and links have in common (linux/netlink.h, linux/rtnetlink.h). */
import { type Address, addressFromBytes } from '../../model/address.ts'
import { DecodeError } from '../../netlink/error.ts'
import type { Message } from '../../netlink/message.ts'

export const NETLINK_ROUTE = 0

export const RTM_GETROUTE = 26
/** struct rtmsg: family, lengths of destination and source, tos, table, protocol, scope, type, flags. */
export const RTMSG_BYTES = 12
export const RT_TABLE_LOCAL = 255
export const RTA_DST = 1
export const RTA_OIF = 4

/** Throws DecodeError for a message that is too short for its header. */
export function expectHeader(what: string, { start, end }: Message, bytes: number): void {
  if (end - start < bytes) throw new DecodeError(`Cannot decode ${what}: ${end - start} bytes`)
}

/** An address of either family. Throws DecodeError. */
export function decodeIp(buffer: Buffer, start: number, length: number): Address {
  if (length !== 4 && length !== 16) throw new DecodeError(`Cannot decode an address: ${length} bytes`)
  return addressFromBytes(buffer, start, length)
}
