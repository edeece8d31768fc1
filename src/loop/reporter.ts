/** What is said of Services that are not served as they ask: each thing once, in the log, as a metric and as an Event. */
import type { Logger } from 'pino'
import { FAMILIES } from '../model/address.ts'
import type { Conflict } from '../model/claims/ledger.ts'
import type { LocalLack } from '../model/claims/local-endpoints.ts'
import { type ServiceName, splitServiceName } from '../model/facts/facts.ts'
import type { ObjectKey } from '../model/kernel-object.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Happening, RecordEvent } from '../source/events.ts'
import type { Journal } from '../view/journal.ts'

const TRAFFICS = ['internal', 'external'] as const

export interface ReporterOptions {
  readonly log: Logger
  readonly metrics: Metrics
  readonly recordEvent: RecordEvent
  /** Where somebody reads it. */
  readonly journal?: Journal | undefined
}

/** Refusals of one Service above this number are counted, not told one by one. */
const TOLD = 10

/** What is not served, and why: sentences by Service. */
type Refusals = Map<ServiceName, readonly string[]>

/** Tells what is new; false when there was nothing, and is nothing. */
function noteRefusals(
  known: Refusals,
  name: ServiceName,
  refusals: readonly string[],
  tell: (reason: string) => void,
): boolean {
  if (refusals.length === 0 && !known.has(name)) return false
  const before = new Set(known.get(name))
  const fresh = refusals.filter((reason) => !before.has(reason))
  for (const reason of fresh.slice(0, TOLD)) tell(reason)
  if (fresh.length > TOLD) tell(`${fresh.length - TOLD} more are refused`)
  if (refusals.length > 0) known.set(name, refusals)
  else known.delete(name)
  return true
}

function countAll(refusals: Refusals): number {
  return [...refusals.values()].reduce((sum, { length }) => sum + length, 0)
}

export class Reporter {
  readonly #options: ReporterOptions
  /** External addresses that are not served: why, by Service. */
  readonly #refusals: Refusals = new Map()
  readonly #refusedEndpoints: Refusals = new Map()
  readonly #lacks = new Map<ServiceName, readonly LocalLack[]>()
  readonly #conflicts = new Map<ObjectKey, string>()

  constructor(options: ReporterOptions) {
    this.#options = options
  }

  /** Says each refusal of an external address once. */
  refusals(name: ServiceName, refusals: readonly string[]): void {
    const { log, metrics } = this.#options
    const tell = (reason: string): void => {
      log.error({ service: name, reason }, 'an external address is not served')
      this.#warn(name, 'ExternalAddressRefused', `Not served: ${reason}`)
      this.#note('external address', name, reason)
    }
    if (noteRefusals(this.#refusals, name, refusals, tell)) metrics.setRefused(countAll(this.#refusals))
  }

  /** Says each refusal of an endpoint once. */
  refusedEndpoints(name: ServiceName, refusals: readonly string[]): void {
    const { log, metrics } = this.#options
    const tell = (reason: string): void => {
      log.error({ service: name, reason }, 'an endpoint is not served')
      this.#warn(name, 'EndpointRefused', `Not served: endpoint ${reason}`)
      this.#note('endpoint', name, reason)
    }
    const refused = this.#refusedEndpoints
    if (noteRefusals(refused, name, refusals, tell)) metrics.setRefusedEndpoints(countAll(refused))
  }

  /** Counts Services whose policy keeps traffic on this node, where they have no endpoint. */
  lacks(name: ServiceName, lacks: readonly LocalLack[]): void {
    if ((this.#lacks.get(name)?.length ?? 0) + lacks.length === 0) return
    if (lacks.length > 0) this.#lacks.set(name, lacks)
    else this.#lacks.delete(name)
    const all = [...this.#lacks.values()].flat()
    for (const family of FAMILIES) {
      for (const traffic of TRAFFICS) {
        const count = all.filter((lack) => lack.family === family && lack.traffic === traffic).length
        this.#options.metrics.setNoLocalEndpoints(traffic, family, count)
      }
    }
  }

  /** Says the conflicts over a virtual server once, and again when they have changed. None: it has ended. */
  conflicts(key: ObjectKey, conflicts: readonly Conflict[]): void {
    const { log, metrics } = this.#options
    const conflict = conflicts.map(({ loser, reason }) => `${loser} is not served: ${reason}`).join(', ')
    if (conflict === (this.#conflicts.get(key) ?? '')) return
    if (conflict === '') {
      this.#conflicts.delete(key)
      log.info({ virtualServer: key }, 'conflict over a virtual server has ended')
    } else {
      this.#conflicts.set(key, conflict)
      log.warn({ virtualServer: key, conflict }, 'conflict over a virtual server')
      for (const { loser, reason } of conflicts) {
        this.#warn(loser, 'VirtualServerConflict', `${key} is not served: ${reason}`)
        this.#note(key, loser, reason)
      }
    }
    metrics.setConflicts(this.#conflicts.size)
  }

  #note(object: string, service: ServiceName, reason: string): void {
    this.#options.journal?.note({ kind: 'refusal', object, service, reason })
  }

  #warn(service: ServiceName, reason: string, note: string): void {
    const happening: Happening = {
      type: 'Warning',
      reason,
      action: 'ServeVirtualServer',
      regarding: { kind: 'Service', ...splitServiceName(service) },
      note,
    }
    this.#options.recordEvent(happening)
  }
}
