/** Requests and their answers on one netlink socket: sequence numbers, refusals by request, a limit of silence. */
import type { NativeExchange, NativeSocket } from '../../native/index.d.ts'
import { readString, readU32, visitAttributes } from './attribute.ts'
import { DecodeError, isInterrupted, NetlinkError, type Refusals } from './error.ts'
import {
  align,
  HEADER_BYTES,
  type Message,
  MessageWriter,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  readMessages,
} from './message.ts'
import { oneAtATime } from '../waiting/turns.ts'
import type { Socket } from './socket.ts'

const RECEIVE_BYTES = 4 * 1024 * 1024
/** Without an answer. */
const TIMEOUT_MS = 30_000
const DUMP_ATTEMPTS = 5
/** Batches are numbered when they are begun, before it is known how long they will be. */
const SEQUENCES_PER_BATCH = 2 ** 20
const KEPT_BUFFERS = 3
const KEPT_BYTES = 1024 * 1024

const NLMSGERR_ATTR_MSG = 1
const NLMSGERR_ATTR_OFFS = 2

/** The answers to one batch, each with the place of its request in the batch. */
export interface Reply {
  readonly messages: readonly Message[]
  readonly refusals: Refusals<NetlinkError>
}

/** The acknowledgement of one request: undefined for success. Throws DecodeError. */
export function decodeAcknowledgement(message: Message, action: string): NetlinkError | undefined {
  const { buffer, start, end, flags } = message
  if (end - start < 4) throw new DecodeError(`Cannot decode an acknowledgement: ${end - start} bytes`)
  const errno = -buffer.readInt32LE(start)
  if (errno === 0) return undefined
  if (errno < 0) throw new DecodeError(`Cannot decode an acknowledgement: errno ${errno}`)
  let kernelMessage: string | undefined
  let offset: number | undefined
  if ((flags & NLM_F_ACK_TLVS) !== 0 && message.type === NLMSG_ERROR) {
    const body = buffer.subarray(start, end)
    if (body.length < 4 + HEADER_BYTES)
      throw new DecodeError(`Cannot decode an acknowledgement: ${body.length} bytes`)
    const echoed = (flags & NLM_F_CAPPED) !== 0 ? HEADER_BYTES : body.readUInt32LE(4)
    if (echoed > body.length)
      throw new DecodeError(`Cannot decode an acknowledgement: it echoes ${echoed} bytes`)
    visitAttributes(body, 4 + align(echoed), body.length, (type, at, length) => {
      if (type === NLMSGERR_ATTR_MSG) kernelMessage = readString(body, at, length)
      if (type === NLMSGERR_ATTR_OFFS) offset = readU32(body, at, length, 'NLMSGERR_ATTR_OFFS')
    })
  }
  return new NetlinkError(action, errno, { kernelMessage, offset })
}

/** Sorts the answers to a batch that begins with `firstSequence` into data and refusals. Throws DecodeError. */
export function decodeReply(replies: Buffer, firstSequence: number, action: string): Reply {
  const messages: Message[] = []
  const refusals = new Map<number, NetlinkError>()
  for (const message of readMessages(replies, firstSequence)) {
    if ((message.flags & NLM_F_DUMP_INTR) !== 0) {
      refusals.set(message.place, new NetlinkError(`${action} (interrupted dump)`, 4))
    }
    if (message.type === NLMSG_ERROR || (message.type === NLMSG_DONE && message.end - message.start >= 4)) {
      const error = decodeAcknowledgement(message, action)
      if (error !== undefined) refusals.set(message.place, error)
    } else if (message.type !== NLMSG_DONE) {
      messages.push(message)
    }
  }
  return { messages, refusals }
}

/**
 * A netlink connection of one protocol. Exchanges run one after the other. After a failed exchange
 * the socket is replaced, so that no late answer is taken for another request's.
 */
export class NetlinkConnection {
  readonly #addon: Socket
  readonly #protocol: number
  readonly #timeoutMs: number
  #socket: NativeSocket | undefined
  #nextSequence = 1
  /** Buffers of batches that have been answered. */
  readonly #buffers: Buffer[] = []
  readonly #inTurn = oneAtATime()

  constructor(addon: Socket, protocol: number, timeoutMs = TIMEOUT_MS) {
    this.#addon = addon
    this.#protocol = protocol
    this.#timeoutMs = timeoutMs
    this.#open()
  }

  /** An empty batch for `exchange`; others may be exchanged between the two. */
  batch(): MessageWriter {
    const first = this.#nextSequence
    this.#nextSequence = (first + SEQUENCES_PER_BATCH) >>> 0
    return new MessageWriter(first, this.#buffers.pop())
  }

  /**
   * Sends the batch and waits for its answers. Refusals of single requests are in the reply; it throws
   * NetlinkError when the exchange itself failed (ENOBUFS, ETIMEDOUT, EMSGSIZE): what the batch did is then unknown.
   */
  async exchange(batch: MessageWriter, action: string): Promise<Reply> {
    return this.#inTurn(() => this.#run(batch, action))
  }

  /**
   * Sends a batch of dump or get requests and returns the messages. Asks again, a few times, when the kernel
   * says that a table changed meanwhile; throws rather than return a list that may be partial.
   */
  async read(build: (batch: MessageWriter) => void, action: string): Promise<readonly Message[]> {
    for (let attempt = 1; ; attempt++) {
      const batch = this.batch()
      build(batch)
      const { messages, refusals } = await this.exchange(batch, action)
      const [error] = refusals.values()
      if (error === undefined) return messages
      if (!isInterrupted(error) || attempt === DUMP_ATTEMPTS) throw error
    }
  }

  close(): void {
    if (this.#socket !== undefined) this.#addon.close(this.#socket)
    this.#socket = undefined
  }

  async #run(batch: MessageWriter, action: string): Promise<Reply> {
    if (batch.count === 0) return { messages: [], refusals: new Map() }
    if (batch.count > SEQUENCES_PER_BATCH)
      throw new RangeError(`${action}: ${batch.count} messages in one batch`)
    const socket = this.#socket ?? this.#open()
    const result: NativeExchange = await this.#addon.exchange(socket, batch.bytes(), this.#timeoutMs)
    if (result.errno !== 0) {
      this.close()
      throw new NetlinkError(
        `${action} (${result.step}, ${result.sent} of ${batch.count} sent)`,
        result.errno,
      )
    }
    // After a failure the addon may still be reading: only then is the buffer left to it.
    if (batch.buffer.length <= KEPT_BYTES && this.#buffers.length < KEPT_BUFFERS)
      this.#buffers.push(batch.buffer)
    return decodeReply(result.replies, batch.firstSequence, action)
  }

  #open(): NativeSocket {
    try {
      this.#socket = this.#addon.open(this.#protocol, RECEIVE_BYTES)
    } catch (error) {
      const errno = /^errno (\d+)$/.exec((error as NodeJS.ErrnoException).code ?? '')?.[1]
      throw new NetlinkError(`Cannot open netlink protocol ${this.#protocol}`, Number(errno ?? 0), {
        cause: error,
      })
    }
    return this.#socket
  }
}
