/**
 * What schedulers bring: the latency of requests where eight nodes choose Pods at random, or with schedulers of IPVS.
 * scripts/experiment runs it in the lab; docs/migrating.md says what came out.
 */
import { appendFileSync, readFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { ascending, disturbances, percentile, PERCENTS, type Round } from './figures.ts'
import { buildNodes, type Nodes } from './nodes.ts'
import { type Cell, cellsOf, type Extent, extentOf, PODS, QUICK, requestsOf, warmUpOf } from './plan.ts'
import { type Answer, askAll, type Failure } from './traffic.ts'

const ROUNDS = join(process.env.LAB_OUT ?? '.', 'rounds.jsonl')
/** Rounds in which the lab was in the way are measured once more: so many in one run. */
const REPETITIONS = 36

/** Time of all processors since the start: in use, and all. */
function processorTime(): { used: number; all: number } {
  const [, ...times] = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.split(/ +/).map(Number)
  const all = times.slice(0, 8).reduce((sum, time) => sum + time, 0)
  const [idle, waiting] = times.slice(3, 5)
  return { used: all - idle! - waiting!, all }
}

async function measure(cell: Cell, address: string, extent: Extent): Promise<Omit<Round, 'attempts'>> {
  const { scenario, choice, round } = cell
  const before = processorTime()
  const outcomes = await askAll(requestsOf(scenario, extent, round), address, scenario)
  const after = processorTime()
  const answers = outcomes
    .slice(warmUpOf(extent))
    .filter((outcome): outcome is Answer => !('error' in outcome))
  const failures = outcomes.filter((outcome): outcome is Failure => 'error' in outcome)
  for (const error of new Set(failures.map((failure) => failure.error)))
    console.log(`A request failed: ${error}`)
  const at = (of: keyof Answer, percent: number): number =>
    percentile(ascending(answers.map((answer) => answer[of])), percent)
  return {
    ...{ kernel: release(), scenario: scenario.name, choice, round },
    failures: failures.length,
    latencies: answers.map(({ latency }) => Math.round(latency)),
    overhead: { median: at('overhead', 50), at99: at('overhead', 99) },
    lag99: at('lag', 99),
    busy: (after.used - before.used) / (after.all - before.all),
    pods: Array.from({ length: PODS }, (_, pod) => answers.filter((answer) => answer.pod === pod).length),
  }
}

/** A line for who waits. */
function tell(
  { scenario, choice, round, latencies, ...rest }: Omit<Round, 'attempts'>,
  faults: readonly string[],
): void {
  const { failures, overhead, lag99, busy, pods } = rest
  const at = PERCENTS.map((percent) => percentile(ascending(latencies), percent))
  const lab = [overhead.median, overhead.at99, lag99].map((ms) => ms.toFixed(1))
  console.log(
    `round ${round}, ${scenario}, ${choice}: ${at.join(', ')} ms; ${failures} failed; ` +
      `${Math.min(...pods)} to ${Math.max(...pods)} for a Pod; ` +
      `lab ${lab.join(', ')} ms, ${(100 * busy).toFixed(0)} % in use${faults.map((fault) => `; ${fault}`).join('')}`,
  )
}

/** All cells, each until the lab was not in the way; throws where it is too often. */
async function measureAll(nodes: Nodes, cells: readonly Cell[], extent: Extent): Promise<void> {
  let measured = 0
  const next = async (cell: Cell, of: Extent): ReturnType<typeof measure> =>
    measure(cell, await nodes.use(cell.choice, ++measured), of)
  // Code runs for the first time: this does not count.
  await next(cells[0]!, { ...QUICK, slower: extent.slower })
  for (const cell of cells)
    for (let attempts = 1; ; attempts++) {
      const round = await next(cell, extent)
      const faults = disturbances(round, extent)
      tell(round, faults)
      if (faults.length === 0) {
        appendFileSync(ROUNDS, `${JSON.stringify({ ...round, attempts } satisfies Round)}\n`)
        break
      }
      if (measured === 1 + cells.length + REPETITIONS)
        throw new Error('The lab is too slow, or busy: begin again with --slower 2')
    }
}

async function run(extent: Extent): Promise<void> {
  const cells = cellsOf(extent.rounds)
  const nodes = await buildNodes(1 + cells.length + REPETITIONS)
  try {
    await measureAll(nodes, cells, extent)
  } finally {
    await nodes.end()
  }
}

void run(extentOf(process.argv.slice(2))).then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(error)
    process.exit(1)
  },
)
