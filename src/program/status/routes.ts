/** What the status page asks for. Nothing here changes anything. */
import packageJson from '../../../package.json' with { type: 'json' }
import { drains, type Inspection, inspect } from '../../loop/inspection.ts'
import type { Address } from '../../model/address.ts'
import type { ServiceName } from '../../model/facts/facts.ts'
import type { VirtualServerKey } from '../../model/virtual-server.ts'
import type { ProxyHealth } from '../../serve/health.ts'
import { type Answer, PLAIN, type Routes } from '../../serve/http.ts'
import type { Metrics } from '../../serve/metrics.ts'
import {
  API_VERSION,
  type DrainView,
  type RealServerView,
  type StatusDetail,
  type StatusSummary,
  type StatusTable,
  type VirtualServerView,
} from '../../view/documents.ts'
import type { RecentJournal } from '../../view/journal.ts'
import { MAX_ROWS, ORDERS, SORTS } from '../../view/status-table.ts'
import { type PodAt, podsOf, virtualServerView } from '../../view/virtual-server-view.ts'
import { oneAtATimeUpTo } from '../../waiting/turns.ts'
import { remembered } from '../../waiting/remembered.ts'
import type { Current } from '../current.ts'
import { answered, jsonAnswer, RequestError } from '../report/answers.ts'
import type { Catalog, Request } from './catalog.ts'
import { type History, valueOf } from './history.ts'

/** Real servers of one virtual server, and drains: more cannot be looked through. */
const MAX_REAL_SERVERS = 200
const MAX_DRAINS = 100
const LONGEST_TEXT = 256
/** Who comes when so many wait is sent away. */
const MOST_WAITING = 32

export interface StatusInput {
  readonly inspection: Inspection
  readonly catalog: Pick<Catalog, 'find'>
  readonly history: Pick<History, 'samples'>
  readonly journal: Pick<RecentJournal, 'entries'>
  readonly health: Pick<ProxyHealth, 'readiness'>
  readonly metrics: Pick<Metrics, 'registry'>
  readonly current: Pick<Current, 'drains'>
  /** The kernel counts. */
  readonly isEstimating: () => boolean
  /** Monotonic, in ms. */
  readonly now: () => number
}

function json(document: StatusTable | StatusDetail | StatusSummary): Answer {
  return jsonAnswer(JSON.stringify(document))
}

/** A parameter; empty where it is not given. Throws a RequestError. */
function textIn(query: URLSearchParams, name: string): string {
  const given = query.getAll(name)
  const [text = ''] = given
  if (given.length > 1) throw new RequestError(400, `Cannot use ${name}: it is given ${given.length} times`)
  if (text.length > LONGEST_TEXT)
    throw new RequestError(400, `Cannot use ${name}: it has more than ${LONGEST_TEXT} characters`)
  return text
}

function numberIn(query: URLSearchParams, name: string, fallback: number, most: number): number {
  const text = textIn(query, name)
  if (text === '') return fallback
  if (/^\d{1,9}$/.test(text) && Number(text) <= most) return Number(text)
  throw new RequestError(400, `Cannot use ${name}: expected a whole number up to ${most}`)
}

function wordIn<Word extends string>(query: URLSearchParams, name: string, words: readonly Word[]): Word {
  const text = textIn(query, name)
  const word = text === '' ? words[0] : words.find((one) => one === text)
  if (word !== undefined) return word
  throw new RequestError(400, `Cannot use ${name}: expected one of ${words.join(', ')}`)
}

function requestIn(query: URLSearchParams): Request {
  return {
    search: textIn(query, 'search').trim(),
    sort: wordIn(query, 'sort', SORTS),
    order: wordIn(query, 'order', ORDERS),
    offset: numberIn(query, 'offset', 0, 999_999_999),
    limit: numberIn(query, 'limit', MAX_ROWS, MAX_ROWS),
  }
}

async function table({ catalog }: StatusInput, query: URLSearchParams): Promise<Answer> {
  const request = requestIn(query)
  const found = await catalog.find(request)
  return json({ apiVersion: API_VERSION, kind: 'StatusTable', ...found, offset: request.offset })
}

/** Throws a RequestError where it is no virtual server that we know. */
function keyIn(query: URLSearchParams, { ledger, auditor }: Inspection): VirtualServerKey {
  const key = textIn(query, 'key') as VirtualServerKey
  const { known, foreign } = auditor
  // Addresses are foreign, too.
  const isForeign = key.includes('/') && foreign.has(key)
  if (isForeign || ledger.virtualServer(key) !== undefined || known.virtualServers.has(key)) return key
  throw new RequestError(404, 'There is no such virtual server on this node')
}

/** What gets connections, and works, is cut off before anything else. */
function cutShort(view: VirtualServerView): VirtualServerView {
  if (view.realServers.length <= MAX_REAL_SERVERS) return view
  const isUsual = ({ state }: RealServerView): number => Number(state === 'programmed')
  const unusualFirst = view.realServers.toSorted((a, b) => isUsual(a) - isUsual(b))
  return { ...view, realServers: unusualFirst.slice(0, MAX_REAL_SERVERS) }
}

async function detail({ inspection }: StatusInput, query: URLSearchParams): Promise<Answer> {
  const key = keyIn(query, inspection)
  const [view] = await inspect(inspection, [key], virtualServerView)
  return json({
    ...{ apiVersion: API_VERSION, kind: 'StatusDetail' },
    virtualServer: cutShort(view!),
    realServers: view!.realServers.length,
  })
}

function drainViews(inspection: Inspection): DrainView[] {
  const { cluster } = inspection.options
  const views: DrainView[] = []
  const pods = new Map<ServiceName, ReadonlyMap<Address, PodAt>>()
  const podAt = (owner: ServiceName, address: Address): string | undefined => {
    if (!pods.has(owner)) pods.set(owner, podsOf(cluster.slicesOf(owner)))
    return pods.get(owner)!.get(address)?.pod
  }
  for (const { of, realServer, owner, endsInSeconds } of drains(inspection)) {
    if (views.length === MAX_DRAINS) break
    const pod = owner && podAt(owner, realServer.address)
    views.push({
      ...{ virtualServer: of, realServer: realServer.key },
      ...(owner && { service: owner }),
      ...(pod && { pod }),
      ...(endsInSeconds !== undefined && { endsInSeconds }),
    })
  }
  return views
}

async function counts({ inspection, metrics: { registry } }: StatusInput): Promise<StatusSummary['counts']> {
  const { options, auditor, queue } = inspection
  const virtualServers = auditor.known.virtualServers.size
  const read = (name: string): Promise<number> => valueOf(registry, `kube_ipvs_${name}`)
  return {
    services: options.cluster.serviceCount,
    virtualServers,
    realServers: auditor.servers - virtualServers,
    failing: queue.failing,
    draining: await read('draining_real_servers'),
    conflicts: await read('conflicts'),
    refused: (await read('refused_addresses')) + (await read('refused_endpoints')),
  }
}

async function summary(input: StatusInput): Promise<Answer> {
  const { inspection, history, journal, health, current } = input
  const { isOk, reasons } = health.readiness()
  return json({
    ...{ apiVersion: API_VERSION, kind: 'StatusSummary' },
    node: inspection.options.mapping().nodeName,
    version: packageJson.version,
    health: { isOk, reasons },
    counts: await counts(input),
    ratesStandStill: !input.isEstimating(),
    history: history.samples,
    drains: drainViews(inspection),
    drained: [...current.drains.keys()],
    journal: journal.entries,
  })
}

const BUSY: Answer = { status: 503, type: PLAIN, body: 'Too many ask at once: ask again\n' }

/** One after the other: however many look, changes have half of the time. */
export function statusRoutes(input: StatusInput): Routes {
  const inTurn = oneAtATimeUpTo(MOST_WAITING)
  const lastSummary = remembered(() => summary(input), input.now)
  const looking = (ask: () => Promise<Answer>): Answer | Promise<Answer> =>
    inTurn(() => answered(ask)) ?? BUSY
  return {
    '/status/v1/virtual-servers': (query) => looking(() => table(input, query)),
    '/status/v1/virtual-server': (query) => looking(() => detail(input, query)),
    '/status/v1/summary': () => looking(lastSummary),
  }
}
