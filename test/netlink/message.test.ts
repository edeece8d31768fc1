import { expect } from 'chai'
import { AttributeIndex, visitAttributes } from '../../src/netlink/attribute.ts'
import { DecodeError } from '../../src/netlink/error.ts'
import { MessageWriter, readMessages } from '../../src/netlink/message.ts'
import { bodyOf } from '../support/message.ts'

describe('MessageWriter', () => {
  it('writes header, fixed fields and padded attributes, and counts their length', () => {
    const batch = new MessageWriter(7)

    batch.begin(0x1c, 0x300)
    batch.appendBytes(8, 1)
    const nested = batch.beginNested(1)
    batch.putU16(1, 2)
    batch.putU16be(4, 443)
    batch.putString(6, 'rr')
    batch.endNested(nested)
    batch.putU8(9, 0xff)
    batch.end()

    // prettier-ignore
    expect([...batch.bytes()]).to.deep.equal([
      0x38, 0x00, 0x00, 0x00, // length 56
      0x1c, 0x00, 0x01, 0x03, // type, flags NLM_F_DUMP | NLM_F_REQUEST
      0x07, 0x00, 0x00, 0x00, // sequence
      0x00, 0x00, 0x00, 0x00, // port id
      0x08, 0x01, 0x00, 0x00, // genlmsghdr
      0x1c, 0x00, 0x01, 0x00, // nested, 28 bytes
      0x06, 0x00, 0x01, 0x00,
      0x02, 0x00, 0x00, 0x00, // 2, padded
      0x06, 0x00, 0x04, 0x00,
      0x01, 0xbb, 0x00, 0x00, // 443 in network byte order, padded
      0x07, 0x00, 0x06, 0x00,
      0x72, 0x72, 0x00, 0x00, // "rr", NUL, padded
      0x05, 0x00, 0x09, 0x00,
      0xff, 0x00, 0x00, 0x00,
    ])
  })

  it('gives each message the next sequence number, also past 2^32', () => {
    const batch = new MessageWriter(0xffffffff)

    const sequences = [1, 2, 3].map(() => {
      const sequence = batch.begin(1)
      batch.end()
      return sequence
    })

    expect(sequences).to.deep.equal([0xffffffff, 0, 1])
    expect(batch.count).to.equal(3)
  })

  it('grows past its first buffer and keeps what it holds', () => {
    const batch = new MessageWriter(1, Buffer.alloc(32))

    for (let i = 0; i < 100; i++) {
      batch.begin(i)
      batch.putBytes(1, Buffer.alloc(50, i))
      batch.end()
    }

    const bodies = [...readMessages(batch.bytes())].map((message) => [message.type, bodyOf(message)[4]])
    expect(bodies).to.deep.equal(Array.from({ length: 100 }, (_, i) => [i, i]))
  })
})

describe('readMessages', () => {
  const two = (): Buffer => {
    const batch = new MessageWriter(1)
    for (const type of [16, 17]) {
      batch.begin(type)
      batch.putU32(1, type)
      batch.end()
    }
    return Buffer.from(batch.bytes())
  }

  it('rejects a message that is longer than what is there', () => {
    const bytes = two()
    bytes.writeUInt32LE(400, 24)

    expect(() => [...readMessages(bytes)]).to.throw(DecodeError, 'length 400')
  })

  it('rejects a message shorter than its header', () => {
    const bytes = two()
    bytes.writeUInt32LE(8, 0)

    expect(() => [...readMessages(bytes)]).to.throw(DecodeError, 'length 8')
  })

  it('reads whole messages of every truncation, and rejects the rest', () => {
    const bytes = two()
    for (let length = 1; length < bytes.length; length++) {
      const read = (): unknown[] => [...readMessages(bytes.subarray(0, length))]
      if (length === 24) expect(read()).to.have.length(1)
      else expect(read, `${length} bytes`).to.throw(DecodeError)
    }
  })
})

describe('visitAttributes', () => {
  const visited = (bytes: Buffer): unknown[] => {
    const found: unknown[] = []
    visitAttributes(bytes, 0, bytes.length, (type, start, length) => found.push([type, start, length]))
    return found
  }

  it('skips padding and strips the nested and byte order bits', () => {
    // prettier-ignore
    const bytes = Buffer.from([
      0x05, 0x00, 0x01, 0x80,
      0xaa, 0x00, 0x00, 0x00,
      0x04, 0x00, 0x02, 0x40,
    ])

    expect(visited(bytes)).to.deep.equal([
      [1, 4, 1],
      [2, 12, 0],
    ])
  })

  it('takes a last attribute without its padding', () => {
    expect(visited(Buffer.from([0x05, 0x00, 0x01, 0x00, 0xaa]))).to.deep.equal([[1, 4, 1]])
  })

  const rejected: readonly [string, number[]][] = [
    ['a header that is cut off', [0x08, 0x00, 0x01]],
    ['a length below the header', [0x03, 0x00, 0x01, 0x00]],
    ['a length beyond the end', [0x09, 0x00, 0x01, 0x00, 1, 2, 3, 4]],
  ]
  for (const [name, bytes] of rejected) {
    it(`rejects ${name}`, () => {
      expect(() => visited(Buffer.from(bytes))).to.throw(DecodeError)
    })
  }
})

describe('AttributeIndex', () => {
  const index = new AttributeIndex(Array.from({ length: 32 }, (_, type) => `ATTR_${type}`))
  /** The second of two messages, of which nothing is where it would be in one alone. */
  const fill = (write: (batch: MessageWriter) => void): Buffer => {
    const batch = new MessageWriter(1)
    for (let i = 0; i < 2; i++) {
      batch.begin(16)
      write(batch)
      batch.end()
    }
    const [, message] = readMessages(Buffer.from(batch.bytes()))
    index.fill(message!.buffer, message!.start, message!.end)
    return message!.buffer
  }

  it('reads each kind of number, and text, in any order', () => {
    const bytes = fill((batch) => {
      batch.putString(6, 'rr')
      batch.putU32be(5, 0xffffff00)
      batch.putU32(4, 0xfffffffe)
      batch.putU16be(3, 443)
      batch.putU16(2, 10)
      batch.putU8(1, 255)
    })

    expect([index.u8(bytes, 1), index.u16(bytes, 2), index.u16be(bytes, 3)]).to.deep.equal([255, 10, 443])
    expect([index.u32(bytes, 4), index.u32be(bytes, 5)]).to.deep.equal([0xfffffffe, 0xffffff00])
    expect(index.string(bytes, 6)).to.equal('rr')
  })

  it('knows nothing of the message before', () => {
    fill((batch) => {
      batch.putU32(1, 7)
    })
    const bytes = fill((batch) => {
      batch.putU32(2, 8)
    })

    expect([index.has(1), index.has(2)]).to.deep.equal([false, true])
    expect(() => index.u32(bytes, 1)).to.throw(DecodeError, 'ATTR_1 is missing')
  })

  it('passes over types beyond those that are read', () => {
    const bytes = fill((batch) => {
      batch.putU32(32, 1)
      batch.putU32(0x3fff, 1)
      batch.putU32(31, 2)
    })

    expect(index.u32(bytes, 31)).to.equal(2)
  })

  it('names an attribute that has another length', () => {
    const bytes = fill((batch) => {
      batch.putU16(3, 1)
    })

    expect(() => index.u32(bytes, 3)).to.throw(DecodeError, 'ATTR_3: expected 4 bytes, got 2')
  })

  it('rejects a length beyond the end', () => {
    expect(() => {
      index.fill(Buffer.from([0x09, 0x00, 0x01, 0x00, 1, 2, 3, 4]), 0, 8)
    }).to.throw(DecodeError, 'length 9')
  })
})
