/** What a promise is rejected with; an error when it is not. */
export async function rejectionOf(promise: Promise<unknown>): Promise<unknown> {
  const outcome = await promise.then(
    () => ({ rejected: false as const }),
    (error: unknown) => ({ rejected: true as const, error }),
  )
  if (outcome.rejected) return outcome.error
  throw new Error('expected a rejection, but the promise was fulfilled')
}
