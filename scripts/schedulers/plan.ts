/** What is compared with what: ways to choose a Pod, loads, and the requests of a round, the same for the same seed. */
import { parseArgs } from 'node:util'
import { Random } from '../../test/support/random.ts'

export const NODES = 8
export const PODS = 16
/** So many requests a Pod handles at once; others wait for their turn. */
export const SLOTS = 2

/** From 1. */
export const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1)

/** What kube-proxy does in its modes iptables and nftables, and schedulers of IPVS. */
export const CHOICES = ['random', 'rr', 'lc', 'wlc', 'sed', 'mh'] as const
export type Choice = (typeof CHOICES)[number]

export interface Scenario {
  readonly name: string
  readonly title: string
  /** What is uneven, as a sentence; all times are longer by this factor. */
  readonly about: (slower: number) => string
  /** Of what all Pods can do. */
  readonly load: number
  /** Nodes with clients. */
  readonly nodes: number
  /** How many times longer a slow Pod takes: every fourth is one. */
  readonly slowness: number
  /** What a request takes on a Pod that is not slow, in ms; and on average. */
  readonly demand: (random: Random) => number
  readonly meanDemand: number
}

/** In ms. */
const SHORT = 120
const LONG = 2_400
const LONG_SHARE = 0.05
const MEAN = 200

const uneven = {
  about: (slower: number): string =>
    `One of 20 requests takes ${(slower * LONG) / 1_000} s, the others ${slower * SHORT} ms.`,
  load: 0.7,
  slowness: 1,
  demand: (random: Random): number => (random.chance(LONG_SHARE) ? LONG : SHORT),
  meanDemand: LONG_SHARE * LONG + (1 - LONG_SHARE) * SHORT,
}

export const SCENARIOS: readonly Scenario[] = [
  { name: 'requests', title: 'Uneven requests, on 8 nodes', nodes: NODES, ...uneven },
  { name: 'one-node', title: 'Uneven requests, all on 1 node', nodes: 1, ...uneven },
  {
    name: 'pods',
    title: 'Uneven Pods, requests on 8 nodes',
    about: (slower) =>
      `Requests take ${slower * MEAN} ms on average (exponential), on every fourth Pod twice as long.`,
    // With more, whoever gives all Pods as many requests gives the slow ones more than they can do.
    load: 0.5,
    nodes: NODES,
    slowness: 2,
    // Exponential, in whole ms: timers know no others.
    demand: (random) => Math.max(1, Math.round(-MEAN * Math.log(1 - random.next()))),
    meanDemand: MEAN,
  },
]

/** Pods are numbered from 0. */
export const isSlow = (pod: number): boolean => pod % 4 === 3

/** Requests in a ms, where times are not longer. */
export function rateOf({ load, slowness, meanDemand }: Scenario): number {
  const pods = Array.from({ length: PODS }, (_, pod) => (isSlow(pod) ? 1 / slowness : 1))
  return (load * SLOTS * pods.reduce((sum, speed) => sum + speed, 0)) / meanDemand
}

export interface Request {
  /** In ms after the start. */
  readonly at: number
  /** From 1. */
  readonly node: number
  readonly demand: number
}

/** How much is measured. */
export interface Extent {
  readonly rounds: number
  /** Requests of a round that count; before them are a tenth as many that do not, while queues come to their length. */
  readonly count: number
  /** All times are so many times longer, for a lab that is slow, or has not all of its machine. */
  readonly slower: number
}
const DEFAULT: Extent = { rounds: 3, count: 3_400, slower: 1 }
export const QUICK: Extent = { rounds: 1, count: 200, slower: 1 }

/** Each measurement has a virtual IP of its own, of a network of 256. */
const MOST_ROUNDS = 11

/** Of the command line. Throws with what is wrong with it. */
export function extentOf(args: readonly string[]): Extent {
  const { values } = parseArgs({
    args: [...args],
    options: {
      quick: { type: 'boolean' },
      record: { type: 'boolean' },
      rounds: { type: 'string' },
      count: { type: 'string' },
      slower: { type: 'string' },
    },
  })
  const { quick, record } = values
  const extent = quick === true ? QUICK : DEFAULT
  const rounds = Number(values.rounds ?? extent.rounds)
  const count = Number(values.count ?? extent.count)
  const slower = Number(values.slower ?? extent.slower)
  if (!(rounds >= 1 && rounds <= MOST_ROUNDS && count >= 1 && slower >= 1))
    throw new Error(`--rounds is 1 to ${MOST_ROUNDS}, --count and --slower are 1 or more`)
  if (quick === true && record === true) throw new Error('--quick has too few requests to be recorded')
  return { rounds, count, slower }
}

export const warmUpOf = ({ count }: Extent): number => Math.ceil(count / 10)

/**
 * Those of a round, and of its warm-up. They come independently of each other and of the answers (a Poisson process),
 * so that a slow answer delays none.
 */
export function requestsOf(scenario: Scenario, extent: Extent, seed: number): Request[] {
  const random = new Random(seed)
  const rate = rateOf(scenario) / extent.slower
  let at = 0
  return Array.from({ length: warmUpOf(extent) + extent.count }, () => {
    at += -Math.log(1 - random.next()) / rate
    return { at, node: 1 + random.int(scenario.nodes), demand: extent.slower * scenario.demand(random) }
  })
}

export interface Cell {
  readonly scenario: Scenario
  readonly choice: Choice
  /** From 1; its number is the seed of its requests. */
  readonly round: number
}

/** In turns, and each round begins with another choice: the lab is not always equally fast. */
export function cellsOf(rounds: number): Cell[] {
  return numbers(rounds).flatMap((round) =>
    SCENARIOS.flatMap((scenario) => {
      const first = ((round - 1) * 2) % CHOICES.length
      const choices = [...CHOICES.slice(first), ...CHOICES.slice(0, first)]
      return choices.map((choice) => ({ scenario, choice, round }))
    }),
  )
}

// Before a machine is booted for it.
if (import.meta.main)
  try {
    extentOf(process.argv.slice(2))
  } catch (error) {
    console.error((error as Error).message)
    process.exitCode = 2
  }
