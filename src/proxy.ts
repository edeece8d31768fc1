/**
 * The loop: facts -> claims -> plan -> apply. It is the lock: one writer, one step at a time, so nothing
 * changes under a step. While there is nothing to apply it drains and audits.
 */
import type { Logger } from 'pino'
import { Auditor } from './auditor.ts'
import type { Bell } from './doorbell.ts'
import { Drainer } from './drainer.ts'
import { applyPlan, type Outcome } from './kernel/apply.ts'
import { netlinkErrorOf, OperationError } from './kernel/explain.ts'
import type { Kernel } from './kernel/kernel.ts'
import type { Address } from './model/address.ts'
import { buildClaims, localLacks, type MappingOptions, refusalsOf } from './model/claims.ts'
import type { Cluster, Trigger } from './model/cluster.ts'
import type { ServiceName } from './model/facts.ts'
import { formatOperation } from './model/ipvsadm.ts'
import { addressOf, kindOf, type ObjectKey } from './model/kernel-object.ts'
import { Ledger } from './model/ledger.ts'
import { objectOf, type Operation, type OperationKind, project } from './model/operation.ts'
import type { VirtualServerKey } from './model/virtual-server.ts'
import { isAlreadyExists, isNotFound } from './netlink/error.ts'
import type { Difference } from './plan/audit.ts'
import { backoffMs, Failures } from './plan/backoff.ts'
import { isForeign, planChanges } from './plan/plan.ts'
import type { Reporter } from './reporter.ts'
import type { Metrics } from './serve/metrics.ts'

/** Services mapped, and objects planned, in one go, before anything else gets its turn. */
const SERVICES_PER_STEP = 200
const OBJECTS_PER_STEP = 1_000
/** At most a fiftieth of the time is spent on audits. */
const AUDIT_SHARE = 50
/** Differences, or objects that fail for one reason, above this number are counted, not listed. */
const LISTED = 10

export interface ProxyOptions {
  readonly cluster: Cluster
  readonly kernel: Kernel
  /** Rung by whatever changes facts or mapping. */
  readonly doorbell: Bell
  readonly log: Logger
  readonly metrics: Metrics
  readonly reporter: Reporter
  /** Called once when every resource has been listed, before anything is mapped. */
  readonly listed: () => Promise<void>
  /** Called whenever the kernel is as the facts want it, as far as it lets us, with what had led to the changes. */
  readonly settled: (triggers: readonly Trigger[]) => void
  /** Asked anew for every step: the scheduler may change while we run. */
  readonly mapping: () => MappingOptions
  /** Addresses on which nothing is deleted. */
  readonly isExcluded: (address: Address) => boolean
  /** Called for every Service that was mapped anew, or is gone. */
  readonly mapped: (name: ServiceName) => void
  readonly auditIntervalMs: () => number
  readonly minSyncPeriodMs: () => number
  /** How long connections to an endpoint that is gone may last. */
  readonly drainDeadlineMs: number
  /** Monotonic. */
  readonly now: () => number
}

export class Proxy {
  readonly #options: ProxyOptions
  readonly #ledger = new Ledger()
  readonly #auditor: Auditor
  readonly #drainer: Drainer
  readonly #failures = new Failures()
  /** Objects to plan, each Service's in the order in which they are made. */
  readonly #pending = new Set<ObjectKey>()
  /** Of the changes that are on their way into the kernel. */
  #triggers: Trigger[] = []
  #absorbAt = 0
  #auditAt = 0
  #auditSpentMs = 0
  #roundStarted: number | undefined
  #synced = false

  constructor(options: ProxyOptions) {
    const { kernel, now, drainDeadlineMs: deadlineMs } = options
    this.#options = options
    this.#auditor = new Auditor(kernel)
    const wanted = (key: VirtualServerKey) => this.#ledger.wanted(key)?.virtualServer
    this.#drainer = new Drainer({ kernel, known: this.#auditor.known, wanted, deadlineMs, now })
  }

  /** The kernel has once been brought to what the facts want. */
  get synced(): boolean {
    return this.#synced
  }

  /** Runs until `signal` aborts, and leaves the kernel as it then is. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#listed(signal)
    await this.#absorb()
    await this.#readKernel(signal)
    while (!signal.aborted) {
      if (await this.#step(signal)) continue
      await this.#options.doorbell.wait(this.#nextAt() - this.#options.now(), signal)
    }
  }

  /** What would change now, in order; nothing is changed. What only drains is left out. */
  async dryRun(signal: AbortSignal): Promise<Operation[]> {
    await this.#listed(signal)
    await this.#absorb()
    await this.#auditor.readAll()
    for (const key of this.#auditor.keys()) this.#pending.add(key)
    return this.#plan(this.#takePending(Infinity))
  }

  /** Before every resource has been listed, an absent Service means nothing. */
  async #listed(signal: AbortSignal): Promise<void> {
    const { cluster, doorbell } = this.#options
    while (!cluster.synced && !signal.aborted) await doorbell.wait(Infinity, signal)
    if (!signal.aborted) await this.#options.listed()
  }

  /** Does the most urgent thing there is to do; false when there is none. */
  async #step(signal: AbortSignal): Promise<boolean> {
    const now = this.#options.now()
    for (const key of this.#failures.due(now)) this.#pending.add(key)
    if (now >= this.#absorbAt) await this.#absorb()
    if (this.#pending.size > 0 || !this.#synced) await this.#guarded(signal, () => this.#reconcile())
    else if (now >= this.#drainer.dueAt) await this.#guarded(signal, () => this.#drain())
    else if (this.#auditor.underWay || now >= this.#auditAt) await this.#guarded(signal, () => this.#audit())
    else {
      if (now >= this.#absorbAt) this.#settle()
      return false
    }
    return true
  }

  #settle(): void {
    this.#options.settled(this.#triggers)
    this.#triggers = []
  }

  #nextAt(): number {
    return Math.min(this.#failures.nextAt(), this.#drainer.dueAt, this.#auditAt, this.#absorbAt || Infinity)
  }

  /** After a step that cannot say what is in the kernel, nothing is planned before all of it has been read. */
  async #guarded(signal: AbortSignal, act: () => Promise<void>): Promise<void> {
    try {
      await act()
    } catch (err) {
      this.#options.log.warn({ err }, 'the kernel did not answer as it should: reading all of it')
      await this.#readKernel(signal)
    }
  }

  // --- Facts to claims ------------------------------------------------------------------------------------

  /** Turns every changed Service into claims, before anything is planned: a conflict needs all sides. */
  async #absorb(): Promise<void> {
    const dirty = this.#options.cluster.takeDirty()
    this.#absorbAt = 0
    this.#triggers.push(...this.#options.cluster.takeTriggers())
    if (dirty.length > 0) this.#roundStarted ??= this.#options.now()
    for (let start = 0; start < dirty.length; start += SERVICES_PER_STEP) {
      if (start > 0) await new Promise(setImmediate)
      const options = this.#options.mapping()
      for (const name of dirty.slice(start, start + SERVICES_PER_STEP)) this.#mapService(name, options)
    }
  }

  #mapService(name: ServiceName, options: MappingOptions): void {
    const { cluster, mapped, reporter } = this.#options
    const service = cluster.service(name)
    const slices = cluster.slicesOf(name)
    const claims = service === undefined ? [] : buildClaims(service, slices, options)
    for (const key of this.#ledger.replace(name, claims)) this.#pending.add(key)
    reporter.refusals(name, service === undefined ? [] : refusalsOf(service, options))
    reporter.lacks(name, service === undefined ? [] : localLacks(service, slices, options))
    mapped(name)
  }

  #reportConflicts(key: ObjectKey): void {
    const claim = this.#ledger.wanted(key)
    const isTaken = claim !== undefined && isForeign(claim, this.#auditor.foreign)
    const conflicts = isTaken
      ? [{ loser: claim.owner, reason: `somebody else has virtual servers on ${addressOf(key)}` }]
      : this.#ledger.conflicts(key).map(({ winner, loser }) => ({ loser, reason: `${winner} is older` }))
    this.#options.reporter.conflicts(key, conflicts)
  }

  // --- Plan and apply -------------------------------------------------------------------------------------

  /** Up to `limit` objects: what is wanted in the order of making, then what is not in the reverse order. */
  #takePending(limit: number): ObjectKey[] {
    const isWanted = (key: ObjectKey): boolean => this.#ledger.wanted(key) !== undefined
    const pending = [...this.#pending]
    const ordered = [...pending.filter(isWanted), ...pending.reverse().filter((key) => !isWanted(key))]
    const keys = ordered.slice(0, limit)
    for (const key of keys) this.#pending.delete(key)
    return keys
  }

  #plan(keys: readonly ObjectKey[]): Operation[] {
    for (const key of keys) if (kindOf(key) === 'virtualServer') this.#reportConflicts(key)
    const { known, foreign } = this.#auditor
    const { isExcluded } = this.#options
    return planChanges(keys, { wanted: (key) => this.#ledger.wanted(key), known, foreign, isExcluded })
  }

  async #reconcile(): Promise<void> {
    const keys = this.#takePending(OBJECTS_PER_STEP)
    const operations = this.#plan(keys)
    const failed = await this.#apply(operations, 'changes applied')
    for (const key of keys) {
      if (this.#ledger.wanted(key)?.virtualServer !== undefined) this.#drainer.watch(key as VirtualServerKey)
      if (!failed.has(key) && this.#failures.clear(key)) this.#options.log.info({ object: key }, 'recovered')
    }
    this.#options.metrics.setFailing(this.#failures.size)
    if (this.#pending.size === 0) this.#endRound()
  }

  #endRound(): void {
    const { now, metrics, log, minSyncPeriodMs } = this.#options
    if (this.#roundStarted !== undefined) metrics.synced((now() - this.#roundStarted) / 1000)
    this.#roundStarted = undefined
    this.#absorbAt = now() + minSyncPeriodMs()
    this.#settle()
    if (this.#synced) return
    this.#synced = true
    log.info({ virtualServers: this.#auditor.known.virtualServers.size }, 'first sync finished')
  }

  /** Executes a plan and believes what the kernel answers. Returns the objects that failed. */
  async #apply(operations: readonly Operation[], message: string): Promise<ReadonlySet<ObjectKey>> {
    const { kernel, log, now } = this.#options
    if (operations.length === 0) return new Set()
    const started = now()
    const outcomes = await applyPlan(kernel, operations)
    this.#count(outcomes)
    const failed = this.#learn(outcomes)
    const durationMs = Math.round(now() - started)
    log.info({ operations: outcomes.length, failed: failed.size, durationMs }, message)
    return failed
  }

  /** Believes what succeeded; notes, and says once, what failed. */
  #learn(outcomes: readonly Outcome[]): ReadonlySet<ObjectKey> {
    const { log, now } = this.#options
    const isVerbose = log.isLevelEnabled('debug')
    // The first error of each object; undefined for one that only depends on another.
    const failures = new Map<ObjectKey, Error | undefined>()
    for (const { operation, error, skipped } of outcomes) {
      if (skipped === true || (error !== undefined && !isGone(operation, error))) {
        const key = objectOf(operation)
        failures.set(key, failures.get(key) ?? error)
        if (error !== undefined && isSurprise(error)) this.#auditAt = 0
        continue
      }
      project(this.#auditor.known, operation)
      if (isVerbose) log.debug({ operation: formatOperation(operation) }, 'applied')
    }
    const news = [...failures].filter(([key, err]) => this.#failures.add(key, err?.message ?? '', now()))
    this.#reportFailures(news)
    return new Set(failures.keys())
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

  #count(outcomes: readonly Outcome[]): void {
    const { metrics } = this.#options
    const changed = new Map<OperationKind, number>()
    const failed = new Map<OperationKind, number>()
    for (const { operation, error, skipped } of outcomes) {
      if (skipped === true) continue
      const counts = error === undefined ? changed : failed
      counts.set(operation.kind, (counts.get(operation.kind) ?? 0) + 1)
    }
    for (const [kind, count] of changed) metrics.changed(kind, count)
    for (const [kind, count] of failed) metrics.failed(kind, count)
  }

  async #drain(): Promise<void> {
    const { metrics } = this.#options
    const deletions = await this.#drainer.plan()
    const failed = await this.#apply(deletions, 'drained')
    metrics.drained(deletions.filter((operation) => !failed.has(objectOf(operation))).length)
    metrics.setDraining(this.#drainer.left)
  }

  // --- What is in the kernel ------------------------------------------------------------------------------

  /** Reads all of the kernel, as often as it takes, and plans every object anew. */
  async #readKernel(signal: AbortSignal): Promise<void> {
    const { log, doorbell } = this.#options
    for (let attempt = 1; !signal.aborted; attempt++) {
      try {
        await this.#auditor.readAll()
        break
      } catch (err) {
        log.error({ err }, 'cannot read the kernel: retrying')
        await doorbell.wait(backoffMs(attempt), signal)
      }
    }
    const { known, foreign } = this.#auditor
    for (const key of [...this.#ledger.keys(), ...this.#auditor.keys()]) this.#pending.add(key)
    this.#endAudit()
    const counts = { virtualServers: known.virtualServers.size, addresses: known.addresses.size }
    log.info({ ...counts, foreign: foreign.size }, 'read what is in the kernel')
  }

  async #audit(): Promise<void> {
    const started = this.#options.now()
    const foreign = this.#auditor.foreign
    this.#repair(await this.#auditor.step())
    this.#planTaken(foreign, this.#auditor.foreign)
    this.#auditSpentMs += this.#options.now() - started
    if (!this.#auditor.underWay) this.#endAudit()
  }

  /** Plans anew what is wanted on addresses that somebody else has taken, or left. */
  #planTaken(before: ReadonlySet<ObjectKey>, after: ReadonlySet<ObjectKey>): void {
    const changed = new Set([...before, ...after].filter((key) => before.has(key) !== after.has(key)))
    if (changed.size === 0) return
    for (const key of this.#ledger.keys()) {
      const address = addressOf(key)
      if (address !== undefined && changed.has(address)) this.#pending.add(key)
    }
  }

  #endAudit(): void {
    const { now, metrics, auditIntervalMs } = this.#options
    this.#auditAt = now() + Math.max(auditIntervalMs(), this.#auditSpentMs * AUDIT_SHARE)
    this.#auditSpentMs = 0
    metrics.audited()
  }

  #repair(differences: readonly Difference[]): void {
    const { log, metrics } = this.#options
    for (const { key } of differences) this.#pending.add(key)
    metrics.repaired(differences.length)
    for (const { key, found } of differences.slice(0, LISTED)) {
      log.warn({ object: key, found }, 'the kernel was changed by somebody else: repairing')
    }
    const unlisted = differences.length - LISTED
    if (unlisted > 0) log.warn({ objects: unlisted }, 'more was changed by somebody else: repairing')
  }
}

/** What was to be deleted is not there: as it should be. */
function isGone({ kind }: Operation, error: Error): boolean {
  return (kind.startsWith('delete') || kind === 'unbindAddress') && isNotFound(netlinkErrorOf(error))
}

/** The kernel is not as we believed: look before trying again. */
function isSurprise(error: Error): boolean {
  const cause = netlinkErrorOf(error)
  return isAlreadyExists(cause) || isNotFound(cause) || cause?.code === 'ENODEV'
}
