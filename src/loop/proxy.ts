/**
 * The loop: facts -> claims -> plan -> apply. It is the lock: one writer, one step at a time, so nothing changes under a
 * step. While there is nothing to apply it drains and audits.
 */
import type { KernelTables } from '../model/kernel-object.ts'
import type { Inspection } from './inspection.ts'
import { openParts, type Parts, type ProxyOptions } from './parts.ts'
import { guarded } from './recovery.ts'
import { start } from './start.ts'

export class Proxy {
  readonly #parts: Parts
  #synced = false

  /** `tables` are what the kernel has just shown, where it has. */
  constructor(options: ProxyOptions, tables?: KernelTables) {
    this.#parts = openParts(options, tables)
  }

  /** The kernel has once been brought to what the facts want. */
  get synced(): boolean {
    return this.#synced
  }

  /** What the loop goes by: to be read, not to be changed. */
  get inspection(): Inspection {
    return this.#parts
  }

  /** Runs until `signal` aborts, and leaves the kernel as it then is. */
  async run(signal: AbortSignal): Promise<void> {
    const { options, watchdog } = this.#parts
    const { doorbell, metrics, now } = options
    await start(this.#parts, signal)
    while (!signal.aborted) {
      const isBusy = await this.#step(signal)
      const restMs = watchdog.rest(isBusy ? 0 : this.#nextAt() - now())
      if (isBusy && restMs === 0) continue
      metrics.resting()
      await doorbell.wait(restMs, signal)
      metrics.working()
    }
  }

  /** Does the most urgent thing there is to do; false when there is none. */
  async #step(signal: AbortSignal): Promise<boolean> {
    const { queue, intake, drainer, auditor, audits, options } = this.#parts
    const now = options.now()
    queue.wake()
    if (now >= intake.dueAt) await intake.absorb()
    if (queue.count('ready') > 0 || !this.#synced) await this.#guarded(signal, () => this.#turn())
    else if (now >= drainer.dueAt) await this.#guarded(signal, () => drainer.drain())
    else if (auditor.isReady) await this.#guarded(signal, () => this.#audit())
    else if (now >= audits.dueAt) audits.begin()
    else {
      if (now >= intake.dueAt && queue.count('held') === 0) intake.settle()
      return false
    }
    return true
  }

  #nextAt(): number {
    const { queue, drainer, audits, intake } = this.#parts
    return Math.min(queue.wakeAt, drainer.dueAt, audits.dueAt, intake.dueAt || Infinity)
  }

  async #turn(): Promise<void> {
    const { round, intake, options } = this.#parts
    await round.turn(this.#synced)
    if (!round.isOver) return
    const tookMs = intake.finish()
    if (tookMs !== undefined) options.metrics.synced(tookMs / 1_000)
    if (!this.#synced) this.#noteFirstSync()
  }

  #noteFirstSync(): void {
    const { auditor, options } = this.#parts
    this.#synced = true
    this.#countServers()
    options.log.info({ virtualServers: auditor.known.virtualServers.size }, 'first sync finished')
  }

  async #audit(): Promise<void> {
    if (await this.#parts.audits.step()) this.#countServers()
  }

  #countServers(): void {
    if (this.#synced) this.#parts.options.onServersCounted(this.#parts.auditor.servers)
  }

  async #guarded(signal: AbortSignal, act: () => Promise<void>): Promise<void> {
    await guarded(this.#parts, signal, act, () => {
      this.#countServers()
    })
  }
}
