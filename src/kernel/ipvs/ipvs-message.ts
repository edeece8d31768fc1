/**
 * What all messages of IPVS have in common. Ports, and an IPv4 netmask, are in network byte order; the rest of a message
 * is not.
 */
import { type Address, addressFromBytes, type Family, familyOf } from '../../model/address.ts'
import { PROTOCOL_NUMBERS, type VirtualServerId } from '../../model/virtual-server.ts'
import { AttributeIndex } from '../../netlink/attribute.ts'
import { DecodeError } from '../../netlink/error.ts'
import { appendGenericHeader, GENERIC_HEADER_BYTES } from '../../netlink/generic.ts'
import type { Message, MessageWriter } from '../../netlink/message.ts'
import { AF_INET, AF_INET6, familyNumber } from '../address-family.ts'
import { putIp } from '../ip-attribute.ts'
import * as ip_vs from './ipvs-constants.ts'

/** Begins a message; `genlFamilyId` is the number that generic netlink has given to IPVS. */
export function beginCommand(batch: MessageWriter, genlFamilyId: number, command: number, flags = 0): void {
  batch.begin(genlFamilyId, flags)
  appendGenericHeader(batch, command, ip_vs.IPVS_GENL_VERSION)
}

/** Appends which virtual server a message is about, within IPVS_CMD_ATTR_SERVICE. */
export function putIdentity(batch: MessageWriter, id: VirtualServerId): void {
  batch.putU16(ip_vs.IPVS_SVC_ATTR_AF, familyNumber(familyOf(id.address)))
  batch.putU16(ip_vs.IPVS_SVC_ATTR_PROTOCOL, PROTOCOL_NUMBERS[id.protocol])
  putIp(batch, ip_vs.IPVS_SVC_ATTR_ADDR, id.address)
  batch.putU16be(ip_vs.IPVS_SVC_ATTR_PORT, id.port)
}

/** An index of the attributes whose names begin so, for messages that are decoded one after the other. */
export function attributesNamed(
  prefix: 'IPVS_CMD_ATTR_' | 'IPVS_SVC_ATTR_' | 'IPVS_DEST_ATTR_',
): AttributeIndex {
  const names: string[] = []
  for (const [name, value] of Object.entries(ip_vs))
    if (name.startsWith(prefix)) names[value as number] = name
  return new AttributeIndex(names)
}

/** Finds the attributes of a message. Throws DecodeError. */
export function fillFrom(index: AttributeIndex, { buffer, start, end }: Message): void {
  index.fill(buffer, start + GENERIC_HEADER_BYTES, end)
}

/** Finds the attributes within an attribute of the message. Throws DecodeError when it is missing. */
export function fillFromNested(
  index: AttributeIndex,
  outer: AttributeIndex,
  type: number,
  message: Message,
): void {
  fillFrom(outer, message)
  const start = outer.start(type)
  index.fill(message.buffer, start, start + outer.length(type))
}

/** Throws DecodeError. */
export function decodeFamily(family: number): Family {
  if (family === AF_INET) return 'IPv4'
  if (family === AF_INET6) return 'IPv6'
  throw new DecodeError(`Cannot decode an address: family ${family}`)
}

/** The kernel sends 16 bytes for either family. Throws DecodeError. */
export function decodeAddress(buffer: Buffer, from: AttributeIndex, type: number, family: Family): Address {
  const expected = family === 'IPv4' ? 4 : 16
  const start = from.start(type)
  const length = from.length(type)
  if (length < expected)
    throw new DecodeError(`Cannot decode an address: expected ${expected} bytes, got ${length}`)
  return addressFromBytes(buffer, start, expected)
}
