/** A socket without a kernel: what it answers is told by a script. */
import type { NativeExchange } from '../../native/index.d.ts'
import { type Message, readMessages } from '../../src/netlink/message.ts'
import type { Socket } from '../../src/netlink/socket.ts'

interface Reply {
  readonly sequence: number
  readonly type: number
  readonly flags?: number
  readonly body?: readonly number[]
}

export function pack(replies: readonly Reply[]): Buffer {
  return Buffer.concat(
    replies.map(({ sequence, type, flags = 0, body = [] }) => {
      const header = Buffer.alloc(16)
      header.writeUInt32LE(16 + body.length, 0)
      header.writeUInt16LE(type, 4)
      header.writeUInt16LE(flags, 6)
      header.writeUInt32LE(sequence, 8)
      return Buffer.concat([header, Buffer.from(body), Buffer.alloc((4 - (body.length % 4)) % 4)])
    }),
  )
}

/** An errno as the kernel sends it: negative, then the header of the request. */
export function errorBody(errno: number, attributes: readonly number[] = []): number[] {
  const code = Buffer.alloc(4)
  code.writeInt32LE(-errno)
  return [...code, ...new Array<number>(16).fill(0), ...attributes]
}

/** A socket that answers by a script: the requests and their sequence numbers in, the exchange out. */
export function scriptedSocket(
  answer: (sequences: number[], requests: readonly Message[]) => Partial<NativeExchange>,
): Socket & { opened: number; closed: number } {
  const socket = {
    opened: 0,
    closed: 0,
    open: () => {
      socket.opened++
      return {} as ReturnType<Socket['open']>
    },
    close: () => {
      socket.closed++
    },
    exchange: async (_: unknown, bytes: Buffer) => {
      const requests = [...readMessages(bytes)]
      await new Promise(setImmediate)
      const answered = answer(
        requests.map(({ place }) => place),
        requests,
      )
      return { replies: Buffer.alloc(0), errno: 0, step: '', sent: requests.length, ...answered }
    },
  }
  return socket
}
