/**
 * How long to wait before the next attempt, in ms: `firstMs` after the first one, twice as long after each further one, at
 * most `longestMs`. `attempts` have failed so far.
 */
export function backoffMs(attempts: number, firstMs: number, longestMs: number): number {
  return Math.min(firstMs * 2 ** (attempts - 1), longestMs)
}
