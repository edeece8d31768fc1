/** What one Service wants of one kernel object. */
import type { Address, Family } from '../address.ts'
import type { Binding } from '../binding.ts'
import type { ServiceName } from '../facts/facts.ts'
import type { SetMemberKey } from '../sets.ts'
import type { RealServerKey, VirtualServer, VirtualServerKey } from '../virtual-server.ts'
import type { Place } from './endpoints.ts'
import type { HandDrains } from './hand-drains.ts'
import type { ExternalKind, Neighbourhood } from './refusal.ts'

/** A virtual server as a Service wants it. */
export interface WantedVirtualServer extends VirtualServer {
  /** Real servers that get no new connections but whose open ones are not cut: their Pods are alive. */
  readonly lingering: ReadonlySet<RealServerKey>
}

/** What a Service has an address as: it decides who wins a conflict. */
export type Right = 'clusterIp' | 'nodePort' | ExternalKind

/** Whose a claim is, and what it is worth. */
export interface Title {
  readonly owner: ServiceName
  readonly right: Right
  /** The owner's age: on a conflict of equal rights the older Service wins. */
  readonly createdAt: number
  /** The address that becomes ours with this object; absent for one on an address of the node. */
  readonly vip: Address | undefined
}

export interface VirtualServerClaim extends Title {
  readonly kind: 'virtualServer'
  readonly key: VirtualServerKey
  readonly virtualServer: WantedVirtualServer
}

export interface AddressClaim extends Title {
  readonly kind: 'address'
  readonly key: Address
  readonly binding: Binding
}

export interface SetMemberClaim extends Title {
  readonly kind: 'setMember'
  readonly key: SetMemberKey
  /** The virtual servers that the member is about: it counts only for the Service that has one of them. */
  readonly about: readonly VirtualServerKey[] | undefined
}

/** A kernel object that one Service wants. */
export type Claim = VirtualServerClaim | AddressClaim | SetMemberClaim

/** What all Services are mapped with. */
export interface MappingOptions extends Place {
  readonly scheduler: string
  /** How virtual IPs are bound. */
  readonly vipBinding: Binding
  /** The families that this node can serve. */
  readonly families: ReadonlySet<Family>
  /** The addresses of the node on which node ports are served. */
  readonly nodePortAddresses: readonly Address[]
  /** An external IP that is on another interface than kube-ipvs0 is served without being bound. */
  readonly neighbourhood: Neighbourhood
  /** False: the externalIPs of Services are not served (feature gate AllowServiceExternalIPs). */
  readonly allowExternalIps: boolean
  /** What an operator has drained. */
  readonly drains: HandDrains
}
