/** Which members a Service's frontends have in which sets. */
import { type Address, type Family, familyOf } from '../address.ts'
import { contains, formatNetwork } from '../cidr.ts'
import type { Service, ServicePort } from '../facts/facts.ts'
import { bitmapMember, portMember, type SetMemberKey } from '../sets.ts'
import type { VirtualServerId } from '../virtual-server.ts'
import { type Backend, isLocal, type Place } from './endpoints.ts'

/** Set members that a frontend at address and port needs. */
export type MembersOf = (address: Address, port: ServicePort) => readonly SetMemberKey[]

/** Those of a cluster IP. */
export const clusterIpMembers: MembersOf = (address, { protocol, port }) => [
  portMember('KUBE-CLUSTER-IP', address, protocol, port),
]

/** Those of an external IP. */
export function externalMembers({ externalTrafficPolicy }: Service): MembersOf {
  const base = externalTrafficPolicy === 'Local' ? 'KUBE-EXTERNAL-IP-LOCAL' : 'KUBE-EXTERNAL-IP'
  return (address, { protocol, port }) => [portMember(base, address, protocol, port)]
}

/** Networks from which the load balancer may be used; none: everybody may. A network of everything is none. */
function rangesOf(service: Service, family: Family): readonly Service['sourceRanges'][number][] {
  const ranges = service.sourceRanges.filter((range) => range.family === family)
  return ranges.some(({ prefix }) => prefix === 0) ? [] : ranges
}

/** Those of a load balancer's IP. What lets clients in comes before what keeps all others out. */
export function loadBalancerMembers(
  service: Service,
  family: Family,
  nodeIps: readonly Address[],
): MembersOf {
  const ranges = rangesOf(service, family)
  const isNodeAllowed = nodeIps.some((ip) => ranges.some((range) => contains(range, ip)))
  return (address, { protocol, port }) => {
    const member = (base: Parameters<typeof portMember>[0], third?: string): SetMemberKey =>
      portMember(base, address, protocol, port, third)
    return [
      ...ranges.map((range) => member('KUBE-LOAD-BALANCER-SOURCE-CIDR', formatNetwork(range))),
      // What the node itself sends to the address has it as its source, too.
      ...(isNodeAllowed ? [member('KUBE-LOAD-BALANCER-SOURCE-IP', address)] : []),
      ...(ranges.length > 0 ? [member('KUBE-LOAD-BALANCER-FW')] : []),
      ...(service.externalTrafficPolicy === 'Local' ? [member('KUBE-LOAD-BALANCER-LOCAL')] : []),
      member('KUBE-LOAD-BALANCER'),
    ]
  }
}

const NODE_PORT_SETS = {
  TCP: ['KUBE-NODE-PORT-TCP', 'KUBE-NODE-PORT-LOCAL-TCP'],
  UDP: ['KUBE-NODE-PORT-UDP', 'KUBE-NODE-PORT-LOCAL-UDP'],
  SCTP: ['KUBE-NODE-PORT-SCTP-HASH', 'KUBE-NODE-PORT-LOCAL-SCTP-HASH'],
} as const

/** Those of a node port. The exception comes before the rule: whoever is masqueraded by mistake stays so for a whole connection. */
export function nodePortMembers(
  { externalTrafficPolicy }: Service,
  id: VirtualServerId,
): readonly SetMemberKey[] {
  const [base, local] = NODE_PORT_SETS[id.protocol]
  const member = (set: typeof base | typeof local): SetMemberKey =>
    id.protocol === 'SCTP'
      ? portMember(set, id.address, id.protocol, id.port)
      : bitmapMember(set, familyOf(id.address), id.port)
  return externalTrafficPolicy === 'Local' ? [member(local), member(base)] : [member(base)]
}

/** A Pod that reaches itself through a virtual IP is masqueraded: else it would answer itself directly. */
export function loopBackMembers(
  backends: readonly Backend[],
  port: ServicePort,
  place: Place,
): SetMemberKey[] {
  return backends
    .filter((backend) => isLocal(backend, place))
    .map(({ realServer: { address, port: target } }) =>
      portMember('KUBE-LOOP-BACK', address, port.protocol, target, address),
    )
}
