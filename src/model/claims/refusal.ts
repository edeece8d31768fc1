/** External addresses that must not become local ones: each would cut this node off from whoever has it. */
import type { Publisher } from '../facts/address-index.ts'
import { type Address, describeSpecial } from '../address.ts'
import { type Cidr, contains, formatCidr } from '../cidr.ts'
import { type ExternalPolicy, isAllowed, isNamed } from './external-policy.ts'
import { type Service, type ServiceName, splitServiceName } from '../facts/facts.ts'
import type { Surroundings } from './surroundings.ts'

/** Who has which addresses. */
export interface Neighbourhood {
  /** The node's own, as its Node object says. */
  readonly nodeIps: readonly Address[]
  /** Of all its interfaces but kube-ipvs0. */
  readonly interfaceAddresses: ReadonlySet<Address>
  /** Where the API servers are, and where this program finds them. */
  readonly apiServers: ReadonlySet<Address>
  /** Networks from which cluster IPs are taken; empty where they are not known. */
  readonly serviceCidrs: readonly Cidr[]
  /** The Service that has a cluster IP. */
  readonly clusterIpOwner: (address: Address) => ServiceName | undefined
  /** The oldest slice that publishes an endpoint at an address. */
  readonly publisher: (address: Address) => Publisher | undefined
  /** Another node has it. */
  readonly isPeer: (address: Address) => boolean
  readonly surroundings: Surroundings
  /** What each namespace may use; undefined: everything. */
  readonly policy: ExternalPolicy | undefined
}

/** Where a Service has an external address from: anybody may name one in its spec, its status is a controller's. */
export type ExternalKind = 'externalIp' | 'loadBalancer'

/** Whoever has it loses this node, whatever the Service is (kubernetes #127410, #104679, #66966, CVE-2020-8554). */
function holder(address: Address, neighbourhood: Neighbourhood): string | undefined {
  const { nodeIps, apiServers, serviceCidrs, clusterIpOwner, surroundings } = neighbourhood
  const special = describeSpecial(address)
  if (special !== undefined) return special
  if (nodeIps.includes(address)) return 'an address of this node'
  if (apiServers.has(address)) return 'an address of the API server'
  const owner = clusterIpOwner(address)
  if (owner !== undefined) return `the cluster IP of ${owner}`
  const serviceCidr = serviceCidrs.find((cidr) => contains(cidr, address))
  if (serviceCidr !== undefined) return `in ${formatCidr(serviceCidr)}, from which cluster IPs are taken`
  if (neighbourhood.isPeer(address)) return 'an address of another node'
  const link = surroundings.gateways.get(address)
  if (link !== undefined) return `a gateway of this node on ${link}`
  const podCidr = surroundings.podCidrs.find((cidr) => contains(cidr, address))
  return podCidr && `in ${formatCidr(podCidr)}, from which Pods have their addresses`
}

/**
 * Who has an address that a Service names in its spec. A load balancer's is not judged by this: a controller has
 * allocated it, and an appliance on the node's link may have it, too, and send with it (direct server return).
 */
function namedHolder(address: Address, service: Service, neighbourhood: Neighbourhood): string | undefined {
  const { publisher, surroundings, interfaceAddresses } = neighbourhood
  const slice = publisher(address)
  // A slice that is younger would let its author take the address away.
  if (slice !== undefined && slice.createdAt <= service.createdAt) return `an endpoint in ${slice.name}`
  const neighbour = surroundings.neighbours.get(address)
  if (neighbour !== undefined && !interfaceAddresses.has(address))
    return `in use by a neighbour on ${neighbour}`
  return undefined
}

/** Why an external or load-balancer IP must not be served; undefined when it may. */
export function refusalOf(
  address: Address,
  kind: ExternalKind,
  service: Service,
  neighbourhood: Neighbourhood,
): string | undefined {
  const { namespace } = splitServiceName(service.name)
  const { policy } = neighbourhood
  const has = holder(address, neighbourhood)
  if (has !== undefined) return `${address} is ${has}`
  if (policy !== undefined && !isAllowed(policy, namespace, address))
    return `${address} is in no network that namespace ${namespace} may use (ExternalAddressPolicy)`
  if (kind === 'loadBalancer' || (policy !== undefined && isNamed(policy, namespace, address)))
    return undefined
  const named = namedHolder(address, service, neighbourhood)
  return named && `${address} is ${named}`
}
