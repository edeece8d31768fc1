/** What one Service wants of the kernel. */
import { type Address, type Family, familyOf } from '../address.ts'
import { contains, formatNetwork } from '../cidr.ts'
import {
  type Backend,
  collectBackends,
  type EndpointPolicy,
  isLocal,
  type Place,
  type Selection,
  selectBackends,
} from './endpoints.ts'
import {
  type EndpointSlice,
  isExposed,
  type Service,
  type ServiceName,
  type ServicePort,
} from '../facts/facts.ts'
import type { ObjectKey } from '../kernel-object.ts'
import { type ExternalKind, type Neighbourhood, refusalOf } from './refusal.ts'
import { bitmapMember, ipvsIpsMember, portMember, type SetMemberKey } from '../sets.ts'
import {
  fullPrefix,
  OVERFLOW,
  PERSISTENT,
  type RealServer,
  realServer,
  type RealServerKey,
  SCHEDULER_FLAG_1,
  SCHEDULER_FLAG_2,
  type VirtualServer,
  type VirtualServerId,
  virtualServerId,
  type VirtualServerKey,
  type VirtualServerSettings,
} from '../virtual-server.ts'

/** A virtual server as a Service wants it. */
export interface WantedVirtualServer extends VirtualServer {
  /** Real servers that get no new connections but whose open ones are not cut: their Pods are alive. */
  readonly lingering: ReadonlySet<RealServerKey>
}

/** What a Service has an address as: it decides who wins a conflict. */
export type Right = 'clusterIp' | 'nodePort' | ExternalKind

/** One kernel object that one Service wants. */
export interface Claim {
  readonly key: ObjectKey
  readonly owner: ServiceName
  readonly right: Right
  /** The owner's age: on a conflict of equal rights the older Service wins. */
  readonly createdAt: number
  /** Only for a virtual server; addresses and set members are their key. */
  readonly virtualServer: WantedVirtualServer | undefined
  /** The virtual servers that a set member is about: it counts only for the Service that has one of them. */
  readonly about: readonly VirtualServerKey[] | undefined
  /** The address that becomes ours with this object; absent for one on an address of the node. */
  readonly vip: Address | undefined
}

/** What all Services are mapped with. */
export interface MappingOptions extends Place {
  readonly scheduler: string
  /** The families that this node can serve. */
  readonly families: ReadonlySet<Family>
  /** The addresses of the node on which node ports are served. */
  readonly nodePortAddresses: readonly Address[]
  /** An external IP that is on another interface than kube-ipvs0 is served without being bound. */
  readonly neighbourhood: Neighbourhood
  /** False: the externalIPs of Services are not served (feature gate AllowServiceExternalIPs). */
  readonly allowExternalIps: boolean
}

/**
 * sh and mh get their fall-back flag: without it, clients whose real server drains are refused (kubernetes
 * #121590). mh gets its port flag, too, as kube-proxy gives it: the source port counts.
 */
const SCHEDULER_FLAGS: Readonly<Record<string, number>> = {
  sh: SCHEDULER_FLAG_1,
  mh: SCHEDULER_FLAG_1 | SCHEDULER_FLAG_2,
}

function settingsOf(service: Service, address: Address, scheduler: string): VirtualServerSettings {
  return {
    scheduler,
    flags: (SCHEDULER_FLAGS[scheduler] ?? 0) | (service.affinitySeconds > 0 ? PERSISTENT : 0),
    persistenceSeconds: service.affinitySeconds,
    persistencePrefix: fullPrefix(address),
  }
}

function overflow({ address, port }: RealServer): RealServer {
  return realServer(address, port, OVERFLOW)
}

/** A selection as the virtual servers of all frontends with the same policy share it. */
type Targets = Pick<WantedVirtualServer, 'realServers' | 'lingering'>

function targetsOf({ inService, lingering }: Selection, scheduler: string): Targets {
  const realServers = new Map<RealServerKey, RealServer>()
  for (const { realServer: real } of inService)
    realServers.set(real.key, scheduler === 'ovf' ? overflow(real) : real)
  return { realServers, lingering }
}

/** Collects the claims of one Service, each key once. */
class Claims {
  readonly #claims = new Map<ObjectKey, Claim>()
  readonly #service: Service
  readonly #options: MappingOptions
  #right: Right = 'clusterIp'

  constructor(service: Service, options: MappingOptions) {
    this.#service = service
    this.#options = options
  }

  /** What follows is claimed by this right. */
  by(right: Right): void {
    this.#right = right
  }

  add(key: ObjectKey, parts: Partial<Pick<Claim, 'virtualServer' | 'about' | 'vip'>> = {}): void {
    const { name: owner, createdAt } = this.#service
    const { virtualServer, about, vip } = parts
    this.#claims.set(key, { key, owner, right: this.#right, createdAt, virtualServer, about, vip })
  }

  all(): Claim[] {
    return [...this.#claims.values()]
  }

  virtualServer(id: VirtualServerId, targets: Targets, vip?: Address): void {
    const settings = settingsOf(this.#service, id.address, this.#options.scheduler)
    const { realServers, lingering } = targets
    this.add(id.key, { virtualServer: { id, settings, realServers, lingering }, vip })
  }

  /** A member that several virtual servers share, as a node port's on all addresses, is about all of them. */
  members({ key }: VirtualServerId, members: readonly SetMemberKey[], vip?: Address): void {
    for (const member of members)
      this.add(member, { about: [...(this.#claims.get(member)?.about ?? []), key], vip })
  }
}

/** What the frontends of a Service in one family are made of. */
interface Frontends {
  readonly service: Service
  readonly family: Family
  readonly options: MappingOptions
  readonly claims: Claims
  readonly targets: (port: ServicePort, policy: EndpointPolicy) => Targets
}

/** Set members that a frontend at address and port needs. */
type MembersOf = (address: Address, port: ServicePort) => readonly SetMemberKey[]

/** Everything on one virtual IP, in the order in which it is made: the address comes last. */
function claimVip(
  { service, options, claims, targets }: Frontends,
  address: Address,
  policy: EndpointPolicy,
  membersOf: MembersOf,
): void {
  const { interfaceAddresses } = options.neighbourhood
  const isBound = service.clusterIps.includes(address) || !interfaceAddresses.has(address)
  const vip = isBound ? address : undefined
  if (isBound) claims.add(ipvsIpsMember(address), { vip: address })
  for (const port of service.ports) {
    const id = virtualServerId(address, port.port, port.protocol)
    claims.members(id, membersOf(address, port), vip)
    claims.virtualServer(id, targets(port, policy), vip)
  }
  if (isBound) claims.add(address, { vip: address })
}

/** Without a local endpoint, the endpoints of other nodes are used: Pods reach them (kubernetes #97081). */
function externalPolicy({ externalTrafficPolicy }: Service): EndpointPolicy {
  return externalTrafficPolicy === 'Local' ? 'PreferLocal' : 'Cluster'
}

function externalMembers({ externalTrafficPolicy }: Service): MembersOf {
  const base = externalTrafficPolicy === 'Local' ? 'KUBE-EXTERNAL-IP-LOCAL' : 'KUBE-EXTERNAL-IP'
  return (address, { protocol, port }) => [portMember(base, address, protocol, port)]
}

/** Networks from which the load balancer may be used; none: everybody may. A network of everything is none. */
function rangesOf({ service, family }: Frontends): readonly Service['sourceRanges'][number][] {
  const ranges = service.sourceRanges.filter((range) => range.family === family)
  return ranges.some(({ prefix }) => prefix === 0) ? [] : ranges
}

/** What lets clients in comes before what keeps all others out. */
function loadBalancerMembers(frontends: Frontends): MembersOf {
  const { service, options } = frontends
  const ranges = rangesOf(frontends)
  const isNodeAllowed = options.neighbourhood.nodeIps.some((ip) =>
    ranges.some((range) => contains(range, ip)),
  )
  return (address, { protocol, port }) => {
    const member = (base: Parameters<typeof portMember>[0], third?: string): SetMemberKey =>
      portMember(base, address, protocol, port, third)
    return [
      ...ranges.map((range) => member('KUBE-LOAD-BALANCER-SOURCE-CIDR', formatNetwork(range))),
      // What the node itself sends to the address has it as its source, too.
      ...(isNodeAllowed ? [member('KUBE-LOAD-BALANCER-SOURCE-IP', address)] : []),
      ...(ranges.length > 0 ? [member('KUBE-LOAD-BALANCER-FW')] : []),
      ...(service.externalTrafficPolicy === 'Local' ? [member('KUBE-LOAD-BALANCER-LOCAL')] : []),
      member('KUBE-LOAD-BALANCER'),
    ]
  }
}

const NODE_PORT_SETS = {
  TCP: ['KUBE-NODE-PORT-TCP', 'KUBE-NODE-PORT-LOCAL-TCP'],
  UDP: ['KUBE-NODE-PORT-UDP', 'KUBE-NODE-PORT-LOCAL-UDP'],
  SCTP: ['KUBE-NODE-PORT-SCTP-HASH', 'KUBE-NODE-PORT-LOCAL-SCTP-HASH'],
} as const

/** The exception comes before the rule: whoever is masqueraded by mistake stays so for a whole connection. */
function nodePortMembers({ externalTrafficPolicy }: Service, id: VirtualServerId): readonly SetMemberKey[] {
  const [base, local] = NODE_PORT_SETS[id.protocol]
  const member = (set: typeof base | typeof local): SetMemberKey =>
    id.protocol === 'SCTP'
      ? portMember(set, id.address, id.protocol, id.port)
      : bitmapMember(set, familyOf(id.address), id.port)
  return externalTrafficPolicy === 'Local' ? [member(local), member(base)] : [member(base)]
}

function claimNodePorts({ service, family, options, claims, targets }: Frontends): void {
  const addresses = options.nodePortAddresses.filter((address) => familyOf(address) === family)
  for (const port of service.ports) {
    if (port.nodePort === 0) continue
    for (const address of addresses) {
      const id = virtualServerId(address, port.nodePort, port.protocol)
      claims.members(id, nodePortMembers(service, id))
      claims.virtualServer(id, targets(port, externalPolicy(service)))
    }
  }
}

/** A Pod that reaches itself through a virtual IP is masqueraded: else it would answer itself directly. */
function loopBackMembers(backends: readonly Backend[], port: ServicePort, place: Place): SetMemberKey[] {
  return backends
    .filter((backend) => isLocal(backend, place))
    .map(({ realServer: { address, port: target } }) =>
      portMember('KUBE-LOOP-BACK', address, port.protocol, target, address),
    )
}

/** Every selection once, however many frontends use it. */
function targetsByPolicy(
  backends: ReadonlyMap<ServicePort, readonly Backend[]>,
  options: MappingOptions,
): Frontends['targets'] {
  const made = new Map<string, Targets>()
  return (port, policy) => {
    const key = `${port.protocol} ${port.port} ${policy}`
    const found = made.get(key)
    if (found !== undefined) return found
    const targets = targetsOf(selectBackends(backends.get(port) ?? [], policy, options), options.scheduler)
    made.set(key, targets)
    return targets
  }
}

/** The external addresses of a kind that a Service names, whatever becomes of them. */
function externalAddresses(
  service: Service,
  kind: ExternalKind,
  { allowExternalIps }: Pick<MappingOptions, 'allowExternalIps'>,
): readonly Address[] {
  if (kind === 'loadBalancer') return service.loadBalancerIps
  return allowExternalIps ? service.externalIps : []
}

/** Those of a family that are served: nobody else has them, as far as has been looked for. */
function servedAddresses({ service, family, options }: Frontends, kind: ExternalKind): Address[] {
  const { neighbourhood } = options
  return externalAddresses(service, kind, options).filter(
    (address) =>
      familyOf(address) === family &&
      neighbourhood.surroundings.isSeen(address) &&
      refusalOf(address, kind, service, neighbourhood) === undefined,
  )
}

/** What a Service wants of one family. */
function claimFamily(
  service: Service,
  clusterIp: Address,
  slices: readonly EndpointSlice[],
  options: MappingOptions,
  claims: Claims,
): void {
  const family = familyOf(clusterIp)
  const backends = new Map(service.ports.map((port) => [port, collectBackends(slices, port, family)]))
  const targets = targetsByPolicy(backends, options)
  const frontends: Frontends = { service, family, options, claims, targets }
  for (const [port, of] of backends) for (const key of loopBackMembers(of, port, options)) claims.add(key)
  claims.by('clusterIp')
  claimVip(frontends, clusterIp, service.internalTrafficPolicy, (address, { protocol, port }) => [
    portMember('KUBE-CLUSTER-IP', address, protocol, port),
  ])
  claims.by('externalIp')
  for (const address of servedAddresses(frontends, 'externalIp')) {
    claimVip(frontends, address, externalPolicy(service), externalMembers(service))
  }
  claims.by('loadBalancer')
  for (const address of servedAddresses(frontends, 'loadBalancer')) {
    claimVip(frontends, address, externalPolicy(service), loadBalancerMembers(frontends))
  }
  claims.by('nodePort')
  claimNodePorts(frontends)
  if (service.healthCheckNodePort > 0) {
    claims.add(bitmapMember('KUBE-HEALTH-CHECK-NODE-PORT', family, service.healthCheckNodePort))
  }
}

/** Everything a Service wants, in the order in which it is made. */
export function buildClaims(
  service: Service,
  slices: Iterable<EndpointSlice>,
  options: MappingOptions,
): Claim[] {
  const published = [...slices]
  const claims = new Claims(service, options)
  for (const clusterIp of service.clusterIps) {
    if (options.families.has(familyOf(clusterIp))) claimFamily(service, clusterIp, published, options, claims)
  }
  return claims.all()
}

/** Why some external addresses of a Service are not served: a sentence each. */
export function refusalsOf(
  service: Service,
  options: Pick<MappingOptions, 'neighbourhood' | 'allowExternalIps'>,
): string[] {
  const refusals = (['externalIp', 'loadBalancer'] as const).flatMap((kind) =>
    externalAddresses(service, kind, options).flatMap(
      (address) => refusalOf(address, kind, service, options.neighbourhood) ?? [],
    ),
  )
  return [...new Set(refusals)]
}

/** The distinct addresses of local ready endpoints, by family: what a health-check node port answers. */
export function localEndpoints(
  service: Service,
  slices: Iterable<EndpointSlice>,
  { nodeName, families }: Pick<MappingOptions, 'nodeName' | 'families'>,
): ReadonlyMap<Family, number> {
  const published = [...slices]
  const count = (family: Family): number =>
    new Set(
      service.ports
        .flatMap((port) => collectBackends(published, port, family))
        .filter((backend) => backend.endpoint.ready && isLocal(backend, { nodeName }))
        .map(({ realServer: { address } }) => address),
    ).size
  const served = service.clusterIps.map(familyOf).filter((family) => families.has(family))
  return new Map(served.map((family) => [family, count(family)]))
}

/** A kind of traffic, and the family in which it finds no endpoint on this node. */
export interface LocalLack {
  readonly traffic: 'internal' | 'external'
  readonly family: Family
}

/** The traffic that a Service wants to keep on this node, which has no endpoint for it while other nodes have. */
export function localLacks(
  service: Service,
  slices: Iterable<EndpointSlice>,
  options: Pick<MappingOptions, 'nodeName' | 'zone' | 'families'>,
): LocalLack[] {
  const traffics = [
    ...(service.internalTrafficPolicy === 'Local' ? (['internal'] as const) : []),
    ...(service.externalTrafficPolicy === 'Local' && isExposed(service) ? (['external'] as const) : []),
  ]
  if (traffics.length === 0) return []
  const published = [...slices]
  const isLacking = (family: Family): boolean =>
    service.ports.some((port) => {
      const backends = collectBackends(published, port, family)
      const count = (policy: EndpointPolicy): number =>
        selectBackends(backends, policy, options).inService.length
      return count('Cluster') > 0 && count('Local') === 0
    })
  return service.clusterIps
    .map(familyOf)
    .filter((family) => options.families.has(family) && isLacking(family))
    .flatMap((family) => traffics.map((traffic) => ({ traffic, family })))
}
