import { setTimeout as sleep } from 'node:timers/promises'

/** Repeats `check` until it does not throw, and throws its last error when the time is over. */
export async function eventually<Result>(
  check: () => Result | Promise<Result>,
  timeoutMs = 5_000,
  pauseMs = 20,
): Promise<Result> {
  const end = performance.now() + timeoutMs
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (performance.now() >= end) throw error
      await sleep(pauseMs)
    }
  }
}
