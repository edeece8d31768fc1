/** Kubernetes objects, trimmed to what the proxy uses. */
import type { Address, Family } from './address.ts'
import type { Protocol } from './virtual-server.ts'

/** `namespace/name`. */
export type ServiceName = string

export type TrafficPolicy = 'Cluster' | 'Local'

export interface ServicePort {
  /** Empty for the only port of a Service that does not name it. */
  readonly name: string
  readonly protocol: Protocol
  readonly port: number
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
  readonly ports: readonly ServicePort[]
  /** Seconds of ClientIP affinity; 0 for none. */
  readonly affinitySeconds: number
  readonly internalTrafficPolicy: TrafficPolicy
}

export interface Endpoint {
  readonly address: Address
  readonly ready: boolean
  readonly serving: boolean
  readonly terminating: boolean
  readonly nodeName: string | undefined
  /** Zones, and nodes, that the control plane wants to use this endpoint; undefined for no hint. */
  readonly zoneHints: readonly string[] | undefined
  readonly nodeHints: readonly string[] | undefined
}

export interface EndpointSlice {
  /** `namespace/name`. */
  readonly name: string
  readonly service: ServiceName
  readonly family: Family
  readonly ports: readonly ServicePort[]
  readonly endpoints: readonly Endpoint[]
}

export interface Node {
  readonly name: string
  readonly zone: string | undefined
}

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
