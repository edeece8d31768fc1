import { expect } from 'chai'
import type { NativeExchange } from '../../native/index.d.ts'
import { NetlinkConnection } from '../../src/netlink/connection.ts'
import { DecodeError, isInterrupted, NetlinkError } from '../../src/netlink/error.ts'
import { type MessageWriter, NLMSG_DONE, NLMSG_ERROR } from '../../src/netlink/message.ts'
import type { Socket } from '../../src/netlink/socket.ts'
import { rejectionOf } from '../support/rejection.ts'
import { bodyOf } from '../support/message.ts'
import { errorBody, pack, scriptedSocket } from '../support/scripted-socket.ts'

function request(connection: NetlinkConnection, count: number): MessageWriter {
  const batch = connection.batch()
  for (let i = 0; i < count; i++) {
    batch.begin(16)
    batch.end()
  }
  return batch
}

describe('NetlinkConnection', () => {
  it('matches errors to their requests and takes silence for success', async () => {
    const socket = scriptedSocket(([, second, third]) => ({
      replies: pack([
        { sequence: second!, type: NLMSG_ERROR, body: errorBody(17) },
        { sequence: third!, type: NLMSG_ERROR, body: errorBody(0) },
      ]),
    }))
    const connection = new NetlinkConnection(socket, 16)
    const batch = request(connection, 3)

    const { refusals } = await connection.exchange(batch, 'Cannot test')

    expect([...refusals].map(([place, { code }]) => [place, code])).to.deep.equal([[1, 'EEXIST']])
  })

  it("keeps the kernel's own words and the offset", async () => {
    const words = [...Buffer.from('no such scheduler\0')]
    const attributes = [words.length + 4, 0, 1, 0, ...words, 0, 0, 8, 0, 2, 0, 28, 0, 0, 0]
    const socket = scriptedSocket(([sequence]) => ({
      replies: pack([
        { sequence: sequence!, type: NLMSG_ERROR, flags: 0x300, body: errorBody(2, attributes) },
      ]),
    }))
    const connection = new NetlinkConnection(socket, 16)

    const { refusals } = await connection.exchange(request(connection, 1), 'Cannot test')

    const [error] = refusals.values()
    expect(error).to.include({ errno: 2, code: 'ENOENT', kernelMessage: 'no such scheduler', offset: 28 })
    expect(error!.message).to.equal('Cannot test: ENOENT, the kernel says "no such scheduler"')
  })

  it('throws what it cannot know the outcome of, and goes on with a new socket', async () => {
    let broken = true
    const socket = scriptedSocket(() => (broken ? { errno: 105, step: 'receive', sent: 2 } : {}))
    const connection = new NetlinkConnection(socket, 16)

    const error = await rejectionOf(connection.exchange(request(connection, 2), 'Cannot test'))
    broken = false
    await connection.exchange(request(connection, 1), 'Cannot test')

    expect(error).to.be.instanceOf(NetlinkError).and.include({ code: 'ENOBUFS' })
    expect((error as Error).message).to.equal('Cannot test (receive, 2 of 2 sent): ENOBUFS')
    expect(socket).to.include({ opened: 2, closed: 1 })
  })

  it('runs exchanges one after the other, with ascending sequence numbers', async () => {
    const seen: number[][] = []
    let running = 0
    const socket = scriptedSocket((sequences) => {
      running--
      seen.push(sequences)
      return {}
    })
    const counting: Socket = {
      ...socket,
      exchange: async (...parameters) => {
        expect(running++, 'exchanges under way').to.equal(0)
        return socket.exchange(...parameters)
      },
    }
    const connection = new NetlinkConnection(counting, 16)

    await connection.exchange(request(connection, 2), 'a')
    await Promise.all([
      connection.exchange(request(connection, 1), 'b'),
      connection.exchange(request(connection, 1), 'c'),
    ])

    expect(seen).to.have.length(3)
    expect(seen[1]![0]).to.be.greaterThan(seen[0]![1]!)
  })

  it('asks the kernel nothing for an empty batch', async () => {
    const socket = scriptedSocket(() => expect.fail('asked'))
    const connection = new NetlinkConnection(socket, 16)

    expect(await connection.exchange(connection.batch(), 'Cannot test')).to.deep.equal({
      messages: [],
      refusals: new Map(),
    })
  })
})

describe('NetlinkConnection.read', () => {
  const dump = (flags: number): ((sequences: number[]) => Partial<NativeExchange>) => {
    return ([sequence]) => ({
      replies: pack([
        { sequence: sequence!, type: 20, flags: 2, body: [1, 2, 3, 4] },
        { sequence: sequence!, type: NLMSG_DONE, flags: 2 | flags, body: [0, 0, 0, 0] },
      ]),
    })
  }
  const read = (connection: NetlinkConnection) =>
    connection.read((batch) => {
      batch.begin(22)
      batch.end()
    }, 'Cannot read')

  it('returns the messages of a dump without its end', async () => {
    const messages = await read(new NetlinkConnection(scriptedSocket(dump(0)), 0))

    expect(messages.map((message) => [message.type, [...bodyOf(message)]])).to.deep.equal([
      [20, [1, 2, 3, 4]],
    ])
  })

  it('asks again when the kernel says that the table changed meanwhile', async () => {
    let attempts = 0
    const connection = new NetlinkConnection(
      scriptedSocket((sequences) => dump(++attempts < 3 ? 0x10 : 0)(sequences)),
      0,
    )

    expect(await read(connection)).to.have.length(1)
    expect(attempts).to.equal(3)
  })

  it('throws rather than return a list that may be partial', async () => {
    const error = await rejectionOf(read(new NetlinkConnection(scriptedSocket(dump(0x10)), 0)))

    expect(isInterrupted(error)).to.equal(true)
  })

  it('throws the error that ends a dump', async () => {
    const socket = scriptedSocket(([sequence]) => ({
      replies: pack([{ sequence: sequence!, type: NLMSG_DONE, flags: 2, body: errorBody(12).slice(0, 4) }]),
    }))

    expect(await rejectionOf(read(new NetlinkConnection(socket, 0)))).to.include({ code: 'ENOMEM' })
  })

  it('rejects an acknowledgement that is cut off', async () => {
    const socket = scriptedSocket(([sequence]) => ({
      replies: pack([{ sequence: sequence!, type: NLMSG_ERROR, body: [0] }]),
    }))

    expect(await rejectionOf(read(new NetlinkConnection(socket, 0)))).to.be.instanceOf(DecodeError)
  })
})
