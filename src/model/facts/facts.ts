/** Kubernetes objects, trimmed to what the proxy uses. */
import type { Address, Family } from '../address.ts'
import type { Binding } from '../binding.ts'
import type { Cidr } from '../cidr.ts'
import type { Protocol } from '../virtual-server.ts'

/** `namespace/name`. */
export type ServiceName = string

export function splitServiceName(service: ServiceName): {
  readonly namespace: string
  readonly name: string
} {
  const slash = service.indexOf('/')
  return { namespace: service.slice(0, slash), name: service.slice(slash + 1) }
}

/** Its endpoints are the API servers; it has the first address of the cluster IPs' network. */
export const API_SERVER: ServiceName = 'default/kubernetes'

export type TrafficPolicy = 'Cluster' | 'Local'

/** A port as slices publish it. */
export interface EndpointPort {
  /** Empty for the only port of a Service that does not name it. */
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
}

export interface ServicePort extends EndpointPort {
  /** 0 for none. */
  readonly nodePort: number
}

/** A Service that is ours to serve: it has a cluster IP and no other proxy. */
export interface Service {
  readonly name: ServiceName
  /** creationTimestamp in ms since the epoch; 0 where the manifest has none. Decides conflicts: the older wins. */
  readonly createdAt: number
  /** The API server's own Service and the cluster's DNS are programmed first. */
  readonly essential: boolean
  /** One per family at most. */
  readonly clusterIps: readonly Address[]
  readonly externalIps: readonly Address[]
  /** Ingress IPs of the load balancer, but for those of mode Proxy: their traffic comes to node ports (KEP-1860). */
  readonly loadBalancerIps: readonly Address[]
  /** Who may use the load balancer; none: everybody. */
  readonly sourceRanges: readonly Cidr[]
  readonly ports: readonly ServicePort[]
  /** Seconds of ClientIP affinity; 0 for none. */
  readonly affinitySeconds: number
  readonly internalTrafficPolicy: TrafficPolicy
  readonly externalTrafficPolicy: TrafficPolicy
  /** Where a load balancer asks whether this node has endpoints; 0 for nowhere. */
  readonly healthCheckNodePort: number
}

/** It is reached from outside of the cluster. */
export function isExposed({ ports, externalIps, loadBalancerIps }: Service): boolean {
  return externalIps.length > 0 || loadBalancerIps.length > 0 || ports.some(({ nodePort }) => nodePort > 0)
}

export interface Endpoint {
  readonly address: Address
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly nodeName: string | undefined
  /** The name of its Pod; undefined when it is none. */
  readonly pod: string | undefined
  /** Zones, and nodes, that the control plane wants to use this endpoint; undefined for no hint. */
  readonly zoneHints: readonly string[] | undefined
  readonly nodeHints: readonly string[] | undefined
  /** By hand, on this node, and under which name. */
  readonly drainedAs?: string
}

export interface EndpointSlice {
  /** `namespace/name`. */
  readonly name: string
  /** creationTimestamp in ms since the epoch; 0 where the manifest has none. */
  readonly createdAt: number
  readonly service: ServiceName
  readonly family: Family
  readonly ports: readonly EndpointPort[]
  readonly endpoints: readonly Endpoint[]
  /** Why some of its endpoints are never served: their addresses lead to the node itself, or to everybody. */
  readonly refused: readonly string[]
  /** When the change happened that this version publishes, in ms since the epoch; 0 where it is not said. */
  readonly triggeredAt: number
}

export interface Node {
  readonly name: string
  readonly zone: string | undefined
  /** Internal ones first, then external ones. */
  readonly addresses: readonly Address[]
  /** One per family at most. */
  readonly podCidrs: readonly Cidr[]
  /** The scheduler that its annotation asks for, instead of the configuration's. */
  readonly scheduler: string | undefined
  /** How its annotation wants virtual IPs to be bound, instead of the flag. */
  readonly vipBinding: Binding | undefined
  /** About to be deleted: load balancers should send nothing new. */
  readonly leaving: boolean
}

/** Networks from which cluster IPs are taken (networking.k8s.io/v1, KEP-1880). */
export interface ServiceCidr {
  readonly name: string
  /** One per family at most. Cluster IPs may be in it until the object is gone, whatever its conditions say. */
  readonly cidrs: readonly Cidr[]
}

/** The facts of each resource that is followed, by the API's plural in camel case. */
export interface Facts {
  readonly services: Service
  readonly endpointSlices: EndpointSlice
  readonly nodes: Node
  readonly serviceCidrs: ServiceCidr
}

export type Resource = keyof Facts

/** What became of one object of a source. */
export interface Parsed<Fact> {
  /** `namespace/name`, or the name of a Node. */
  readonly name: string
  /** Absent when the object is none of ours, or unusable. */
  readonly fact?: Fact
  /** The object is there but cannot be used: what an earlier version gave stays. */
  readonly unusable?: boolean
  /** One sentence for each fault, naming object and field. */
  readonly problems: readonly string[]
}
