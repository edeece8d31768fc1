import { expect } from 'chai'
import { decodeAddressMessage } from '../../src/kernel/link/address-codec.ts'
import { decodeSetPart, decodeSetType } from '../../src/kernel/filter/iptables/ipset-codec.ts'
import { realServerDecoder } from '../../src/kernel/ipvs/real-server-codec.ts'
import { decodeTimeouts } from '../../src/kernel/ipvs/timeouts-codec.ts'
import { virtualServerDecoder } from '../../src/kernel/ipvs/virtual-server-codec.ts'
import {
  decodeLink,
  decodeNeighbour,
  decodeNextHopObject,
  decodeRoute,
} from '../../src/kernel/link/route-codec.ts'
import { decodeReply } from '../../src/netlink/connection.ts'
import { DecodeError } from '../../src/netlink/error.ts'
import type { Message } from '../../src/netlink/message.ts'
import { bodyOf, withBody } from '../support/message.ts'
import { withRandom } from '../support/random.ts'
import { RECORDED, recordedMessages, recordedReplies } from '../support/recorded.ts'

const MUTATIONS = 10_000
const decodeRealServer = realServerDecoder()

type Decode = (message: Message) => unknown

const SETS = [
  'set',
  'set of IPv6',
  'set of frontends',
  'set of loop-backs',
  'set of networks',
  'set of ports',
  'set with a timeout',
]

/** Each decoder with the recorded exchanges that it has to read. */
const DECODERS: Readonly<Record<string, { readonly decode: Decode; readonly exchanges: readonly string[] }>> =
  {
    virtualServerDecoder: { decode: virtualServerDecoder(), exchanges: ['services'] },
    realServerDecoder: {
      decode: (message) => decodeRealServer(message, 'IPv4'),
      exchanges: ['destinations', 'destinations of IPv6'],
    },
    decodeTimeouts: { decode: decodeTimeouts, exchanges: ['timeouts'] },
    decodeAddressMessage: {
      decode: (message) => decodeAddressMessage(message, RECORDED.interfaceIndex),
      exchanges: ['addresses'],
    },
    decodeLink: { decode: decodeLink, exchanges: ['links'] },
    decodeRoute: { decode: decodeRoute, exchanges: ['routes', 'routes with next hop objects'] },
    decodeNextHopObject: { decode: decodeNextHopObject, exchanges: ['next hops'] },
    decodeNeighbour: { decode: decodeNeighbour, exchanges: ['neighbours'] },
    decodeSetPart: { decode: decodeSetPart, exchanges: SETS },
    decodeSetType: { decode: decodeSetType, exchanges: ['full set type'] },
  }

/** Returns whether the decoder refused with its own error; any other error fails the test. */
function refuses(decode: () => unknown): boolean {
  try {
    decode()
    return false
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    return true
  }
}

function mutate(bytes: Buffer, random: { int: (limit: number) => number }): Buffer {
  const mutated = Buffer.from(bytes)
  for (let i = 0; i <= random.int(4); i++) mutated[random.int(mutated.length)] = random.int(256)
  return mutated
}

for (const [name, { decode, exchanges }] of Object.entries(DECODERS)) {
  describe(name, () => {
    const messages = exchanges.flatMap(recordedMessages)

    it('reads every recorded message', () => {
      expect(messages.length).to.be.greaterThan(0)
      for (const message of messages) expect(refuses(() => decode(message))).to.equal(false)
    })

    it('reads or refuses every truncation, with its own error', () => {
      let refused = 0
      for (const message of messages) {
        const body = bodyOf(message)
        for (let length = 0; length < body.length; length++) {
          if (refuses(() => decode(withBody(message, body.subarray(0, length))))) refused++
        }
      }
      expect(refused).to.be.greaterThan(0)
    })

    it(`reads or refuses ${MUTATIONS} mutations, with its own error`, () =>
      withRandom((random) => {
        let refused = 0
        for (let i = 0; i < MUTATIONS; i++) {
          const message = random.pick(messages)
          if (refuses(() => decode(withBody(message, mutate(bodyOf(message), random))))) refused++
        }
        expect(refused).to.be.within(1, MUTATIONS - 1)
      }))
  })
}

describe('decodeReply', () => {
  const recorded = Object.keys(RECORDED.exchanges).map(recordedReplies)

  it('reads or refuses every truncation, with its own error', () => {
    let refused = 0
    for (const replies of recorded) {
      for (let length = 0; length < replies.length; length++) {
        if (refuses(() => decodeReply(replies.subarray(0, length), 0, 'Cannot read'))) refused++
      }
    }
    expect(refused).to.be.greaterThan(0)
  })

  it(`reads or refuses ${MUTATIONS} mutations, with its own error`, () =>
    withRandom((random) => {
      let refused = 0
      for (let i = 0; i < MUTATIONS; i++) {
        if (refuses(() => decodeReply(mutate(random.pick(recorded), random), 0, 'Cannot read'))) refused++
      }
      expect(refused).to.be.within(1, MUTATIONS - 1)
    }))
})
