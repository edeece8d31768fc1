/** Waits between two looks at something, which whoever needs a look sooner cuts short. They keep no process alive. */

/** setTimeout takes 31 bits. */
const LONGEST_MS = 2 ** 31 - 1

export interface Alarm {
  /** Ends the wait, or the next one, as soon as it may end. Remembered; several count as one. */
  ring(): void
  /** Resolves after `leastMs` if it has rung since the last wait, at the next ring, after `mostMs`, or when the signal aborts. */
  wait(leastMs: number, mostMs: number, signal: AbortSignal): Promise<void>
}

export function openAlarm(): Alarm {
  let isRung = false
  let wake = (): void => undefined
  /** Until `ms` are over, or somebody wakes it. */
  const rest = async (ms: number, signal: AbortSignal): Promise<void> => {
    if (ms <= 0 || signal.aborted) return
    await new Promise<void>((resolve) => {
      // Without an end there is no timer.
      const timer = ms === Infinity ? undefined : setTimeout(resolve, Math.min(ms, LONGEST_MS)).unref()
      wake = (): void => {
        clearTimeout(timer)
        resolve()
      }
      signal.addEventListener('abort', wake, { once: true })
    })
    signal.removeEventListener('abort', wake)
    wake = (): void => undefined
  }
  return {
    ring() {
      isRung = true
      wake()
    },
    async wait(leastMs, mostMs, signal) {
      const end = performance.now() + leastMs
      while (!signal.aborted && performance.now() < end) await rest(end - performance.now(), signal)
      if (!isRung) await rest(mostMs - leastMs, signal)
      isRung = false
    },
  }
}
