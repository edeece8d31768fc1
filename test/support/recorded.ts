/** What a real kernel answered (scripts/record-datagrams.ts). */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { decodeReply } from '../../src/netlink/connection.ts'
import type { Message } from '../../src/netlink/message.ts'

interface Recording {
  readonly kernel: string
  readonly interfaceIndex: number
  readonly exchanges: Readonly<Record<string, { readonly request: string; readonly replies: string }>>
}

export const RECORDED = JSON.parse(
  readFileSync(join(import.meta.dirname, '../fixtures/netlink.json'), 'utf8'),
) as Recording

export function recordedReplies(name: string): Buffer {
  return Buffer.from(RECORDED.exchanges[name]!.replies, 'hex')
}

export function recordedMessages(name: string): readonly Message[] {
  return decodeReply(recordedReplies(name), 0, 'Cannot read').messages
}
