/**
 * How fast the kernel is programmed, and at what cost: the program as it is, on a real kernel, against an API server
 * over TLS. docs/performance.md says what is measured.
 *   speed [SIZE ...]          all sizes unless told: 100x10, 1000x10, 10000x10, and 1000x1 to 100000x1 in both bindings
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { createInterface } from 'node:readline'
import { BINDINGS } from '../../src/model/binding.ts'
import { serve } from './api.ts'
import { measureFloor } from './floor.ts'
import type { Size } from './load.ts'
import { plot, type Result, table } from './report.ts'
import { type Figures, type Plan, runLookedAt, runRestart, runScenario, warmUp } from './scenario.ts'

const OUT = join(process.env.LAB_OUT ?? '.', 'speed')
const SHORT: Plan = { churnMinutes: 0, idleMinutes: 0, isThorough: false, replaces: false }

/** What takes minutes is left out, or all but the start and single changes. */
const LESS: Partial<Plan> =
  process.env.LAB_QUICK === 'start'
    ? SHORT
    : process.env.LAB_QUICK === undefined
      ? {}
      : { churnMinutes: 0, idleMinutes: 0 }

const SIZES: readonly (Size & Plan)[] = [
  { services: 100, endpoints: 10, ...SHORT },
  { services: 1_000, endpoints: 10, ...SHORT, churnMinutes: 10, isLookedAt: true },
  {
    services: 10_000,
    endpoints: 10,
    churnMinutes: 10,
    idleMinutes: 5,
    isThorough: true,
    replaces: true,
    isLookedAt: true,
  },
  // What it costs to bind virtual IPs, with little else.
  ...[1_000, 10_000, 44_000].flatMap((services) =>
    BINDINGS.map((binding) => ({ services, endpoints: 1, binding, ...SHORT })),
  ),
  // As addresses it would take the kernel ten minutes.
  { services: 100_000, endpoints: 1, binding: 'route', ...SHORT, replaces: true },
]

const WARM_UP = 'warm 100 10 address'

/** Runs a command in a network namespace of its own. */
const APART = `apart() {
  ip netns add apart && ip -n apart link set lo up && ip netns exec apart "$@" && ip netns del apart
}`

/** Runs parts of this program, one after the other, in a lab that has just booted; `heard` is called with each line of JSON. */
async function inLab(parts: readonly string[], heard: (figures: Figures) => void): Promise<void> {
  const node = `apart node --max-old-space-size=3000 ${relative('.', process.argv[1]!)}`
  const line = [APART, parts.map((part) => `${node} ${part}`).join(' && ')].join('\n')
  const command = ['-m', '8G', '-t', '3600', 'bash', '-c', line]
  const child = spawn('scripts/lab', command, { stdio: ['ignore', 'pipe', 'inherit'] })
  createInterface({ input: child.stdout }).on('line', (text) => {
    if (text.startsWith('{')) heard(JSON.parse(text) as Figures)
    else console.error(text)
  })
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`${parts.join(', ')}: the lab ended with ${code}`)
}

/** What Node needs to do nothing at all, in MiB. */
function nodeAlone(): number {
  const script =
    "console.log(require('fs').readFileSync('/proc/self/status', 'utf8').match(/VmRSS:\\s*(\\d+)/)[1])"
  return Number(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' })) / 1024
}

async function measure({ services, endpoints, binding = 'address', ...plan }: Size & Plan): Promise<Figures> {
  const figures: Figures = {}
  const heard = (more: Figures): void => {
    Object.assign(figures, more)
    console.log(`${services} x ${endpoints} ${binding}: ${JSON.stringify(more)}`)
  }
  const size = `${services} ${endpoints} ${binding}`
  const asked: Plan = { ...plan, ...LESS }
  await inLab([WARM_UP, `floor ${size}`, `run ${size} '${JSON.stringify(asked)}'`], heard)
  // What has run for long before it makes the emulator slower.
  if (asked.churnMinutes > 0) await inLab([`restart ${size}`], heard)
  if (asked.isLookedAt === true) await inLab([WARM_UP, `looked ${size}`], heard)
  return figures
}

async function main(wanted: readonly string[]): Promise<void> {
  mkdirSync(OUT, { recursive: true })
  const results: Result[] = []
  for (const size of SIZES) {
    if (wanted.length > 0 && !wanted.includes(`${size.services}x${size.endpoints}`)) continue
    results.push({ ...size, figures: await measure(size) })
    writeReport(results)
  }
  console.log(`\n${table(results)}`)
}

/** After each size: a run takes long, and what was measured must not be lost. */
function writeReport(results: readonly Result[]): void {
  writeFileSync(join(OUT, 'report.md'), table(results))
  writeFileSync(join(OUT, 'cost.svg'), plot(results))
}

const print = (figures: Figures): void => {
  console.log(JSON.stringify(figures))
}

const [what = '', services, endpoints, binding, plan = '{}'] = process.argv.slice(2)
const size: Size = {
  ...{ services: Number(services), endpoints: Number(endpoints) },
  binding: binding === 'route' ? 'route' : 'address',
}
if (what === 'api') serve()
else if (what === 'floor')
  void measureFloor(size).then((floor) => (print({ floor, nodeAlone: nodeAlone() }), process.exit(0)))
else if (what === 'warm') void warmUp(size).then(() => process.exit(0))
else if (what === 'run') void runScenario(size, JSON.parse(plan) as Plan, print).then(() => process.exit(0))
else if (what === 'looked') void runLookedAt(size, print).then(() => process.exit(0))
else if (what === 'restart') void runRestart(size, print).then(() => process.exit(0))
else void main(process.argv.slice(2))
