/** Long work in turns: one thread serves everything, and nothing may hold up the rest for long. */

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
