/** Networks: an address and how many of its leading bits count. */
import ipaddr from 'ipaddr.js'
import { type Address, type Family, familyOf, ipv4Number, parseAddress } from './address.ts'

/** Equal networks are equal in every field: the bits after the prefix are 0. */
export interface Cidr {
  readonly family: Family
  /** The network's first address. */
  readonly address: Address
  /** 0 to 32, or to 128. */
  readonly prefix: number
}

const WIDTH: Readonly<Record<Family, number>> = { IPv4: 32, IPv6: 128 }
/** An IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2) begins with this many bits of its own. */
const MAPPED_BITS = 96

/**
 * Parses `10.0.0.0/8` or `fd00::/8` as Kubernetes does: spaces around it do not matter, host bits are cleared, the
 * address may be all that parseAddress takes. An IPv4-mapped network is the IPv4 network; one that is larger than
 * all of IPv4 is refused. Returns undefined for anything else, also for an address without a prefix.
 */
export function parseCidr(text: string): Cidr | undefined {
  const [, host = '', length] = /^([^/]+)\/(\d+)$/.exec(text.trim()) ?? []
  const address = parseAddress(host)
  if (address === undefined) return undefined
  const family = familyOf(address)
  const isMapped = family === 'IPv4' && host.includes(':')
  const prefix = Number(length) - (isMapped ? MAPPED_BITS : 0)
  if (prefix < 0 || prefix > WIDTH[family]) return undefined
  return { family, address: networkOf(address, prefix), prefix }
}

function networkOf(address: Address, prefix: number): Address {
  const kind = familyOf(address) === 'IPv4' ? ipaddr.IPv4 : ipaddr.IPv6
  return parseAddress(kind.networkAddressFromCIDR(`${address}/${prefix}`).toString())!
}

/** The network of a prefix that an address is in. */
export function networkAt(address: Address, prefix: number): Cidr {
  return { family: familyOf(address), address: networkOf(address, prefix), prefix }
}

/** Whether the address is in the network; never when it is of the other family. */
export function contains(cidr: Cidr, address: Address): boolean {
  if (familyOf(address) !== cidr.family) return false
  if (cidr.prefix === 0) return true
  // Asked for every address of the node at each change.
  if (cidr.family === 'IPv4')
    return (ipv4Number(address) ^ ipv4Number(cidr.address)) >>> (WIDTH.IPv4 - cidr.prefix) === 0
  return ipaddr.parse(address).match(ipaddr.parse(cidr.address), cidr.prefix)
}

/** `10.0.0.0/8`, `192.0.2.1/32`. */
export function formatCidr({ address, prefix }: Cidr): string {
  return `${address}/${prefix}`
}

/** As `ipset save` prints it: a network of one address has no prefix. */
export function formatNetwork(cidr: Cidr): string {
  return cidr.prefix === WIDTH[cidr.family] ? cidr.address : formatCidr(cidr)
}
