/** IP addresses as attributes of messages: 4 or 16 bytes in network byte order. */
import { type Address, addressBytes, familyOf, ipv4Number } from '../model/address.ts'
import type { MessageWriter } from '../netlink/message.ts'

/** Writes an address of either family. */
export function putIp(batch: MessageWriter, type: number, address: Address): void {
  if (familyOf(address) === 'IPv4') batch.putU32be(type, ipv4Number(address))
  else batch.putBytes(type, addressBytes(address))
}
