/** What one Service wants of the kernel. */
import { type Address, type Family, familyOf } from './address.ts'
import { collectBackends, type Place, type Selection, selectBackends } from './endpoints.ts'
import type { EndpointSlice, Service, ServiceName, ServicePort } from './facts.ts'
import { ipvsIpsMember, type ObjectKey } from './kernel-object.ts'
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
  virtualServerId,
  type VirtualServerSettings,
} from './virtual-server.ts'

/** A virtual server as a Service wants it. */
export interface WantedVirtualServer extends VirtualServer {
  /** Real servers that get no new connections but whose open ones are not cut: their Pods are alive. */
  readonly lingering: ReadonlySet<RealServerKey>
}

/** One kernel object that one Service wants. */
export interface Claim {
  readonly key: ObjectKey
  readonly owner: ServiceName
  /** The owner's age: on a conflict the older Service wins. */
  readonly createdAt: number
  /** Only for a virtual server; addresses and set members are their key. */
  readonly virtualServer?: WantedVirtualServer
}

/** What all Services are mapped with. */
export interface MappingOptions extends Place {
  readonly scheduler: string
  /** The families that this node can serve. */
  readonly families: ReadonlySet<Family>
}

const NONE: ReadonlySet<RealServerKey> = new Set()

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

function wantedVirtualServer(
  service: Service,
  address: Address,
  port: ServicePort,
  { inService, lingering }: Selection,
  scheduler: string,
): WantedVirtualServer {
  return {
    id: virtualServerId(address, port.port, port.protocol),
    settings: settingsOf(service, address, scheduler),
    realServers: new Map(
      inService.map(({ realServer: real }) => [real.key, scheduler === 'ovf' ? overflow(real) : real]),
    ),
    lingering: lingering.size > 0 ? lingering : NONE,
  }
}

/**
 * Everything a Service wants, in the order in which it is made: for each cluster IP its set member, a virtual
 * server a port, and last the address.
 */
export function buildClaims(
  service: Service,
  slices: Iterable<EndpointSlice>,
  options: MappingOptions,
): Claim[] {
  const { name: owner, createdAt } = service
  const published = [...slices]
  const claims: Claim[] = []
  for (const address of service.clusterIps) {
    if (!options.families.has(familyOf(address))) continue
    claims.push({ key: ipvsIpsMember(address), owner, createdAt })
    for (const port of service.ports) {
      const backends = collectBackends(published, port, familyOf(address))
      const selection = selectBackends(backends, service.internalTrafficPolicy, options)
      const virtualServer = wantedVirtualServer(service, address, port, selection, options.scheduler)
      claims.push({ key: virtualServer.id.key, owner, createdAt, virtualServer })
    }
    claims.push({ key: address, owner, createdAt })
  }
  return claims
}
