/**
 * The virtual servers of the status page: those that match a search, in an order, a page of them. All who look share what
 * is read for them, at most every two seconds, and nothing is read while nobody looks.
 */
import { type Believed, believe, type Inspection } from '../../loop/inspection.ts'
import { splitServiceName } from '../../model/facts/facts.ts'
import {
  sameRealServerSettings,
  virtualServerIdOf,
  type VirtualServerKey,
} from '../../model/virtual-server.ts'
import { isDraining } from '../../plan/drain.ts'
import type { Rates, State, StatusRow } from '../../view/documents.ts'
import { MAX_ROWS, type Order, type Sort } from '../../view/status-table.ts'
import { portOf } from '../../view/virtual-server-view.ts'
import { breathe, mapAtLeisure } from '../../waiting/turns.ts'

/** As often as the kernel makes new averages, and a little less, so that who asks every two seconds gets what is new. */
const FRESH_MS = 1_900
/** At most a twentieth of the time is spent on reading. */
const SHARE = 20

/** What the kernel counts of one virtual server. */
export interface CountedRates {
  readonly id: { readonly key: VirtualServerKey }
  readonly stats: { readonly perSecond: Rates }
}

export interface CatalogOptions {
  readonly inspection: Inspection
  /** One dump of everybody's virtual servers, without real servers. */
  readonly readCounters: () => Promise<readonly CountedRates[]>
  /** Monotonic, in ms. */
  readonly now: () => number
}

export interface Request {
  readonly search: string
  readonly sort: Sort
  readonly order: Order
  readonly offset: number
  readonly limit: number
}

export interface Found {
  readonly total: number
  readonly matching: number
  /** Of what is shown. */
  readonly ageSeconds: number
  readonly rows: readonly StatusRow[]
}

interface Entry extends Believed {
  readonly rates: Rates | undefined
}

/** What is worst comes last, so that it is first when the order is turned round. */
const STATES: readonly State[] = [
  'programmed',
  'foreign',
  'draining',
  'unwanted',
  'unknown',
  'pending',
  'failing',
]

const ofRates =
  (sum: (rates: Rates) => number) =>
  ({ rates }: Entry): number =>
    rates === undefined ? -1 : sum(rates)
/** What entries are sorted by; those that are equal stay in the order of their names. */
const MEASURES: Readonly<Record<Exclude<Sort, 'service'>, (entry: Entry) => number>> = {
  state: ({ state }) => STATES.indexOf(state),
  realServers: ({ claim, known }) => (claim?.virtualServer ?? known)?.realServers.size ?? 0,
  connections: ofRates(({ connections }) => connections),
  packets: ofRates(({ inPackets, outPackets }) => inPackets + outPackets),
  bytes: ofRates(({ inBytes, outBytes }) => inBytes + outBytes),
}

/** What is nobody's comes after all Services. */
function byName(a: Entry, b: Entry): number {
  const [one, other] = [a.claim?.owner ?? '~', b.claim?.owner ?? '~']
  if (one !== other) return one < other ? -1 : 1
  return a.key < b.key ? -1 : 1
}

function sorted(entries: readonly Entry[], sort: Sort, order: Order): readonly Entry[] {
  if (sort === 'service') return order === 'ascending' ? entries : entries.toReversed()
  const measure = MEASURES[sort]
  const sign = order === 'ascending' ? 1 : -1
  return entries.toSorted((a, b) => sign * (measure(a) - measure(b)))
}

export class Catalog {
  readonly #options: CatalogOptions
  #entries: Promise<readonly Entry[]> = Promise.resolve([])
  #readAt = -Infinity
  #dueAt = -Infinity

  constructor(options: CatalogOptions) {
    this.#options = options
  }

  async find({ search, sort, order, offset, limit }: Request): Promise<Found> {
    const entries = await this.#current()
    await breathe()
    const matching = search === '' ? entries : await this.#matching(entries, search.toLowerCase())
    const shown = sorted(matching, sort, order).slice(offset, offset + Math.min(limit, MAX_ROWS))
    return {
      total: entries.length,
      matching: matching.length,
      ageSeconds: Math.round((this.#options.now() - this.#readAt) / 1_000),
      rows: shown.map((entry) => this.#row(entry)),
    }
  }

  #current(): Promise<readonly Entry[]> {
    const now = this.#options.now()
    if (now >= this.#dueAt) {
      this.#readAt = now
      this.#dueAt = Infinity
      this.#entries = this.#read(this.#entries).finally(() => {
        this.#dueAt = now + Math.max(FRESH_MS, (this.#options.now() - now) * SHARE)
      })
    }
    return this.#entries
  }

  /** In the order of their names: beginning with the last order, nearly all of them are where they belong. */
  async #read(before: Promise<readonly Entry[]>): Promise<readonly Entry[]> {
    const { inspection, readCounters } = this.#options
    const first = (await before.catch((): Entry[] => [])).map(({ key }) => key)
    // Without rates there is still everything else to see.
    const counted = await readCounters().catch((): CountedRates[] => [])
    const rates = new Map(counted.map(({ id: { key }, stats: { perSecond } }) => [key, perSecond]))
    const believed = await believe(inspection, first)
    const entries = await mapAtLeisure(believed, (one) => ({ ...one, rates: rates.get(one.key) }))
    return entries.sort(byName)
  }

  async #matching(entries: readonly Entry[], search: string): Promise<Entry[]> {
    const isFound = await mapAtLeisure(entries, (entry) => this.#isMatch(entry, search))
    return entries.filter((_, i) => isFound[i])
  }

  /** By part of a Service, an address with its port, or a Pod: names are in small letters. */
  #isMatch({ key, claim }: Entry, search: string): boolean {
    if (key.toLowerCase().includes(search)) return true
    if (claim === undefined) return false
    return claim.owner.includes(search) || this.#hasPod(claim.owner, search)
  }

  #hasPod(service: string, search: string): boolean {
    const slash = search.indexOf('/')
    const { namespace } = splitServiceName(service)
    if (slash >= 0 && !namespace.endsWith(search.slice(0, slash))) return false
    const name = search.slice(slash + 1)
    for (const { endpoints } of this.#options.inspection.options.cluster.slicesOf(service))
      for (const { pod } of endpoints)
        if (slash >= 0 ? pod?.startsWith(name) : pod?.includes(name)) return true
    return false
  }

  #row({ key, claim, known, state, rates }: Entry): StatusRow {
    const { cluster } = this.#options.inspection.options
    const service = claim && cluster.service(claim.owner)
    const port = portOf({ id: virtualServerIdOf(key), claim, service })?.name ?? ''
    const scheduler = (claim?.virtualServer ?? known)?.settings.scheduler
    return {
      virtualServer: key,
      ...(claim && { service: claim.owner, role: claim.right }),
      ...(port !== '' && { port }),
      state,
      ...(scheduler !== undefined && { scheduler }),
      realServers: realServerCounts({ claim, known }),
      ...(rates && { rates }),
    }
  }
}

function realServerCounts({ claim, known }: Pick<Believed, 'claim' | 'known'>): StatusRow['realServers'] {
  const wanted = claim?.virtualServer
  const counts = { programmed: 0, missing: 0, draining: 0 }
  for (const { key, settings } of wanted?.realServers.values() ?? []) {
    const has = known?.realServers.get(key)
    counts[has !== undefined && sameRealServerSettings(settings, has.settings) ? 'programmed' : 'missing']++
  }
  for (const realServer of known?.realServers.values() ?? [])
    if (isDraining(realServer, wanted)) counts.draining++
  return counts
}
