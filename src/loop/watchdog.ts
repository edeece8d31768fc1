/** Notices a loop that turns without doing anything: a fault of ours, which must not hold up everything else. */
import type { Logger } from 'pino'
import type { Metrics } from '../serve/metrics.ts'

/** The loop needs a few rounds to find that there is nothing to do. */
const MOST_IDLE_ROUNDS = 100
/** Then it has to rest for so long after each further round. */
const REST_MS = 1_000

export class Watchdog {
  readonly #log: Logger
  readonly #metrics: Pick<Metrics, 'turned'>
  /** Rounds in a row in which nothing was done, taken or waited for. */
  #idle = 0
  #isSaid = false

  constructor({ log, metrics }: { readonly log: Logger; readonly metrics: Pick<Metrics, 'turned'> }) {
    this.#log = log
    this.#metrics = metrics
  }

  /** Something was done: an operation, a part of an audit, or changes were taken. */
  noteProgress(): void {
    this.#idle = 0
  }

  /** A round is over, after which the loop wants to rest for `wantedMs`. Returns for how long it has to. */
  rest(wantedMs: number): number {
    this.#idle = wantedMs > 0 ? 0 : this.#idle + 1
    const isIdle = this.#idle > MOST_IDLE_ROUNDS
    this.#metrics.turned(isIdle)
    if (!isIdle) return Math.max(0, wantedMs)
    if (!this.#isSaid) {
      this.#isSaid = true
      const remedy = 'serving goes on, but slowly: please report it, with this log'
      this.#log.error(
        { rounds: this.#idle, remedy },
        'the loop turns and does nothing, which is a fault of ours',
      )
    }
    return REST_MS
  }
}
