/** The kernel objects we own, each under a key in the words of its tool. */
import { type Address, withoutBrackets } from './address.ts'
import { type SetMemberKey, splitSetMember } from './sets.ts'
import type {
  RealServer,
  RealServerKey,
  VirtualServer,
  VirtualServerId,
  VirtualServerKey,
  VirtualServerSettings,
} from './virtual-server.ts'

/** A virtual server, an address on kube-ipvs0 (its key is the address) or a set member. */
export type ObjectKey = VirtualServerKey | Address | SetMemberKey

export type ObjectKind = 'virtualServer' | 'address' | 'setMember'

/** Keys of the three kinds never collide: only a set member has a space, only a virtual server a slash without one. */
export function kindOf(key: ObjectKey): ObjectKind {
  if (key.includes(' ')) return 'setMember'
  return key.includes('/') ? 'virtualServer' : 'address'
}

/** The address that an object is about; undefined for a member of a set of ports. */
export function addressOf(key: ObjectKey): Address | undefined {
  const kind = kindOf(key)
  if (kind === 'address') return key as Address
  if (kind === 'virtualServer') return withoutBrackets(key.slice(0, key.lastIndexOf(':'))) as Address
  const [first] = splitSetMember(key as SetMemberKey).element.split(',')
  return /[.:]/.test(first!) ? (first as Address) : undefined
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
