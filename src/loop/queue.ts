/**
 * The objects that may have to change. Each is in exactly one state until it is as it should be:
 *
 *   ready      to be planned
 *   held       a deletion that waits while others are made
 *   retry      refused by the kernel, and waiting to be tried again
 *   underWay   planned, or on its way into the kernel
 *
 * One bad object waits longer each time, and never holds up the others. Times are ms of the clock that is given.
 */
import type { KernelObject, ObjectKey } from '../model/kernel-object.ts'
import { holdUntil } from '../plan/patience.ts'
import { backoffMs } from '../waiting/backoff.ts'

const FIRST_RETRY_MS = 100
const LONGEST_RETRY_MS = 60_000

export type State = 'ready' | 'held' | 'retry' | 'underWay'

interface Task {
  readonly object: KernelObject
  state: State
  /** It may have to change again since it got under way. */
  isStale: boolean
  /** How often in a row the kernel has refused it. */
  refusals: number
  /** Of the last refusal; empty when it only depends on another object that was refused. */
  reason: string
  retryAt: number
}

/** An object that the kernel has refused, and has not taken since. */
export interface Failure {
  readonly object: KernelObject
  /** Empty when it only depends on another object that was refused. */
  readonly reason: string
  /** 0 when it is tried now. */
  readonly retryInMs: number
}

export class Queue {
  readonly #now: () => number
  /** In the order in which they became ready. */
  readonly #tasks = new Map<ObjectKey, Task>()
  readonly #counts: Record<State, number> = { ready: 0, held: 0, retry: 0, underWay: 0 }
  #heldSince: number | undefined
  #heldUntil = Infinity
  #failing = 0

  constructor(now: () => number) {
    this.#now = now
  }

  /** Objects in a state. */
  count(state: State): number {
    return this.#counts[state]
  }

  stateOf(key: ObjectKey): State | undefined {
    return this.#tasks.get(key)?.state
  }

  /** Objects that the kernel has refused, and has not taken since. */
  get failing(): number {
    return this.#failing
  }

  /** The objects that are failing, and why. */
  *failures(): Generator<Failure> {
    if (this.#failing === 0) return
    const now = this.#now()
    for (const { object, refusals, reason, state, retryAt } of this.#tasks.values())
      if (refusals > 0)
        yield { object, reason, retryInMs: state === 'retry' ? Math.max(0, retryAt - now) : 0 }
  }

  /** Something about the object may have to change. */
  add(object: KernelObject): void {
    const task = this.#tasks.get(object.key)
    if (task === undefined) this.#insert(object, 'ready')
    else if (task.state === 'underWay') task.isStale = true
    else this.#move(task, 'ready')
  }

  /** What has waited long enough is ready. */
  wake(): void {
    if (this.#counts.held + this.#counts.retry === 0) return
    const now = this.#now()
    const isHoldOver = now >= this.#heldUntil
    for (const task of [...this.#tasks.values()]) {
      if (task.state === 'held' ? isHoldOver : task.state === 'retry' && now >= task.retryAt)
        this.#move(task, 'ready')
    }
  }

  /** When there is something to wake; Infinity when there is not. */
  get wakeAt(): number {
    let wakeAt = this.#counts.held > 0 ? this.#heldUntil : Infinity
    if (this.#counts.retry === 0) return wakeAt
    // Not as arguments of one call: there may be more of them than it takes.
    for (const { state, retryAt } of this.#tasks.values())
      if (state === 'retry') wakeAt = Math.min(wakeAt, retryAt)
    return wakeAt
  }

  /** All that is ready: what is wanted in the order of making, then what is not in the reverse order. */
  ready(isWanted: (key: ObjectKey) => boolean): KernelObject[] {
    const { wanted, unwanted } = this.#sort(isWanted)
    return [...wanted, ...unwanted].map(({ object }) => object)
  }

  /** The same, but many deletions are held while others are made: not those that are tried again. */
  next(isWanted: (key: ObjectKey) => boolean): KernelObject[] {
    const { wanted, unwanted } = this.#sort(isWanted)
    const fresh = unwanted.filter(({ refusals }) => refusals === 0)
    const rest = this.#hold(fresh, wanted.length > 0)
      ? unwanted.filter(({ state }) => state === 'ready')
      : unwanted
    return [...wanted, ...rest].map(({ object }) => object)
  }

  /** Takes an object that is ready under way; false for any other: it is in a batch already, or has to wait. */
  begin(key: ObjectKey): boolean {
    const task = this.#tasks.get(key)
    if (task?.state !== 'ready') return false
    this.#move(task, 'underWay')
    return true
  }

  /** An object that was under way is as it should be. Returns whether it had been failing. */
  succeed(key: ObjectKey): boolean {
    const task = this.#tasks.get(key)
    if (task?.state !== 'underWay') return false
    const hasFailed = task.refusals > 0
    if (hasFailed) this.#failing--
    task.refusals = 0
    task.reason = ''
    if (task.isStale) this.#move(task, 'ready')
    else this.#remove(task)
    return hasFailed
  }

  /** The kernel has refused something about an object: it is tried again later. Returns whether the reason is new. */
  refuse(object: KernelObject, reason: string): boolean {
    const task = this.#tasks.get(object.key) ?? this.#insert(object, 'retry')
    const isNew = task.reason !== reason
    if (task.refusals === 0) this.#failing++
    task.refusals++
    task.reason = reason
    task.retryAt = this.#now() + backoffMs(task.refusals, FIRST_RETRY_MS, LONGEST_RETRY_MS)
    if (task.state === 'underWay') this.#move(task, task.isStale ? 'ready' : 'retry')
    return isNew
  }

  /** The kernel did not say what became of what was under way. */
  interrupt(): void {
    for (const task of [...this.#tasks.values()]) if (task.state === 'underWay') this.#move(task, 'ready')
  }

  #sort(isWanted: (key: ObjectKey) => boolean): { readonly wanted: Task[]; readonly unwanted: Task[] } {
    const wanted: Task[] = []
    const unwanted: Task[] = []
    for (const task of this.#tasks.values())
      if (task.state === 'ready') (isWanted(task.object.key) ? wanted : unwanted).push(task)
    return { wanted, unwanted: unwanted.reverse() }
  }

  /** Holds these deletions, unless they may go ahead. */
  #hold(deletions: readonly Task[], isMaking: boolean): boolean {
    const { held } = this.#counts
    if (deletions.length === 0 && !isMaking) return false
    const [now, since] = [this.#now(), this.#heldSince]
    const until = holdUntil({ count: deletions.length + held, isMaking: isMaking || held > 0, since, now })
    if (until === undefined) {
      if (held === 0) this.#heldSince = undefined
      return false
    }
    this.#heldSince ??= now
    this.#heldUntil = until
    for (const task of deletions) this.#move(task, 'held')
    return true
  }

  #insert(object: KernelObject, state: State): Task {
    const task: Task = { object, state, isStale: false, refusals: 0, reason: '', retryAt: 0 }
    this.#tasks.set(object.key, task)
    this.#counts[state]++
    return task
  }

  /** Whatever becomes ready comes after all that is ready. */
  #move(task: Task, state: State): void {
    if (task.state === state) return
    this.#counts[task.state]--
    this.#counts[state]++
    task.state = state
    task.isStale = false
    if (state !== 'ready') return
    this.#tasks.delete(task.object.key)
    this.#tasks.set(task.object.key, task)
  }

  #remove(task: Task): void {
    this.#counts[task.state]--
    this.#tasks.delete(task.object.key)
  }
}
