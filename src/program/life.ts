/** The life of the running program: how it ends, and what is closed then. */
import { awaitedLater } from '../waiting/promises.ts'

/** How the program ended: it has done what it was asked for, or a new configuration takes another start. */
export type Ending = 'stopped' | 'restart'

/** Returns when it is closed. Never throws. */
type Close = () => Promise<void> | void

export interface Life {
  /** Aborts when the program is to end, however it ends. */
  readonly signal: AbortSignal
  readonly ending: Ending
  /** Rejects with the error that ends the program. */
  readonly failure: Promise<never>
  /** Ends the program with this error. */
  fail(error: Error): void
  /** Ends the program, which is to start anew. */
  restart(): void
  /** Has something closed at the end, after what was opened later. */
  atEnd(close: Close): void
  /** Ends the program, and closes everything, the last that was opened first. */
  end(): Promise<void>
}

/** Lives until `stopped` aborts, unless it ends before. */
export function openLife(stopped: AbortSignal): Life {
  const failure = Promise.withResolvers<never>()
  // Not AbortSignal.any: the loop listens to it anew whenever it waits, and each time it would cost.
  const ended = new AbortController()
  const abort = (): void => {
    ended.abort()
  }
  const closers: Close[] = []
  let ending: Ending = 'stopped'
  if (stopped.aborted) abort()
  stopped.addEventListener('abort', abort)
  return {
    signal: ended.signal,
    failure: awaitedLater(failure.promise),
    fail: failure.reject,
    get ending() {
      return ending
    },
    restart() {
      ending = 'restart'
      abort()
    },
    atEnd(close) {
      closers.unshift(close)
    },
    async end() {
      stopped.removeEventListener('abort', abort)
      abort()
      for (const close of closers) await close()
    },
  }
}
