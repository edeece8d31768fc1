/** What Services are mapped with, and what the rules are made of: configuration and node, put together. Pure. */
import type { Config } from '../config/config.ts'
import type { LocalTraffic, RuleOptions } from '../kernel/filter/filter.ts'
import type { Address, Family } from '../model/address.ts'
import type { Binding } from '../model/binding.ts'
import type { MappingOptions } from '../model/claims/claim.ts'
import { type Cidr, formatCidr } from '../model/cidr.ts'
import type { Cluster } from '../model/facts/cluster.ts'
import type { Node } from '../model/facts/facts.ts'
import type { ExternalPolicy } from '../model/claims/external-policy.ts'
import type { HandDrains } from '../model/claims/hand-drains.ts'
import { nodePortAddresses, nodePortNetworks } from '../model/claims/node-ports.ts'
import type { Surroundings } from '../model/claims/surroundings.ts'

export interface MappingInput {
  readonly config: Config
  readonly cluster: Cluster
  readonly nodeName: string
  readonly families: ReadonlySet<Family>
  readonly scheduler: string
  readonly vipBinding: Binding
  /** Of all interfaces but kube-ipvs0. */
  readonly nodeAddresses: readonly Address[]
  /** Where this program finds its API server. */
  readonly apiAddresses: ReadonlySet<Address>
  readonly surroundings: Surroundings
  readonly policy: ExternalPolicy | undefined
  readonly drains: HandDrains
}

interface RulesInput {
  readonly config: Config
  readonly cluster: Pick<Cluster, 'node'>
}

/** The node's addresses, the primary one of each family first: a bindAddress, else as the Node object says. */
function nodeIpsOf({ bindAddress }: Config, node: Node | undefined): readonly Address[] {
  const published = node?.addresses ?? []
  return bindAddress === undefined ? published : [bindAddress, ...published]
}

/** Remembers the last result: it is made anew when an argument is another. */
function rememberLast<Arguments extends readonly unknown[], Result>(
  make: (...given: Arguments) => Result,
): (...given: Arguments) => Result {
  let last: { readonly given: Arguments; readonly result: Result } | undefined
  return (...given) => {
    if (last === undefined || last.given.some((argument, i) => argument !== given[i]))
      last = { given, result: make(...given) }
    return last.result
  }
}

/** The node's own addresses. Asked for at every change, and every Pod may have an interface and its addresses. */
export const addressesOf = rememberLast(
  (config: Config, node: Node | undefined, nodeAddresses: readonly Address[]) => {
    const nodeIps = nodeIpsOf(config, node)
    return {
      nodeIps,
      nodePortAddresses: nodePortAddresses(config.nodePortAddresses, nodeAddresses, nodeIps),
      interfaceAddresses: new Set(nodeAddresses),
    }
  },
)

/** Who has which addresses. What clusterCIDR says is whose traffic is local, not whose addresses these are. */
function neighbourhood(input: MappingInput): MappingOptions['neighbourhood'] {
  const { config, cluster, nodeAddresses, apiAddresses, policy } = input
  const { nodeIps, interfaceAddresses } = addressesOf(config, cluster.node, nodeAddresses)
  const { addresses } = cluster
  const { surroundings } = input
  return {
    ...{ nodeIps, interfaceAddresses, surroundings, policy },
    isPeer: (address) => surroundings.peers.has(address) || cluster.isOtherNodes(address),
    apiServers: new Set([...cluster.apiServers(), ...apiAddresses]),
    serviceCidrs: cluster.clusterIpNetworks(),
    clusterIpOwner: (address) => addresses.clusterIpOwner(address),
    publisher: (address) => addresses.publisher(address),
  }
}

export function mappingOptions(input: MappingInput): MappingOptions {
  const { config, cluster, nodeName, families, scheduler, vipBinding, nodeAddresses, drains } = input
  return {
    ...{ nodeName, families, scheduler, vipBinding, drains },
    zone: cluster.node?.zone,
    nodePortAddresses: addressesOf(config, cluster.node, nodeAddresses).nodePortAddresses,
    neighbourhood: neighbourhood(input),
    allowExternalIps: config.allowExternalIps,
  }
}

function cidrOf(cidrs: readonly Cidr[], wanted: Family): LocalTraffic | undefined {
  const cidr = cidrs.find(({ family }) => family === wanted)
  return cidr && { kind: 'cidr', cidr: formatCidr(cidr) }
}

/** How traffic from Pods is told; undefined where it cannot be. */
function localTraffic({ config, cluster }: RulesInput, family: Family): LocalTraffic | undefined {
  switch (config.detectLocalMode) {
    case 'ClusterCIDR':
      return cidrOf(config.clusterCidrs, family)
    case 'NodeCIDR':
      return cidrOf(cluster.node?.podCidrs ?? [], family)
    case 'BridgeInterface':
      return { kind: 'interface', name: config.bridgeInterface }
    case 'InterfaceNamePrefix':
      return { kind: 'interfacePrefix', prefix: config.interfaceNamePrefix }
  }
}

/** What the rules of one family depend on, but for what the kernel can do. */
export function ruleOptions(input: RulesInput, family: Family): RuleOptions {
  const { config, cluster } = input
  const { masqueradeAll, masqueradeBit } = config
  const nodePorts = nodePortNetworks(config.nodePortAddresses, family, nodeIpsOf(config, cluster.node))
  return { masqueradeBit, masqueradeAll, nodePorts, local: localTraffic(input, family) }
}
