/** What becomes of one packet in the rules: words for it that fit whatever keeps the rules. */
import type { Address, Family } from '../../model/address.ts'
import type { Protocol } from '../../model/virtual-server.ts'

/** The first packet of a flow: later ones go as it went. */
export interface Packet {
  readonly family: Family
  readonly protocol: Protocol
  readonly source: Address
  readonly destination: Address
  readonly destinationPort: number
  /** A process of this node sends it. */
  readonly isOwn: boolean
  /** Its destination is an address of this node, virtual IPs among them. */
  readonly isForNode: boolean
}

/** A rule that applies to the packet, or may. */
export interface RuleStep {
  /** Table and chain: `nat KUBE-SERVICES`. */
  readonly at: string
  /** As its tool prints it. */
  readonly rule: string
  /** What it does to the packet, in words. */
  readonly effect: string
}

export interface RuleTrace {
  readonly steps: readonly RuleStep[]
  /** It gets no further than the last step. */
  readonly isDropped: boolean
  /** Of some step it cannot be told from here whether it applies. */
  readonly isUncertain: boolean
  /** Of each real server, in the order given: a packet that IPVS sends there leaves with an address of this node. */
  readonly masquerades: readonly boolean[]
}
