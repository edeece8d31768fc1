/** Lists of the API server, page by page. */
import { awaitedLater } from '../waiting/promises.ts'
import { type ApiClient, readBody } from './api-client.ts'
import type { Body, Page, PageHead } from './pages/page.ts'

/** Pages are of about so many characters, however large an object is: one is parsed without holding up anything else. */
const PAGE_LENGTH = 512 * 1024
const FIRST_LIMIT = 100
const LARGEST_LIMIT = 500

export interface ListOptions<Fact> {
  readonly api: Pick<ApiClient, 'get'>
  /** For example `/api/v1/services`. */
  readonly path: string
  /** Label and field selectors. */
  readonly selectors: Readonly<Record<string, string>>
  /** Reads a page of a list; throws when it cannot. */
  readonly readPage: (body: Body) => Promise<Page<Fact>>
  readonly signal: AbortSignal
}

async function fetchPage<Fact>(
  { api, path, selectors, signal, readPage }: ListOptions<Fact>,
  limit: number,
  token?: string,
): Promise<Page<Fact>> {
  const query = { ...selectors, limit: String(limit), ...(token !== undefined && { continue: token }) }
  return readPage(await readBody(await api.get(path, query, signal)))
}

/** How many objects to ask for, after a page for which `limit` was asked. */
function nextLimit({ objects, length }: PageHead, limit: number): number {
  const fitting = objects === 0 ? limit : Math.ceil((PAGE_LENGTH / length) * objects)
  return Math.min(fitting, LARGEST_LIMIT)
}

/**
 * The pages of a list in order. While one is read, the next one is on its way. Throws as `get` and `readPage` do: what
 * has come until then is no list.
 *
 * No resourceVersion is asked for. With `0` each API server would answer from its cache, but in one piece: the limit
 * does not count there, and the Nodes of a large cluster are 75 MB of JSON. Without it the first page is from the cache
 * since Kubernetes 1.31 (KEP-2340), and the others since 1.34 (KEP-4988); before, they are short reads of etcd.
 */
export async function* listPages<Fact>(options: ListOptions<Fact>): AsyncGenerator<Page<Fact>, void> {
  let limit = FIRST_LIMIT
  for (let next: Promise<Page<Fact>> | undefined = fetchPage(options, limit); next !== undefined;) {
    const page: Page<Fact> = await next
    limit = nextLimit(page.head, limit)
    const token = page.head.continue
    next = token === undefined ? undefined : awaitedLater(fetchPage(options, limit, token))
    yield page
  }
}
