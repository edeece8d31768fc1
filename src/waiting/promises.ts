/** Promises that are awaited later, or together. */

/**
 * A promise that is awaited later: until then, Node must not take its failure for one that nobody looks after. What it
 * throws is thrown where it is awaited.
 */
export function awaitedLater<Result>(promise: Promise<Result>): Promise<Result> {
  promise.catch(() => undefined)
  return promise
}

/** What all promise; when one fails, the others are waited for, and nothing is left behind. */
export async function together<Promises extends readonly Promise<unknown>[]>(
  promises: readonly [...Promises],
): Promise<{ [i in keyof Promises]: Awaited<Promises[i]> }> {
  await Promise.allSettled(promises)
  return Promise.all(promises)
}
