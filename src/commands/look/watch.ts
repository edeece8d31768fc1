/** Shows who has how much traffic in a terminal, as keys want it, until a key or a signal ends it. */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Group, GROUPS, type History, type Load, remember } from '../../view/top.ts'
import { formatScreen, pressKey, type TopState } from '../../view/top-screen.ts'
import { openTerminal } from './terminal.ts'

/** What is counted at one moment. */
export interface Sample {
  readonly loadsBy: (group: Group) => readonly Load[]
  /** What somebody who looks should know of it. */
  readonly notes: readonly string[]
}

export interface Watch {
  readonly read: () => Promise<Sample>
  readonly intervalMs: number
  readonly signal: AbortSignal
}

/** What a task promises, or undefined where the signal aborts first: nothing of it is kept for longer. */
async function unlessAborted<Result>(
  task: Promise<Result>,
  signal: AbortSignal,
): Promise<Result | undefined> {
  const aborted = Promise.withResolvers<undefined>()
  const end = (): void => {
    aborted.resolve(undefined)
  }
  if (signal.aborted) end()
  signal.addEventListener('abort', end)
  try {
    return await Promise.race([task, aborted.promise])
  } finally {
    signal.removeEventListener('abort', end)
  }
}

/** What is shown: the last sample, as it was chosen. */
class Screen {
  #state: TopState
  #sample: Sample | undefined
  readonly #histories = new Map<Group, History>()

  constructor(state: TopState) {
    this.#state = state
  }

  get hasEnded(): boolean {
    return this.#state.hasEnded
  }

  /** Nothing new is shown. */
  get isPaused(): boolean {
    return this.#state.isPaused && this.#sample !== undefined
  }

  press(key: string): void {
    this.#state = pressKey(this.#state, key)
  }

  take(sample: Sample): void {
    this.#sample = sample
    for (const group of GROUPS)
      this.#histories.set(group, remember(this.#histories.get(group) ?? new Map(), sample.loadsBy(group)))
  }

  lines(size: Parameters<typeof formatScreen>[2]): string[] {
    const { group } = this.#state
    const { loadsBy = () => [], notes = [] } = this.#sample ?? {}
    const history = this.#histories.get(group) ?? new Map<string, number[]>()
    return formatScreen(this.#state, { loads: loadsBy(group), history, notes }, size)
  }
}

/** Takes the terminal until it ends. Throws what reading throws. */
export async function watchInTerminal({ read, intervalMs, signal }: Watch, state: TopState): Promise<void> {
  const screen = new Screen(state)
  const quit = new AbortController()
  const ended = AbortSignal.any([signal, quit.signal])
  const terminal = openTerminal({
    onKey: (key) => {
      screen.press(key)
      if (screen.hasEnded) quit.abort()
      else draw()
    },
    onResize: () => {
      draw()
    },
    onEnd: () => {
      quit.abort()
    },
  })
  const draw = (): void => {
    terminal.draw(screen.lines(terminal.size()))
  }
  try {
    draw()
    while (!ended.aborted) {
      // A key ends it also while something hangs.
      const sample = screen.isPaused ? undefined : await unlessAborted(read(), ended)
      // It may have been paused meanwhile.
      if (sample !== undefined && !screen.isPaused) screen.take(sample)
      draw()
      await sleep(intervalMs, undefined, { signal: ended }).catch(() => undefined)
    }
  } finally {
    terminal.close()
  }
}
