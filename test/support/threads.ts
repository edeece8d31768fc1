import type { Worker } from 'node:worker_threads'

export interface Threads {
  /** Those that have begun in this test, in order. */
  readonly started: readonly Worker[]
  /** Node tells of a thread a turn later. */
  readonly turn: () => Promise<void>
}

/** Notes the threads of each test of this suite. */
export function noteThreads(): Threads {
  const started: Worker[] = []
  const note = (thread: Worker): void => {
    started.push(thread)
  }
  beforeEach(() => {
    started.length = 0
    process.on('worker', note)
  })
  afterEach(() => {
    process.off('worker', note)
  })
  return { started, turn: () => new Promise(setImmediate) }
}
