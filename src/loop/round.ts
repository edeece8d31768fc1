/** A round: what is ready is planned, applied and believed, until the kernel is as the facts want it. */
import type { Logger } from 'pino'
import type { Address } from '../model/address.ts'
import type { Ledger } from '../model/claims/ledger.ts'
import type { KernelObject, ObjectKey } from '../model/kernel-object.ts'
import type { Plan } from '../plan/plan.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Applier } from './applier.ts'
import type { Auditor } from './audit/auditor.ts'
import { type Batch, runBatches } from './batches.ts'
import { reportConflicts } from './conflicts.ts'
import type { Drainer } from './drainer.ts'
import type { Queue } from './queue.ts'
import type { Reporter } from './reporter.ts'
import type { Watchdog } from './watchdog.ts'

/** After so long, facts that have changed meanwhile get their turn. */
const TURN_MS = 500

export interface RoundOptions {
  readonly ledger: Ledger
  readonly queue: Queue
  readonly auditor: Auditor
  readonly applier: Applier
  readonly drainer: Pick<Drainer, 'watch'>
  readonly watchdog: Pick<Watchdog, 'noteProgress'>
  readonly reporter: Pick<Reporter, 'conflicts'>
  readonly log: Logger
  readonly metrics: Pick<Metrics, 'setFailing'>
  /** Addresses on which nothing is deleted, unless it is proven to be ours. */
  readonly isExcluded: (address: Address) => boolean
  /** Called after a turn with the addresses that cannot be bound, and why: when there are some, or were. */
  readonly onAddressesRefused: (reasons: ReadonlyMap<Address, string>) => void
  /** Monotonic, in ms. */
  readonly now: () => number
}

export class Round {
  readonly #options: RoundOptions
  /** Objects that failed when that was last reported. */
  #reported = 0

  constructor(options: RoundOptions) {
    this.#options = options
  }

  /** Everything has been brought into the kernel that it takes, and nothing waits. */
  get isOver(): boolean {
    const { queue } = this.#options
    return queue.count('ready') + queue.count('held') === 0
  }

  /** Brings these objects into the kernel, however long it takes. Throws when it does not answer as it should. */
  async bring(objects: Iterator<KernelObject>): Promise<void> {
    await this.#run(objects, Infinity)
  }

  /** Brings what is ready into the kernel for a while. Where `mayHold`, many deletions let others be made first. */
  async turn(mayHold: boolean): Promise<void> {
    const { ledger, queue, now } = this.#options
    const isWanted = (key: ObjectKey): boolean => ledger.wanted(key) !== undefined
    const objects = mayHold ? queue.next(isWanted) : queue.ready(isWanted)
    await this.#run(objects.values(), now() + TURN_MS)
    this.#reportFailures()
  }

  #planObjects(plan: Plan, objects: readonly KernelObject[]): void {
    const { ledger, auditor, reporter, isExcluded } = this.#options
    const { known, foreign } = auditor
    reportConflicts(objects, { ledger, foreign, reporter })
    plan.add(objects, { wanted: (key) => ledger.wanted(key), known, foreign, isExcluded })
  }

  async #run(objects: Iterator<KernelObject>, until: number): Promise<void> {
    const { queue, now } = this.#options
    await runBatches(objects, until, {
      queue,
      planObjects: (plan, planned) => {
        this.#planObjects(plan, planned)
      },
      apply: (batch) => this.#apply(batch),
      now,
    })
  }

  async #apply({ objects, operations }: Batch): Promise<void> {
    const { applier, queue, watchdog, log } = this.#options
    if (operations.length > 0) watchdog.noteProgress()
    await applier.apply(operations, 'changes applied')
    for (const object of objects) {
      this.#adopt(object)
      // What was refused is under way no longer.
      if (queue.succeed(object.key)) log.info({ object: object.key }, 'recovered')
    }
  }

  /** A virtual server that a Service wants is ours from now on, and so is the draining of its real servers. */
  #adopt({ kind, key }: KernelObject): void {
    const { ledger, auditor, drainer } = this.#options
    if (kind !== 'virtualServer' || ledger.wanted(key) === undefined) return
    auditor.prove(key)
    drainer.watch(key)
  }

  #reportFailures(): void {
    const { ledger, queue, metrics, onAddressesRefused } = this.#options
    if (queue.failing === 0 && this.#reported === 0) return
    this.#reported = queue.failing
    metrics.setFailing(queue.failing)
    const refused = [...queue.failures()].flatMap(({ object: { kind, key }, reason }) =>
      kind === 'address' && ledger.wanted(key) !== undefined ? [[key, reason] as const] : [],
    )
    onAddressesRefused(new Map(refused))
  }
}
