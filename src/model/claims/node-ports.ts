/** On which addresses of the node its node ports are served. */
import { FAMILIES, type Address, type Family, familyOf } from '../address.ts'
import { type Cidr, contains, formatCidr, parseCidr } from '../cidr.ts'

/** Loopback addresses, which no other host reaches, and those that mean nothing without their interface. */
const NEVER: readonly Cidr[] = ['127.0.0.0/8', '::1/128', 'fe80::/10'].map(networkOf)

/**
 * nodePortAddresses of the configuration: nothing for all addresses, `primary` alone for the node's IP of each
 * family, or networks. A family of which it has no network is served on all addresses.
 */
export type NodePortSelection = readonly string[]

function networkOf(text: string): Cidr {
  const cidr = parseCidr(text)
  if (cidr === undefined) {
    throw new Error(`Cannot use "${text}" in nodePortAddresses: expected networks, or "primary" alone`)
  }
  return cidr
}

function isPrimary(selection: NodePortSelection): boolean {
  return selection.length === 1 && selection[0] === 'primary'
}

/** The selected networks of a family; undefined for all addresses. */
function networksOf(selection: NodePortSelection, family: Family): readonly Cidr[] | undefined {
  const networks = selection.map(networkOf).filter((cidr) => cidr.family === family)
  return networks.length === 0 || networks.some(({ prefix }) => prefix === 0) ? undefined : networks
}

/** Whether all addresses of the family are selected: health checks then listen on the wildcard address. */
export function isNodePortWildcard(selection: NodePortSelection, family: Family): boolean {
  return !isPrimary(selection) && networksOf(selection, family) === undefined
}

/**
 * The networks, as text, to which the node's addresses that serve node ports belong; undefined for all of a family. As
 * for `nodePortAddresses`, the first of `nodeIps` is the primary one; while it is not known, it may be any.
 */
export function nodePortNetworks(
  selection: NodePortSelection,
  family: Family,
  nodeIps: readonly Address[],
): readonly string[] | undefined {
  if (!isPrimary(selection)) return networksOf(selection, family)?.map(formatCidr)
  const primary = nodeIps.find((ip) => familyOf(ip) === family)
  return primary && [`${primary}/${family === 'IPv4' ? 32 : 128}`]
}

/** Which addresses of a family the selection takes. */
function selector(
  selection: NodePortSelection,
  family: Family,
  nodeIps: readonly Address[],
): (address: Address) => boolean {
  if (isPrimary(selection)) {
    const primary = nodeIps.find((ip) => familyOf(ip) === family)
    return (address) => address === primary
  }
  const networks = networksOf(selection, family)
  return (address) => networks?.some((cidr) => contains(cidr, address)) ?? true
}

/**
 * The addresses that serve node ports, of both families, each once and sorted. `addresses` are the node's, without
 * those of kube-ipvs0: virtual addresses are no node's. Of `nodeIps` (those of the Node object, the most wanted
 * first) the first of a family is its primary one; a family that has none is then not served. Loopback and IPv6
 * link-local addresses never serve. Throws where a text of the selection is no network.
 */
export function nodePortAddresses(
  selection: NodePortSelection,
  addresses: readonly Address[],
  nodeIps: readonly Address[],
): Address[] {
  const candidates = new Set(addresses.filter((address) => !NEVER.some((cidr) => contains(cidr, address))))
  return FAMILIES.flatMap((family) => {
    const isSelected = selector(selection, family, nodeIps)
    return [...candidates].filter((address) => familyOf(address) === family && isSelected(address)).sort()
  })
}
