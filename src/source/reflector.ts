/**
 * Keeps one resource of the API server up to date: list in pages, then watch from the list's resource version,
 * over and over. The list replaces everything at once and only when it is whole; an ordinary end of a watch
 * goes on from the last version seen, without a new list (Kubernetes API concepts, "Efficient detection of changes").
 */
import type { Logger } from 'pino'
import type { Collection } from '../model/facts/cluster.ts'
import type { Parsed } from '../model/facts/facts.ts'
import { type ApiClient, ApiError, isExpired, readLines } from './api-client.ts'
import { type ListOptions, listPages } from './list.ts'
import { type Sleep, sleep as realSleep } from '../waiting/sleep.ts'
import { remedyOf, retryAfterMs } from './retry.ts'

/** The server ends a watch after a random time of one to two of these. */
const WATCH_SECONDS = 300
/** A watch that ends sooner, and without an event, is not followed by the next one at once. */
const SHORT_WATCH_MS = 1_000
const FIRST_BACKOFF_MS = 200
const LONGEST_BACKOFF_MS = 30_000
/** After so many failures, about half a minute, an optional resource is done without: nothing else waits for it. */
const OPTIONAL_ATTEMPTS = 7
/** An optional resource that is not there is asked for again: soon, should the API server have just begun, then rarely. */
const FIRST_ABSENCE_MS = 10_000
const LONGEST_ABSENCE_MS = 600_000

export interface ReflectorOptions<Fact> extends ListOptions<Fact> {
  readonly api: ApiClient
  /** Reads the object of an event. */
  readonly parse: (object: unknown) => Parsed<Fact>
  readonly collection: Collection<Fact>
  /** An API server that does not have the resource, or does not let us read it, has none of it: the list is empty. */
  readonly optional?: boolean
  readonly log: Logger
  /** From 0 to 1; for jitter. */
  readonly random?: () => number
  readonly sleep?: Sleep
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
  /** The list has been whole once: an error from then on is none of what is there. */
  isListed: boolean
  /** The list is empty, as the optional resource is not there. */
  isAbsent: boolean
}

/** Runs until the signal aborts. Never throws: errors are logged and retried. */
export async function reflect<Fact>(options: ReflectorOptions<Fact>): Promise<void> {
  const progress: Progress = { version: undefined, failures: 0, isListed: false, isAbsent: false }
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
  if (isAbsence(options, progress, err)) {
    await doWithout(options, progress, err)
    return
  }
  const remedy = remedyOf(err, permission(path))
  if (isExpired(err)) log.info({ path }, 'our resource version is too old for the API server: listing anew')
  else if (progress.failures === 0) log.warn({ err, path, remedy }, 'lost the API server: retrying')
  else log.debug({ err, path }, 'the API server is still lost')
  if (options.optional === true && !progress.isListed && progress.failures === OPTIONAL_ATTEMPTS) {
    log.warn({ path }, 'cannot read this resource: going on without, until it can be read')
    options.collection.replace([])
  }
  const ms = retryAfterMs(err, progress.failures, FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS)
  progress.failures++
  await pause(options, ms)
}

/** What the program must be allowed. */
function permission(path: string): string {
  return `list and watch on ${path.slice(path.lastIndexOf('/') + 1)}`
}

/** The optional resource is not there. What has been listed stays: an API server that begins may refuse all for a while. */
function isAbsence<Fact>(
  { optional = false }: ReflectorOptions<Fact>,
  { isListed }: Progress,
  err: unknown,
): err is ApiError {
  return optional && !isListed && err instanceof ApiError && (err.status === 403 || err.status === 404)
}

/** Empties the list and says so, once; and waits before it is asked for again. */
async function doWithout<Fact>(
  options: ReflectorOptions<Fact>,
  progress: Progress,
  err: ApiError,
): Promise<void> {
  const { log, path, collection } = options
  if (!progress.isAbsent) {
    collection.replace([])
    if (err.status === 404) log.info({ path }, 'the API server does not have this resource: going on without')
    else
      log.warn(
        { path, remedy: remedyOf(err, permission(path)) },
        'may not read this resource: going on without',
      )
  }
  progress.isAbsent = true
  const ms = retryAfterMs(err, progress.failures, FIRST_ABSENCE_MS, LONGEST_ABSENCE_MS)
  progress.failures++
  await pause(options, ms)
}

/** Waits for `ms`, and up to as long again so that not all nodes come back at once, or until the signal aborts. */
async function pause<Fact>(options: ReflectorOptions<Fact>, ms: number): Promise<void> {
  const { signal, random = Math.random, sleep = realSleep } = options
  await sleep(ms * (1 + random()), signal)
}

function recovered<Fact>({ log, path }: ReflectorOptions<Fact>, progress: Progress): void {
  if (progress.isAbsent) log.info({ path }, 'the API server lets us read this resource now')
  else if (progress.failures > 0) log.info({ path }, 'reached the API server again')
  progress.isAbsent = false
  progress.failures = 0
}

/** Reads all pages, and only then replaces the collection. */
async function list<Fact>(options: ReflectorOptions<Fact>, progress: Progress): Promise<void> {
  const objects: Parsed<Fact>[] = []
  let version: string | undefined
  for await (const { head, facts } of listPages(options)) {
    version = head.resourceVersion
    const page = (await facts).map((parsed) => reported(options, parsed))
    options.collection.foresee(page)
    objects.push(...page)
  }
  if (version === undefined)
    throw new Error(`Cannot use the list of ${options.path}: it has no resourceVersion`)
  options.collection.replace(objects)
  progress.version = version
  progress.isListed = true
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
