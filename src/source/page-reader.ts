/** Reads pages of lists: the first ones here, those of a long list on a thread of their own (thread-reader.ts). */
import { setImmediate } from 'node:timers/promises'
import type { Facts, Resource } from '../model/facts.ts'
import { type Body, type Page, parsePage, type ReadPage } from './page.ts'
import { openThreadReader } from './thread-reader.ts'

/** Beyond so many pages, of about half a MB each, a list is worth a thread, which takes 10 MiB and a while to begin. */
const PAGES_HERE = 8

function readHere<R extends Resource>(resource: R, body: Body): Page<Facts[R]> {
  const { head, facts } = parsePage(resource, body)
  // The next page can be asked for meanwhile.
  return { head, facts: setImmediate().then(facts) }
}

/** Opens a reader, whose thread ends with `signal`. `foundLong` is called with each page of a long list. */
export function openPageReader(signal: AbortSignal, foundLong: () => void = () => undefined): ReadPage {
  const thread = openThreadReader(signal)
  /** Pages of each list that is being read. */
  const read = new Map<Resource, number>()
  return async (resource, body) => {
    signal.throwIfAborted()
    const before = read.get(resource) ?? 0
    const isLong = before >= PAGES_HERE && thread.begin()
    if (isLong) foundLong()
    const page = isLong ? await thread.read(resource, body) : readHere(resource, body)
    read.set(resource, page.head.continue === undefined ? 0 : before + 1)
    return page
  }
}
