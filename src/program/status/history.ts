/** What the plots of the status page show: a sample every ten seconds, of the last half an hour. */
import type { Registry } from 'prom-client'
import type { Sample } from '../../view/documents.ts'

export const INTERVAL_MS = 10_000
const SAMPLES = 180
/** Latencies of one interval that are kept; of more, only the longest counts. */
const LATENCIES = 10_000

export interface HistoryOptions {
  readonly registry: Pick<Registry, 'getSingleMetric'>
  /** New connections so far; undefined where the kernel does not tell. */
  readonly readConnectionTotal: () => Promise<number | undefined>
  /** In ms since the epoch. */
  readonly now: () => number
}

interface Counts {
  readonly at: number
  readonly changes: number
  readonly connections: number | undefined
}

/** What a metric has now, whatever its labels. */
export async function valueOf(registry: HistoryOptions['registry'], name: string): Promise<number> {
  const { values } = (await registry.getSingleMetric(name)?.get()) ?? { values: [] }
  return values.reduce((sum, { value }) => sum + value, 0)
}

/** As exact as a plot is: it is sent again and again. */
const rounded = (value: number): number => Number(value.toPrecision(3))

export class History {
  readonly #options: HistoryOptions
  readonly #samples: Sample[] = []
  #latencies: number[] = []
  #longest = 0
  #before: Counts | undefined

  constructor(options: HistoryOptions) {
    this.#options = options
  }

  /** The oldest first. */
  get samples(): readonly Sample[] {
    return this.#samples
  }

  /** A change has come into the kernel so many seconds after it came into the cluster. */
  programmed(seconds: number): void {
    if (this.#latencies.length < LATENCIES) this.#latencies.push(seconds)
    this.#longest = Math.max(this.#longest, seconds)
  }

  /** The first call only begins an interval. */
  async sample(): Promise<void> {
    const before = this.#before
    const counts = await this.#count()
    this.#before = counts
    const latency = this.#takeLatency()
    if (before === undefined) return
    const seconds = Math.max(1, counts.at - before.at) / 1_000
    const connections = (counts.connections ?? NaN) - (before.connections ?? NaN)
    this.#samples.push({
      at: counts.at,
      ...(latency && { latency }),
      changes: rounded((counts.changes - before.changes) / seconds),
      // They begin anew when somebody zeroes the counters, or loads the module again.
      ...(connections >= 0 && { connections: rounded(connections / seconds) }),
    })
    if (this.#samples.length > SAMPLES) this.#samples.shift()
  }

  async #count(): Promise<Counts> {
    const { registry, readConnectionTotal, now } = this.#options
    const changes = await valueOf(registry, 'kube_ipvs_kernel_changes_total')
    return { connections: await readConnectionTotal(), changes, at: now() }
  }

  #takeLatency(): Sample['latency'] {
    const latencies = this.#latencies.sort((a, b) => a - b)
    const max = this.#longest
    this.#latencies = []
    this.#longest = 0
    if (latencies.length === 0) return undefined
    return { median: rounded(latencies[latencies.length >> 1]!), max: rounded(max) }
  }
}
