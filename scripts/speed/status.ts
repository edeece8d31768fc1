/**
 * What a refresh of the status page costs, without a kernel: the dump of counters decoded, what the loop believes, sorted,
 * and a page of it as JSON. See docs/inspection.md.
 *   node scripts/speed/status.ts
 */
import { Ipvs } from '../../src/kernel/ipvs/ipvs.ts'
import { Catalog } from '../../src/program/status/catalog.ts'
import { SORTS } from '../../src/view/status-table.ts'

import { recordedReplies } from '../../test/support/recorded.ts'
import { scriptedSocket } from '../../test/support/scripted-socket.ts'
import { StatusPage } from '../../test/support/status-page.ts'
import { clusterIp, Load } from './load.ts'

const ENDPOINTS = 10
const REPETITIONS = 30
/** As often as a browser asks. */
const INTERVAL_MS = 2_000
/** Of the recorded dump: its first virtual server is of IPv4, and it ends with an empty message. */
const FAMILY_REQUEST = 16
const SEQUENCE_AT = 8
const DONE_BYTES = 20

/** What a kernel answers that has so many virtual servers, each at its own address: a message of each, and the end. */
function dumpOf(services: number): Buffer[] {
  const recorded = recordedReplies('services')
  const first = recorded.subarray(0, recorded.readUInt32LE(0))
  const address = first.indexOf(Buffer.from(clusterIpInFirst(first)))
  const messages = Array.from({ length: services }, (_, i) => {
    const message = Buffer.from(first)
    message.set(clusterIp(i).split('.').map(Number), address)
    return message
  })
  return [...messages, Buffer.from(recorded.subarray(-DONE_BYTES))]
}

/** IPVS_SVC_ATTR_ADDR (3) follows family and protocol: 16 bytes, of which IPv4 has four. */
function clusterIpInFirst(message: Buffer): Uint8Array {
  const header = message.indexOf(Buffer.from([20, 0, 3, 0]))
  return message.subarray(header + 4, header + 8)
}

async function openIpvs(services: number): Promise<Ipvs> {
  const dump = dumpOf(services)
  const answer = (sequence: number): Buffer => {
    for (const message of dump) message.writeUInt32LE(sequence, SEQUENCE_AT)
    return Buffer.concat(dump)
  }
  const socket = scriptedSocket(([sequence], [request]) => ({
    replies: request!.type === FAMILY_REQUEST ? recordedReplies('family') : answer(sequence!),
  }))
  return Ipvs.open(socket)
}

/** How long others have to wait for their turn, at most, until the function that it returns is called. */
function watchTurns(): () => number {
  let [longest, last, isOver] = [0, performance.now(), false]
  const look = (): void => {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    if (!isOver) setImmediate(look)
  }
  setImmediate(look)
  return () => {
    isOver = true
    return longest
  }
}

const middle = (numbers: readonly number[]): number => numbers.toSorted((a, b) => a - b)[numbers.length >> 1]!

async function measure(services: number): Promise<void> {
  const status = new StatusPage()
  const load = new Load({ services, endpoints: ENDPOINTS })
  const all = Array.from({ length: services }, (_, i) => i)
  await status.story.list(
    all.map((i) => load.service(i)),
    all.map((i) => load.slice(i)),
  )
  const ipvs = await openIpvs(services)
  const counted = await ipvs.readCounters()
  if (new Set(counted.map(({ id }) => id.key)).size !== services) throw new Error('Not all were counted')
  let now = 0
  const { inspection } = status.story.proxy
  const catalog = new Catalog({ inspection, readCounters: () => ipvs.readCounters(), now: () => now })
  const [times, bytes, turns]: [number[], number[], number[]] = [[], [], []]
  for (let i = 0; i < REPETITIONS; i++) {
    now += INTERVAL_MS
    const endTurns = watchTurns()
    const before = process.cpuUsage()
    const request = {
      search: '',
      sort: SORTS[i % SORTS.length]!,
      order: 'descending',
      offset: 0,
      limit: 100,
    } as const
    bytes.push(JSON.stringify(await catalog.find(request)).length)
    const { user, system } = process.cpuUsage(before)
    times.push(user + system)
    turns.push(endTurns())
  }
  const [us, most, turn] = [middle(times), Math.max(...bytes), middle(turns)]
  const figures = [
    `${(us / 1000).toFixed(1)} ms of processors`,
    `${(us / services).toFixed(2)} µs for a Service`,
    `longest turn ${turn.toFixed(1)} ms`,
    `at most ${most} bytes`,
  ]
  console.log(`${services} x ${ENDPOINTS}: ${figures.join(', ')}`)
  await status.close()
}

for (const services of [1_000, 10_000]) await measure(services)
