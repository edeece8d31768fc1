/** Sets of type hash:ip to and from nfnetlink (linux/netfilter/ipset/ip_set.h). */
import { type Address, addressBytes, addressFromBytes, type Family, familyOf } from '../model/address.ts'
import {
  NLA_F_NESTED,
  NLA_F_NET_BYTEORDER,
  readString,
  readU8,
  visitAttributes,
} from '../netlink/attribute.ts'
import { DecodeError } from '../netlink/error.ts'
import { type Message, type MessageWriter, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../netlink/message.ts'
import { AF_INET, AF_INET6 } from './ipvs-constants.ts'

const NFNL_SUBSYS_IPSET = 6
/** The protocol of Linux 2.6.39 and later; 7 adds nothing we use. */
const PROTOCOL = 6
/** struct nfgenmsg: family, version, resource id. */
const NFGENMSG_BYTES = 4

const IPSET_CMD_CREATE = 2
const IPSET_CMD_LIST = 7
const IPSET_CMD_ADD = 9
const IPSET_CMD_DEL = 10
const IPSET_CMD_TYPE = 13

const IPSET_ATTR_PROTOCOL = 1
const IPSET_ATTR_SETNAME = 2
const IPSET_ATTR_TYPENAME = 3
const IPSET_ATTR_REVISION = 4
const IPSET_ATTR_FAMILY = 5
const IPSET_ATTR_DATA = 7
const IPSET_ATTR_ADT = 8
const IPSET_ATTR_IP = 1
const IPSET_ATTR_HASHSIZE = 18
const IPSET_ATTR_MAXELEM = 19
const IPSET_ATTR_IPADDR_IPV4 = 1
const IPSET_ATTR_IPADDR_IPV6 = 2

/** kube-proxy's sizes: the table grows by itself, up to maxelem members. */
const HASH_SIZE = 1024
const MAX_ELEMENTS = 65_536

function familyNumber(family: Family): number {
  return family === 'IPv6' ? AF_INET6 : AF_INET
}

function begin(batch: MessageWriter, command: number, family: number, flags: number): void {
  batch.begin((NFNL_SUBSYS_IPSET << 8) | command, flags)
  batch.append(Uint8Array.of(family, 0, 0, 0))
  batch.putU8(IPSET_ATTR_PROTOCOL, PROTOCOL)
}

/** Asks for the revisions of a set type that the kernel has; loads its module. */
export function encodeSetTypeGet(batch: MessageWriter, type: string, family: Family): void {
  begin(batch, IPSET_CMD_TYPE, familyNumber(family), 0)
  batch.putString(IPSET_ATTR_TYPENAME, type)
  batch.putU8(IPSET_ATTR_FAMILY, familyNumber(family))
  batch.end()
}

/** The newest revision. */
export function decodeSetType({ body }: Message): number {
  let revision: number | undefined
  visitAttributes(body, NFGENMSG_BYTES, body.length, (type, start, length) => {
    if (type === IPSET_ATTR_REVISION) revision = readU8(body, start, length, 'IPSET_ATTR_REVISION')
  })
  if (revision === undefined)
    throw new DecodeError('Cannot decode a set type: IPSET_ATTR_REVISION is missing')
  return revision
}

/** Creates a set of type hash:ip; EEXIST when there is one of this name. */
export function encodeSetCreate(batch: MessageWriter, name: string, family: Family, revision: number): void {
  begin(batch, IPSET_CMD_CREATE, familyNumber(family), NLM_F_CREATE | NLM_F_EXCL)
  batch.putString(IPSET_ATTR_SETNAME, name)
  batch.putString(IPSET_ATTR_TYPENAME, 'hash:ip')
  batch.putU8(IPSET_ATTR_REVISION, revision)
  batch.putU8(IPSET_ATTR_FAMILY, familyNumber(family))
  const data = batch.beginNested(IPSET_ATTR_DATA | NLA_F_NESTED)
  batch.putU32be(IPSET_ATTR_HASHSIZE | NLA_F_NET_BYTEORDER, HASH_SIZE)
  batch.putU32be(IPSET_ATTR_MAXELEM | NLA_F_NET_BYTEORDER, MAX_ELEMENTS)
  batch.endNested(data)
  batch.end()
}

/** One message: adds or deletes one member. Neither minds what is so already (no NLM_F_EXCL). */
export function encodeMember(
  batch: MessageWriter,
  verb: 'ADD' | 'DEL',
  name: string,
  address: Address,
): void {
  const family = familyOf(address)
  begin(batch, verb === 'ADD' ? IPSET_CMD_ADD : IPSET_CMD_DEL, familyNumber(family), 0)
  batch.putString(IPSET_ATTR_SETNAME, name)
  const data = batch.beginNested(IPSET_ATTR_DATA | NLA_F_NESTED)
  const ip = batch.beginNested(IPSET_ATTR_IP | NLA_F_NESTED)
  const type = family === 'IPv6' ? IPSET_ATTR_IPADDR_IPV6 : IPSET_ATTR_IPADDR_IPV4
  batch.putBytes(type | NLA_F_NET_BYTEORDER, Uint8Array.from(addressBytes(address)))
  batch.endNested(ip)
  batch.endNested(data)
  batch.end()
}

/** Asks for a set and its members; ENOENT when there is none of this name. */
export function encodeSetList(batch: MessageWriter, name: string): void {
  begin(batch, IPSET_CMD_LIST, AF_INET, NLM_F_DUMP)
  batch.putString(IPSET_ATTR_SETNAME, name)
  batch.end()
}

/** A part of a listed set: its type, where this part says so, and members. */
export interface SetPart {
  readonly type: string | undefined
  readonly members: readonly Address[]
}

function decodeMember(body: Buffer, start: number, length: number): Address | undefined {
  let address: Address | undefined
  visitAttributes(body, start, start + length, (type, ipStart, ipLength) => {
    if (type !== IPSET_ATTR_IP) return
    visitAttributes(body, ipStart, ipStart + ipLength, (kind, at, size) => {
      const expected = kind === IPSET_ATTR_IPADDR_IPV6 ? 16 : 4
      if (size !== expected)
        throw new DecodeError(`Cannot decode a set member: expected ${expected} bytes, got ${size}`)
      address = addressFromBytes(body.subarray(at, at + size))
    })
  })
  return address
}

/** Members that are not addresses (the set is of another type) are left out. Throws DecodeError. */
export function decodeSetPart({ body }: Message): SetPart {
  let type: string | undefined
  const members: Address[] = []
  visitAttributes(body, NFGENMSG_BYTES, body.length, (attribute, start, length) => {
    if (attribute === IPSET_ATTR_TYPENAME) type = readString(body, start, length)
    if (attribute !== IPSET_ATTR_ADT) return
    visitAttributes(body, start, start + length, (_data, dataStart, dataLength) => {
      const member = decodeMember(body, dataStart, dataLength)
      if (member !== undefined) members.push(member)
    })
  })
  return { type, members }
}
