/** The scheduler in use: the configured one if the kernel has it, else the one before. */
import type { Logger } from 'pino'

const RETRY_MS = 60_000

export interface SchedulerChoiceOptions {
  /** In use until another proves available. */
  readonly initial: string
  /** Whether the kernel has a scheduler. */
  readonly isAvailable: (scheduler: string) => Promise<boolean>
  /** Called when `current` has changed. */
  readonly changed: () => void
  readonly log: Logger
}

export class SchedulerChoice {
  readonly #options: SchedulerChoiceOptions
  #current: string
  #wanted: string
  #timer: NodeJS.Timeout | undefined

  constructor(options: SchedulerChoiceOptions) {
    this.#options = options
    this.#current = options.initial
    this.#wanted = options.initial
  }

  get current(): string {
    return this.#current
  }

  /** Switches when the kernel has the scheduler; else says so once and looks again every minute. */
  async want(scheduler: string): Promise<void> {
    const { log } = this.#options
    this.stop()
    this.#wanted = scheduler
    if (await this.#switch()) return
    const remedy = `load it with "modprobe ip_vs_${scheduler}"`
    log.error({ scheduler, inUse: this.#current, remedy }, `the scheduler "${scheduler}" is not available`)
    this.#timer = setInterval(() => void this.#switch(), RETRY_MS)
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #switch(): Promise<boolean> {
    const { isAvailable, changed, log } = this.#options
    const wanted = this.#wanted
    if (wanted !== this.#current) {
      const available = await isAvailable(wanted).catch((err: unknown) => {
        log.warn({ err, scheduler: wanted }, 'cannot tell whether the kernel has the scheduler')
        return false
      })
      if (!available) return false
      log.info({ scheduler: wanted, before: this.#current }, 'switching the scheduler')
      this.#current = wanted
      changed()
    }
    this.stop()
    return true
  }
}
