/** IP addresses as canonical text: dotted decimal, or RFC 5952. */
import ipaddr from 'ipaddr.js'

declare const canonical: unique symbol

/** Canonical text of an IP address; only this file makes one, so equal addresses are equal strings. */
export type Address = string & { readonly [canonical]: true }

export type Family = 'IPv4' | 'IPv6'

/** Every family there is. */
export const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']

const CANONICAL_IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/
const DOT = 0x2e
const ZERO = 0x30
const FOUR_DECIMALS = /^\d{1,3}(?:\.\d{1,3}){3}$/

/**
 * Parses an address as Kubernetes does: leading zeros of an IPv4 octet are decimal, an IPv4-mapped IPv6
 * address is the IPv4 address, a zone is refused. Returns undefined for anything else.
 */
export function parseAddress(text: string): Address | undefined {
  if (CANONICAL_IPV4.test(text)) return text as Address
  if (FOUR_DECIMALS.test(text)) {
    const decimal = text.split('.').map(Number).join('.')
    return CANONICAL_IPV4.test(decimal) ? (decimal as Address) : undefined
  }
  if (text.includes('%') || !ipaddr.IPv6.isValid(text)) return undefined
  return ipaddr.process(text).toString() as Address
}

export function familyOf(address: Address): Family {
  return address.includes(':') ? 'IPv6' : 'IPv4'
}

/** Network byte order: 4 or 16 bytes. */
export function addressBytes(address: Address): number[] {
  return ipaddr.parse(address).toByteArray()
}

/** The 32 bits of an IPv4 address, whose canonical text needs no parser: this is done for every message. */
export function ipv4Number(address: Address): number {
  let number = 0
  let octet = 0
  for (let i = 0; i < address.length; i++) {
    const code = address.charCodeAt(i)
    if (code === DOT) {
      number = (number << 8) | octet
      octet = 0
    } else octet = octet * 10 + code - ZERO
  }
  return ((number << 8) | octet) >>> 0
}

/** From 4 or 16 bytes in network byte order, of which the first is at `start`. */
export function addressFromBytes(bytes: Uint8Array, start = 0, length = bytes.length - start): Address {
  if (length === 4)
    return `${bytes[start]!}.${bytes[start + 1]!}.${bytes[start + 2]!}.${bytes[start + 3]!}` as Address
  return ipaddr.fromByteArray([...bytes.subarray(start, start + length)]).toString() as Address
}

/** Ranges of IPv4 (RFC 6890) and IPv6 (RFC 4291) that are nobody's in particular, by their canonical text. */
const SPECIAL: readonly (readonly [RegExp, string])[] = [
  [/^0\.|^::$/, 'the unspecified address'],
  [/^127\.|^::1$/, 'a loopback address'],
  [/^169\.254\.|^fe[89ab][0-9a-f]:/, 'a link-local address'],
  [/^2(?:2[4-9]|3\d)\.|^ff[0-9a-f]{2}:/, 'a multicast address'],
  [/^255\.255\.255\.255$/, 'the broadcast address'],
]

const ANY_SPECIAL = new RegExp(SPECIAL.map(([range]) => range.source).join('|'))

/** `a loopback address` and the like; undefined for one that somebody in particular may have. */
export function describeSpecial(address: Address): string | undefined {
  // Nearly none is.
  return ANY_SPECIAL.test(address) ? SPECIAL.find(([range]) => range.test(address))?.[1] : undefined
}

/** The host of a URL or of a socket address, without the brackets that an IPv6 address has there. */
export function withoutBrackets(host: string): string {
  return host.replace(/^\[|\]$/g, '')
}

export interface SocketAddress {
  readonly address: Address
  readonly port: number
}

export function isSame(one: SocketAddress, other: SocketAddress): boolean {
  return one.address === other.address && one.port === other.port
}

/** `10.96.0.1:443` or `[fd00::1]:443`. */
export function formatSocketAddress(address: Address, port: number): string {
  return familyOf(address) === 'IPv6' ? `[${address}]:${port}` : `${address}:${port}`
}
