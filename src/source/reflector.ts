/**
 * Keeps one resource of the API server up to date: list in pages, then watch from the list's resource version,
 * over and over. The list replaces everything at once and only when it is whole; an ordinary end of a watch
 * goes on from the last version seen, without a new list (Kubernetes API concepts, "Efficient detection of changes").
 */
import { setTimeout } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Collection } from '../model/cluster.ts'
import type { Parsed } from '../model/facts.ts'
import { type ApiClient, ApiError, isExpired, readBody, readLines } from './api-client.ts'
import type { Body, Page, PageHead } from './page.ts'

/** Pages are of about so many characters, however large an object is: one is parsed without holding up anything else. */
const PAGE_LENGTH = 512 * 1024
const FIRST_LIMIT = 100
const LARGEST_LIMIT = 500
/** The server ends a watch after a random time of one to two of these. */
const WATCH_SECONDS = 300
/** A watch that ends sooner, and without an event, is not followed by the next one at once. */
const SHORT_WATCH_MS = 1_000
const FIRST_BACKOFF_MS = 200
const LONGEST_BACKOFF_MS = 30_000

export interface ReflectorOptions<Fact> {
  readonly api: ApiClient
  /** For example `/api/v1/services`. */
  readonly path: string
  /** Label and field selectors. */
  readonly selectors: Readonly<Record<string, string>>
  /** Reads a page of a list; throws when it cannot. */
  readonly readPage: (body: Body) => Promise<Page<Fact>>
  /** Reads the object of an event. */
  readonly parse: (object: unknown) => Parsed<Fact>
  readonly collection: Collection<Fact>
  readonly log: Logger
  readonly signal: AbortSignal
  /** From 0 to 1; for jitter. */
  readonly random?: () => number
  /** Resolves after `ms`, or when the signal aborts. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>
}

interface WatchEvent {
  readonly type: string
  readonly object: { readonly metadata?: { readonly resourceVersion?: string } }
}

interface Progress {
  /** The last resource version seen; undefined: list first. */
  version: string | undefined
  /** In a row. */
  failures: number
}

/** Runs until the signal aborts. Never throws: errors are logged and retried. */
export async function reflect<Fact>(options: ReflectorOptions<Fact>): Promise<void> {
  const progress: Progress = { version: undefined, failures: 0 }
  while (!options.signal.aborted) {
    try {
      if (progress.version === undefined) await list(options, progress)
      else await watch(options, progress)
    } catch (error) {
      await recover(options, progress, error)
    }
  }
}

/** Says that the API server is lost, once, and waits before the next attempt; longer each time, or as it asks. */
async function recover<Fact>(
  options: ReflectorOptions<Fact>,
  progress: Progress,
  err: unknown,
): Promise<void> {
  const { log, signal, path } = options
  if (signal.aborted) return
  if (isExpired(err)) progress.version = undefined
  const remedy = remedyOf(err)
  if (isExpired(err)) log.info({ path }, 'our resource version is too old for the API server: listing anew')
  else if (progress.failures === 0) log.warn({ err, path, remedy }, 'lost the API server: retrying')
  else log.debug({ err, path }, 'the API server is still lost')
  const delay = Math.min(FIRST_BACKOFF_MS * 2 ** progress.failures, LONGEST_BACKOFF_MS)
  progress.failures++
  const asked = err instanceof ApiError ? (err.retryAfterMs ?? 0) : 0
  await pause(options, Math.max(asked, delay))
}

/** Waits for `ms`, and up to as long again so that not all nodes come back at once, or until the signal aborts. */
async function pause<Fact>(options: ReflectorOptions<Fact>, ms: number): Promise<void> {
  const { signal, random = Math.random, sleep = realSleep } = options
  await sleep(ms * (1 + random()), signal)
}

async function realSleep(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(ms, undefined, { signal }).catch(() => undefined)
}

function remedyOf(error: unknown): string | undefined {
  if (!(error instanceof ApiError)) return undefined
  if (error.status === 401)
    return 'the credentials are not valid: check the token or certificate of the kubeconfig'
  if (error.status === 403)
    return 'grant list and watch on services, endpointslices and nodes (deploy/base/rbac.yaml)'
  return undefined
}

function recovered<Fact>({ log, path }: ReflectorOptions<Fact>, progress: Progress): void {
  if (progress.failures > 0) log.info({ path }, 'reached the API server again')
  progress.failures = 0
}

async function fetchPage<Fact>(
  { api, path, selectors, signal, readPage }: ReflectorOptions<Fact>,
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

/** Reads all pages, and only then replaces the collection. While one is read, the next one is on its way. */
async function list<Fact>(options: ReflectorOptions<Fact>, progress: Progress): Promise<void> {
  const objects: Parsed<Fact>[] = []
  let version: string | undefined
  let limit = FIRST_LIMIT
  for (let next: Promise<Page<Fact>> | undefined = fetchPage(options, limit); next !== undefined;) {
    const { head, facts }: Page<Fact> = await next
    limit = nextLimit(head, limit)
    next = head.continue === undefined ? undefined : fetchPage(options, limit, head.continue)
    // Until it is awaited: what it throws is thrown there.
    next?.catch(() => undefined)
    version = head.resourceVersion
    const page = (await facts).map((parsed) => reported(options, parsed))
    options.collection.foresee(page)
    objects.push(...page)
  }
  if (version === undefined)
    throw new Error(`Cannot use the list of ${options.path}: it has no resourceVersion`)
  options.collection.replace(objects)
  progress.version = version
  recovered(options, progress)
}

function reported<Fact>({ log }: ReflectorOptions<Fact>, parsed: Parsed<Fact>): Parsed<Fact> {
  for (const problem of parsed.problems) log.error({ object: parsed.name }, problem)
  return parsed
}

/** Returns when the server ends the watch in the ordinary way. */
async function watch<Fact>(options: ReflectorOptions<Fact>, progress: Progress): Promise<void> {
  const { api, path, selectors, signal, random = Math.random } = options
  const started = performance.now()
  let events = 0
  const response = await api.get(
    path,
    {
      ...selectors,
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: progress.version!,
      timeoutSeconds: String(Math.round(WATCH_SECONDS * (1 + random()))),
    },
    signal,
  )
  for await (const line of readLines(response)) {
    apply(options, parseEvent(line), progress)
    events++
    recovered(options, progress)
  }
  recovered(options, progress)
  // An API server, or a proxy before it, that ends every watch at once must not be asked in a busy loop.
  if (events === 0 && performance.now() - started < SHORT_WATCH_MS) await pause(options, SHORT_WATCH_MS)
}

function parseEvent(line: string): WatchEvent {
  const event = JSON.parse(line) as WatchEvent
  if (typeof event.type !== 'string' || typeof event.object !== 'object')
    throw new Error('Cannot use a watch event')
  return event
}

function apply<Fact>(
  options: ReflectorOptions<Fact>,
  { type, object }: WatchEvent,
  progress: Progress,
): void {
  const { collection, parse, log } = options
  switch (type) {
    case 'ADDED':
    case 'MODIFIED':
      collection.put(reported(options, parse(object)))
      break
    case 'DELETED':
      collection.remove(parse(object).name)
      break
    case 'BOOKMARK':
      break
    case 'ERROR': {
      const { code, message } = object as { code?: number; message?: string }
      throw new ApiError(`API server ended the watch: ${message ?? 'unknown error'}`, code ?? 500)
    }
    default:
      log.debug({ type }, 'unknown watch event')
  }
  progress.version = object.metadata?.resourceVersion ?? progress.version
}
