/** Virtual IPs as routes of table `local` on lo, to and from rtnetlink (linux/rtnetlink.h). */
import { type Address, familyOf } from '../../model/address.ts'
import { ROUTE_PROTOCOL } from '../../model/binding.ts'
import { fullPrefix } from '../../model/virtual-server.ts'
import { readU32, visitAttributes } from '../../netlink/attribute.ts'
import {
  type Message,
  type MessageWriter,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_DUMP,
} from '../../netlink/message.ts'
import { AF_UNSPEC, familyNumber } from '../address-family.ts'
import { putIp } from '../ip-attribute.ts'
import {
  decodeIp,
  expectHeader,
  RT_TABLE_LOCAL,
  RTA_DST,
  RTA_OIF,
  RTM_GETROUTE,
  RTMSG_BYTES,
} from './rtnetlink.ts'

const RTM_NEWROUTE = 24
const RTM_DELROUTE = 25
const RT_SCOPE_HOST = 254
const RTN_LOCAL = 2
/** lo has it in every network namespace (LOOPBACK_IFINDEX, net/net_namespace.h). */
const LOOPBACK_INDEX = 1

function appendRtmsg(batch: MessageWriter, family: number, prefix: number): void {
  batch.appendBytes(family, prefix, 0, 0)
  batch.appendBytes(RT_TABLE_LOCAL, ROUTE_PROTOCOL, RT_SCOPE_HOST, RTN_LOCAL)
  batch.appendU32(0)
}

/**
 * One message: adds (EEXIST when it is there) or deletes (ESRCH when it is not) the route of an address. It is added beside
 * the one that an address of an interface brings with it, and only one with our number is deleted.
 */
export function encodeLocalRoute(batch: MessageWriter, verb: 'NEW' | 'DEL', address: Address): void {
  if (verb === 'NEW') batch.begin(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND)
  else batch.begin(RTM_DELROUTE)
  appendRtmsg(batch, familyNumber(familyOf(address)), fullPrefix(address))
  putIp(batch, RTA_DST, address)
  batch.putU32(RTA_OIF, LOOPBACK_INDEX)
  batch.end()
}

/** Asks for our routes of both families. Kernels before 4.20 send all routes of all tables. */
export function encodeLocalRouteDump(batch: MessageWriter): void {
  batch.begin(RTM_GETROUTE, NLM_F_DUMP)
  batch.appendBytes(AF_UNSPEC, 0, 0, 0)
  batch.appendBytes(RT_TABLE_LOCAL, ROUTE_PROTOCOL, 0, RTN_LOCAL)
  batch.appendU32(0)
  batch.end()
}

function isOurs({ buffer, start }: Message): boolean {
  const prefix = buffer.readUInt8(start + 1)
  return (
    buffer.readUInt8(start + 4) === RT_TABLE_LOCAL &&
    buffer.readUInt8(start + 5) === ROUTE_PROTOCOL &&
    buffer.readUInt8(start + 7) === RTN_LOCAL &&
    (prefix === 32 || prefix === 128)
  )
}

/** The address of a route that is ours; undefined for any other route. Throws DecodeError. */
export function decodeLocalRoute(message: Message): Address | undefined {
  const { buffer, start, end } = message
  expectHeader('a route', message, RTMSG_BYTES)
  if (!isOurs(message)) return undefined
  let address: Address | undefined
  let link = 0
  visitAttributes(buffer, start + RTMSG_BYTES, end, (type, at, length) => {
    if (type === RTA_DST) address = decodeIp(buffer, at, length)
    else if (type === RTA_OIF) link = readU32(buffer, at, length, 'RTA_OIF')
  })
  return link === LOOPBACK_INDEX ? address : undefined
}
