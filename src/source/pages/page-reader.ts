/** Reads pages of lists: the first ones here, those of a long list on a thread of their own (thread-reader.ts). */
import { setImmediate } from 'node:timers/promises'
import type { Facts, Resource } from '../../model/facts/facts.ts'
import { type Body, type Page, parsePage, type ReadPage } from './page.ts'
import { openThreadReader } from './thread-reader.ts'

/** Beyond so many pages, of about half a MB each, what is listed is worth a thread, which takes 10 MiB and a while to begin. */
const PAGES_HERE = 8

function readHere<R extends Resource>(resource: R, body: Body): Page<Facts[R]> {
  const { head, facts } = parsePage(resource, body)
  // The next page can be asked for meanwhile.
  return { head, facts: setImmediate().then(facts) }
}

/** Opens a reader, whose thread ends with `signal`. `foundLong` is called with each page that the thread reads. */
export function openPageReader(signal: AbortSignal, foundLong: () => void = () => undefined): ReadPage {
  const thread = openThreadReader(signal)
  /** Pages of each list that is being read. */
  const read: Partial<Record<Resource, number>> = {}
  const isLong = (): boolean => Object.values(read).reduce((sum, pages) => sum + pages, 0) >= PAGES_HERE
  return async (resource, body) => {
    signal.throwIfAborted()
    const isThreads = isLong() && thread.begin()
    if (isThreads) foundLong()
    const page = isThreads ? await thread.read(resource, body) : readHere(resource, body)
    read[resource] = page.head.continue === undefined ? 0 : (read[resource] ?? 0) + 1
    return page
  }
}
