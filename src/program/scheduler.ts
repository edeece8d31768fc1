/** The scheduler in use: the one that is wanted if the kernel has it, else the one before. */
import type { Logger } from 'pino'
import { schedulerOf } from '../model/schedulers.ts'

const RETRY_MS = 60_000

export interface SchedulerChoiceOptions {
  /** In use until another proves available. */
  readonly initial: string
  /** Whether the kernel has a scheduler. */
  readonly isAvailable: (scheduler: string) => Promise<boolean>
  /** Called when `current` has changed. */
  readonly changed: (scheduler: string) => void
  /** Called once for each scheduler that is wanted and not available, with the remedy. */
  readonly refused: (reason: string) => void
  readonly log: Logger
}

export class SchedulerChoice {
  readonly #options: SchedulerChoiceOptions
  #current: string
  #wanted: string
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(options: SchedulerChoiceOptions) {
    this.#options = options
    this.#current = options.initial
    this.#wanted = options.initial
  }

  get current(): string {
    return this.#current
  }

  /** Switches when the kernel has the scheduler; else says so once and looks again every minute. */
  want(scheduler: string): Promise<void> {
    this.#running = this.#running.then(() => this.#want(scheduler))
    return this.#running
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #want(scheduler: string): Promise<void> {
    if (scheduler === this.#wanted) return
    const { log, refused } = this.#options
    this.stop()
    this.#wanted = scheduler
    if (await this.#switch()) return
    const remedy = `load it with "modprobe ${schedulerOf(scheduler).module}"`
    log.error({ scheduler, inUse: this.#current, remedy }, `the scheduler "${scheduler}" is not available`)
    refused(`The scheduler "${scheduler}" is not available, ${this.#current} stays: ${remedy}`)
    this.#timer = setInterval(() => void this.#switch(), RETRY_MS)
  }

  async #switch(): Promise<boolean> {
    const { isAvailable, changed, log } = this.#options
    const wanted = this.#wanted
    if (wanted !== this.#current) {
      const available = await isAvailable(wanted).catch((err: unknown) => {
        log.warn({ err, scheduler: wanted }, 'cannot tell whether the kernel has the scheduler')
        return false
      })
      if (!available || wanted !== this.#wanted) return false
      log.info({ scheduler: wanted, before: this.#current }, 'switching the scheduler')
      this.#current = wanted
      changed(wanted)
    }
    this.stop()
    return true
  }
}
