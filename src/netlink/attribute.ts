/**
 * Netlink attributes out of a buffer (linux/netlink.h).
 *
 *    0               2               4
 *   +---------------+---------------+----------------- - - -+---------+
 *   | length        | type          | payload               | padding |
 *   +---------------+---------------+----------------- - - -+---------+
 *   length counts header and payload; padding fills up to 4 bytes; the two
 *   high bits of the type say "nested" and "network byte order".
 */
import { DecodeError } from './error.ts'

/** Added to the type of an attribute that holds attributes, where the family insists on it. */
export const NLA_F_NESTED = 0x8000
/** Added to the type of a number in network byte order, where the family insists on it. */
export const NLA_F_NET_BYTEORDER = 0x4000
const TYPE_MASK = 0x3fff

/** Called for each attribute with its type and where its payload begins and how long it is. */
export type AttributeVisitor = (type: number, start: number, length: number) => void

/** The length of the attribute at `offset`, header and payload. */
function attributeLength(buffer: Buffer, offset: number, end: number): number {
  if (end - offset < 4)
    throw new DecodeError(`Cannot decode an attribute at ${offset}: ${end - offset} bytes left`)
  const length = buffer.readUInt16LE(offset)
  if (length < 4 || offset + length > end)
    throw new DecodeError(`Cannot decode an attribute at ${offset}: length ${length}, ${end - offset} left`)
  return length
}

/** Walks over the attributes between `start` and `end`. Throws DecodeError where a length does not fit. */
export function visitAttributes(buffer: Buffer, start: number, end: number, visit: AttributeVisitor): void {
  let offset = start
  while (offset < end) {
    const length = attributeLength(buffer, offset, end)
    visit(buffer.readUInt16LE(offset + 2) & TYPE_MASK, offset + 4, length - 4)
    offset += (length + 3) & ~3
  }
}

/** Throws DecodeError for an attribute of another length. */
export function expectLength(name: string, length: number, expected: number): void {
  if (length !== expected) {
    throw new DecodeError(`Cannot decode attribute ${name}: expected ${expected} bytes, got ${length}`)
  }
}

export function readU8(buffer: Buffer, start: number, length: number, name: string): number {
  expectLength(name, length, 1)
  return buffer.readUInt8(start)
}

export function readU16(buffer: Buffer, start: number, length: number, name: string): number {
  expectLength(name, length, 2)
  return buffer.readUInt16LE(start)
}

/** Network byte order. */
export function readU16be(buffer: Buffer, start: number, length: number, name: string): number {
  expectLength(name, length, 2)
  return buffer.readUInt16BE(start)
}

export function readU32(buffer: Buffer, start: number, length: number, name: string): number {
  expectLength(name, length, 4)
  return buffer.readUInt32LE(start)
}

/** Network byte order. */
export function readU32be(buffer: Buffer, start: number, length: number, name: string): number {
  expectLength(name, length, 4)
  return buffer.readUInt32BE(start)
}

/** Up to the terminating NUL, or to the end. */
export function readString(buffer: Buffer, start: number, length: number): string {
  const terminator = buffer.subarray(start, start + length).indexOf(0)
  return buffer.toString('latin1', start, start + (terminator < 0 ? length : terminator))
}

/**
 * Where the attributes of one message after another are, so that they can be read by type in any order. There is one of it
 * for all messages of a kind, which come by the hundred thousand: nothing is made for a message or an attribute. It does
 * not hold the buffer, which would outlive its messages.
 */
export class AttributeIndex {
  readonly #names: readonly string[]
  readonly #starts: Int32Array
  readonly #lengths: Int32Array

  /** `names` are those of the types, for errors: types beyond them are passed over. */
  constructor(names: readonly string[]) {
    this.#names = names
    this.#starts = new Int32Array(names.length)
    this.#lengths = new Int32Array(names.length)
  }

  /** Finds the attributes between `start` and `end`, in place of those before. Throws DecodeError where a length does not fit. */
  fill(buffer: Buffer, start: number, end: number): void {
    const types = this.#starts.length
    for (let type = 0; type < types; type++) this.#starts[type] = 0
    let offset = start
    while (offset < end) {
      const length = attributeLength(buffer, offset, end)
      const type = buffer.readUInt16LE(offset + 2) & TYPE_MASK
      if (type < types) {
        this.#starts[type] = offset + 4
        this.#lengths[type] = length - 4
      }
      offset += (length + 3) & ~3
    }
  }

  has(type: number): boolean {
    return this.#starts[type] !== 0
  }

  // Each throws DecodeError for an attribute that is missing or has another length.

  u8(buffer: Buffer, type: number): number {
    return readU8(buffer, this.start(type), this.length(type), this.#names[type]!)
  }

  u16(buffer: Buffer, type: number): number {
    return readU16(buffer, this.start(type), this.length(type), this.#names[type]!)
  }

  /** Network byte order. */
  u16be(buffer: Buffer, type: number): number {
    return readU16be(buffer, this.start(type), this.length(type), this.#names[type]!)
  }

  u32(buffer: Buffer, type: number): number {
    return readU32(buffer, this.start(type), this.length(type), this.#names[type]!)
  }

  /** Network byte order. */
  u32be(buffer: Buffer, type: number): number {
    return readU32be(buffer, this.start(type), this.length(type), this.#names[type]!)
  }

  string(buffer: Buffer, type: number): string {
    return readString(buffer, this.start(type), this.length(type))
  }

  /** Where the payload begins. */
  start(type: number): number {
    const start = this.#starts[type]!
    if (start === 0) throw new DecodeError(`Cannot decode a message: ${this.#names[type]} is missing`)
    return start
  }

  /** Bytes of the payload. */
  length(type: number): number {
    return this.#lengths[type]!
  }
}
