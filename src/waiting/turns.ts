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

/**
 * Work for somebody who only looks: called after each part of it, it waits as long as the last slice took, once that was
 * 2 ms. So a change never waits for long, and has at least half of the time. `now` is monotonic, in ms.
 */
export function leisure(now = () => performance.now()): () => Promise<void> {
  let started = now()
  return async () => {
    const tookMs = now() - started
    if (tookMs < SLICE_MS) return
    await pause(tookMs)
    started = now()
  }
}

/** Maps a list of any length for somebody who only looks. */
export async function mapAtLeisure<Item, Result>(
  items: Iterable<Item>,
  map: (item: Item) => Result,
): Promise<Result[]> {
  const giveWay = leisure()
  const results: Result[] = []
  for (const item of items) {
    results.push(map(item))
    await giveWay()
  }
  return results
}
