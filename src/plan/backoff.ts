/** Retry is replanning, per object: one bad object waits longer each time and never holds up the others. */
import type { ObjectKey } from '../model/kernel-object.ts'

const FIRST_MS = 100
const LONGEST_MS = 60_000

/** 100 ms, doubling to 1 minute; `attempt` counts from 1. */
export function backoffMs(attempt: number): number {
  return Math.min(FIRST_MS * 2 ** (attempt - 1), LONGEST_MS)
}

interface Failure {
  attempts: number
  retryAt: number
  message: string
}

/** The objects that could not be programmed. Times are ms of the caller's clock. */
export class Failures {
  readonly #failures = new Map<ObjectKey, Failure>()

  get size(): number {
    return this.#failures.size
  }

  /** Notes a failure. Returns whether the message is new for this object, and so worth a log line. */
  add(key: ObjectKey, message: string, now: number): boolean {
    const failure = this.#failures.get(key) ?? { attempts: 0, retryAt: 0, message: '' }
    const isNew = failure.message !== message
    failure.attempts++
    failure.retryAt = now + backoffMs(failure.attempts)
    failure.message = message
    this.#failures.set(key, failure)
    return isNew
  }

  /** The object is as it should be. Returns whether it was not before. */
  clear(key: ObjectKey): boolean {
    return this.#failures.delete(key)
  }

  /** Of every object that fails, why. */
  *reasons(): Generator<readonly [ObjectKey, string]> {
    for (const [key, { message }] of this.#failures) yield [key, message]
  }

  has(key: ObjectKey): boolean {
    return this.#failures.has(key)
  }

  /** The objects whose time has come. */
  due(now: number): ObjectKey[] {
    return [...this.#failures].filter(([, { retryAt }]) => retryAt <= now).map(([key]) => key)
  }

  /** When the next object is due; Infinity when there is none. */
  nextAt(): number {
    let next = Infinity
    // Not as arguments of one call: there may be more of them than it takes.
    for (const { retryAt } of this.#failures.values()) next = Math.min(next, retryAt)
    return next
  }
}
