/** What is read for one is shown to others who ask meanwhile, or soon after. */
const FRESH_MS = 1_900

/** Reads when it is asked for and the last reading is older than about two seconds; `now` is monotonic, in ms. */
export function remembered<Result>(read: () => Promise<Result>, now: () => number): () => Promise<Result> {
  let last: Promise<Result> | undefined
  let endsAt = -Infinity
  const readAnew = async (): Promise<Result> => {
    endsAt = Infinity
    const startedAt = now()
    try {
      return await read()
    } finally {
      endsAt = startedAt + FRESH_MS
    }
  }
  return () => {
    if (last === undefined || now() >= endsAt) last = readAnew()
    return last
  }
}
