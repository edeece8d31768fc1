/** Which Services have metrics of their own: --service-metrics and --service-metrics-namespaces. */
import { expected } from './config-error.ts'
import type { FlagValues } from './flags.ts'

export interface ServiceMetricsChoice {
  /** The most virtual servers that have series. */
  readonly most: number
  /** Of these namespaces only; none: of all. */
  readonly namespaces: ReadonlySet<string>
}

/** More would hold up changes while their text is made. */
const LIMIT = 1_000
const MOST = 'service-metrics'
const NAMESPACES = 'service-metrics-namespaces'
/** A label of DNS (RFC 1123). */
const NAMESPACE = /^[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?$/

/** What the flags ask for; undefined: nothing. Throws an Error that names the flag. */
export function serviceMetricsOf(values: FlagValues): ServiceMetricsChoice | undefined {
  const most = values[MOST]?.at(-1)
  const listed = values[NAMESPACES]?.at(-1)
  if (most === undefined) {
    if (listed === undefined) return undefined
    throw new Error(`Cannot use --${NAMESPACES}: set --${MOST}, too: how many virtual servers have metrics`)
  }
  if (!/^\d{1,9}$/.test(most) || Number(most) > LIMIT) {
    throw new Error(`Cannot use --${MOST}: ${expected(`a number of virtual servers, 0 to ${LIMIT}`, most)}`)
  }
  const namespaces = namespacesOf(listed ?? '')
  return Number(most) === 0 ? undefined : { most: Number(most), namespaces }
}

function namespacesOf(text: string): ReadonlySet<string> {
  const names = text.split(',').map((name) => name.trim())
  if (names.join('') === '') return new Set()
  for (const name of names) {
    if (NAMESPACE.test(name)) continue
    throw new Error(
      `Cannot use --${NAMESPACES}: ${expected('names of namespaces with commas between them', text)}`,
    )
  }
  return new Set(names)
}
