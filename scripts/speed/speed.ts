/**
 * How fast the kernel is programmed, and at what cost: the program as it is, on a real kernel, against an API server
 * over TLS. docs/performance.md says what is measured.
 *   speed [SIZE ...]          all sizes unless told: 100, 1000, 10000, 44000
 */
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { serve } from './api.ts'
import { measureFloor } from './floor.ts'
import type { Size } from './load.ts'
import { plot, table } from './report.ts'
import { type Figures, type Plan, runScenario } from './scenario.ts'

const OUT = join(process.env.LAB_OUT ?? '.', 'speed')
const SHORT: Plan = { churnMinutes: 0, idleMinutes: 0, isThorough: false }

/** What takes minutes is left out, or all but the start and single changes. */
const LESS: Partial<Plan> =
  process.env.LAB_QUICK === 'start'
    ? SHORT
    : process.env.LAB_QUICK === undefined
      ? {}
      : { churnMinutes: 0, idleMinutes: 0 }

const SIZES: readonly (Size & Plan)[] = [
  { services: 100, endpoints: 10, ...SHORT },
  { services: 1_000, endpoints: 10, ...SHORT, churnMinutes: 10 },
  { services: 10_000, endpoints: 10, churnMinutes: 10, idleMinutes: 5, isThorough: true },
  { services: 44_000, endpoints: 1, ...SHORT },
]

/** Runs a part of this program in a network namespace of its own; `heard` is called with each line of JSON. */
async function apart(args: readonly string[], heard: (figures: Figures) => void): Promise<void> {
  const namespace = `speed-${process.pid}`
  execFileSync('ip', ['netns', 'add', namespace])
  execFileSync('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
  const command = [
    'netns',
    'exec',
    namespace,
    process.execPath,
    '--max-old-space-size=3000',
    process.argv[1]!,
    ...args,
  ]
  const child = spawn('ip', command, { stdio: ['ignore', 'pipe', 'inherit'] })
  createInterface({ input: child.stdout }).on('line', (line) => {
    heard(JSON.parse(line) as Figures)
  })
  const [code] = (await once(child, 'close')) as [number | null]
  execFileSync('ip', ['netns', 'del', namespace])
  if (code !== 0) throw new Error(`${args.join(' ')} ended with ${code}`)
}

/** What Node needs to do nothing at all, in MiB. */
function nodeAlone(): number {
  const script =
    "console.log(require('fs').readFileSync('/proc/self/status', 'utf8').match(/VmRSS:\\s*(\\d+)/)[1])"
  return Number(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' })) / 1024
}

async function main(wanted: readonly number[]): Promise<void> {
  mkdirSync(OUT, { recursive: true })
  const results: (Size & { figures: Figures })[] = []
  const alone = nodeAlone()
  for (const { services, endpoints, ...plan } of SIZES) {
    if (wanted.length > 0 && !wanted.includes(services)) continue
    const figures: Figures = { nodeAlone: alone }
    const heard = (more: Figures): void => {
      Object.assign(figures, more)
      console.log(`${services} x ${endpoints}: ${JSON.stringify(more)}`)
    }
    const size = [String(services), String(endpoints)]
    await apart(['floor', ...size], heard)
    await apart(['run', ...size, JSON.stringify({ ...plan, ...LESS })], heard)
    results.push({ services, endpoints, figures })
  }
  const report = table(results)
  writeFileSync(join(OUT, 'report.md'), report)
  writeFileSync(join(OUT, 'cost.svg'), plot(results))
  console.log(`\n${report}`)
}

const print = (figures: Figures): void => {
  console.log(JSON.stringify(figures))
}

const [what = '', services, endpoints, plan = '{}'] = process.argv.slice(2)
const size = { services: Number(services), endpoints: Number(endpoints) }
if (what === 'api') serve()
else if (what === 'floor') void measureFloor(size).then((floor) => (print({ floor }), process.exit(0)))
else if (what === 'run') void runScenario(size, JSON.parse(plan) as Plan, print).then(() => process.exit(0))
else void main(process.argv.slice(2).map(Number))
