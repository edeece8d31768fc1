/**
 * What masquerades and restricts the traffic of Services: sets, which follow Services, and rules, which ask sets and are
 * the same whatever Services there are. How the kernel keeps both is a folder of its own for each way.
 */
import type { Family, SocketAddress } from '../../model/address.ts'
import type { SetMemberKey } from '../../model/sets.ts'
import type { Refusals } from '../../netlink/error.ts'
import type { Socket } from '../../netlink/socket.ts'
import type { Packet, RuleTrace } from './rule-trace.ts'

/** How traffic from Pods is told. */
export type LocalTraffic =
  | { readonly kind: 'cidr'; readonly cidr: string }
  | { readonly kind: 'interface'; readonly name: string }
  | { readonly kind: 'interfacePrefix'; readonly prefix: string }

/** What the rules of a family depend on, but for what the kernel can do. */
export interface RuleOptions {
  /** 0 to 31: the bit of the packet's mark that asks for masquerading. */
  readonly masqueradeBit: number
  /** Masquerades all traffic to cluster IPs, whoever it is from. */
  readonly masqueradeAll: boolean
  /** Traffic to cluster IPs that is not from Pods is masqueraded. Undefined: only that from a cluster IP. */
  readonly local: LocalTraffic | undefined
  /** Networks of the node's addresses that have node ports. Undefined: all of its addresses have. */
  readonly nodePorts?: readonly string[] | undefined
}

/** Adds or deletes one member of a set. */
export interface MemberChange {
  readonly verb: 'ADD' | 'DEL'
  readonly member: SetMemberKey
}

export interface FilterOptions {
  readonly addon: Socket
  /** The sets and rules of these are ours. */
  readonly families: ReadonlySet<Family>
  /** Makes no sets. */
  readonly readOnly?: boolean
  /** Ends programs that run, and lets no other one begin. */
  readonly signal?: AbortSignal | undefined
}

export interface Filter {
  /** Why sets cannot be used, by name. Current after `read`. */
  readonly faults: ReadonlyMap<string, Error>
  /** Commands that make the sets that were not there. Current after `read`. */
  readonly creations: readonly string[]
  /** Begins to find out what rules will need to know of this node: where it takes a while, it is done beside other things. */
  prepare(): void
  /** The members of all sets that can be used. Makes those that are missing. Throws when it cannot read all of them. */
  read(): Promise<Set<SetMemberKey>>
  /** Executes changes in order, each on its own. Throws when it cannot say what became of them. */
  execute(changes: readonly MemberChange[]): Promise<Refusals>
  /** Makes the rules of a family stand: `written` when something was not as it should be. Throws an Error with the remedy. */
  ensure(family: Family, options: RuleOptions): Promise<'unchanged' | 'written'>
  /** What `ensure` would do once all sets are there, as commands: nothing is changed. Throws as `ensure`. */
  preview(family: Family, options: RuleOptions): Promise<string[]>
  /** What becomes of a packet in our rules as they stand now, on to its way out to each real server. Throws as `ensure`. */
  trace(packet: Packet, realServers: readonly SocketAddress[]): Promise<RuleTrace>
  close(): void
}
