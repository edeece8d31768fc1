/** Takes what has changed in the cluster, and has it mapped: not more often than asked for. */
import type { Cluster, Trigger } from '../../model/facts/cluster.ts'
import type { Mapper } from './mapper.ts'
import type { Watchdog } from '../watchdog.ts'

export interface IntakeOptions {
  readonly cluster: Pick<Cluster, 'takeTriggers'>
  readonly mapper: Mapper
  readonly watchdog: Pick<Watchdog, 'noteProgress'>
  readonly minSyncPeriodMs: () => number
  /** Called whenever the kernel is as the facts want it, as far as it lets us, with what had led to the changes. */
  readonly onSettled: (triggers: readonly Trigger[]) => void
  /** Monotonic, in ms. */
  readonly now: () => number
}

export class Intake {
  readonly #options: IntakeOptions
  /** Of the changes that are on their way into the kernel. */
  #triggers: Trigger[] = []
  /** Since when there are such changes. */
  #startedAt: number | undefined
  #dueAt = 0

  constructor(options: IntakeOptions) {
    this.#options = options
  }

  /** When changes may be taken again: 0 for at once. */
  get dueAt(): number {
    return this.#dueAt
  }

  /** Takes what has changed; false when that concerns no Service. */
  take(): boolean {
    const { cluster, mapper, watchdog, now } = this.#options
    this.#dueAt = 0
    this.#triggers.push(...cluster.takeTriggers())
    if (!mapper.takeChanges()) return false
    watchdog.noteProgress()
    this.#startedAt ??= now()
    return true
  }

  /** Turns every Service that has changed into claims, before anything is planned: a conflict needs all sides. */
  async absorb(): Promise<void> {
    if (this.take()) await this.#options.mapper.mapTaken()
  }

  /** Notes the start of a round, unless there is one. */
  begin(): void {
    this.#startedAt ??= this.#options.now()
  }

  /** Everything that was taken is in the kernel. Returns for how long it was on its way, in ms. */
  finish(): number | undefined {
    const { now, minSyncPeriodMs } = this.#options
    const tookMs = this.#startedAt === undefined ? undefined : now() - this.#startedAt
    this.#startedAt = undefined
    this.#dueAt = now() + minSyncPeriodMs()
    this.settle()
    return tookMs
  }

  /** The kernel is as the facts want it. */
  settle(): void {
    this.#options.onSettled(this.#triggers)
    this.#triggers = []
  }
}
