/** A tracked flow of any protocol with ports, for people: both directions of it (linux/netfilter/nfnetlink_conntrack.h). */
import { type Address, addressFromBytes, type SocketAddress } from '../../model/address.ts'
import { readU16be, readU32be, readU8, visitAttributes } from '../../netlink/attribute.ts'
import { DecodeError } from '../../netlink/error.ts'
import type { Message } from '../../netlink/message.ts'
import { NFGENMSG_BYTES } from '../netfilter.ts'
import {
  CTA_IP_V4_DST,
  CTA_IP_V4_SRC,
  CTA_IP_V6_DST,
  CTA_IP_V6_SRC,
  CTA_PROTO_DST_PORT,
  CTA_PROTO_NUM,
  CTA_PROTO_SRC_PORT,
  CTA_TUPLE_IP,
  CTA_TUPLE_ORIG,
  CTA_TUPLE_PROTO,
  CTA_TUPLE_REPLY,
} from './conntrack-codec.ts'

const CTA_STATUS = 3
const CTA_TIMEOUT = 7
/** In CTA_STATUS: there was a packet of both directions (IPS_SEEN_REPLY, nf_conntrack_common.h). */
const SEEN_REPLY = 1 << 1

const SOURCES: readonly number[] = [CTA_IP_V4_SRC, CTA_IP_V6_SRC]
const DESTINATIONS: readonly number[] = [CTA_IP_V4_DST, CTA_IP_V6_DST]

/** Packets of one direction. */
export interface Direction {
  readonly source: SocketAddress
  readonly destination: SocketAddress
}

export interface TrackedFlow {
  /** IANA's number. */
  readonly protocol: number
  /** As the client sends. */
  readonly original: Direction
  /** As the answers come: from the real server, to whom it sees. */
  readonly reply: Direction
  /** Somebody has answered. */
  readonly isAnswered: boolean
  /** In seconds; undefined where it does not end by time. */
  readonly timeout: number | undefined
}

interface Fields {
  source?: Address
  destination?: Address
  sourcePort?: number
  destinationPort?: number
  protocol?: number
}

function readAddresses(body: Buffer, start: number, length: number, fields: Fields): void {
  visitAttributes(body, start, start + length, (type, at, size) => {
    if (size !== 4 && size !== 16) throw new DecodeError(`Cannot decode a flow: an address of ${size} bytes`)
    if (SOURCES.includes(type)) fields.source = addressFromBytes(body, at, size)
    else if (DESTINATIONS.includes(type)) fields.destination = addressFromBytes(body, at, size)
  })
}

function readPorts(body: Buffer, start: number, length: number, fields: Fields): void {
  visitAttributes(body, start, start + length, (type, at, size) => {
    if (type === CTA_PROTO_NUM) fields.protocol = readU8(body, at, size, 'CTA_PROTO_NUM')
    else if (type === CTA_PROTO_SRC_PORT) fields.sourcePort = readU16be(body, at, size, 'CTA_PROTO_SRC_PORT')
    else if (type === CTA_PROTO_DST_PORT)
      fields.destinationPort = readU16be(body, at, size, 'CTA_PROTO_DST_PORT')
  })
}

function readTuple(body: Buffer, start: number, length: number): Fields {
  const fields: Fields = {}
  visitAttributes(body, start, start + length, (type, at, size) => {
    if (type === CTA_TUPLE_IP) readAddresses(body, at, size, fields)
    else if (type === CTA_TUPLE_PROTO) readPorts(body, at, size, fields)
  })
  return fields
}

/** Undefined: its protocol has no ports. */
function directionOf({ source, destination, sourcePort, destinationPort }: Fields): Direction | undefined {
  if (source === undefined || destination === undefined)
    throw new DecodeError('Cannot decode a flow: a tuple has no addresses')
  if (sourcePort === undefined || destinationPort === undefined) return undefined
  return {
    source: { address: source, port: sourcePort },
    destination: { address: destination, port: destinationPort },
  }
}

/** A flow; undefined for one of a protocol without ports. Throws DecodeError. */
export function decodeTrackedFlow({ buffer, start, end }: Message): TrackedFlow | undefined {
  let original: Fields | undefined
  let reply: Fields | undefined
  let timeout: number | undefined
  let status = 0
  visitAttributes(buffer, start + NFGENMSG_BYTES, end, (type, at, length) => {
    if (type === CTA_TUPLE_ORIG) original = readTuple(buffer, at, length)
    else if (type === CTA_TUPLE_REPLY) reply = readTuple(buffer, at, length)
    else if (type === CTA_STATUS) status = readU32be(buffer, at, length, 'CTA_STATUS')
    else if (type === CTA_TIMEOUT) timeout = readU32be(buffer, at, length, 'CTA_TIMEOUT')
  })
  if (original?.protocol === undefined || reply === undefined)
    throw new DecodeError('Cannot decode a flow: a tuple, or its protocol, is missing')
  const [sent, answered] = [directionOf(original), directionOf(reply)]
  if (sent === undefined || answered === undefined) return undefined
  return {
    protocol: original.protocol,
    original: sent,
    reply: answered,
    isAnswered: (status & SEEN_REPLY) !== 0,
    timeout,
  }
}
