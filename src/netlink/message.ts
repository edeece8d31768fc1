/** Netlink messages in and out of a buffer (linux/netlink.h, RFC 3549). Byte order is the machine's: little endian. */
import { DecodeError } from './error.ts'

export const NLM_F_REQUEST = 0x1
export const NLM_F_MULTI = 0x2
export const NLM_F_ACK = 0x4
export const NLM_F_DUMP_INTR = 0x10
export const NLM_F_DUMP = 0x300
export const NLM_F_EXCL = 0x200
export const NLM_F_CREATE = 0x400
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
  readonly sequence: number
  /** What follows the header. */
  readonly body: Buffer
}

export function align(length: number): number {
  return (length + 3) & ~3
}

/** Splits packed messages. Throws DecodeError where a length does not fit. */
export function* readMessages(buffer: Buffer): Generator<Message> {
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
      sequence: buffer.readUInt32LE(offset + 8),
      body: buffer.subarray(offset + HEADER_BYTES, offset + length),
    }
    offset += align(length)
  }
}

const INITIAL_BYTES = 16 * 1024

/**
 * Writes messages one behind the other into one growing buffer, without an object for each attribute.
 * Each message takes the next sequence number, so the answers name their request.
 */
export class MessageWriter {
  readonly firstSequence: number
  #nextSequence: number
  #buffer: Buffer
  #length = 0
  #messageStart = 0

  constructor(firstSequence = 1, capacity = INITIAL_BYTES) {
    this.firstSequence = firstSequence
    this.#nextSequence = firstSequence
    this.#buffer = Buffer.allocUnsafe(capacity)
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
    this.#buffer.writeUInt32LE(HEADER_BYTES, start)
    this.#buffer.writeUInt16LE(type, start + 4)
    this.#buffer.writeUInt16LE(flags | NLM_F_REQUEST, start + 6)
    this.#buffer.writeUInt32LE(sequence, start + 8)
    this.#buffer.writeUInt32LE(0, start + 12)
    return sequence
  }

  /** Ends the message begun last. */
  end(): void {
    this.#buffer.writeUInt32LE(this.#length - this.#messageStart, this.#messageStart)
  }

  /** Appends fixed structure fields that precede the attributes. Their total must be a multiple of 4 bytes. */
  append(bytes: Uint8Array): void {
    const start = this.#grow(bytes.length)
    this.#buffer.set(bytes, start)
  }

  putU8(type: number, value: number): void {
    const start = this.#attribute(type, 1)
    this.#buffer.writeUInt8(value, start)
  }

  putU16(type: number, value: number): void {
    const start = this.#attribute(type, 2)
    this.#buffer.writeUInt16LE(value, start)
  }

  /** Network byte order. */
  putU16be(type: number, value: number): void {
    const start = this.#attribute(type, 2)
    this.#buffer.writeUInt16BE(value, start)
  }

  putU32(type: number, value: number): void {
    const start = this.#attribute(type, 4)
    this.#buffer.writeUInt32LE(value >>> 0, start)
  }

  /** Network byte order. */
  putU32be(type: number, value: number): void {
    const start = this.#attribute(type, 4)
    this.#buffer.writeUInt32BE(value >>> 0, start)
  }

  putBytes(type: number, value: Uint8Array): void {
    const start = this.#attribute(type, value.length)
    this.#buffer.set(value, start)
  }

  /** NUL-terminated. */
  putString(type: number, value: string): void {
    const length = Buffer.byteLength(value)
    const start = this.#attribute(type, length + 1)
    this.#buffer.write(value, start)
    this.#buffer[start + length] = 0
  }

  /** Opens a nested attribute; hand the result to `endNested`. */
  beginNested(type: number): number {
    return this.#attribute(type, 0) - 4
  }

  endNested(start: number): void {
    this.#buffer.writeUInt16LE(this.#length - start, start)
  }

  // The buffer may be another one after #attribute and #grow: they are called before it is named.

  /** Writes an attribute's header, reserves its padded payload and returns where that begins. */
  #attribute(type: number, length: number): number {
    const start = this.#grow(4 + align(length))
    this.#buffer.writeUInt16LE(4 + length, start)
    this.#buffer.writeUInt16LE(type, start + 2)
    if (length % 4 !== 0) this.#buffer.fill(0, start + 4 + length, this.#length)
    return start + 4
  }

  #grow(bytes: number): number {
    const start = this.#length
    this.#length += bytes
    if (this.#length > this.#buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.#length, this.#buffer.length * 2))
      larger.set(this.#buffer.subarray(0, start))
      this.#buffer = larger
    }
    return start
  }
}
