import type { Alarm } from '../../src/waiting/alarm.ts'
import { eventually } from './eventually.ts'

/** An alarm whose waits end when the test says so. */
export class ManualAlarm implements Alarm {
  /** The bounds of each wait so far, in ms. */
  readonly waits: (readonly [number, number])[] = []
  rings = 0
  #end: (() => void) | undefined

  ring(): void {
    this.rings++
  }

  async wait(leastMs: number, mostMs: number, signal: AbortSignal): Promise<void> {
    this.waits.push([leastMs, mostMs])
    await new Promise<void>((resolve) => {
      this.#end = resolve
      if (signal.aborted) resolve()
      signal.addEventListener('abort', () => resolve())
    })
    this.#end = undefined
  }

  /** Resolves when somebody waits. */
  async waiting(): Promise<void> {
    await eventually(() => {
      if (this.#end === undefined) throw new Error('nobody waits')
    })
  }

  /** Ends the wait, and resolves when the next one begins. */
  async next(): Promise<void> {
    await this.waiting()
    const { length } = this.waits
    this.#end!()
    await eventually(() => {
      if (this.waits.length === length) throw new Error('nobody waits again')
    })
  }
}
