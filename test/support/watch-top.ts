/** `top` with samples that are made up: each Service has one packet more than in the sample before. For a terminal. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Load } from '../../src/view/top.ts'
import { type Sample, watchInTerminal } from '../../src/commands/look/watch.ts'

const [, , how = '', intervalMs = '600000'] = process.argv
let count = 0

function load(name: string, open: number, inBytes: number): Load {
  return { name, open, newConnections: 0, inPackets: count, outPackets: 0, inBytes, outBytes: 0 }
}

async function read(): Promise<Sample> {
  count++
  if (how === 'hangs') await sleep(600_000)
  if (how === 'fails' && count === 2) throw new Error('it has failed')
  if (how === 'throws' && count === 2)
    setImmediate(() => {
      throw new Error('nobody has expected this')
    })
  return {
    loadsBy: (group) => [
      load(`${group}/first`, 1, 30),
      load(`${group}/second`, 3, 20),
      load(`${group}/third`, 2, 10),
    ],
    notes: [`sample ${count}`],
  }
}

const abort = new AbortController()
process.once('SIGTERM', () => {
  abort.abort()
})
await watchInTerminal(
  { read, intervalMs: Number(intervalMs), signal: abort.signal },
  { group: 'service', sort: 'bytes', isReversed: false, isPaused: false, hasEnded: false },
)
process.exit(7)
