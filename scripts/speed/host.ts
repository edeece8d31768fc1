/**
 * What the program's own work costs: JSON objects to encoded messages, without kernel, API server or root. See
 * docs/performance.md.
 *   npm run bench:host                  all sizes
 *   npm run bench:host 1000x10 ...      some of them: Services x endpoints of each
 *   npm run bench:host -- --profile     with the functions that take most of the time
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { type Profiler, Session } from 'node:inspector/promises'
import { basename, join } from 'node:path'
import { parseArgs } from 'node:util'
import { Load, pagesOf, type Size } from './load.ts'
import { Host, PHASES, type Phase, type Sink } from './messages.ts'

const OUT = join(import.meta.dirname, '..', '..', '.cache', 'bench', 'host')
const SIZES = ['1000x10', '10000x10', '50000x1']
const REPETITIONS = 5
/** The size at which single changes are measured, and how many. */
const CHANGES_AT = '10000x10'
const CHANGES = 2_000
const HOTTEST = 10
/** Two set members, a virtual server and an address; and one for each real server. */
const MESSAGES_PER_SERVICE = 4
const BYTES_PER_SERVICE = 276
const BYTES_PER_REAL_SERVER = 116
const MIB = 1024 * 1024

/** Memory as the program has it: src/start.ts, src/program/heap.ts. */
const FLAGS = ['--expose-gc', '--max-semi-space-size=8', '--heap-growing-percent=40']
const MALLOC = { MALLOC_ARENA_MAX: '2', MALLOC_MMAP_THRESHOLD_: '131072' }

/** Of one start, in ms. */
type Times = Record<Phase, number>

interface Result {
  readonly size: Size
  /** By the clock, and of processors: medians of the repetitions. */
  readonly wall: Times
  readonly cpu: Times
  /** Of the first start, which runs code for the first time. */
  readonly firstMs: number
  /** After the first start, in MiB: the most that was resident, and the heap after a collection. */
  readonly peak: number
  readonly heap: number
  readonly work: Pick<Sink, 'messages' | 'bytes' | 'sum'>
  /** Of single changes, in µs. */
  readonly change?: { readonly median: number; readonly slowest: number }
  readonly profile?: readonly string[]
}

const ascending = (numbers: readonly number[]): number[] => numbers.toSorted((a, b) => a - b)
const median = (numbers: readonly number[]): number => ascending(numbers)[numbers.length >> 1]!
const timesOf = (of: (phase: Phase) => number): Times =>
  Object.fromEntries(PHASES.map((phase) => [phase, of(phase)])) as Times

/** JSON.parse is V8's: it is shown, and not part of the whole. */
const whole = (times: Times): number =>
  PHASES.reduce((sum, phase) => (phase === 'json' ? sum : sum + times[phase]), 0)

// --- In a process of its own ----------------------------------------------------------------------------

async function start(pages: string): Promise<Host> {
  const file = await open(pages)
  const host = new Host()
  await host.start(file.readLines())
  return host
}

/** Throws when some of the work was not done: all of this is TCP over IPv4 with scheduler rr. */
function check({ messages, bytes }: Result['work'], { services, endpoints }: Size): void {
  const expected = {
    messages: services * (MESSAGES_PER_SERVICE + endpoints),
    bytes: services * (BYTES_PER_SERVICE + endpoints * BYTES_PER_REAL_SERVER),
  }
  if (messages !== expected.messages || bytes !== expected.bytes)
    throw new Error(
      `${messages} messages of ${bytes} bytes, expected ${expected.messages} of ${expected.bytes}`,
    )
}

/** In one Service after another, an endpoint is not ready any more. */
async function measureChanges(pages: string, size: Size): Promise<NonNullable<Result['change']>> {
  const host = await start(pages)
  const load = new Load(size)
  const slices = Array.from({ length: CHANGES }, (_, i) => load.slice(i, new Set([i % size.endpoints])))
  const before = host.sink.messages
  const times: number[] = []
  host.watch.isRunning = false
  for (const slice of slices) {
    const started = performance.now()
    await host.change(slice)
    times.push((performance.now() - started) * 1000)
  }
  const messages = host.sink.messages - before
  if (messages !== CHANGES) throw new Error(`${CHANGES} changes made ${messages} messages`)
  return { median: median(times), slowest: ascending(times)[Math.floor(CHANGES * 0.99)]! }
}

/** The functions with the most time of their own. */
function hottest({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): string[] {
  const byId = new Map(nodes.map(({ id, callFrame }) => [id, callFrame]))
  const own = new Map<string, number>()
  for (const [i, id] of samples.entries()) {
    const { functionName, url, lineNumber } = byId.get(id)!
    const name = `${functionName === '' ? 'anonymous' : functionName} ${basename(url)}:${lineNumber + 1}`
    own.set(name, (own.get(name) ?? 0) + timeDeltas[i]!)
  }
  const all = [...own.values()].reduce((sum, us) => sum + us, 0)
  const most = [...own].sort(([, a], [, b]) => b - a).slice(0, HOTTEST)
  return most.map(([name, us]) => `${((100 * us) / all).toFixed(1).padStart(5)} %  ${name}`)
}

/** Until the function that it returns is called. */
async function profile(): Promise<(size: Size) => Promise<string[]>> {
  const session = new Session()
  session.connect()
  await session.post('Profiler.enable')
  await session.post('Profiler.start')
  return async (size) => {
    const { profile } = await session.post('Profiler.stop')
    const file = join(OUT, `${nameOf(size)}.cpuprofile`)
    writeFileSync(file, JSON.stringify(profile))
    return [...hottest(profile), `all of it: ${file}`]
  }
}

/** Time does not count yet: code runs for the first time. Memory does, as nothing was there before. */
async function measureFirst(
  pages: string,
  size: Size,
): Promise<Pick<Result, 'firstMs' | 'peak' | 'heap' | 'work'>> {
  const { watch, sink, known } = await start(pages)
  const peak = process.resourceUsage().maxRSS / 1024
  gc!()
  const heap = process.memoryUsage().heapUsed / MIB
  const work = { messages: sink.messages, bytes: sink.bytes, sum: sink.sum }
  check(work, size)
  if (known.virtualServers.size !== size.services) throw new Error('Not all that was sent is known')
  return { firstMs: whole(watch.wall), peak, heap, work }
}

async function repeat(pages: string, { sum }: Result['work']): Promise<Pick<Result, 'wall' | 'cpu'>> {
  const watches: Host['watch'][] = []
  for (let i = 0; i < REPETITIONS; i++) {
    gc!()
    const { watch, sink } = await start(pages)
    if (sink.sum !== sum) throw new Error('A repetition has made other messages')
    watches.push(watch)
  }
  const middle = (clock: 'wall' | 'cpu'): Times =>
    timesOf((phase) => median(watches.map((watch) => watch[clock][phase])))
  return { wall: middle('wall'), cpu: middle('cpu') }
}

async function measure(pages: string, size: Size, isProfiled: boolean): Promise<Result> {
  const first = await measureFirst(pages, size)
  const stop = isProfiled ? await profile() : undefined
  const times = await repeat(pages, first.work)
  const hot = await stop?.(size)
  const change = nameOf(size) === CHANGES_AT ? await measureChanges(pages, size) : undefined
  return { size, ...first, ...times, ...(change && { change }), ...(hot && { profile: hot }) }
}

// --- All of them ----------------------------------------------------------------------------------------

const nameOf = ({ services, endpoints }: Size): string => `${services}x${endpoints}`

function sizeOf(name: string): Size {
  const [, services, endpoints] = /^(\d+)x(\d+)$/.exec(name) ?? []
  if (services === undefined) throw new Error(`${name}: expected a size such as ${CHANGES_AT}`)
  return { services: Number(services), endpoints: Number(endpoints) }
}

function writePages(size: Size): string {
  const pages = join(OUT, `${nameOf(size)}.pages`)
  const file = openSync(pages, 'w')
  for (const page of pagesOf(new Load(size))) writeSync(file, `${page}\n`)
  closeSync(file)
  return pages
}

async function measureApart(name: string, options: readonly string[]): Promise<Result> {
  const pages = writePages(sizeOf(name))
  const child = spawn(
    process.execPath,
    [...FLAGS, import.meta.filename, 'measure', pages, name, ...options],
    {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...MALLOC },
    },
  )
  const chunks = await child.stdout.toArray()
  if (child.exitCode === null) await once(child, 'exit')
  if (child.exitCode !== 0) throw new Error(`${name}: it ended with ${child.exitCode}`)
  return JSON.parse(Buffer.concat(chunks as Buffer[]).toString()) as Result
}

const HEAD =
  'Services x endpoints,objects,first ms,ms,CPU ms,µs/Service,µs/object,peak MiB,heap MiB,bytes,sum'

function cells({ size, wall, cpu, firstMs, peak, heap, work }: Result): string[] {
  const us = whole(wall) * 1000
  const figures = [firstMs, whole(wall), whole(cpu)].map((ms) => ms.toFixed(0))
  const each = [us / size.services, us / work.messages].map((part) => part.toFixed(2))
  const memory = [peak, heap].map((mib) => mib.toFixed(0))
  const name = `${size.services.toLocaleString('en')} x ${size.endpoints}`
  return [name, `${work.messages}`, ...figures, ...each, ...memory, `${work.bytes}`, work.sum.toString(16)]
}

function printTable(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => row[i]!.length)))
  for (const row of rows) console.log(row.map((cell, i) => cell.padStart(widths[i]!)).join('  '))
}

async function main(names: readonly string[], options: readonly string[]): Promise<void> {
  mkdirSync(OUT, { recursive: true })
  const results: Result[] = []
  for (const name of names) results.push(await measureApart(name, options))
  printTable([HEAD.split(','), ...results.map(cells)])
  const phases = (times: Times): string[] => PHASES.map((phase) => times[phase].toFixed(0))
  console.log(`\nof which, in ms of processors; json is V8's, and in no other figure`)
  printTable([['', ...PHASES], ...results.map((result) => [nameOf(result.size), ...phases(result.cpu)])])
  for (const { size, change, profile = [] } of results) {
    if (change !== undefined) {
      const [middle, slowest] = [change.median, change.slowest].map((us) => us.toFixed(0))
      console.log(`\none change at ${nameOf(size)}: ${middle} µs, 99 %: ${slowest} µs`)
    }
    if (profile.length > 0) console.log(`\nown time at ${nameOf(size)}\n${profile.join('\n')}`)
  }
}

const { values, positionals } = parseArgs({
  options: { profile: { type: 'boolean' } },
  allowPositionals: true,
})
const [what, pages, name] = positionals
if (what === 'measure')
  console.log(JSON.stringify(await measure(pages!, sizeOf(name!), values.profile === true)))
else await main(what === undefined ? SIZES : positionals, values.profile === true ? ['--profile'] : [])
