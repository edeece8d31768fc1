/** Something that is switched while traffic flows: the value in use is the one that is wanted if the kernel has it. */
import type { Logger } from 'pino'

const RETRY_MS = 60_000

export interface ChoiceOptions<Value extends string> {
  /** What is chosen, in words, and as a field of the log: `scheduler`. */
  readonly what: string
  readonly field: string
  /** In use until another proves available. */
  readonly initial: Value
  /** Whether the kernel has it. */
  readonly isAvailable: (value: Value) => Promise<boolean>
  /** What makes it available. */
  readonly remedyFor: (value: Value) => string
  /** Called when `current` has changed. */
  readonly onSwitch: (value: Value) => void
  /** Called once for each value that is wanted and not available, with the remedy. */
  readonly onRefusal: (reason: string) => void
  readonly log: Logger
}

export class Choice<Value extends string> {
  readonly #options: ChoiceOptions<Value>
  #current: Value
  #wanted: Value
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(options: ChoiceOptions<Value>) {
    this.#options = options
    this.#current = options.initial
    this.#wanted = options.initial
  }

  get current(): Value {
    return this.#current
  }

  /** Switches when the kernel has it; else says so once and looks again every minute. */
  want(value: Value): Promise<void> {
    this.#running = this.#running.then(() => this.#want(value))
    return this.#running
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #want(value: Value): Promise<void> {
    if (value === this.#wanted) return
    const { what, field, remedyFor, log, onRefusal } = this.#options
    this.stop()
    this.#wanted = value
    if (await this.#switch()) return
    const remedy = remedyFor(value)
    log.error({ [field]: value, inUse: this.#current, remedy }, `the ${what} "${value}" is not available`)
    onRefusal(`The ${what} "${value}" is not available, ${this.#current} stays: ${remedy}`)
    // It may begin after `stop`: then it must not keep the process alive.
    this.#timer = setInterval(() => void this.#switch(), RETRY_MS).unref()
  }

  async #switch(): Promise<boolean> {
    const { what, field, isAvailable, onSwitch, log } = this.#options
    const wanted = this.#wanted
    if (wanted !== this.#current) {
      const available = await isAvailable(wanted).catch((err: unknown) => {
        log.warn({ err, [field]: wanted }, `cannot tell whether the kernel has the ${what}`)
        return false
      })
      if (!available || wanted !== this.#wanted) return false
      log.info({ [field]: wanted, before: this.#current }, `switching the ${what}`)
      this.#current = wanted
      onSwitch(wanted)
    }
    this.stop()
    return true
  }
}
