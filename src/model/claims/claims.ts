/** What one Service wants of the kernel. */
import { type Address, type Family, familyOf } from '../address.ts'
import type { EndpointSlice, Service, ServicePort } from '../facts/facts.ts'
import type { ObjectKey } from '../kernel-object.ts'
import { schedulerOf } from '../schedulers.ts'
import { bitmapMember, ipvsIpsMember, type SetMemberKey } from '../sets.ts'
import {
  fullPrefix,
  PERSISTENT,
  type RealServer,
  realServer,
  type RealServerKey,
  type VirtualServerId,
  virtualServerId,
  type VirtualServerKey,
  type VirtualServerSettings,
} from '../virtual-server.ts'
import type { Claim, MappingOptions, Right, Title, WantedVirtualServer } from './claim.ts'
import {
  type Backend,
  collectBackends,
  type EndpointPolicy,
  type Selection,
  selectBackends,
} from './endpoints.ts'
import { type ExternalKind, refusalOf } from './refusal.ts'
import {
  clusterIpMembers,
  externalMembers,
  loadBalancerMembers,
  loopBackMembers,
  type MembersOf,
  nodePortMembers,
} from './set-members.ts'

function settingsOf(service: Service, address: Address, scheduler: string): VirtualServerSettings {
  return {
    scheduler,
    flags: schedulerOf(scheduler).flags | (service.affinitySeconds > 0 ? PERSISTENT : 0),
    persistenceSeconds: service.affinitySeconds,
    persistencePrefix: fullPrefix(address),
  }
}

/** A selection as the virtual servers of all frontends with the same policy share it. */
type Targets = Pick<WantedVirtualServer, 'realServers' | 'lingering'>

function targetsOf({ inService, lingering }: Selection, scheduler: string): Targets {
  const realServers = new Map<RealServerKey, RealServer>()
  const { inService: settings } = schedulerOf(scheduler)
  for (const { realServer: real } of inService)
    realServers.set(
      real.key,
      settings === real.settings ? real : realServer(real.address, real.port, settings),
    )
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

  address(key: Address): void {
    const { vipBinding: binding } = this.#options
    this.#claims.set(key, { kind: 'address', key, binding, ...this.#title(key) })
  }

  member(key: SetMemberKey, vip?: Address, about?: readonly VirtualServerKey[]): void {
    this.#claims.set(key, { kind: 'setMember', key, ...this.#title(vip), about })
  }

  all(): Claim[] {
    return [...this.#claims.values()]
  }

  virtualServer(id: VirtualServerId, { realServers, lingering }: Targets, vip?: Address): void {
    const settings = settingsOf(this.#service, id.address, this.#options.scheduler)
    const virtualServer = { id, settings, realServers, lingering }
    this.#claims.set(id.key, { kind: 'virtualServer', key: id.key, ...this.#title(vip), virtualServer })
  }

  /** A member that several virtual servers share, as a node port's on all addresses, is about all of them. */
  members({ key }: VirtualServerId, members: readonly SetMemberKey[], vip?: Address): void {
    for (const member of members) {
      const before = this.#claims.get(member)
      const about = before?.kind === 'setMember' ? (before.about ?? []) : []
      this.member(member, vip, [...about, key])
    }
  }

  #title(vip: Address | undefined): Title {
    const { name: owner, createdAt } = this.#service
    return { owner, right: this.#right, createdAt, vip }
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
  if (isBound) claims.member(ipvsIpsMember(address), address)
  for (const port of service.ports) {
    const id = virtualServerId(address, port.port, port.protocol)
    claims.members(id, membersOf(address, port), vip)
    claims.virtualServer(id, targets(port, policy), vip)
  }
  if (isBound) claims.address(address)
}

/** Without a local endpoint, the endpoints of other nodes are used: Pods reach them (kubernetes #97081). */
export function externalPolicy({ externalTrafficPolicy }: Service): EndpointPolicy {
  return externalTrafficPolicy === 'Local' ? 'PreferLocal' : 'Cluster'
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
  for (const [port, of] of backends) for (const key of loopBackMembers(of, port, options)) claims.member(key)
  claims.by('clusterIp')
  claimVip(frontends, clusterIp, service.internalTrafficPolicy, clusterIpMembers)
  claims.by('externalIp')
  for (const address of servedAddresses(frontends, 'externalIp')) {
    claimVip(frontends, address, externalPolicy(service), externalMembers(service))
  }
  claims.by('loadBalancer')
  for (const address of servedAddresses(frontends, 'loadBalancer')) {
    claimVip(
      frontends,
      address,
      externalPolicy(service),
      loadBalancerMembers(service, family, options.neighbourhood.nodeIps),
    )
  }
  claims.by('nodePort')
  claimNodePorts(frontends)
  if (service.healthCheckNodePort > 0) {
    claims.member(bitmapMember('KUBE-HEALTH-CHECK-NODE-PORT', family, service.healthCheckNodePort))
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
