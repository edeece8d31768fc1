import { expect } from 'chai'
import { constants } from 'node:os'
import { netlinkErrorOf } from '../../src/kernel/explain.ts'
import { LinuxKernel } from '../../src/kernel/linux-kernel.ts'
import type { Operation } from '../../src/model/operation.ts'
import { ipvsIpsMember } from '../../src/model/sets.ts'
import type { VirtualServerId } from '../../src/model/virtual-server.ts'
import { type Message, MessageWriter, NLMSG_ERROR } from '../../src/netlink/message.ts'
import type { Socket } from '../../src/netlink/socket.ts'
import { operation } from '../contract/kernel.contract.ts'
import { bodyOf } from '../support/message.ts'
import { rejectionOf } from '../support/rejection.ts'
import { errorBody, pack, scriptedSocket } from '../support/scripted-socket.ts'

const GENL_ID_CTRL = 16
const IPVS = 0x1c

/** The number of the family IPVS, as an answer to whoever asks for it. */
function familyReply(sequence: number): Buffer {
  const reply = new MessageWriter(sequence)
  reply.begin(GENL_ID_CTRL)
  reply.appendBytes(1, 2)
  reply.putU16(1, IPVS)
  reply.end()
  return Buffer.from(reply.bytes())
}

/** A kernel that has IPVS, and refuses requests by what `judge` says of them. */
function scriptedKernel(judge: (request: Message) => keyof typeof constants.errno | undefined): Socket {
  return scriptedSocket((sequences, requests) => {
    if (requests[0]!.type === GENL_ID_CTRL) return { replies: familyReply(sequences[0]!) }
    const acknowledgements = requests.flatMap((request, i) => {
      const code = judge(request)
      if (code === undefined) return []
      return [{ sequence: sequences[i]!, type: NLMSG_ERROR, body: errorBody(constants.errno[code]) }]
    })
    return { replies: pack(acknowledgements) }
  })
}

const IPVS_CMD_NEW_DEST = 5
const refusesRealServers = (request: Message): 'EEXIST' | undefined =>
  request.type === IPVS && bodyOf(request)[0] === IPVS_CMD_NEW_DEST ? 'EEXIST' : undefined
const open = (addon: Socket, readOnly = false): Promise<LinuxKernel> =>
  LinuxKernel.open({ addon, families: new Set(['IPv4', 'IPv6']), readOnly })

const create = operation('-A -t 10.96.0.10:80 -s rr')
const createReal = operation('-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1')
const of = (create as { readonly of: VirtualServerId }).of

describe('LinuxKernel', () => {
  it('tells what three wires have refused, each at its place', async () => {
    const kernel = await open(
      scriptedKernel((request) => (request.type === IPVS ? refusesRealServers(request) : 'EPERM')),
    )
    const plan: Operation[] = [
      create,
      { kind: 'addSetMember', member: ipvsIpsMember('10.96.0.10' as never) },
      create,
      createReal,
      { kind: 'deleteFlows', of },
      { kind: 'deleteFlows', of },
      createReal,
    ]

    const refusals = await kernel.execute(plan)

    expect([...refusals].map(([place, { message }]) => [place, message])).to.deep.equal([
      [1, 'Cannot add to set KUBE-IPVS-IPS: 10.96.0.10: There is no set for KUBE-IPVS-IPS 10.96.0.10'],
      [3, 'Cannot add real server 10.244.0.1:8080 of 10.96.0.10:80/TCP: EEXIST'],
      [
        4,
        'Cannot forget tracked flows through 10.96.0.10:80/TCP: run as root, or with the capability NET_ADMIN',
      ],
      [
        5,
        'Cannot forget tracked flows through 10.96.0.10:80/TCP: run as root, or with the capability NET_ADMIN',
      ],
      [6, 'Cannot add real server 10.244.0.1:8080 of 10.96.0.10:80/TCP: EEXIST'],
    ])
    expect(netlinkErrorOf(refusals.get(3))).to.include({ code: 'EEXIST' })
    kernel.close()
  })

  it('encodes one message for each operation, so that every refusal is at its place', async () => {
    const plan = [
      create,
      operation('-E -t 10.96.0.10:80 -s rr'),
      operation('-D -t 10.96.0.10:80'),
      createReal,
      operation('-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0'),
      operation('-d -t 10.96.0.10:80 -r 10.244.0.1:8080'),
    ]
    for (const command of [1, 2, 3, 5, 6, 7]) {
      const kernel = await open(
        scriptedKernel((request) => (bodyOf(request)[0] === command ? 'ENOMEM' : undefined)),
      )

      const place = [1, 2, 3, 5, 6, 7].indexOf(command)
      expect([...(await kernel.execute(plan)).keys()], `command ${command}`).to.deep.equal([place])
      kernel.close()
    }
  })

  it('throws when an exchange is lost, and executes nothing when it may only read', async () => {
    const lost = scriptedKernel(() => undefined)
    const kernel = await open(lost)
    lost.exchange = () => Promise.resolve({ replies: Buffer.alloc(0), errno: 105, step: 'receive', sent: 1 })
    expect(await rejectionOf(kernel.execute([create]))).to.include({ code: 'ENOBUFS' })
    kernel.close()

    const reader = await open(
      scriptedKernel(() => expect.fail('asked')),
      true,
    )
    expect(await rejectionOf(reader.execute([create]))).to.have.property(
      'message',
      'Cannot change the kernel: it was opened to read only',
    )
    reader.close()
  })
})
