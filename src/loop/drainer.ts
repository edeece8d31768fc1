/** Looks after real servers that get no new connections until their last one has ended. */
import type { Kernel } from '../kernel/kernel.ts'
import type { Ledger } from '../model/claims/ledger.ts'
import type { KernelState } from '../model/kernel-object.ts'
import { objectOf, type Operation } from '../model/operation.ts'
import type { RealServerKey, VirtualServerKey } from '../model/virtual-server.ts'
import type { Metrics } from '../serve/metrics.ts'
import { type GoneSince, isDraining, planDrain } from '../plan/drain.ts'
import type { Applier } from './applier.ts'
import type { Watchdog } from './watchdog.ts'

/** How often drained real servers are looked for; at most a twentieth of the time is spent on it. */
const INTERVAL_MS = 2_000
const SHARE = 20

const NONE: GoneSince = new Map()

export interface DrainerOptions {
  readonly kernel: Kernel
  readonly known: KernelState
  readonly ledger: Pick<Ledger, 'virtualServer'>
  readonly applier: Pick<Applier, 'apply'>
  readonly watchdog: Pick<Watchdog, 'noteProgress'>
  readonly metrics: Pick<Metrics, 'drained' | 'setDraining'>
  /** How long connections to an endpoint that is gone may last. */
  readonly drainDeadlineMs: number
  readonly now: () => number
}

export class Drainer {
  readonly #options: DrainerOptions
  readonly #draining = new Map<VirtualServerKey, GoneSince>()
  #dueAt = Infinity
  #left = 0

  constructor(options: DrainerOptions) {
    this.#options = options
  }

  /** When to call `drain` next; Infinity while nothing drains. */
  get dueAt(): number {
    return this.#dueAt
  }

  /** Virtual servers of which something drains, as far as it has been noticed. */
  get draining(): readonly VirtualServerKey[] {
    return [...this.#draining.keys()]
  }

  /** When those of a virtual server whose Pods are gone are deleted at the latest, in ms of the clock. */
  endsOf(key: VirtualServerKey): ReadonlyMap<RealServerKey, number> {
    const since = this.#draining.get(key) ?? NONE
    return new Map([...since].map(([real, from]) => [real, from + this.#options.drainDeadlineMs]))
  }

  /** Notices real servers of a virtual server that have begun to drain. State is derived: weight 0 and not wanted. */
  watch(key: VirtualServerKey): void {
    const { known, ledger, now } = this.#options
    for (const realServer of known.virtualServers.get(key)?.realServers.values() ?? []) {
      if (!isDraining(realServer, ledger.virtualServer(key)) || this.#draining.has(key)) continue
      this.#draining.set(key, new Map())
      this.#dueAt = Math.min(this.#dueAt, now())
    }
  }

  /** Deletes what has drained. Throws when the kernel does not answer as it should. */
  async drain(): Promise<void> {
    const { applier, watchdog, metrics } = this.#options
    const deletions = await this.#plan()
    if (deletions.length > 0) watchdog.noteProgress()
    const failed = await applier.apply(deletions, 'drained')
    metrics.drained(deletions.filter((operation) => !failed.has(objectOf(operation).key)).length)
    metrics.setDraining(this.#left)
  }

  /** Asks the kernel for connections, and returns the deletions of what has drained. Throws when it cannot read. */
  async #plan(): Promise<Operation[]> {
    const { kernel, known, ledger, drainDeadlineMs: deadlineMs, now } = this.#options
    const started = now()
    const ids = [...this.#draining.keys()].flatMap((key) => known.virtualServers.get(key)?.id ?? [])
    const observed = await kernel.readRealServers(ids)
    const before = new Map(this.#draining)
    this.#draining.clear()
    this.#left = 0
    const operations: Operation[] = []
    for (const of of ids) {
      const drain = planDrain({
        of,
        wanted: ledger.virtualServer(of.key),
        observed: observed.get(of.key) ?? [],
        goneSince: before.get(of.key) ?? NONE,
        now: started,
        deadlineMs,
      })
      operations.push(...drain.operations)
      this.#left += drain.left
      if (drain.left > 0) this.#draining.set(of.key, drain.draining)
    }
    const pause = Math.max(INTERVAL_MS, (now() - started) * SHARE)
    this.#dueAt = this.#left > 0 ? now() + pause : Infinity
    return operations
  }
}
