/** Executes plans, believes what the kernel answers, and queues and says what it refuses. */
import type { Logger } from 'pino'
import { applyPlan, isAsWanted, isSkipped } from '../kernel/apply.ts'
import { netlinkErrorOf, OperationError } from '../kernel/explain.ts'
import type { Kernel } from '../kernel/kernel.ts'
import type { Ledger } from '../model/claims/ledger.ts'
import { formatOperation } from '../model/ipvsadm.ts'
import type { KernelObject, ObjectKey } from '../model/kernel-object.ts'
import { objectOf, type Operation, type OperationKind, project } from '../model/operation.ts'
import { isAlreadyExists, isNotFound, type Refusals } from '../netlink/error.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Journal } from '../view/journal.ts'
import type { Auditor } from './audit/auditor.ts'
import type { Audits } from './audit/audits.ts'
import type { Queue } from './queue.ts'

/** Objects that fail for one reason above this number are counted, not listed. */
const LISTED = 10

export interface ApplierOptions {
  readonly kernel: Kernel
  readonly auditor: Pick<Auditor, 'known' | 'noteChange'>
  readonly audits: Pick<Audits, 'hasten'>
  readonly queue: Queue
  readonly ledger: Pick<Ledger, 'wanted'>
  readonly log: Logger
  readonly metrics: Metrics
  readonly journal?: Journal | undefined
  /** Monotonic. */
  readonly now: () => number
}

/** An object that the kernel has refused; no error when it only depends on another one that was refused. */
type Failures = Map<ObjectKey, { readonly object: KernelObject; readonly error: Error | undefined }>

export class Applier {
  readonly #options: ApplierOptions

  constructor(options: ApplierOptions) {
    this.#options = options
  }

  /**
   * Executes a plan, believes what the kernel answers, and queues what it refuses. Returns the keys of what it refuses.
   * Throws when the kernel cannot say what became of it.
   */
  async apply(operations: readonly Operation[], message: string): Promise<ReadonlySet<ObjectKey>> {
    const { kernel, log, now } = this.#options
    if (operations.length === 0) return new Set()
    const started = now()
    const refusals = await applyPlan(kernel, operations)
    const failures = failuresOf(operations, refusals)
    this.#believe(operations, refusals)
    this.#count(operations, refusals)
    this.#queueFailures(failures)
    if (isAnySurprise(operations, refusals)) this.#options.audits.hasten()
    const durationMs = Math.round(now() - started)
    log.debug({ operations: operations.length, failed: failures.size, durationMs }, message)
    return new Set(failures.keys())
  }

  /** Believes what succeeded. */
  #believe(operations: readonly Operation[], refusals: Refusals): void {
    const { auditor, log } = this.#options
    const isVerbose = log.isLevelEnabled('debug')
    for (const [place, operation] of operations.entries()) {
      const error = refusals.get(place)
      if (error !== undefined && !isAsWanted(operation, error)) continue
      project(auditor.known, operation)
      auditor.noteChange(objectOf(operation).key)
      if (isVerbose) log.debug({ operation: formatOperation(operation) }, 'applied')
    }
  }

  #count(operations: readonly Operation[], refusals: Refusals): void {
    const { metrics } = this.#options
    const changed = new Map<OperationKind, number>()
    const failed = new Map<OperationKind, number>()
    for (const [place, { kind }] of operations.entries()) {
      const error = refusals.get(place)
      if (error !== undefined && isSkipped(error)) continue
      const counts = error === undefined ? changed : failed
      counts.set(kind, (counts.get(kind) ?? 0) + 1)
    }
    for (const [kind, of] of changed) metrics.changed(kind, of)
    for (const [kind, of] of failed) metrics.failed(kind, of)
  }

  /** Says once what failed, and has it tried again. */
  #queueFailures(failures: Failures): void {
    const { queue } = this.#options
    const news: (readonly [ObjectKey, Error])[] = []
    for (const [key, { object, error }] of failures) {
      const isNew = queue.refuse(object, error?.message ?? '')
      if (isNew && error !== undefined) news.push([key, error])
    }
    this.#report(news)
  }

  /** Many objects that fail for one reason are said in a few lines. */
  #report(failures: readonly (readonly [ObjectKey, Error])[]): void {
    const { log, ledger, journal } = this.#options
    for (const [reason, group] of Map.groupBy(failures, ([, error]) => reasonOf(error))) {
      for (const [key, err] of group.slice(0, LISTED)) {
        log.error({ err, object: key }, 'cannot program an object: retrying')
        const service = ledger.wanted(key)?.owner
        journal?.note({ kind: 'refusal', object: key, ...(service && { service }), reason: err.message })
      }
      const objects = group.length - LISTED
      if (objects > 0) log.error({ objects, reason }, 'cannot program more objects: retrying')
    }
  }
}

/** The objects that were refused, each with its first error. */
function failuresOf(operations: readonly Operation[], refusals: Refusals): Failures {
  const failures: Failures = new Map()
  for (const [place, refusal] of refusals) {
    const operation = operations[place]!
    if (isAsWanted(operation, refusal)) continue
    const object = objectOf(operation)
    const error = failures.get(object.key)?.error ?? (isSkipped(refusal) ? undefined : refusal)
    failures.set(object.key, { object, error })
  }
  return failures
}

function reasonOf(error: Error): string {
  return error instanceof OperationError ? error.reason : error.message
}

/** The kernel is not as we believed: look before trying again. */
function isAnySurprise(operations: readonly Operation[], refusals: Refusals): boolean {
  return [...refusals].some(([place, error]) => !isAsWanted(operations[place]!, error) && isSurprise(error))
}

function isSurprise(error: Error): boolean {
  const cause = netlinkErrorOf(error)
  return isAlreadyExists(cause) || isNotFound(cause) || cause?.code === 'ENODEV'
}
