/** The way of a packet to a Service, and why each endpoint gets traffic or none. */
import { familyOf } from '../model/address.ts'
import type { Binding } from '../model/binding.ts'
import type { MappingOptions, Right, VirtualServerClaim } from '../model/claims/claim.ts'
import { externalPolicy } from '../model/claims/claims.ts'
import {
  type Backend,
  collectBackends,
  type EndpointPolicy,
  isLocal,
  selectBackends,
  whyOut,
} from '../model/claims/endpoints.ts'
import type { EndpointSlice, Service } from '../model/facts/facts.ts'
import {
  type Client,
  type ClientRules,
  type Frontend,
  HAIRPIN,
  refusalAt,
  type Sight,
  sightAt,
} from './client.ts'
import type { EndpointView, FrontendView } from './documents.ts'
import { type Inspected, type PodAt, portOf, stateOf } from './virtual-server-view.ts'

/** A Service, and what it is served with. */
export interface Subject {
  readonly service: Service
  /** Without endpoints that are refused. */
  readonly slices: readonly EndpointSlice[]
  readonly options: MappingOptions
  readonly rules: ClientRules
  readonly client: Client
}

/** A virtual server of the Service. */
export interface Claimed extends Inspected {
  readonly claim: VirtualServerClaim
}

function policyOf(right: Right, service: Service): EndpointPolicy {
  return right === 'clusterIp' ? service.internalTrafficPolicy : externalPolicy(service)
}

function bindingOf({ claim }: Claimed, { vipBinding }: MappingOptions): Binding | undefined {
  return claim.vip === undefined ? undefined : vipBinding
}

function endpointView(
  { realServer: { key } }: Backend,
  out: string | undefined,
  at: PodAt | undefined,
  open: number,
  { seenAs }: Sight,
): EndpointView {
  if (out === undefined) return { endpoint: key, ...at, isIn: true, seenAs }
  return {
    endpoint: key,
    ...at,
    isIn: false,
    reason: open === 0 ? out : `${out}; it drains, with ${open} connections`,
  }
}

const DRAINING = 'draining: it is not published any more, and keeps its open connections'

/** Real servers that only the kernel has. */
function leftovers({ observed, claim, pods }: Claimed, backends: readonly Backend[]): EndpointView[] {
  const published = new Set(backends.map(({ realServer: { key } }) => key))
  return (observed ?? [])
    .filter(({ key }) => !claim.virtualServer.realServers.has(key) && !published.has(key))
    .map(({ key, address }) => ({ endpoint: key, ...pods.get(address), isIn: false, reason: DRAINING }))
}

function notesOf(claimed: Claimed, inService: readonly Backend[], subject: Subject): string[] {
  const { right } = claimed.claim
  const { service, options, client } = subject
  const notes: string[] = []
  if (inService.length === 0) notes.push('no endpoint gets traffic: connections are refused')
  if (
    right !== 'clusterIp' &&
    service.externalTrafficPolicy === 'Local' &&
    inService.length > 0 &&
    !inService.some((backend) => isLocal(backend, options))
  )
    notes.push(
      'externalTrafficPolicy is Local, and no endpoint is on this node: those of other nodes are used, ' +
        'and a client from outside hears nothing from them, as they answer it directly',
    )
  if (inService.some(({ endpoint }) => isItself(endpoint, client, options))) notes.push(HAIRPIN.reason)
  if (service.affinitySeconds > 0)
    notes.push(`a client keeps its endpoint for ${service.affinitySeconds} s (sessionAffinity)`)
  return notes
}

/** What is to be known of one virtual server, for one client. */
export function frontendView(claimed: Claimed, subject: Subject): FrontendView {
  const { service, slices, options, rules, client } = subject
  const { id, claim } = claimed
  const { right } = claim
  const policy = policyOf(right, service)
  const servicePort = portOf(claimed)!
  const backends = collectBackends(slices, servicePort, familyOf(id.address))
  const selection = selectBackends(backends, policy, options)
  const out = whyOut(backends, policy, options, selection)
  const open = new Map(
    claimed.observed?.map(({ key, connections: { active, inactive } }) => [key, active + inactive]),
  )
  const frontend: Frontend = {
    ...{ id, right, policy: policy === 'PreferLocal' ? 'Local' : policy },
    binding: bindingOf(claimed, options),
  }
  const sight = sightAt(frontend, client, rules)
  const sightOf = ({ endpoint }: Backend): Sight => (isItself(endpoint, client, options) ? HAIRPIN : sight)
  const refused = refusalAt(frontend, service, client, options.neighbourhood.nodeIps)
  const { name: port } = servicePort
  return {
    virtualServer: id.key,
    ...(port !== '' && { port }),
    role: right,
    state: stateOf(claimed),
    failures: claimed.failures,
    policy: frontend.policy,
    scheduler: claim.virtualServer.settings.scheduler,
    affinitySeconds: service.affinitySeconds,
    ...(refused !== undefined && { refused }),
    clientAddress: sight,
    endpoints: [
      ...backends.map((backend) =>
        endpointView(
          backend,
          out.get(backend.realServer.key),
          claimed.pods.get(backend.endpoint.address),
          open.get(backend.realServer.key) ?? 0,
          sightOf(backend),
        ),
      ),
      ...leftovers(claimed, backends),
    ],
    notes: notesOf(claimed, selection.inService, subject),
  }
}

/** Only endpoints of this node are in KUBE-LOOP-BACK. */
function isItself(
  { address, nodeName }: Backend['endpoint'],
  client: Client,
  place: Pick<MappingOptions, 'nodeName'>,
): boolean {
  return client.kind !== 'node' && client.address === address && nodeName === place.nodeName
}
