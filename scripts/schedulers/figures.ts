/** What rounds come to: latencies at 50, 99 and 99.9 %, how far rounds differ, and whether the lab was in the way. */
import { type Choice, CHOICES, type Extent, numbers, requestsOf, SCENARIOS, warmUpOf } from './plan.ts'

export const PERCENTS = [50, 99, 99.9] as const

/** The lowest value that so many of a hundred do not exceed, of values in ascending order. */
export function percentile(ascending: readonly number[], percent: number): number {
  // Rounded first: 99.9 / 100 * 1000 is a little more than 999.
  const rank = Math.ceil(Number(((percent / 100) * ascending.length).toFixed(6)))
  return ascending[Math.max(rank, 1) - 1]!
}

export const ascending = (values: readonly number[]): number[] => values.toSorted((a, b) => a - b)

/** What one round of one choice has shown; all in ms. */
export interface Round {
  readonly kernel: string
  readonly scenario: string
  readonly choice: Choice
  readonly round: number
  readonly failures: number
  readonly latencies: readonly number[]
  /** What the lab itself took. */
  readonly overhead: { readonly median: number; readonly at99: number }
  /** How late requests were sent. */
  readonly lag99: number
  /** Processors in use, of all. */
  readonly busy: number
  /** Requests by Pod. */
  readonly pods: readonly number[]
  /** How often it was measured, until the lab was not in the way. */
  readonly attempts: number
}

/** More than this, and it is the lab that was measured; ms where times are not longer. */
export const LIMITS = { overhead99: 40, lag99: 20, busy: 0.85 }

/** Why a round shows the lab rather than the scheduler; nothing where it does not. */
export function disturbances(
  { overhead, lag99, busy }: Pick<Round, 'overhead' | 'lag99' | 'busy'>,
  { slower }: Pick<Extent, 'slower'>,
): string[] {
  const late = lag99 > slower * LIMITS.lag99
  return [
    ...(overhead.at99 > slower * LIMITS.overhead99
      ? [`the lab took ${overhead.at99.toFixed(0)} ms of a request`]
      : []),
    ...(late ? [`requests were sent ${lag99.toFixed(0)} ms late`] : []),
    ...(busy > LIMITS.busy ? [`processors were in use for ${(100 * busy).toFixed(0)} %`] : []),
  ]
}

/** Of all rounds together; and the lowest and highest of single rounds. */
export interface Spread {
  readonly all: number
  readonly low: number
  readonly high: number
}

function spreadOf(rounds: readonly (readonly number[])[], percent: number): Spread {
  const each = rounds.map((round) => percentile(ascending(round), percent))
  const all = percentile(ascending(rounds.flat()), percent)
  const [thisAll, low, high] = [all, Math.min(...each), Math.max(...each)].map(Math.round)
  return { all: thisAll!, low: low!, high: high! }
}

export interface Row {
  readonly scenario: string
  readonly choice: Choice | 'none'
  /** For each of PERCENTS. */
  readonly latency: readonly Spread[]
}

export interface Result {
  readonly kernel: string
  readonly extent: Extent
  /** For each scenario: each choice, and `none`: what remains where no request ever waits. */
  readonly rows: readonly Row[]
  readonly failures: number
  /** Rounds that were measured once more. */
  readonly repeated: number
  /** The worst round's. */
  readonly lab: {
    readonly median: number
    readonly at99: number
    readonly lag99: number
    readonly busy: number
  }
}

/** The requests' own times, on Pods that are not slow. */
function withoutWaiting(extent: Extent): Row[] {
  return SCENARIOS.map((scenario) => {
    const demands = numbers(extent.rounds).map((round) =>
      requestsOf(scenario, extent, round)
        .slice(warmUpOf(extent))
        .map(({ demand }) => demand),
    )
    return {
      scenario: scenario.name,
      choice: 'none',
      latency: PERCENTS.map((percent) => spreadOf(demands, percent)),
    }
  })
}

export function summarize(rounds: readonly Round[], extent: Extent): Result {
  const rows = SCENARIOS.flatMap(({ name }) =>
    CHOICES.map((choice): Row => {
      const own = rounds.filter((round) => round.scenario === name && round.choice === choice)
      const latencies = own.map((round) => round.latencies)
      return { scenario: name, choice, latency: PERCENTS.map((percent) => spreadOf(latencies, percent)) }
    }),
  )
  const worst = (of: (round: Round) => number, digits: number): number =>
    Number(Math.max(...rounds.map(of)).toFixed(digits))
  return {
    kernel: rounds[0]!.kernel,
    extent,
    rows: [...rows, ...withoutWaiting(extent)],
    failures: rounds.reduce((sum, { failures }) => sum + failures, 0),
    repeated: rounds.reduce((sum, { attempts }) => sum + attempts - 1, 0),
    lab: {
      median: worst(({ overhead }) => overhead.median, 0),
      at99: worst(({ overhead }) => overhead.at99, 0),
      lag99: worst(({ lag99 }) => lag99, 0),
      busy: worst(({ busy }) => busy, 2),
    },
  }
}
