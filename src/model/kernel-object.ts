/** The kernel objects we own, each under a key in the words of its tool. */
import type { Address } from './address.ts'
import type { Bound } from './binding.ts'
import { addressInMember, type SetMemberKey } from './sets.ts'
import {
  addressOfVirtualServer,
  type RealServer,
  type RealServerKey,
  type VirtualServer,
  type VirtualServerId,
  type VirtualServerKey,
  type VirtualServerSettings,
} from './virtual-server.ts'

/** A kernel object that can be ours: a virtual server, a virtual IP that is bound, or a member of a set. */
export type KernelObject =
  | { readonly kind: 'virtualServer'; readonly key: VirtualServerKey }
  | { readonly kind: 'address'; readonly key: Address }
  | { readonly kind: 'setMember'; readonly key: SetMemberKey }

/** Keys of different kinds are never equal. */
export type ObjectKey = KernelObject['key']

/** The address that an object is about; undefined for a member of a set of ports. */
export function addressOf(object: KernelObject): Address | undefined {
  switch (object.kind) {
    case 'virtualServer':
      return addressOfVirtualServer(object.key)
    case 'address':
      return object.key
    case 'setMember':
      return addressInMember(object.key)
  }
}

/** A virtual server in the kernel, as far as we know. */
export interface KnownVirtualServer extends VirtualServer {
  /** We have made it, or it is in our sets: not only its address, or a node port, is ours, where somebody else's may be. */
  readonly isProven: boolean
  readonly realServers: Map<RealServerKey, RealServer>
}

/** What the kernel holds of ours, or what we believe it holds. */
export interface KernelState {
  readonly virtualServers: Map<VirtualServerKey, KnownVirtualServer>
  readonly addresses: Map<Address, Bound>
  readonly setMembers: Set<SetMemberKey>
}

/** What the kernel shows: everything but the real servers, which are read by virtual server. */
export interface KernelTables {
  /** Everybody's, ours or not. */
  readonly virtualServers: readonly {
    readonly id: VirtualServerId
    readonly settings: VirtualServerSettings
  }[]
  /** On kube-ipvs0, or as routes with our number. */
  readonly addresses: ReadonlyMap<Address, Bound>
  /** Of the sets that are ours by name. */
  readonly setMembers: ReadonlySet<SetMemberKey>
}

export function emptyKernelState(): KernelState {
  return { virtualServers: new Map(), addresses: new Map(), setMembers: new Set() }
}

/** Every object in a state, in the order in which objects are made. */
export function* objectsOf({ setMembers, virtualServers, addresses }: KernelState): Generator<KernelObject> {
  for (const key of setMembers) yield { kind: 'setMember', key }
  for (const key of virtualServers.keys()) yield { kind: 'virtualServer', key }
  for (const key of addresses.keys()) yield { kind: 'address', key }
}
