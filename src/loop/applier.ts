/** Executes plans, believes what the kernel answers, and notes and says what it refuses. */
import type { Logger } from 'pino'
import { applyPlan, isGone, isSkipped } from '../kernel/apply.ts'
import { netlinkErrorOf, OperationError } from '../kernel/explain.ts'
import type { Kernel } from '../kernel/kernel.ts'
import { formatOperation } from '../model/ipvsadm.ts'
import type { ObjectKey } from '../model/kernel-object.ts'
import { objectOf, type Operation, type OperationKind, project } from '../model/operation.ts'
import { isAlreadyExists, isNotFound, type Refusals } from '../netlink/error.ts'
import type { Failures } from '../plan/backoff.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Auditor } from './auditor.ts'

/** Objects that fail for one reason above this number are counted, not listed. */
const LISTED = 10

export interface ApplierOptions {
  readonly kernel: Kernel
  readonly auditor: Pick<Auditor, 'known' | 'noteChange'>
  readonly failures: Failures
  /** Called when the kernel is not as we believed. */
  readonly surprised: () => void
  readonly log: Logger
  readonly metrics: Metrics
  /** Monotonic. */
  readonly now: () => number
}

export class Applier {
  readonly #options: ApplierOptions

  constructor(options: ApplierOptions) {
    this.#options = options
  }

  /** Executes a plan and believes what the kernel answers. Returns the objects that failed. */
  async apply(operations: readonly Operation[], message: string): Promise<ReadonlySet<ObjectKey>> {
    const { kernel, log, now } = this.#options
    if (operations.length === 0) return new Set()
    const started = now()
    const refusals = await applyPlan(kernel, operations)
    this.#believe(operations, refusals)
    const failed = this.#noteFailures(operations, refusals)
    const durationMs = Math.round(now() - started)
    log.debug({ operations: operations.length, failed: failed.size, durationMs }, message)
    return failed
  }

  /** Believes what succeeded, and counts everything. */
  #believe(operations: readonly Operation[], refusals: Refusals): void {
    const { log, metrics } = this.#options
    const isVerbose = log.isLevelEnabled('debug')
    const changed = new Map<OperationKind, number>()
    const failed = new Map<OperationKind, number>()
    const count = (counts: Map<OperationKind, number>, { kind }: Operation): void => {
      counts.set(kind, (counts.get(kind) ?? 0) + 1)
    }
    for (const [place, operation] of operations.entries()) {
      const refusal = refusals.size === 0 ? undefined : refusals.get(place)
      if (refusal !== undefined && !isSkipped(refusal)) count(failed, operation)
      if (refusal !== undefined && !isGone(operation, refusal)) continue
      if (refusal === undefined) count(changed, operation)
      project(this.#options.auditor.known, operation)
      this.#options.auditor.noteChange(objectOf(operation))
      if (isVerbose) log.debug({ operation: formatOperation(operation) }, 'applied')
    }
    for (const [kind, of] of changed) metrics.changed(kind, of)
    for (const [kind, of] of failed) metrics.failed(kind, of)
  }

  /** Notes, and says once, what failed. Returns the objects. */
  #noteFailures(operations: readonly Operation[], refusals: Refusals): ReadonlySet<ObjectKey> {
    const { now, failures, surprised } = this.#options
    // The first error of each object; undefined for one that only depends on another.
    const errors = new Map<ObjectKey, Error | undefined>()
    for (const [place, refusal] of refusals) {
      const operation = operations[place]!
      if (isGone(operation, refusal)) continue
      const key = objectOf(operation)
      const error = isSkipped(refusal) ? undefined : refusal
      errors.set(key, errors.get(key) ?? error)
      if (error !== undefined && isSurprise(error)) surprised()
    }
    const news = [...errors].filter(([key, err]) => failures.add(key, err?.message ?? '', now()))
    this.#reportFailures(news)
    return new Set(errors.keys())
  }

  /** Many objects that fail for one reason are said in a few lines. */
  #reportFailures(failures: readonly (readonly [ObjectKey, Error | undefined])[]): void {
    const { log } = this.#options
    const byReason = Map.groupBy(failures, ([, err]) =>
      err instanceof OperationError ? err.reason : err?.message,
    )
    for (const [reason, group] of byReason) {
      if (reason === undefined) continue
      for (const [key, err] of group.slice(0, LISTED))
        log.error({ err, object: key }, 'cannot program an object: retrying')
      const objects = group.length - LISTED
      if (objects > 0) log.error({ objects, reason }, 'cannot program more objects: retrying')
    }
  }
}

/** The kernel is not as we believed: look before trying again. */
function isSurprise(error: Error): boolean {
  const cause = netlinkErrorOf(error)
  return isAlreadyExists(cause) || isNotFound(cause) || cause?.code === 'ENODEV'
}
