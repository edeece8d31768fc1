/** Netlink messages in and out of a buffer (linux/netlink.h, RFC 3549). Byte order is the machine's: little endian. */
import { DecodeError } from './error.ts'

export const NLM_F_REQUEST = 0x1
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
export const NLM_F_APPEND = 0x800
/** In an acknowledgement: the request is not echoed, only its header. */
export const NLM_F_CAPPED = 0x100
/** In an acknowledgement: attributes follow. */
export const NLM_F_ACK_TLVS = 0x200

export const NLMSG_ERROR = 2
export const NLMSG_DONE = 3

export const HEADER_BYTES = 16

/** One message as it came from the kernel. */
export interface Message {
  readonly type: number
  readonly flags: number
  /** Its sequence number, counted from that of the batch: an answer has that of the request that it answers. */
  readonly place: number
  /** What it came in, with others. */
  readonly buffer: Buffer
  /** Where in it what follows the header begins and ends. */
  readonly start: number
  readonly end: number
}

export function align(length: number): number {
  return (length + 3) & ~3
}

/** Splits packed messages; the batch that they answer begins with `firstSequence`. Throws DecodeError where a length does not fit. */
export function* readMessages(buffer: Buffer, firstSequence = 0): Generator<Message> {
  let offset = 0
  while (offset < buffer.length) {
    if (buffer.length - offset < HEADER_BYTES) {
      throw new DecodeError(
        `Cannot decode a netlink header at ${offset}: ${buffer.length - offset} bytes left`,
      )
    }
    const length = buffer.readUInt32LE(offset)
    if (length < HEADER_BYTES || offset + length > buffer.length) {
      throw new DecodeError(
        `Cannot decode a netlink message at ${offset}: length ${length}, ${buffer.length - offset} left`,
      )
    }
    yield {
      type: buffer.readUInt16LE(offset + 4),
      flags: buffer.readUInt16LE(offset + 6),
      place: (buffer.readUInt32LE(offset + 8) - firstSequence) >>> 0,
      buffer,
      start: offset + HEADER_BYTES,
      end: offset + length,
    }
    offset += align(length)
  }
}

const INITIAL_BYTES = 16 * 1024

function viewOf({ buffer, byteOffset, length }: Buffer): DataView {
  return new DataView(buffer, byteOffset, length)
}

/**
 * Writes messages one behind the other into one growing buffer, without an object for each attribute.
 * Each message takes the next sequence number, so the answers name their request.
 */
export class MessageWriter {
  readonly firstSequence: number
  #nextSequence: number
  #buffer: Buffer
  #view: DataView
  #length = 0
  #messageStart = 0

  /** Writes into `buffer`, which nobody else may use meanwhile, until it is too small. */
  constructor(firstSequence = 1, buffer: Buffer = Buffer.allocUnsafeSlow(INITIAL_BYTES)) {
    this.firstSequence = firstSequence
    this.#nextSequence = firstSequence
    this.#buffer = buffer
    this.#view = viewOf(buffer)
  }

  /** What the messages are in: larger than they are, and of use for another writer when they have been sent. */
  get buffer(): Buffer {
    return this.#buffer
  }

  /** How many messages have been begun. */
  get count(): number {
    return (this.#nextSequence - this.firstSequence) >>> 0
  }

  /** The messages so far; valid until the next write. */
  bytes(): Buffer {
    return this.#buffer.subarray(0, this.#length)
  }

  /** Starts a message and returns its sequence number. `NLM_F_REQUEST` is added to the flags. */
  begin(type: number, flags = 0): number {
    const start = this.#grow(HEADER_BYTES)
    const sequence = this.#nextSequence
    this.#nextSequence = (sequence + 1) >>> 0
    this.#messageStart = start
    this.#view.setUint32(start, HEADER_BYTES, true)
    this.#view.setUint16(start + 4, type, true)
    this.#view.setUint16(start + 6, flags | NLM_F_REQUEST, true)
    this.#view.setUint32(start + 8, sequence, true)
    this.#view.setUint32(start + 12, 0, true)
    return sequence
  }

  /** Ends the message begun last. */
  end(): void {
    this.#view.setUint32(this.#messageStart, this.#length - this.#messageStart, true)
  }

  /** Appends four bytes of the fixed structure fields that precede the attributes. */
  appendBytes(first: number, second = 0, third = 0, fourth = 0): void {
    const start = this.#grow(4)
    this.#view.setUint8(start, first)
    this.#view.setUint8(start + 1, second)
    this.#view.setUint8(start + 2, third)
    this.#view.setUint8(start + 3, fourth)
  }

  appendU32(value: number): void {
    const start = this.#grow(4)
    this.#view.setUint32(start, value, true)
  }

  putU8(type: number, value: number): void {
    const start = this.#attribute(type, 1)
    this.#view.setUint8(start, value)
  }

  putU16(type: number, value: number): void {
    const start = this.#attribute(type, 2)
    this.#view.setUint16(start, value, true)
  }

  /** Network byte order. */
  putU16be(type: number, value: number): void {
    const start = this.#attribute(type, 2)
    this.#view.setUint16(start, value)
  }

  putU32(type: number, value: number): void {
    const start = this.#attribute(type, 4)
    this.#view.setUint32(start, value, true)
  }

  /** Network byte order. */
  putU32be(type: number, value: number): void {
    const start = this.#attribute(type, 4)
    this.#view.setUint32(start, value)
  }

  /** A structure of two numbers. */
  putU32Pair(type: number, first: number, second: number): void {
    const start = this.#attribute(type, 8)
    this.#view.setUint32(start, first, true)
    this.#view.setUint32(start + 4, second, true)
  }

  putBytes(type: number, value: ArrayLike<number>): void {
    const start = this.#attribute(type, value.length)
    this.#buffer.set(value, start)
  }

  /** NUL-terminated. */
  putString(type: number, value: string): void {
    const length = Buffer.byteLength(value)
    const start = this.#attribute(type, length + 1)
    this.#buffer.write(value, start)
    this.#view.setUint8(start + length, 0)
  }

  /** Opens a nested attribute; hand the result to `endNested`. */
  beginNested(type: number): number {
    return this.#attribute(type, 0) - 4
  }

  endNested(start: number): void {
    this.#view.setUint16(start, this.#length - start, true)
  }

  // The buffer may be another one after #attribute and #grow: they are called before it is named.

  /** Writes an attribute's header, reserves its padded payload and returns where that begins. */
  #attribute(type: number, length: number): number {
    const start = this.#grow(4 + align(length))
    this.#view.setUint16(start, 4 + length, true)
    this.#view.setUint16(start + 2, type, true)
    for (let end = start + 4 + length; end < this.#length; end++) this.#view.setUint8(end, 0)
    return start + 4
  }

  #grow(bytes: number): number {
    const start = this.#length
    this.#length += bytes
    if (this.#length > this.#buffer.length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.#length, this.#buffer.length * 2))
      larger.set(this.#buffer.subarray(0, start))
      this.#buffer = larger
      this.#view = viewOf(larger)
    }
    return start
  }
}
