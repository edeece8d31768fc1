/** The kernel objects we own, each under a key in the words of its tool. */
import { type Address, type Family, familyOf } from './address.ts'
import type {
  RealServer,
  RealServerKey,
  VirtualServer,
  VirtualServerId,
  VirtualServerKey,
  VirtualServerSettings,
} from './virtual-server.ts'

/** The sets of kube-proxy that we keep, by family: their names are the runbooks' names. */
export const IPVS_IPS: Readonly<Record<Family, string>> = {
  IPv4: 'KUBE-IPVS-IPS',
  IPv6: 'KUBE-6-IPVS-IPS',
}

declare const setMemberKey: unique symbol

/** A member of an ipset: `KUBE-IPVS-IPS 10.96.0.1`, as after `ipset add`. */
export type SetMemberKey = string & { readonly [setMemberKey]: true }

/** A virtual server, an address on kube-ipvs0 (its key is the address) or a set member. */
export type ObjectKey = VirtualServerKey | Address | SetMemberKey

export type ObjectKind = 'virtualServer' | 'address' | 'setMember'

/** Keys of the three kinds never collide: only a set member has a space, only a virtual server a slash alone. */
export function kindOf(key: ObjectKey): ObjectKind {
  if (key.includes(' ')) return 'setMember'
  return key.includes('/') ? 'virtualServer' : 'address'
}

export function setMember(set: string, element: string): SetMemberKey {
  return `${set} ${element}` as SetMemberKey
}

/** The member that says "this address is on kube-ipvs0". */
export function ipvsIpsMember(address: Address): SetMemberKey {
  return setMember(IPVS_IPS[familyOf(address)], address)
}

/** The address that an object is about. */
export function addressOf(key: ObjectKey): Address {
  const kind = kindOf(key)
  if (kind === 'address') return key as Address
  if (kind === 'virtualServer') return key.slice(0, key.lastIndexOf(':')).replace(/^\[|\]$/g, '') as Address
  return splitSetMember(key as SetMemberKey).element as Address
}

/** The set and the element of a member key. */
export function splitSetMember(key: SetMemberKey): { readonly set: string; readonly element: string } {
  const space = key.indexOf(' ')
  return { set: key.slice(0, space), element: key.slice(space + 1) }
}

/** A virtual server in the kernel, as far as we know. */
export interface KnownVirtualServer extends VirtualServer {
  readonly realServers: Map<RealServerKey, RealServer>
}

/** What the kernel holds of ours, or what we believe it holds. */
export interface KernelState {
  readonly virtualServers: Map<VirtualServerKey, KnownVirtualServer>
  readonly addresses: Set<Address>
  readonly setMembers: Set<SetMemberKey>
}

/** What the kernel shows: everything but the real servers, which are read by virtual server. */
export interface KernelTables {
  /** Everybody's, ours or not. */
  readonly virtualServers: readonly {
    readonly id: VirtualServerId
    readonly settings: VirtualServerSettings
  }[]
  /** On kube-ipvs0. */
  readonly addresses: ReadonlySet<Address>
  /** Of the sets that are ours by name. */
  readonly setMembers: ReadonlySet<SetMemberKey>
}

export function emptyKernelState(): KernelState {
  return { virtualServers: new Map(), addresses: new Set(), setMembers: new Set() }
}
