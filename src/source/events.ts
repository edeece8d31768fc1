/**
 * What happens on this node, as Events of the API (events.k8s.io/v1), in the manner of client-go's recorder: what
 * happens again is counted, what happens too often is dropped, and nobody waits for any of it.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { type ApiClient, ApiError } from './api-client.ts'

const CONTROLLER = 'kube-ipvs'
/** The same again within this time is the same Event. */
const SERIES_MS = 6 * 60_000
/** A series is not told more often. */
const SERIES_PAUSE_MS = 30_000
/** What one object may have: so many Events at once, and one more each so often. */
const BURST = 25
const REFILL_MS = 5 * 60_000
const MAX_REMEMBERED = 1_000
const MAX_QUEUED = 100
const MAX_NOTE_BYTES = 1_024
const MAX_NAME = 128
const FIRST_BACKOFF_MS = 1_000
const LONGEST_BACKOFF_MS = 60_000

/** Something that an operator should be able to read with `kubectl get events`. */
export interface Happening {
  readonly type: 'Normal' | 'Warning'
  /** CamelCase, for machines. */
  readonly reason: string
  /** CamelCase: what was being done. */
  readonly action: string
  readonly regarding: { readonly kind: 'Node' | 'Service'; readonly name: string; readonly namespace?: string }
  /** For humans. */
  readonly note: string
}

/** Returns at once, and never throws. */
export type RecordEvent = (happening: Happening) => void

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
  readonly name: string
  readonly namespace: string
  count: number
  lastAt: number
  toldAt: number
}

interface Bucket {
  tokens: number
  filledAt: number
}

/** One request that waits to be sent. */
interface Request {
  readonly method: 'POST' | 'PATCH'
  readonly path: string
  readonly body: object
}

const microTime = (ms: number): string => new Date(ms).toISOString().replace('Z', '000Z')

/** At most so many bytes of UTF-8, and no half character. */
function cut(text: string, maxBytes: number): string {
  const bytes = Buffer.from(text)
  if (bytes.length <= maxBytes) return text
  let end = maxBytes
  while (end > 0 && (bytes[end]! & 0xc0) === 0x80) end--
  return bytes.toString('utf8', 0, end)
}

function namespaceOf({ regarding }: Happening): string {
  return regarding.namespace ?? 'default'
}

function eventOf(happening: Happening, { name, namespace, lastAt }: Series, nodeName: string): object {
  const { type, reason, action, regarding, note } = happening
  return {
    apiVersion: 'events.k8s.io/v1',
    kind: 'Event',
    metadata: { name, namespace },
    eventTime: microTime(lastAt),
    reportingController: CONTROLLER,
    reportingInstance: cut(`${CONTROLLER}-${nodeName}`, MAX_NAME),
    type,
    reason,
    action,
    regarding: { apiVersion: 'v1', ...regarding },
    note: cut(note, MAX_NOTE_BYTES),
  }
}

/** Decides which happenings become requests. */
class Aggregator {
  readonly #nodeName: string
  readonly #series = new Map<string, Series>()
  readonly #buckets = new Map<string, Bucket>()
  #lastName = 0

  constructor(nodeName: string) {
    this.#nodeName = nodeName
  }

  /** The request to send; undefined for one more of what has just been told, or one too many. */
  take(happening: Happening, now: number): Request | 'counted' | 'dropped' {
    const key = JSON.stringify(happening)
    const known = this.#series.get(key)
    if (known !== undefined && now - known.lastAt < SERIES_MS) return this.#repeat(known, now)
    if (!this.#allow(happening, now)) return 'dropped'
    const series = this.#begin(happening, now)
    this.#series.delete(key)
    remember(this.#series, key, series)
    const path = `/apis/events.k8s.io/v1/namespaces/${series.namespace}/events`
    return { method: 'POST', path, body: eventOf(happening, series, this.#nodeName) }
  }

  #begin(happening: Happening, now: number): Series {
    // Nanoseconds in hex, as client-go has them; no two are the same.
    this.#lastName = Math.max(now * 1_000, this.#lastName + 1)
    const suffix = (BigInt(this.#lastName) * 1_000n).toString(16)
    const name = `${happening.regarding.name}.${suffix}`
    return { name, namespace: namespaceOf(happening), count: 1, lastAt: now, toldAt: now }
  }

  #repeat(series: Series, now: number): Request | 'counted' {
    series.count++
    series.lastAt = now
    if (now - series.toldAt < SERIES_PAUSE_MS) return 'counted'
    series.toldAt = now
    const { namespace, name, count } = series
    const body = { series: { count, lastObservedTime: microTime(now) } }
    return { method: 'PATCH', path: `/apis/events.k8s.io/v1/namespaces/${namespace}/events/${name}`, body }
  }

  #allow({ regarding }: Happening, now: number): boolean {
    const key = JSON.stringify(regarding)
    const bucket = this.#buckets.get(key) ?? { tokens: BURST, filledAt: now }
    const refilled = Math.floor((now - bucket.filledAt) / REFILL_MS)
    bucket.tokens = Math.min(BURST, bucket.tokens + refilled)
    bucket.filledAt += refilled * REFILL_MS
    remember(this.#buckets, key, bucket)
    if (bucket.tokens === 0) return false
    bucket.tokens--
    return true
  }
}

/** Forgets the oldest when there are too many. */
function remember<Value>(map: Map<string, Value>, key: string, value: Value): void {
  map.set(key, value)
  if (map.size > MAX_REMEMBERED) map.delete(map.keys().next().value!)
}

/** What to do about a request that was refused. */
function verdictOf(error: unknown): 'retry' | 'forbidden' | 'drop' {
  if (!(error instanceof ApiError) || error.status >= 500 || error.status === 429 || error.status === 401)
    return 'retry'
  return error.status === 403 ? 'forbidden' : 'drop'
}

/** Sends Events in the background, one after the other. */
export function openEvents(options: EventsOptions): RecordEvent {
  const { nodeName, log, signal, now = Date.now } = options
  const aggregator = new Aggregator(nodeName)
  const queue: Request[] = []
  let isOff = false
  let sending: Promise<void> | undefined
  const sendAll = async (): Promise<void> => {
    for (let request = queue[0]; request !== undefined && !signal.aborted; request = queue[0]) {
      if (await send(options, request)) queue.shift()
      else {
        isOff = true
        queue.length = 0
      }
    }
    sending = undefined
  }
  return (happening) => {
    if (isOff || signal.aborted) return
    const request = aggregator.take(happening, now())
    if (request === 'dropped') log.debug({ happening }, 'dropped an Event: there are too many of its object')
    if (typeof request === 'string') return
    if (queue.length === MAX_QUEUED) log.debug({ happening }, 'dropped an Event: too many wait to be sent')
    else queue.push(request)
    sending ??= sendAll()
  }
}

/** Sends one request, as often as it takes; false when we may not. */
async function send({ api, log, signal, pause = wait }: EventsOptions, request: Request): Promise<boolean> {
  for (let failures = 0; !signal.aborted; failures++) {
    try {
      await api.send(request.method, request.path, request.body, signal)
      return true
    } catch (err) {
      const verdict = verdictOf(err)
      if (verdict === 'forbidden') {
        const remedy = 'grant create and patch on events of events.k8s.io (deploy/base/rbac.yaml)'
        log.warn({ err, remedy }, 'we may not write Events: there will be none')
        return false
      }
      log.debug({ err, request }, verdict === 'drop' ? 'dropped an Event' : 'cannot send an Event: retrying')
      if (verdict === 'drop') return true
      await pause(Math.min(FIRST_BACKOFF_MS * 2 ** failures, LONGEST_BACKOFF_MS), signal)
    }
  }
  return true
}

async function wait(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined)
}
