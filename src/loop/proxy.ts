/**
 * The loop: facts -> claims -> plan -> apply. It is the lock: one writer, one step at a time, so nothing
 * changes under a step. While there is nothing to apply it drains and audits.
 */
import type { Logger } from 'pino'
import type { Kernel } from '../kernel/kernel.ts'
import type { Address } from '../model/address.ts'
import type { Trigger } from '../model/facts/cluster.ts'
import { addressOf, type KernelTables, kindOf, type ObjectKey } from '../model/kernel-object.ts'
import { Ledger } from '../model/claims/ledger.ts'
import { objectOf, type Operation } from '../model/operation.ts'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import type { Difference } from '../plan/audit.ts'
import { backoffMs, Failures } from '../plan/backoff.ts'
import { Patience } from '../plan/patience.ts'
import { isForeign, Plan } from '../plan/plan.ts'
import { planRelease } from '../plan/release.ts'
import type { Metrics } from '../serve/metrics.ts'
import { Applier } from './applier.ts'
import { Auditor } from './auditor.ts'
import type { Bell } from '../waiting/doorbell.ts'
import { Drainer } from './drainer.ts'
import { Mapper, type MapperOptions } from './mapper.ts'
import { type Batch, Pipeline } from './pipeline.ts'
import type { Reporter } from './reporter.ts'
import { Watchdog } from './watchdog.ts'

/** After so long, facts that have changed meanwhile get their turn. */
const TURN_MS = 500
/** The API server may come late: what the kernel has shown so long ago is not relied upon. */
const STALE_MS = 120_000
/** At most a hundredth of a processor is spent on audits, but each comes before twenty of its intervals are over. */
const AUDIT_SHARE = 100
const LONGEST_AUDIT_PAUSE = 20
/** Differences above this number are counted, not listed. */
const LISTED = 10

export interface ProxyOptions extends Omit<MapperOptions, 'ledger' | 'touched'> {
  readonly kernel: Kernel
  /** Rung by whatever changes facts or mapping. */
  readonly doorbell: Bell
  readonly log: Logger
  readonly metrics: Metrics
  readonly reporter: Reporter
  /** Called once when this node has been listed, before anything is mapped. */
  readonly nodeListed: () => Promise<unknown>
  /** Whoever else may have the external addresses of Services has been looked for: before, nothing is served. */
  readonly hasLookedAround: () => boolean
  /** Addresses without which nothing can be listed: what is ours on them goes, unless it is a cluster IP. */
  readonly mustBeFree: () => ReadonlySet<Address>
  /** Called whenever the kernel is as the facts want it, as far as it lets us, with what had led to the changes. */
  readonly settled: (triggers: readonly Trigger[]) => void
  /** Called after the first sync and after every audit: how many virtual and real servers are ours. */
  readonly counted: (servers: number) => void
  /** Called after each round with the addresses that cannot be bound, and why. */
  readonly unbound: (addresses: ReadonlyMap<Address, string>) => void
  /** Addresses on which nothing is deleted, unless it is proven to be ours. */
  readonly isExcluded: (address: Address) => boolean
  readonly auditIntervalMs: () => number
  readonly minSyncPeriodMs: () => number
  /** How long connections to an endpoint that is gone may last. */
  readonly drainDeadlineMs: number
  /** Monotonic. */
  readonly now: () => number
  /** Time of processors that this process has used, in ms. */
  readonly cpuMs: () => number
}

export class Proxy {
  readonly #options: ProxyOptions
  readonly #ledger = new Ledger()
  readonly #mapper: Mapper
  readonly #auditor: Auditor
  readonly #drainer: Drainer
  readonly #failures = new Failures()
  readonly #patience = new Patience<ObjectKey>()
  readonly #applier: Applier
  readonly #pipeline: Pipeline
  readonly #watchdog: Watchdog
  /** Objects to plan, each Service's in the order in which they are made. */
  readonly #pending = new Set<ObjectKey>()
  /** Of the changes that are on their way into the kernel. */
  #triggers: Trigger[] = []
  #absorbAt = 0
  #auditAt = 0
  #auditSpentMs = 0
  #roundStarted: number | undefined
  #isRead = false
  /** Objects that failed when that was last reported. */
  #failing = 0
  #synced = false

  /** `tables` are what the kernel has just shown, where it has. */
  constructor(options: ProxyOptions, tables?: KernelTables) {
    const { kernel, now, drainDeadlineMs: deadlineMs } = options
    this.#options = options
    this.#watchdog = new Watchdog(options)
    this.#auditor = new Auditor(kernel, tables)
    const touched = (key: ObjectKey): void => {
      this.#pending.add(key)
    }
    this.#mapper = new Mapper({ ...options, ledger: this.#ledger, touched })
    const wanted = (key: VirtualServerKey) => this.#ledger.wanted(key)?.virtualServer
    const surprised = (): void => {
      this.#auditAt = 0
    }
    this.#applier = new Applier({ ...options, auditor: this.#auditor, failures: this.#failures, surprised })
    this.#pipeline = new Pipeline({
      plan: (plan, keys) => {
        this.#addToPlan(plan, keys)
      },
      taken: (key) => this.#pending.delete(key),
      apply: (batch) => this.#applyBatch(batch),
      now,
    })
    this.#drainer = new Drainer({ kernel, known: this.#auditor.known, wanted, deadlineMs, now })
  }

  /** The kernel has once been brought to what the facts want. */
  get synced(): boolean {
    return this.#synced
  }

  /** Runs until `signal` aborts, and leaves the kernel as it then is. */
  async run(signal: AbortSignal): Promise<void> {
    const { doorbell, metrics, now } = this.#options
    await this.#start(signal)
    while (!signal.aborted) {
      const isBusy = await this.#step(signal)
      const restMs = this.#watchdog.rest(isBusy ? 0 : this.#nextAt() - now())
      if (isBusy && restMs === 0) continue
      metrics.resting()
      await doorbell.wait(restMs, signal)
      metrics.working()
    }
  }

  /** Up to the first step: the kernel is read while facts are listed; again after it, where that failed or is old. */
  async #start(signal: AbortSignal): Promise<void> {
    const { doorbell, now } = this.#options
    const started = now()
    const reading = this.#auditor.readAll().then(() => {
      this.#kernelRead()
      this.#isRead = true
      doorbell.ring()
    })
    // What it throws is dealt with when all is listed: only one at a time can wait at the doorbell.
    reading.catch(() => undefined)
    await this.#listed(signal)
    await this.#guarded(signal, () => reading)
    if (now() - started < STALE_MS) this.#endAudit()
    else await this.#readKernel(signal)
    if (!signal.aborted) await this.#guarded(signal, () => this.#begin(signal))
  }

  /** What would change now, in order; nothing is changed. What only drains is left out. */
  async dryRun(signal: AbortSignal): Promise<Operation[]> {
    await this.#listed(signal)
    await this.#absorb()
    await this.#auditor.readAll()
    for (const key of this.#auditor.keys()) this.#pending.add(key)
    const plan = new Plan()
    const { wanted, unwanted } = this.#order()
    this.#addToPlan(plan, [...wanted, ...unwanted])
    return plan.operations()
  }

  /** Before every resource has been listed, an absent Service means nothing. */
  async #listed(signal: AbortSignal): Promise<void> {
    const { cluster, doorbell, log, hasLookedAround } = this.#options
    while (!cluster.isListed('nodes') && !signal.aborted) {
      await this.#guarded(signal, () => this.#free())
      await doorbell.wait(Infinity, signal)
    }
    if (!signal.aborted) await this.#options.nodeListed()
    while (!(cluster.synced && hasLookedAround()) && !signal.aborted) {
      await this.#mapper.foresee()
      await doorbell.wait(Infinity, signal)
    }
    if (signal.aborted) return
    log.info({ services: cluster.serviceCount }, 'all facts are listed')
  }

  /** What whoever was here before has bound may be what keeps everything from being listed, for ever. */
  async #free(): Promise<void> {
    const { mustBeFree, log } = this.#options
    const { known, foreign } = this.#auditor
    const operations = this.#isRead ? planRelease(mustBeFree(), known, foreign) : []
    if (operations.length === 0) return
    log.warn(
      { addresses: [...mustBeFree()] },
      'the address of the API server is bound on this node: unbinding it',
    )
    await this.#applier.apply(operations, 'unbound the address of the API server')
  }

  /** Does the most urgent thing there is to do; false when there is none. */
  async #step(signal: AbortSignal): Promise<boolean> {
    const now = this.#options.now()
    for (const key of this.#failures.due(now)) this.#pending.add(key)
    if (now >= this.#patience.dueAt) for (const key of this.#patience.release()) this.#pending.add(key)
    if (now >= this.#absorbAt) await this.#absorb()
    if (this.#pending.size > 0 || !this.#synced) await this.#guarded(signal, () => this.#reconcile())
    else if (now >= this.#drainer.dueAt) await this.#guarded(signal, () => this.#drain())
    else if (this.#auditor.isReady) await this.#guarded(signal, () => this.#audit())
    else if (!this.#auditor.underWay && now >= this.#auditAt) this.#beginAudit()
    else {
      if (now >= this.#absorbAt && !this.#patience.isHolding) this.#settle()
      return false
    }
    return true
  }

  #settle(): void {
    this.#options.settled(this.#triggers)
    this.#triggers = []
  }

  #nextAt(): number {
    const auditAt = this.#auditor.underWay ? Infinity : this.#auditAt
    return Math.min(
      this.#failures.nextAt(),
      this.#patience.dueAt,
      this.#drainer.dueAt,
      auditAt,
      this.#absorbAt || Infinity,
    )
  }

  /** After a step that cannot say what is in the kernel, nothing is planned before all of it has been read. */
  async #guarded(signal: AbortSignal, act: () => Promise<void>): Promise<void> {
    try {
      await act()
    } catch (err) {
      // What waited for rules does so no longer; what the kernel has will be read by the next start.
      if (signal.aborted) return
      this.#options.log.warn({ err }, 'the kernel did not answer as it should: reading all of it')
      await this.#readKernel(signal)
    }
  }

  // --- Facts to claims ------------------------------------------------------------------------------------

  /** Takes what has changed; false when that concerns no Service. */
  #takeChanges(): boolean {
    const { cluster, now } = this.#options
    this.#absorbAt = 0
    this.#triggers.push(...cluster.takeTriggers())
    const isAny = this.#mapper.takeChanges()
    if (!isAny) return false
    this.#watchdog.moved()
    this.#roundStarted ??= now()
    return true
  }

  /** Turns every changed Service into claims, before anything is planned: a conflict needs all sides. */
  async #absorb(): Promise<void> {
    if (this.#takeChanges()) await this.#mapper.mapTaken()
  }

  /**
   * The first time, the last Services are mapped while those before them are on their way into the kernel. The oldest
   * come first, as they win conflicts: what is planned for one is not changed by another. What nobody wants waits
   * until all are mapped.
   */
  async #begin(signal: AbortSignal): Promise<void> {
    this.#takeChanges()
    this.#roundStarted ??= this.#options.now()
    await this.#mapper.mapExposed()
    await this.#pipeline.run(this.#allPending(signal), Infinity)
  }

  /** What is pending of all Services, each mapped as its objects are asked for, until the signal aborts. */
  *#allPending(signal: AbortSignal): Generator<ObjectKey> {
    for (const key of this.#mapper.mapAll()) {
      if (signal.aborted) return
      if (this.#pending.has(key)) yield key
    }
  }

  #reportConflicts(key: ObjectKey): void {
    const claim = this.#ledger.wanted(key)
    const isTaken = claim !== undefined && isForeign(claim, this.#auditor.foreign)
    const conflicts = isTaken
      ? [{ loser: claim.owner, reason: `somebody else has virtual servers on ${addressOf(key)}` }]
      : this.#ledger.conflicts(key)
    this.#options.reporter.conflicts(key, conflicts)
  }

  // --- Plan and apply -------------------------------------------------------------------------------------

  /** The pending objects: what is wanted in the order of making, then what is not in the reverse order. */
  #order(): { readonly wanted: ObjectKey[]; readonly unwanted: ObjectKey[] } {
    const wanted: ObjectKey[] = []
    const unwanted: ObjectKey[] = []
    for (const key of this.#pending) (this.#ledger.wanted(key) === undefined ? unwanted : wanted).push(key)
    return { wanted, unwanted: unwanted.reverse() }
  }

  /** What is next: deletions may have to wait, but not those whose time to be tried again has come. */
  #next(): ObjectKey[] {
    const { wanted, unwanted } = this.#order()
    const retried = unwanted.filter((key) => this.#failures.has(key))
    const fresh = unwanted.filter((key) => !this.#failures.has(key))
    if (!this.#holds(fresh, wanted.length > 0)) return [...wanted, ...unwanted]
    for (const key of fresh) this.#pending.delete(key)
    return [...wanted, ...retried]
  }

  #holds(deletions: readonly ObjectKey[], isMaking: boolean): boolean {
    if (!this.#synced || (deletions.length === 0 && !isMaking)) return false
    return this.#patience.hold(deletions, isMaking, this.#options.now())
  }

  #addToPlan(plan: Plan, keys: readonly ObjectKey[]): void {
    for (const key of keys) if (kindOf(key) === 'virtualServer') this.#reportConflicts(key)
    const { known, foreign } = this.#auditor
    const { isExcluded } = this.#options
    plan.add(keys, { wanted: (key) => this.#ledger.wanted(key), known, foreign, isExcluded })
  }

  /**
   * Plans and applies what is pending, a batch at a time. No object is in two batches, so one can be planned while
   * the one before it is on its way.
   */
  async #reconcile(): Promise<void> {
    const { now } = this.#options
    await this.#pipeline.run(this.#next().values(), now() + TURN_MS)
    this.#reportFailing()
    if (this.#pending.size === 0 && !this.#patience.isHolding) this.#endRound()
  }

  #reportFailing(): void {
    const { metrics, unbound } = this.#options
    if (this.#failures.size === 0 && this.#failing === 0) return
    this.#failing = this.#failures.size
    metrics.setFailing(this.#failing)
    const isMissing = (key: ObjectKey): key is Address =>
      kindOf(key) === 'address' && this.#ledger.wanted(key) !== undefined
    unbound(
      new Map([...this.#failures.reasons()].flatMap(([key, why]) => (isMissing(key) ? [[key, why]] : []))),
    )
  }

  async #applyBatch({ keys, operations }: Batch): Promise<void> {
    if (operations.length > 0) this.#watchdog.moved()
    const failed = await this.#applier.apply(operations, 'changes applied')
    for (const key of keys) {
      if (kindOf(key) === 'virtualServer' && this.#ledger.wanted(key) !== undefined) {
        this.#auditor.prove(key as VirtualServerKey)
        this.#drainer.watch(key as VirtualServerKey)
      }
      if (!failed.has(key) && this.#failures.clear(key)) this.#options.log.info({ object: key }, 'recovered')
    }
  }

  #endRound(): void {
    const { now, metrics, log, minSyncPeriodMs } = this.#options
    if (this.#roundStarted !== undefined) metrics.synced((now() - this.#roundStarted) / 1000)
    this.#roundStarted = undefined
    this.#absorbAt = now() + minSyncPeriodMs()
    this.#settle()
    if (this.#synced) return
    this.#synced = true
    this.#options.counted(this.#auditor.servers)
    log.info({ virtualServers: this.#auditor.known.virtualServers.size }, 'first sync finished')
  }

  async #drain(): Promise<void> {
    const { metrics } = this.#options
    const deletions = await this.#drainer.plan()
    if (deletions.length > 0) this.#watchdog.moved()
    const failed = await this.#applier.apply(deletions, 'drained')
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
    this.#kernelRead()
    this.#endAudit()
  }

  #kernelRead(): void {
    const { known, foreign } = this.#auditor
    this.#pipeline.clear()
    for (const key of [...this.#ledger.keys(), ...this.#auditor.keys()]) this.#pending.add(key)
    const counts = { virtualServers: known.virtualServers.size, addresses: known.addresses.size }
    this.#options.log.info({ ...counts, foreign: foreign.size }, 'read what is in the kernel')
  }

  /** The tables are read while changes go on. */
  #beginAudit(): void {
    const { cpuMs, doorbell } = this.#options
    const started = cpuMs()
    this.#auditor.begin(() => {
      this.#auditSpentMs += cpuMs() - started
      doorbell.ring()
    })
  }

  async #audit(): Promise<void> {
    const { cpuMs } = this.#options
    const started = cpuMs()
    const foreign = this.#auditor.foreign
    this.#watchdog.moved()
    this.#repair(await this.#auditor.step())
    this.#planTaken(foreign, this.#auditor.foreign)
    this.#auditSpentMs += cpuMs() - started
    if (!this.#auditor.underWay) this.#endAudit()
  }

  /** Plans anew what is wanted on addresses that somebody else has taken, or left. */
  #planTaken(before: ReadonlySet<ObjectKey>, after: ReadonlySet<ObjectKey>): void {
    const changed = new Set([...before, ...after].filter((key) => before.has(key) !== after.has(key)))
    if (changed.size === 0) return
    for (const key of this.#ledger.keys()) {
      const about = this.#ledger.wanted(key)?.about ?? []
      if ([key, addressOf(key), ...about].some((one) => one !== undefined && changed.has(one)))
        this.#pending.add(key)
    }
  }

  #endAudit(): void {
    const { now, metrics, auditIntervalMs } = this.#options
    const interval = auditIntervalMs()
    const pause = Math.min(this.#auditSpentMs * AUDIT_SHARE, interval * LONGEST_AUDIT_PAUSE)
    this.#auditAt = now() + Math.max(interval, pause)
    this.#auditSpentMs = 0
    metrics.audited()
    if (this.#synced) this.#options.counted(this.#auditor.servers)
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
