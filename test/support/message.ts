/** Messages by what follows their header. */
import type { Message } from '../../src/netlink/message.ts'

export function bodyOf({ buffer, start, end }: Message): Buffer {
  return buffer.subarray(start, end)
}

/** The message with another body, which nothing follows: whoever reads beyond it fails. */
export function withBody(message: Message, body: Buffer): Message {
  return { ...message, buffer: body, start: 0, end: body.length }
}
