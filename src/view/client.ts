/** Whose address an endpoint sees: what the rules of iptables do with a client, in words. Section 4 of kube-proxy's mode. */
import type { Address } from '../model/address.ts'
import { familyOf } from '../model/address.ts'
import type { Binding } from '../model/binding.ts'
import { contains } from '../model/cidr.ts'
import type { Right } from '../model/claims/claim.ts'
import type { Service, TrafficPolicy } from '../model/facts/facts.ts'
import type { VirtualServerId } from '../model/virtual-server.ts'
import type { SeenAs } from './documents.ts'

/** Who asks. */
export interface Client {
  /** A process on this node, something that the configuration takes for a Pod, or anything else. */
  readonly kind: 'node' | 'pod' | 'outside'
  /** Undefined: any of its kind. */
  readonly address: Address | undefined
}

/** What of the configuration decides. */
export interface ClientRules {
  readonly masqueradeAll: boolean
  /** False: nothing tells Pods from others (no clusterCIDR). */
  readonly knowsPods: boolean
}

/** A virtual server as a client meets it. */
export interface Frontend {
  readonly id: VirtualServerId
  readonly right: Right
  readonly policy: TrafficPolicy
  /** How its address is bound; undefined: it is an address of the node. */
  readonly binding: Binding | undefined
}

export interface Sight {
  readonly seenAs: SeenAs
  readonly reason: string
}

const CLIENT = 'client'
const NODE = 'node'

function sightAtClusterIp({ kind }: Client, { masqueradeAll, knowsPods }: ClientRules): Sight {
  if (masqueradeAll) return { seenAs: NODE, reason: 'masqueradeAll is set' }
  if (kind === 'node') return { seenAs: NODE, reason: 'the node speaks to a cluster IP with its own address' }
  if (!knowsPods)
    return { seenAs: CLIENT, reason: 'nothing says which addresses are Pods: no clusterCIDR is set' }
  return kind === 'pod'
    ? { seenAs: CLIENT, reason: 'a Pod keeps its address (clusterCIDR, detectLocalMode)' }
    : { seenAs: NODE, reason: 'the client is no Pod (clusterCIDR, detectLocalMode): it is masqueraded' }
}

/**
 * A process on the node takes the address that it speaks to, where that is the machine's own. An IPv6 route has no source,
 * and SCTP takes its source from addresses of interfaces only.
 */
function ownSight({ id, binding, right }: Frontend): Sight {
  const takesVip =
    right !== 'nodePort' &&
    (binding === 'address' ||
      (binding === 'route' && familyOf(id.address) === 'IPv4' && id.protocol !== 'SCTP'))
  return takesVip
    ? { seenAs: 'virtualIp', reason: 'a process on the node speaks from the address that it speaks to' }
    : { seenAs: NODE, reason: "a process on the node speaks from the node's address" }
}

/** What endpoints see of a client, but for an endpoint that asks for itself. */
export function sightAt(frontend: Frontend, client: Client, rules: ClientRules): Sight {
  if (frontend.right === 'clusterIp') return sightAtClusterIp(client, rules)
  if (frontend.policy === 'Cluster')
    return { seenAs: NODE, reason: 'externalTrafficPolicy is Cluster: the client is masqueraded' }
  if (client.kind === 'node') return ownSight(frontend)
  return { seenAs: CLIENT, reason: 'externalTrafficPolicy is Local: the client keeps its address' }
}

/** An endpoint that asks its own Service, and gets itself, sees the node: it would answer itself directly otherwise. */
export const HAIRPIN: Sight = {
  seenAs: NODE,
  reason: 'the endpoint asks for itself: it is masqueraded (KUBE-LOOP-BACK)',
}

/** Why a client may not use a load balancer's IP; undefined: it may. */
export function refusalAt(
  { right, id }: Frontend,
  { sourceRanges }: Pick<Service, 'sourceRanges'>,
  { address, kind }: Client,
  nodeIps: readonly Address[],
): string | undefined {
  const ranges = sourceRanges.filter(({ family }) => family === familyOf(id.address))
  if (right !== 'loadBalancer' || ranges.length === 0 || ranges.some(({ prefix }) => prefix === 0))
    return undefined
  const asks = kind === 'node' ? nodeIps : address === undefined ? [] : [address]
  if (asks.some((one) => ranges.some((range) => contains(range, one)))) return undefined
  return address === undefined && kind !== 'node'
    ? 'dropped, unless the client is in one of loadBalancerSourceRanges'
    : 'dropped: the client is in none of loadBalancerSourceRanges (KUBE-SOURCE-RANGES-FIREWALL)'
}
