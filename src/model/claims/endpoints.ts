/** The endpoints of one Service port, and which of them traffic may use. */
import type { Address, Family } from '../address.ts'
import type { Endpoint, EndpointPort, EndpointSlice, TrafficPolicy } from '../facts/facts.ts'
import { type RealServerKey, realServer, type RealServer } from '../virtual-server.ts'

/** An endpoint of one Service port as a real server. */
export interface Backend {
  readonly realServer: RealServer
  readonly endpoint: Endpoint
}

/** Where this node stands. */
export interface Place {
  readonly nodeName: string
  readonly zone: string | undefined
}

/** Which endpoints a frontend may use: `PreferLocal` takes those of other nodes where this one has none. */
export type EndpointPolicy = TrafficPolicy | 'PreferLocal'

/** What a virtual server does with the backends of its Service port. */
export interface Selection {
  /** Get new connections. In the order of their text, as kube-proxy adds them. */
  readonly inService: readonly Backend[]
  /** Published but not chosen: a connection that is open there may go on. */
  readonly lingering: ReadonlySet<RealServerKey>
}

const NONE: ReadonlySet<RealServerKey> = new Set()

const NO_REFUSALS: readonly string[] = []

/** Slices without what must not be served, and why: a sentence for each endpoint. */
export interface Checked {
  readonly slices: readonly EndpointSlice[]
  readonly refusals: readonly string[]
}

/**
 * Takes out endpoints whose address is a virtual one of this node: IPVS would hand what is for them to whatever listens
 * on the node itself (CVE-2021-25740 and its kin).
 */
export function checkEndpoints(
  slices: Iterable<EndpointSlice>,
  isVirtual: (address: Address) => boolean,
): Checked {
  const published = [...slices]
  const isSound = ({ refused, endpoints }: EndpointSlice): boolean =>
    refused.length === 0 && !endpoints.some(({ address }) => isVirtual(address))
  if (published.every(isSound)) return { slices: published, refusals: NO_REFUSALS }
  const refusals = new Set<string>()
  const checked = published.map((slice) => {
    for (const refusal of slice.refused) refusals.add(refusal)
    if (!slice.endpoints.some(({ address }) => isVirtual(address))) return slice
    const endpoints = slice.endpoints.filter(({ address }) => {
      if (!isVirtual(address)) return true
      refusals.add(`${address} is a virtual IP of Services`)
      return false
    })
    return { ...slice, endpoints }
  })
  return { slices: checked, refusals: [...refusals] }
}

/** Of two entries for the same address and port, the one that is more alive counts, whatever their order. */
function rank({ endpoint: { ready, serving, terminating } }: Backend): number {
  return (terminating ? 0 : 4) + (ready ? 2 : 0) + (serving ? 1 : 0)
}

/**
 * The backends of a Service port in all slices of one family, without duplicates, in the order of their
 * text. Slices name their ports as the Service does; a target port is already a number in them.
 */
export function collectBackends(
  slices: Iterable<EndpointSlice>,
  port: Pick<EndpointPort, 'name' | 'protocol'>,
  family: Family,
): Backend[] {
  const backends: Backend[] = []
  for (const slice of slices) {
    if (slice.family !== family) continue
    for (const { name, protocol, port: number } of slice.ports) {
      if (name !== port.name || protocol !== port.protocol) continue
      for (const endpoint of slice.endpoints)
        backends.push({ realServer: realServer(endpoint.address, number), endpoint })
    }
  }
  backends.sort(byKeyAndRank)
  return backends.filter(({ realServer: { key } }, i) => key !== backends[i - 1]?.realServer.key)
}

function byKeyAndRank(a: Backend, b: Backend): number {
  if (a.realServer.key === b.realServer.key) return rank(b) - rank(a)
  return a.realServer.key < b.realServer.key ? -1 : 1
}

const isReady = ({ endpoint }: Backend): boolean => endpoint.ready
const isServingTerminating = ({ endpoint }: Backend): boolean => endpoint.serving && endpoint.terminating

/** Hints count only when every ready endpoint has one and at least one names us (KEP-2433, KEP-3015). */
function hinted(
  ready: readonly Backend[],
  hints: (endpoint: Endpoint) => readonly string[] | undefined,
  own?: string,
): readonly Backend[] | undefined {
  if (own === undefined || !ready.every(({ endpoint }) => hints(endpoint) !== undefined)) return undefined
  const ours = ready.filter(({ endpoint }) => hints(endpoint)?.includes(own))
  return ours.length > 0 ? ours : undefined
}

function nearest(ready: readonly Backend[], place: Place): readonly Backend[] {
  return (
    hinted(ready, (endpoint) => endpoint.nodeHints, place.nodeName) ??
    hinted(ready, (endpoint) => endpoint.zoneHints, place.zone) ??
    ready
  )
}

/** Ready ones; when there are none, those that still serve while they terminate (KEP-1669). */
function readyOrServing(
  backends: readonly Backend[],
  prefer: (ready: readonly Backend[]) => readonly Backend[],
): readonly Backend[] {
  const ready = backends.filter(isReady)
  return ready.length > 0 ? prefer(ready) : backends.filter(isServingTerminating)
}

/** The backend's Pod runs on this node. */
export function isLocal({ endpoint }: Backend, { nodeName }: Pick<Place, 'nodeName'>): boolean {
  return endpoint.nodeName === nodeName
}

function choose(backends: readonly Backend[], policy: EndpointPolicy, place: Place): readonly Backend[] {
  if (policy === 'Cluster') return readyOrServing(backends, (ready) => nearest(ready, place))
  const local = readyOrServing(
    backends.filter((backend) => isLocal(backend, place)),
    (ready) => ready,
  )
  return policy === 'PreferLocal' && local.length === 0 ? choose(backends, 'Cluster', place) : local
}

/**
 * Chooses the backends for traffic under a policy. `Local` never reaches another node: without a
 * usable local endpoint nothing is chosen. Topology hints count for `Cluster` only.
 */
export function selectBackends(
  backends: readonly Backend[],
  policy: EndpointPolicy,
  place: Place,
): Selection {
  const inService = choose(backends, policy, place)
  if (inService.length === backends.length) return { inService, lingering: NONE }
  const chosen = new Set(inService)
  const lingering = backends.filter((backend) => !chosen.has(backend)).map(({ realServer }) => realServer.key)
  return { inService, lingering: new Set(lingering) }
}

/** Why backends were not chosen, by their keys: sentences without their subject. */
export function whyOut(
  backends: readonly Backend[],
  policy: EndpointPolicy,
  place: Place,
  { inService }: Pick<Selection, 'inService'>,
): Map<RealServerKey, string> {
  const chosen = new Set(inService.map(({ realServer }) => realServer.key))
  const isLocalOnly =
    policy === 'Local' || (policy === 'PreferLocal' && inService.some((one) => isLocal(one, place)))
  const out = backends.filter(({ realServer }) => !chosen.has(realServer.key))
  return new Map(out.map((backend) => [backend.realServer.key, reasonOut(backend, isLocalOnly, place)]))
}

function reasonOut(backend: Backend, isLocalOnly: boolean, place: Place): string {
  const { ready, serving, terminating, nodeName, zoneHints, nodeHints, drainedAs } = backend.endpoint
  if (drainedAs !== undefined) return `drained by hand: "kube-ipvs undrain ${drainedAs}" ends it`
  if (!ready && !terminating) return 'not ready'
  if (isLocalOnly && !isLocal(backend, place))
    return `on node ${nodeName ?? '(none)'}, and the traffic policy is Local`
  if (!ready)
    return serving ? 'terminating, and others are ready' : 'terminating, and does not serve any more'
  if (nodeHints !== undefined && !nodeHints.includes(place.nodeName))
    return `meant for node ${nodeHints.join(', ')}`
  return `meant for zone ${zoneHints?.join(', ') ?? '(none)'}, and this node is in ${place.zone ?? 'none'}`
}
