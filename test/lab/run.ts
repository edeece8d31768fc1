/**
 * Runs the lab tests on the machine that has IPVS: each file in a network namespace of its own, three at a time.
 *   run              all but those that need a machine of their own
 *   run beside       those that keep one processor busy, one at a time: the other one is for the tests on the host
 *   run rest         all but these
 *   run NAME         the files with NAME in theirs
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { OWN_RUN } from '../support/lab.ts'
import { confined } from '../support/pod.ts'

const BUNDLES = join(process.cwd(), '.cache/bundles')
const OUT = process.env.LAB_OUT ?? '.'
const AT_ONCE = 3
/** Command after command, each with nothing else to wait for. */
const BESIDE = ['doctor.lab', 'inspection.lab']
/** The kernel's own suite runs with what the DaemonSet's main container has, but for sysctls, which are a part of it. */
const CONFINED = ['kernel.lab']
/** These take minutes: they begin first, so that the machine is not left with one of them in the end. */
const LONG = [
  'crash',
  'vip-binding',
  'repair',
  'api',
  'bad-input',
  'hostile',
  'routes',
  'faults',
  'rules',
  'services',
  'traffic',
  'conntrack',
  'ranges',
  'iptables',
]

interface Result {
  readonly stats: {
    readonly passes: number
    readonly failures: number
    readonly pending: number
    readonly duration: number
  }
  readonly failures: Result['tests']
  readonly tests: readonly {
    readonly fullTitle: string
    readonly duration?: number
    readonly err: {
      readonly message?: string
      readonly stack?: string
      readonly expected?: string
      readonly actual?: string
    }
  }[]
}

const totals = { passed: 0, failed: 0 }
/** What has failed, to be said once more in the end. */
const failures: string[] = []

function tellFailure(text: string): void {
  console.log(text)
  failures.push(text)
}

/** Each file is a node. */
async function runFile(name: string): Promise<void> {
  const namespace = `lab-${name}`
  const output = join(OUT, `${name}.json`)
  // What an earlier run has left is no result of this one.
  rmSync(output, { force: true })
  execFileSync('ip', ['netns', 'add', namespace])
  const mocha = join(process.cwd(), 'node_modules/mocha/bin/mocha.js')
  const args = [
    '--no-config',
    '--no-package',
    '--forbid-only',
    '--exit',
    '--timeout',
    '300000',
    '--reporter',
    'json',
    '--reporter-option',
    `output=${output}`,
  ]
  const child = spawn(
    'ip',
    [
      'netns',
      'exec',
      namespace,
      ...OWN_RUN,
      ...(CONFINED.includes(name) ? confined([]) : []),
      process.execPath,
      mocha,
      ...args,
      ...process.argv.slice(3),
      join(BUNDLES, `${name}.cjs`),
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  )
  await once(child, 'exit')
  report(name, existsSync(output) ? (JSON.parse(readFileSync(output, 'utf8')) as Result) : undefined)
  execFileSync('ip', ['netns', 'del', namespace])
}

function describeError({ message, stack, expected, actual }: Result['tests'][number]['err']): string {
  const difference = actual === undefined ? '' : `\nexpected ${expected}\nactual ${actual}`
  return `${stack ?? message}${difference}`.replaceAll(/^/gm, '        ')
}

/** A test that is pending, or a file without any, has shown nothing: it counts as failed. */
function report(name: string, result: Result | undefined): void {
  if (result === undefined || result.tests.length + result.failures.length === 0) {
    totals.failed++
    tellFailure(`\n  ${name}\n    ✘ ended without a result`)
    return
  }
  console.log(`\n  ${name} (${(result.stats.duration / 1000).toFixed(0)} s)`)
  for (const { fullTitle, duration, err } of result.tests) {
    const title = `${fullTitle}${duration === undefined ? ' (pending)' : ` (${duration} ms)`}`
    if (err.message !== undefined) tellFailure(`    ✘ ${name}: ${title}\n${describeError(err)}`)
    else if (duration === undefined) tellFailure(`    ✘ ${name}: ${title}`)
    else console.log(`    ✔ ${title}`)
  }
  // A hook that fails is no test.
  for (const { fullTitle, err } of result.failures) {
    if (result.tests.some((test) => test.fullTitle === fullTitle)) continue
    tellFailure(`    ✘ ${name}: ${fullTitle}\n${describeError(err)}`)
  }
  totals.passed += result.stats.passes
  totals.failed += result.stats.failures + result.stats.pending
}

/** Files that need a machine of their own run only by name. */
const wanted = process.argv[2]
function isWanted(name: string): boolean {
  if (wanted === 'beside') return BESIDE.includes(name)
  if (name.startsWith('poor-kernel')) return wanted?.startsWith('poor') === true
  if (wanted === 'rest') return !BESIDE.includes(name)
  return name.includes(wanted ?? '')
}
const place = (name: string): number => LONG.findIndex((long) => name.startsWith(long)) >>> 0
const queue = readdirSync(BUNDLES)
  .filter((file) => file.endsWith('.lab.cjs'))
  .map((file) => file.replace('.cjs', ''))
  .filter(isWanted)
  .sort((a, b) => place(a) - place(b))
const worker = async (): Promise<void> => {
  for (let name = queue.shift(); name !== undefined; name = queue.shift()) await runFile(name)
}
/** Limits of the whole machine, which no namespace may change: as kube-proxy's configuration has them. */
function raiseLimits(): void {
  const script = `
    modprobe nf_conntrack
    sysctl -qw net.netfilter.nf_conntrack_max=131072
    echo 32768 > /sys/module/nf_conntrack/parameters/hashsize`
  spawnSync('sh', ['-ec', script], { stdio: 'ignore' })
}

async function main(): Promise<void> {
  raiseLimits()
  if (queue.length === 0) {
    totals.failed++
    tellFailure(`    ✘ no file of lab tests has ${wanted} in its name`)
  }
  await Promise.all(Array.from({ length: wanted === 'beside' ? 1 : AT_ONCE }, worker))
  // The one table that is worth reading whole.
  const matrix = join(OUT, 'matrix.txt')
  if (existsSync(matrix))
    console.log(`\n  Who answers whom, packet by packet\n\n${readFileSync(matrix, 'utf8')}`)
  const figures = join(OUT, 'figures.txt')
  if (existsSync(figures)) console.log(`\n  Measured\n${readFileSync(figures, 'utf8')}`)
  writeFileSync(join(OUT, 'lab-failures'), failures.map((failure) => `${failure}\n`).join(''))
  writeFileSync(join(OUT, 'lab-results'), `${totals.passed} ${totals.failed}\n`)
  process.exitCode = totals.failed > 0 ? 1 : 0
}

void main()
