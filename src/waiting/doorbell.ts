/** Wakes the loop: rings are remembered until somebody waits, and several count as one. */
export interface Bell {
  ring(): void
  /** Resolves at the next ring (or one since the last wait), after `timeoutMs`, or when `signal` aborts. */
  wait(timeoutMs: number, signal: AbortSignal): Promise<void>
}

/** The real one: it waits with timers. */
export class Doorbell implements Bell {
  #rung = false
  #wake: (() => void) | undefined

  ring(): void {
    this.#rung = true
    this.#wake?.()
  }

  async wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung && !signal.aborted && timeoutMs > 0) await this.#sleep(timeoutMs, signal)
    this.#rung = false
  }

  async #sleep(timeoutMs: number, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve) => {
      const wake = (): void => {
        clearTimeout(timer)
        signal.removeEventListener('abort', wake)
        this.#wake = undefined
        resolve()
      }
      // setTimeout takes 31 bits; the loop simply looks again.
      const timer = setTimeout(wake, Math.min(timeoutMs, 2 ** 31 - 1))
      signal.addEventListener('abort', wake)
      this.#wake = wake
    })
  }
}
