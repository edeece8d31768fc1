/** Keeps the rules of iptables as they should be: written at the start, and again when they have drifted. */
import type { Logger } from 'pino'
import type { Filter } from '../kernel/filter/filter.ts'
import type { Bell } from '../waiting/doorbell.ts'
import type { Family } from '../model/address.ts'
import { backoffMs } from '../waiting/backoff.ts'
import type { Cluster } from '../model/facts/cluster.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Current } from './current.ts'
import { ruleOptions } from './mapping.ts'

/** Each attempt starts processes. */
const FIRST_RETRY_MS = 1_600
const LONGEST_RETRY_MS = 60_000

export interface RuleKeeperOptions {
  readonly families: Iterable<Family>
  /** Looks at the rules of a family and repairs them; returns whether it had to. Throws an Error with a remedy. */
  readonly ensure: (family: Family) => Promise<boolean>
  /** Called whenever the rules of a family could not be looked at, or repaired. */
  readonly onFailure: (family: Family) => void
  /** Called after each look at all families, with what is wrong with the rules of each. */
  readonly onLook: (complaints: ReadonlyMap<Family, string>) => void
  readonly intervalMs: () => number
  /** Rung when the rules may have to be others. */
  readonly bell: Bell
  readonly log: Logger
  readonly signal: AbortSignal
}

export class RuleKeeper {
  readonly #options: RuleKeeperOptions
  /** What is wrong with the rules of a family, and has been said. */
  readonly #complaints = new Map<Family, string>()
  #failures = 0

  constructor(options: RuleKeeperOptions) {
    this.#options = options
  }

  /** One look at all families. What goes wrong is said once, and costs nothing but the rules. */
  async ensure(): Promise<void> {
    await Promise.all([...this.#options.families].map((family) => this.#ensure(family)))
    this.#failures = this.#complaints.size > 0 ? this.#failures + 1 : 0
    this.#options.onLook(this.#complaints)
  }

  /** Looks again and again until the signal aborts. */
  async keep(): Promise<void> {
    const { bell, intervalMs, signal } = this.#options
    for (;;) {
      const retryMs =
        this.#failures > 0 ? backoffMs(this.#failures, FIRST_RETRY_MS, LONGEST_RETRY_MS) : Infinity
      await bell.wait(Math.min(retryMs, intervalMs()), signal)
      if (signal.aborted) return
      await this.ensure()
    }
  }

  async #ensure(family: Family): Promise<void> {
    const { ensure, onFailure, log, signal } = this.#options
    try {
      if (await ensure(family)) log.info({ family }, 'wrote the rules of iptables')
      if (this.#complaints.delete(family)) {
        log.info({ family }, 'the rules of iptables are as they should be again')
      }
    } catch (err) {
      // Its programs have been ended.
      if (signal.aborted) return
      log.debug({ err, family }, 'iptables failed')
      onFailure(family)
      const reason = (err as Error).message
      if (reason === this.#complaints.get(family)) return
      this.#complaints.set(family, reason)
      log.error({ reason, family }, 'cannot keep the rules of iptables: masquerading may not work')
    }
  }
}

export interface KeptRules extends Pick<RuleKeeperOptions, 'onLook' | 'bell' | 'log' | 'signal'> {
  readonly families: ReadonlySet<Family>
  readonly filter: Pick<Filter, 'ensure'>
  readonly cluster: Cluster
  readonly current: Pick<Current, 'config'>
  readonly metrics: Pick<Metrics, 'restoreFailed'>
}

/** Writes the rules before anything is served, and keeps them. Throws when the signal aborts before they are there. */
export async function keepRules(input: KeptRules): Promise<void> {
  const { families, filter, cluster, current, metrics, onLook, bell, log, signal } = input
  const ensure = async (family: Family): Promise<boolean> => {
    const options = ruleOptions({ config: current.config, cluster }, family)
    return (await filter.ensure(family, options)) === 'written'
  }
  const keeper = new RuleKeeper({
    ...{ families, ensure, onLook, bell, log, signal },
    onFailure: (family) => {
      metrics.restoreFailed(family)
    },
    intervalMs: () => current.config.syncPeriodMs,
  })
  await keeper.ensure()
  signal.throwIfAborted()
  void keeper.keep()
}
