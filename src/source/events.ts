/**
 * What happens on this node, as Events of the API (events.k8s.io/v1), in the manner of client-go's recorder: what
 * happens again is counted, what happens too often is dropped, and nobody waits for any of it.
 */
import { sleep } from '../waiting/sleep.ts'
import { retryAfterMs } from './retry.ts'
import { randomInt } from 'node:crypto'
import type { Logger } from 'pino'
import { type ApiClient, ApiError } from './api-client.ts'

const CONTROLLER = 'kube-ipvs'
/** The same again within this time is the same Event. */
const SERIES_MS = 6 * 60_000
/** The API is not told of one series more often. */
const SERIES_PAUSE_MS = 30_000
/** What one object may have: so many Events at once, and one more each so often. */
const BURST = 25
const REFILL_MS = 5 * 60_000
const MAX_REMEMBERED = 1_000
const MAX_QUEUED = 100
const FIRST_BACKOFF_MS = 1_000
const LONGEST_BACKOFF_MS = 60_000
/** An API server that answers, but never takes this one, must not keep it from the others. */
const MAX_RETRIES = 12
/** What the API server takes, in bytes (pkg/apis/core/validation/events.go). */
const MAX_NOTE_BYTES = 1_024
const MAX_INSTANCE_BYTES = 128
const MAX_NAME = 253
/** Reasons of a 403 that are not ours: the namespace takes nothing new, or nothing more. */
const NAMESPACE_IS_CLOSED = /being terminated|exceeded quota/

/** Something that an operator should be able to read with `kubectl get events`. */
export interface Happening {
  readonly type: 'Normal' | 'Warning'
  /** CamelCase, for machines; at most 128 characters. */
  readonly reason: string
  /** CamelCase: what was being done; at most 128 characters. */
  readonly action: string
  readonly regarding: {
    readonly kind: 'Node' | 'Service'
    readonly name: string
    readonly namespace?: string
  }
  /** For humans; what is beyond 1,024 bytes is cut off. */
  readonly note: string
}

/** Returns at once, and never throws. */
export type RecordEvent = (happening: Happening) => void

/** Records Events, and can wait for them before the process ends. */
export interface EventRecorder extends RecordEvent {
  /** Resolves when all that is queued has been sent, when the signal aborts, or after `timeoutMs`. */
  readonly flush: (timeoutMs: number) => Promise<void>
}

export interface EventsOptions {
  readonly api: Pick<ApiClient, 'send'>
  readonly nodeName: string
  readonly log: Logger
  /** What has not been sent when it aborts is dropped. */
  readonly signal: AbortSignal
  /** In ms since the epoch. */
  readonly now?: () => number
  /** Resolves after `ms`, or when the signal aborts. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>
}

/** One Event of the API, and how often it has happened. */
interface Series {
  readonly happening: Happening
  readonly name: string
  /** Times are in ms since the epoch. */
  readonly beganAt: number
  lastAt: number
  count: number
  /** The API server has it. */
  isWritten: boolean
  /** What the API was told last, and when. */
  toldCount: number
  toldAt: number
  /** The API is going to be told. */
  isWaiting: boolean
}

interface Bucket {
  tokens: number
  filledAt: number
  dropped: number
}

interface Request {
  readonly method: 'POST' | 'PATCH'
  readonly path: string
  readonly body: object
}

// --- The API's words ------------------------------------------------------------------------------------

const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z')

/** At most so many bytes of UTF-8, and no half character. */
function cut(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= maxBytes) return text
  let end = maxBytes
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}

/** `<object>.<time in hex>`, a DNS subdomain: an object's name that is too long loses its end. */
function nameOf({ regarding }: Happening, nanoseconds: bigint): string {
  const suffix = nanoseconds.toString(16)
  const stem = regarding.name.slice(0, MAX_NAME - 1 - suffix.length).replace(/[-.]+$/, '')
  return `${stem}.${suffix}`
}

function seriesOf({ count, lastAt }: Series): object {
  return count === 1 ? {} : { series: { count, lastObservedTime: microTime(lastAt) } }
}

function eventOf(series: Series, namespace: string, nodeName: string): object {
  const { type, reason, action, regarding, note } = series.happening
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name: series.name, namespace },
    eventTime: microTime(series.beganAt),
    reportingController: CONTROLLER,
    reportingInstance: cut(`${CONTROLLER}-${nodeName}`, MAX_INSTANCE_BYTES),
    type,
    reason,
    action,
    regarding: { apiVersion: 'v1', ...regarding },
    note,
    ...seriesOf(series),
  }
}

/** Writes a new Event, or how often a written one has happened. */
function requestOf(series: Series, nodeName: string): Request {
  const namespace = series.happening.regarding.namespace ?? 'default'
  const path = `/apis/events.k8s.io/v1/namespaces/${namespace}/events`
  return series.isWritten
    ? { method: 'PATCH', path: `${path}/${series.name}`, body: seriesOf(series) }
    : { method: 'POST', path, body: eventOf(series, namespace, nodeName) }
}

// --- What is the same, and what is too much -------------------------------------------------------------

/** Puts a value last, and forgets the one that has been there longest when there are too many. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.delete(key)
  map.set(key, value)
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!)
}

/** Counts what is the same, and drops what is too much. */
class Aggregator {
  readonly #log: Logger
  readonly #series = new Map<string, Series>()
  readonly #buckets = new Map<string, Bucket>()
  #lastName = 0n

  constructor(log: Logger) {
    this.#log = log
  }

  /** The Event that this is; undefined: one too many of its object. */
  take(happening: Happening, now: number): Series | undefined {
    const key = JSON.stringify(happening)
    const known = this.#series.get(key)
    const goesOn = known !== undefined && now - known.lastAt < SERIES_MS
    if (!goesOn && !this.#allow(happening, now)) return undefined
    const series = goesOn ? known : this.#begin(happening, now)
    series.count++
    series.lastAt = now
    remember(this.#series, key, series)
    return series
  }

  #begin(happening: Happening, now: number): Series {
    // The clock has ms: what is below is random, as all nodes may say the same of one Service at the same time.
    const time = BigInt(now) * 1_000_000n + BigInt(randomInt(1_000_000))
    this.#lastName = time > this.#lastName ? time : this.#lastName + 1n
    const name = nameOf(happening, this.#lastName)
    const untold = { isWritten: false, toldCount: 0, toldAt: -Infinity, isWaiting: false }
    return { happening, name, beganAt: now, lastAt: now, count: 0, ...untold }
  }

  /** A token bucket for each object, as client-go's spam filter. */
  #allow({ regarding }: Happening, now: number): boolean {
    const key = JSON.stringify(regarding)
    const bucket = this.#buckets.get(key) ?? { tokens: BURST, filledAt: now, dropped: 0 }
    const refilled = Math.max(0, Math.floor((now - bucket.filledAt) / REFILL_MS))
    bucket.tokens = Math.min(BURST, bucket.tokens + refilled)
    bucket.filledAt += refilled * REFILL_MS
    remember(this.#buckets, key, bucket)
    if (bucket.tokens === 0) {
      bucket.dropped++
      if (bucket.dropped === 1) this.#log.debug({ regarding }, 'too many Events of one object: dropping more')
      return false
    }
    bucket.tokens--
    const { dropped } = bucket
    if (dropped > 0)
      this.#log.debug({ regarding, dropped }, 'dropped Events: there were too many of one object')
    bucket.dropped = 0
    return true
  }
}

// --- The way to the API server --------------------------------------------------------------------------

/** Opens the way of Events to the API server: in the background, one after the other. */
export function openEvents(options: EventsOptions): EventRecorder {
  const { log, signal, now = Date.now, pause = sleep } = options
  const aggregator = new Aggregator(log)
  const queue: Series[] = []
  let isOff = false
  let sending: Promise<void> | undefined

  const sendAll = async (): Promise<void> => {
    // What is recorded in one go is counted first.
    await Promise.resolve()
    for (let series = queue.shift(); series !== undefined && !signal.aborted; series = queue.shift()) {
      isOff = !(await send(options, series))
      if (isOff) queue.length = 0
      series.toldAt = now()
      series.isWaiting = false
      if (series.count > series.toldCount) void tell(series)
    }
    sending = undefined
  }
  /** Tells the API of a series, once its pause is over. */
  const tell = async (series: Series): Promise<void> => {
    series.isWaiting = true
    const rest = Math.min(series.toldAt + SERIES_PAUSE_MS - now(), SERIES_PAUSE_MS)
    if (rest > 0) await pause(rest, signal)
    if (isOff || signal.aborted) return
    if (queue.length < MAX_QUEUED) queue.push(series)
    else {
      log.debug({ happening: series.happening }, 'dropped an Event: too many wait to be sent')
      series.isWaiting = false
    }
    sending ??= sendAll()
  }
  const record: RecordEvent = (happening) => {
    if (isOff || signal.aborted) return
    const series = aggregator.take({ ...happening, note: cut(happening.note, MAX_NOTE_BYTES) }, now())
    if (series?.isWaiting === false) void tell(series)
  }
  const flush = async (timeoutMs: number): Promise<void> => {
    const done = new AbortController()
    const timeout = pause(timeoutMs, AbortSignal.any([signal, done.signal]))
    await Promise.race([sending, timeout])
    done.abort()
  }
  return Object.assign(record, { flush })
}

type Verdict = 'retry' | 'rewrite' | 'written' | 'forbidden' | 'drop'

/** What to do about a request that has failed, after so many others in a row. */
function verdictOf(error: unknown, { method }: Request, failures: number): Verdict {
  if (!(error instanceof ApiError)) return 'retry'
  const { status, message } = error
  if (status >= 500 || status === 429 || status === 401) return failures < MAX_RETRIES ? 'retry' : 'drop'
  // Events are kept for about an hour: this one has gone.
  if (status === 404 && method === 'PATCH') return 'rewrite'
  // The answer to an earlier try was lost.
  if (status === 409 && failures > 0) return 'written'
  return status === 403 && !NAMESPACE_IS_CLOSED.test(message) ? 'forbidden' : 'drop'
}

/** Sends what there is to tell of a series, as often as it takes; false when we may not. */
async function send(options: EventsOptions, series: Series): Promise<boolean> {
  const { api, nodeName, log, signal, pause = sleep } = options
  for (let failures = 0; !signal.aborted;) {
    const request = requestOf(series, nodeName)
    series.toldCount = series.count
    try {
      await api.send(request.method, request.path, request.body, signal)
      series.isWritten = true
      return true
    } catch (err) {
      const verdict = verdictOf(err, request, failures)
      if (verdict === 'retry') await pause(backoff(err, failures++), signal)
      else if (verdict === 'rewrite') series.isWritten = false
      else return giveUp(log, { verdict, err, request, series })
    }
  }
  return true
}

interface Refusal {
  readonly verdict: 'written' | 'forbidden' | 'drop'
  readonly err: unknown
  readonly request: Request
  readonly series: Series
}

/** Says why a request is not sent again; false when none ever should be. */
function giveUp(log: Logger, { verdict, err, request, series }: Refusal): boolean {
  if (verdict === 'written') series.isWritten = true
  if (verdict === 'drop') log.debug({ err, request }, 'dropped an Event')
  if (verdict !== 'forbidden') return true
  const remedy = 'grant create and patch on events of events.k8s.io (deploy/base/rbac.yaml)'
  log.warn({ err, remedy }, 'we may not write Events: there will be none until the next start')
  return false
}

/** Longer each time, or as the server asks; not the same on all nodes. */
function backoff(error: unknown, failures: number): number {
  const ms = retryAfterMs(error, failures, FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS)
  return ms * (1 + Math.random() / 4)
}
