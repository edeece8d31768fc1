/** What the API server takes of Events, and what not. */
import { isDeepStrictEqual } from 'node:util'
import type { ApiObject } from './api-server.ts'

/** An Event of events.k8s.io/v1, as it stands. */
export interface ApiEvent extends ApiObject {
  readonly eventTime: string
  readonly reportingController: string
  readonly reportingInstance: string
  readonly type: string
  readonly reason: string
  readonly action: string
  readonly note: string
  readonly regarding: {
    readonly apiVersion: string
    readonly kind: string
    readonly name: string
    readonly namespace?: string
  }
  series?: { readonly count: number; readonly lastObservedTime: string }
}

const SUBDOMAIN = /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const QUALIFIED = /^([a-z0-9]([-a-z0-9.]*[a-z0-9])?\/)?(?=.{1,63}$)[A-Za-z0-9]([-\w.]*[A-Za-z0-9])?$/
const MICRO_TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[-+]\d\d:\d\d)$/

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const matches =
  (pattern: RegExp) =>
  (value: unknown): boolean =>
    typeof value === 'string' && pattern.test(value)
const isText =
  (min: number, max: number) =>
  (value: unknown): boolean =>
    typeof value === 'string' && value.length >= min && Buffer.byteLength(value) <= max

/** What each field of an Event must be: others are not known to the API, or not wanted in new Events. */
const EVENT_FIELDS: Readonly<Record<string, (value: unknown) => boolean>> = {
  apiVersion: (value) => value === 'events.k8s.io/v1',
  kind: (value) => value === 'Event',
  metadata: (value) => isObject(value) && matches(SUBDOMAIN)(value.name),
  eventTime: matches(MICRO_TIME),
  reportingController: matches(QUALIFIED),
  reportingInstance: isText(1, 128),
  type: matches(/^(Normal|Warning)$/),
  reason: isText(1, 128),
  action: isText(1, 128),
  regarding: (value) =>
    isObject(value) && ['apiVersion', 'kind', 'name'].every((field) => isText(1, 253)(value[field])),
  note: isText(0, 1_024),
  series: (value) =>
    value === undefined ||
    (isObject(value) && Number(value.count) >= 2 && matches(MICRO_TIME)(value.lastObservedTime)),
}

/** What the API server refuses of an Event (pkg/apis/core/validation/events.go); undefined: nothing. */
export function eventFault(event: unknown, namespace: string): string | undefined {
  if (!isObject(event)) return 'no object'
  const unknown = Object.keys(event).find((field) => EVENT_FIELDS[field] === undefined)
  const wrong = Object.keys(EVENT_FIELDS).find((field) => !EVENT_FIELDS[field]!(event[field]))
  if ((unknown ?? wrong) !== undefined) return unknown ?? wrong
  const { metadata, regarding } = event as unknown as ApiEvent
  if (metadata.namespace !== namespace) return 'metadata.namespace'
  // The real one takes any namespace with any object, and none only in two: ours are always the object's.
  return (regarding.namespace ?? 'default') === namespace ? undefined : 'regarding.namespace'
}

/** RFC 7386. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch
  const merged: Record<string, unknown> = isObject(target) ? { ...target } : {}
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(merged, field)
    else merged[field] = mergePatch(merged[field], value)
  }
  return merged
}

/** What the API server refuses of a changed Event: only its series may change. */
export function patchFault(before: ApiEvent, after: unknown): string | undefined {
  const fault = eventFault(after, before.metadata.namespace!)
  const isChanged = (field: string): boolean =>
    !isDeepStrictEqual(Reflect.get(after as ApiEvent, field), Reflect.get(before, field))
  return fault ?? Object.keys(EVENT_FIELDS).find((field) => field !== 'series' && isChanged(field))
}
