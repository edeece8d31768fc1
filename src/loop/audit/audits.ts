/** When audits are made, and what is done about what they find. */
import type { Logger } from 'pino'
import type { Ledger } from '../../model/claims/ledger.ts'
import { addressOf, type KernelObject, type ObjectKey } from '../../model/kernel-object.ts'
import type { Difference } from '../../plan/audit.ts'
import type { Metrics } from '../../serve/metrics.ts'
import type { Journal } from '../../view/journal.ts'
import type { Bell } from '../../waiting/doorbell.ts'
import type { Auditor } from './auditor.ts'
import type { Queue } from '../queue.ts'
import type { Watchdog } from '../watchdog.ts'

/** At most a hundredth of a processor is spent on audits, but each comes before twenty of its intervals are over. */
const SHARE = 100
const LONGEST_PAUSE = 20
/** Differences above this number are counted, not listed. */
const LISTED = 10

export interface AuditsOptions {
  readonly auditor: Auditor
  readonly ledger: Ledger
  readonly queue: Queue
  readonly watchdog: Pick<Watchdog, 'noteProgress'>
  readonly doorbell: Bell
  readonly log: Logger
  readonly metrics: Pick<Metrics, 'audited' | 'repaired'>
  readonly journal?: Journal | undefined
  readonly auditIntervalMs: () => number
  /** Monotonic, in ms. */
  readonly now: () => number
  /** Time of processors that this process has used, in ms. */
  readonly cpuMs: () => number
}

export class Audits {
  readonly #options: AuditsOptions
  #dueAt = 0
  #spentMs = 0

  constructor(options: AuditsOptions) {
    this.#options = options
  }

  /** When to call `begin`; Infinity while an audit is under way. */
  get dueAt(): number {
    return this.#options.auditor.underWay ? Infinity : this.#dueAt
  }

  /** The kernel is not as we believed: an audit is due. */
  hasten(): void {
    this.#dueAt = 0
  }

  /** The tables are read while changes go on; then it is time for `step`. */
  begin(): void {
    const { auditor, cpuMs, doorbell } = this.#options
    const started = cpuMs()
    auditor.begin(() => {
      this.#spentMs += cpuMs() - started
      doorbell.ring()
    })
  }

  /** Goes on with the audit for a while. Returns whether it has ended. Throws when the kernel cannot be read. */
  async step(): Promise<boolean> {
    const { auditor, cpuMs, watchdog } = this.#options
    const started = cpuMs()
    const foreign = auditor.foreign
    watchdog.noteProgress()
    this.#repair(await auditor.step())
    this.#queueTaken(foreign, auditor.foreign)
    this.#spentMs += cpuMs() - started
    if (auditor.underWay) return false
    this.finish()
    return true
  }

  /** All of the kernel has just been read: the next audit comes after a pause. */
  finish(): void {
    const { now, metrics, auditIntervalMs } = this.#options
    const interval = auditIntervalMs()
    const pause = Math.min(this.#spentMs * SHARE, interval * LONGEST_PAUSE)
    this.#dueAt = now() + Math.max(interval, pause)
    this.#spentMs = 0
    metrics.audited()
  }

  /** Queues what is wanted on addresses that somebody else has taken, or left. */
  #queueTaken(before: ReadonlySet<ObjectKey>, after: ReadonlySet<ObjectKey>): void {
    const changed = new Set([...before, ...after].filter((key) => before.has(key) !== after.has(key)))
    if (changed.size === 0) return
    const { ledger, queue } = this.#options
    for (const object of ledger.objects())
      if (this.#concerns(object).some((key) => changed.has(key))) queue.add(object)
  }

  /** An object, its address, and the virtual servers that it is about. */
  #concerns(object: KernelObject): ObjectKey[] {
    const claim = this.#options.ledger.wanted(object.key)
    const about = claim?.kind === 'setMember' ? (claim.about ?? []) : []
    const address = addressOf(object)
    return [object.key, ...(address === undefined ? [] : [address]), ...about]
  }

  #repair(differences: readonly Difference[]): void {
    const { log, metrics, queue, ledger, journal } = this.#options
    for (const { object } of differences) queue.add(object)
    metrics.repaired(differences.length)
    for (const { object, found } of differences.slice(0, LISTED)) {
      log.warn({ object: object.key, found }, 'the kernel was changed by somebody else: repairing')
      const service = ledger.wanted(object.key)?.owner
      journal?.note({ kind: 'repair', object: object.key, ...(service && { service }), reason: found })
    }
    const unlisted = differences.length - LISTED
    if (unlisted > 0) log.warn({ objects: unlisted }, 'more was changed by somebody else: repairing')
  }
}
