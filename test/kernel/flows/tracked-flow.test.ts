/** Tracked flows of any protocol, out of what a real kernel has answered. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { decodeTrackedFlow, type TrackedFlow } from '../../../src/kernel/flows/tracked-flow.ts'
import { formatSocketAddress, type SocketAddress } from '../../../src/model/address.ts'
import { decodeReply } from '../../../src/netlink/connection.ts'
import { DecodeError } from '../../../src/netlink/error.ts'
import type { Message } from '../../../src/netlink/message.ts'
import { bodyOf, withBody } from '../../support/message.ts'
import { withRandom } from '../../support/random.ts'

const RECORDED = JSON.parse(
  readFileSync(join(import.meta.dirname, '../../fixtures/conntrack.json'), 'utf8'),
) as { readonly exchanges: Readonly<Record<string, { readonly replies: string }>> }

function recorded(name: string): readonly Message[] {
  return decodeReply(Buffer.from(RECORDED.exchanges[name]!.replies, 'hex'), 0, 'Cannot read').messages
}

const text = ({ address, port }: SocketAddress): string => formatSocketAddress(address, port)
const line = ({ protocol, original, reply }: TrackedFlow): string =>
  `${protocol} ${text(original.destination)} answered by ${text(reply.source)}`

describe('decodeTrackedFlow', () => {
  it('reads both directions, of every protocol with ports', () => {
    const flows = recorded('flows').flatMap((message) => decodeTrackedFlow(message) ?? [])

    expect(new Set(flows.map(line))).to.deep.include('17 10.96.0.10:53 answered by 10.244.1.2:8080')
    expect(flows.filter(({ protocol }) => protocol === 17).length).to.equal(7)
    for (const { original, reply, timeout } of flows) {
      expect(original.source.port).to.be.within(1, 65_535)
      expect(reply.destination.port).to.equal(original.source.port)
      expect(timeout).to.be.within(1, 432_000)
    }
  })

  it('reads IPv6', () => {
    const flows = recorded('flows of IPv6').flatMap((message) => decodeTrackedFlow(message) ?? [])
    expect(flows.map(line)).to.include('17 [fd00:10:96::10]:53 answered by [fd00:10:244:1::2]:8080')
  })

  it('refuses what is cut off or changed with its own error, or reads it', async () => {
    const [message] = recorded('flows of UDP')
    const body = bodyOf(message!)
    await withRandom((random) => {
      for (let i = 0; i < 2_000; i++) {
        const changed = Buffer.from(body.subarray(0, random.int(body.length + 1)))
        if (changed.length > 0) changed[random.int(changed.length)] = random.int(256)
        try {
          decodeTrackedFlow(withBody(message!, changed))
        } catch (error) {
          expect(error).to.be.instanceOf(DecodeError)
        }
      }
    })
  })
})
