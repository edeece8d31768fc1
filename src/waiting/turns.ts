/** Long work in turns: one thread serves everything, and nothing may hold up the rest for long. */
import { setTimeout as pause } from 'node:timers/promises'

const ITEMS_PER_TURN = 200

/** Lets everything else that waits have its turn. */
export const breathe = (): Promise<void> => new Promise(setImmediate)

/** Runs tasks one after the other, in the order they come in. What a task throws is thrown to whom it belongs. */
export function oneAtATime(): <Result>(task: () => Promise<Result>) => Promise<Result> {
  let last: Promise<unknown> = Promise.resolve()
  return (task) => {
    const result = last.then(task)
    last = result.catch(() => undefined)
    return result
  }
}

/** Maps a list of any length. */
export async function mapInTurns<Item, Result>(
  items: Iterable<Item>,
  map: (item: Item) => Result,
  itemsPerTurn = ITEMS_PER_TURN,
): Promise<Result[]> {
  const results: Result[] = []
  for (const item of items) {
    if (results.length > 0 && results.length % itemsPerTurn === 0) await breathe()
    results.push(map(item))
  }
  return results
}

/** The longest slice of work that gives way to everything else, in ms. */
const SLICE_MS = 2
/** However long a part has taken. */
const LONGEST_PAUSE_MS = 50

/**
 * Returns what does work for somebody who only looks, a part at a time: once its parts have taken 2 ms, it waits for as
 * long. So a change never waits for long, and has at least half of the time. `now` is monotonic, in ms.
 */
export function leisure(now = () => performance.now()): <Result>(part: () => Result) => Promise<Result> {
  let spentMs = 0
  return async (part) => {
    const started = now()
    const result = part()
    spentMs += now() - started
    if (spentMs >= SLICE_MS) {
      await pause(Math.min(spentMs, LONGEST_PAUSE_MS))
      spentMs = 0
    }
    return result
  }
}

/** Maps a list of any length for somebody who only looks. */
export async function mapAtLeisure<Item, Result>(
  items: Iterable<Item>,
  map: (item: Item) => Result,
): Promise<Result[]> {
  const atLeisure = leisure()
  const results: Result[] = []
  for (const item of items) results.push(await atLeisure(() => map(item)))
  return results
}

/** Returns what runs tasks one after the other, of which only so many may wait; undefined for one more. */
export function oneAtATimeUpTo(
  most: number,
): <Result>(task: () => Promise<Result>) => Promise<Result> | undefined {
  const inTurn = oneAtATime()
  let count = 0
  return (task) => {
    if (count > most) return undefined
    count++
    return inTurn(task).finally(() => {
      count--
    })
  }
}
