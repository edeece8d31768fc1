import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { Conntrack, type FlowTarget } from '../../../src/kernel/flows/conntrack.ts'
import {
  decodeFlow,
  encodeFlowDelete,
  encodeFlowDump,
  endpointKey,
  type Flow,
  flowMatcher,
} from '../../../src/kernel/flows/conntrack-codec.ts'
import { type Address, type Family, parseAddress } from '../../../src/model/address.ts'
import { decodeReply } from '../../../src/netlink/connection.ts'
import { DecodeError, NetlinkError } from '../../../src/netlink/error.ts'
import {
  type Message,
  MessageWriter,
  NLMSG_DONE,
  NLMSG_ERROR,
  readMessages,
} from '../../../src/netlink/message.ts'
import type { Socket } from '../../../src/netlink/socket.ts'
import { bodyOf, withBody } from '../../support/message.ts'
import { type Random, withRandom } from '../../support/random.ts'
import { rejectionOf } from '../../support/rejection.ts'

const MUTATIONS = 10_000

/** What a real kernel answered to dumps of 9 IPv4 and 3 IPv6 entries, UDP and others, some in zones. */
const RECORDED = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../fixtures/conntrack.json'), 'utf8'),
) as { readonly exchanges: Readonly<Record<string, { readonly request: string; readonly replies: string }>> }

function recordedReplies(name: string): Buffer {
  return Buffer.from(RECORDED.exchanges[name]!.replies, 'hex')
}

function recordedMessages(name: string): readonly Message[] {
  return decodeReply(recordedReplies(name), 0, 'Cannot read').messages
}

const address = (text: string): Address => parseAddress(text)!
const DNS: FlowTarget = { address: address('10.96.0.10'), port: 53 }
const DNS6: FlowTarget = { address: address('fd00:10:96::10'), port: 53 }
const POD = { address: address('10.244.1.2'), port: 8080 }
const POD6 = { address: address('fd00:10:244:1::2'), port: 8080 }

/** The very bytes that the kernel answered to. */
function expectRecorded(name: string, build: (batch: MessageWriter) => void): void {
  const { request } = RECORDED.exchanges[name]!
  const batch = new MessageWriter(Buffer.from(request, 'hex').readUInt32LE(8))
  build(batch)
  expect(batch.bytes().toString('hex')).to.equal(request)
}

describe('encodeFlowDump', () => {
  // The kernel's answer to each is recorded, too: below, they are what the filter asks for.
  const CASES: readonly {
    readonly name: string
    readonly family: Family
    readonly targets: readonly FlowTarget[]
  }[] = [
    { name: 'flows to one frontend', family: 'IPv4', targets: [DNS] },
    { name: 'flows to one real server', family: 'IPv4', targets: [{ ...DNS, realServer: POD }] },
    { name: 'flows to one address', family: 'IPv4', targets: [DNS, { ...DNS, port: 54 }] },
    { name: 'flows of UDP', family: 'IPv4', targets: [DNS, { address: address('10.96.0.11'), port: 54 }] },
    { name: 'flows of IPv6 to one frontend', family: 'IPv6', targets: [DNS6] },
  ]
  for (const { name, family, targets } of CASES) {
    it(`asks for ${name}`, () => {
      expectRecorded(name, (batch) => {
        encodeFlowDump(batch, family, targets)
      })
    })
  }

  it('never names an IPv6 address, which kernels compare the wrong way round', () => {
    const batch = new MessageWriter()
    encodeFlowDump(batch, 'IPv6', [{ ...DNS6, realServer: POD6 }])
    const text = Buffer.from(batch.bytes()).toString('hex')
    for (const key of [endpointKey(DNS6.address, 53), endpointKey(POD6.address, 8080)]) {
      expect(text).not.to.contain(key.split(':')[0])
    }
    expect(text, 'the port of the frontend').to.contain('06000300' + '0035')
    expect(text, 'the port of the real server').to.contain('06000200' + '1f90')
  })

  it('names no backend unless all targets have the same one', () => {
    const dump = (targets: readonly FlowTarget[]): Buffer => {
      const batch = new MessageWriter()
      encodeFlowDump(batch, 'IPv4', targets)
      return batch.bytes()
    }
    expect(dump([{ ...DNS, realServer: POD }, DNS])).to.deep.equal(dump([DNS]))
    expect(dump([DNS, { ...DNS, realServer: POD }])).to.deep.equal(dump([DNS]))
  })
})

describe('encodeFlowDelete', () => {
  it('sends what was read, with the id', () => {
    const flow = decodeFlow(recordedMessages('flows of IPv6 to one frontend')[0]!)!
    // The first has another flow's id: the kernel said ENOENT to it, and to the third.
    expectRecorded('deletions', (batch) => {
      encodeFlowDelete(batch, 'IPv6', { ...flow, id: (flow.id! + 1) >>> 0 })
      encodeFlowDelete(batch, 'IPv6', flow)
      encodeFlowDelete(batch, 'IPv6', flow)
    })
  })

  it('keeps zones, of both directions and of one', () => {
    const flows = recordedMessages('flows to one frontend').map((message) => decodeFlow(message)!)
    const readAgain = flows.map((flow) => {
      const batch = new MessageWriter()
      encodeFlowDelete(batch, 'IPv4', flow)
      const [message] = readMessages(Buffer.from(batch.bytes()))
      return bodyOf(message!).toString('hex')
    })
    const CTA_ZONE_7 = '06001200' + '00070000'
    const CTA_TUPLE_ZONE_8 = '06000300' + '00080000'
    expect(readAgain.map((hex) => hex.includes(CTA_ZONE_7))).to.have.members([true, ...no(4)])
    expect(readAgain.map((hex) => hex.includes(CTA_TUPLE_ZONE_8))).to.have.members([true, ...no(4)])
  })

  const no = (count: number): false[] => new Array<false>(count).fill(false)
})

const DNS_KEY = '0a60000a:53'
const POD1_KEY = '0af40102:8080'
const POD2_KEY = '0af40202:8080'

describe('decodeFlow', () => {
  const read = (name: string): (string | undefined)[] =>
    recordedMessages(name)
      .map(decodeFlow)
      .map((flow) => flow && `${flow.destination} ${flow.backend}`)

  it('reads the UDP flows out of all', () => {
    const to = [
      ...new Array<string>(4).fill(`${DNS_KEY} ${POD1_KEY}`),
      `${DNS_KEY} ${POD2_KEY}`,
      `0a60000a:54 0af40102:8054`,
      `0a60000b:53 ${POD1_KEY}`,
    ]
    expect(read('flows')).to.have.members([...to, undefined, undefined])
    expect(read('flows of UDP')).to.have.members(to)
    expect(read('flows to one address')).to.have.members(to.slice(0, 6))
    expect(read('flows to one frontend')).to.have.members(to.slice(0, 5))
    expect(read('flows to one real server')).to.have.members(to.slice(0, 4))
  })

  it('reads IPv6', () => {
    expect(read('flows of IPv6')).to.have.members([
      'fd000010009600000000000000000010:53 fd000010024400010000000000000002:8080',
      'fd000010009600000000000000000011:53 fd000010024400010000000000000002:8080',
      undefined,
    ])
  })

  it('reads zone and id', () => {
    const flows = recordedMessages('flows to one frontend').map((message) => decodeFlow(message)!)
    expect(flows.map(({ zone }) => zone)).to.have.members([7, ...new Array<undefined>(4).fill(undefined)])
    expect(new Set(flows.map(({ id }) => id)).size).to.equal(5)
  })

  describe('of bytes that are wrong', () => {
    it('refuses an address of another family than its attribute', () => {
      const [message] = recordedMessages('flows to one frontend')
      const hex = bodyOf(message!).toString('hex').replace('080002000a60000a', '080004000a60000a')
      expect(() => decodeFlow(withBody(message!, Buffer.from(hex, 'hex')))).to.throw(DecodeError, '16 bytes')
    })

    const messages = ['flows', 'flows of IPv6', 'flows to one frontend'].flatMap(recordedMessages)

    it('reads or refuses every truncation, with its own error', () => {
      let refused = 0
      for (const message of messages) {
        const body = bodyOf(message)
        for (let length = 0; length < body.length; length++) {
          if (refuses(withBody(message, body.subarray(0, length)))) refused++
        }
      }
      expect(refused).to.be.greaterThan(0)
    })

    it(`reads or refuses ${MUTATIONS} mutations, with its own error`, () =>
      withRandom((random) => {
        let refused = 0
        for (let i = 0; i < MUTATIONS; i++) {
          const message = random.pick(messages)
          if (refuses(withBody(message, mutate(bodyOf(message), random)))) refused++
        }
        expect(refused).to.be.within(1, MUTATIONS - 1)
      }))
  })
})

/** Whether the decoder refused with its own error; any other error fails the test. */
function refuses(message: Message): boolean {
  try {
    decodeFlow(message)
    return false
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error
    return true
  }
}

function mutate(bytes: Buffer, random: Random): Buffer {
  const mutated = Buffer.from(bytes)
  for (let i = 0; i <= random.int(4); i++) mutated[random.int(mutated.length)] = random.int(256)
  return mutated
}

describe('flowMatcher', () => {
  const flow = (destination: string, backend: string): Flow => ({
    destination,
    backend,
    tuple: Buffer.alloc(0),
    zone: undefined,
    id: undefined,
  })
  const toPod1 = flow(DNS_KEY, POD1_KEY)
  const toPod2 = flow(DNS_KEY, POD2_KEY)
  const elsewhere = flow('0a60000b:53', POD1_KEY)
  const otherPort = flow('0a60000a:54', POD1_KEY)
  const FLOWS = [toPod1, toPod2, elsewhere, otherPort]

  const CASES: readonly (readonly [string, readonly FlowTarget[], readonly Flow[]])[] = [
    ['all of a frontend', [DNS], [toPod1, toPod2]],
    ['those to a real server', [{ ...DNS, realServer: POD }], [toPod1]],
    ['both', [{ ...DNS, realServer: POD }, DNS], [toPod1, toPod2]],
    ['none of another backend port', [{ ...DNS, realServer: { ...POD, port: 8081 } }], []],
    ['none of no target', [], []],
  ]
  for (const [what, targets, expected] of CASES) {
    it(`takes ${what}`, () => {
      expect(FLOWS.filter(flowMatcher(targets))).to.deep.equal(expected)
    })
  }
})

describe('Conntrack', () => {
  /** A kernel that answers a dump of IPv4 with all its flows, as those before 5.8 do, and deletions as it is told. */
  function oldKernel(errno: { readonly dump?: number; readonly deletion?: number } = {}) {
    const kernel = {
      dumps: [] as number[],
      deletions: [] as Buffer[],
      open: () => ({}) as ReturnType<Socket['open']>,
      close: () => undefined,
      exchange: (_: unknown, requests: Buffer) => {
        const messages = [...readMessages(requests)]
        const isDump = (messages[0]!.type & 0xff) === 1
        if (isDump) kernel.dumps.push(bodyOf(messages[0]!)[0]!)
        else kernel.deletions.push(...messages.map(bodyOf))
        const code = (isDump ? errno.dump : errno.deletion) ?? 0
        const replies = isDump && code === 0 ? answered(messages[0]!) : acknowledged(messages, code)
        return Promise.resolve({ replies, errno: 0, step: '', sent: messages.length })
      },
    }
    return kernel
  }
  const acknowledged = (messages: readonly Message[], errno: number): Buffer => {
    const replies = new MessageWriter(messages[0]!.place)
    for (const _ of messages) {
      replies.begin(NLMSG_ERROR)
      // The error, then the header of the request.
      for (const word of [-errno >>> 0, 0, 0, 0, 0]) replies.appendU32(word)
      replies.end()
    }
    return Buffer.from(replies.bytes())
  }
  const answered = ({ place: sequence }: Message): Buffer => {
    const replies = recordedReplies('flows')
    for (const { type, start } of readMessages(recordedReplies('flows'))) {
      replies.writeUInt32LE(sequence, start - 8)
      if (type === NLMSG_DONE) break
    }
    return replies
  }

  it('chooses by itself where the kernel does not filter', async () => {
    const kernel = oldKernel()
    const targets = [
      { ...DNS, realServer: POD },
      { ...DNS, port: 54 },
    ]
    expect(await new Conntrack(kernel).deleteUdpFlows(targets)).to.equal(5)
    expect(kernel.deletions).to.have.length(5)
  })

  it('reads only families that have targets', async () => {
    const kernel = oldKernel()
    await new Conntrack(kernel).deleteUdpFlows([DNS])
    expect(kernel.dumps).to.deep.equal([2])
    await new Conntrack(kernel).deleteUdpFlows([DNS6, DNS6])
    expect(kernel.dumps).to.deep.equal([2, 10])
    await new Conntrack(kernel).deleteUdpFlows([])
    expect(kernel.dumps).to.deep.equal([2, 10])
  })

  it('takes a flow that has gone for deleted', async () => {
    expect(await new Conntrack(oldKernel({ deletion: 2 })).deleteUdpFlows([DNS])).to.equal(5)
  })

  it('throws when a deletion is refused', async () => {
    const error = await rejectionOf(new Conntrack(oldKernel({ deletion: 1 })).deleteUdpFlows([DNS]))
    expect(error).to.be.instanceOf(NetlinkError).with.property('code', 'EPERM')
  })

  for (const [code, errno] of [
    ['EINVAL', 22],
    ['EOPNOTSUPP', 95],
  ] as const) {
    it(`names the module when reading fails with ${code}`, async () => {
      const error = await rejectionOf(new Conntrack(oldKernel({ dump: errno })).deleteUdpFlows([DNS]))
      expect(error)
        .to.be.instanceOf(Error)
        .with.property('message')
        .that.contains('modprobe nf_conntrack_netlink')
      expect((error as Error).cause)
        .to.be.instanceOf(NetlinkError)
        .with.property('code', code)
    })
  }

  it('does not blame the module for a missing permission', async () => {
    const error = await rejectionOf(new Conntrack(oldKernel({ dump: 1 })).deleteUdpFlows([DNS]))
    expect(error).to.be.instanceOf(NetlinkError).with.property('code', 'EPERM')
  })
})
