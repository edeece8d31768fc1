/** The sets of kube-proxy: their names are the runbooks' names, and the rules in iptables ask them. */
import { type Address, FAMILIES, type Family, familyOf } from './address.ts'
import type { Protocol } from './virtual-server.ts'

export type SetType = 'hash:ip' | 'hash:ip,port' | 'hash:ip,port,ip' | 'hash:ip,port,net' | 'bitmap:port'

/** What each set holds, by its name for IPv4. */
export const SETS = {
  'KUBE-LOOP-BACK': 'hash:ip,port,ip',
  'KUBE-CLUSTER-IP': 'hash:ip,port',
  'KUBE-EXTERNAL-IP': 'hash:ip,port',
  'KUBE-EXTERNAL-IP-LOCAL': 'hash:ip,port',
  'KUBE-LOAD-BALANCER': 'hash:ip,port',
  'KUBE-LOAD-BALANCER-FW': 'hash:ip,port',
  'KUBE-LOAD-BALANCER-LOCAL': 'hash:ip,port',
  'KUBE-LOAD-BALANCER-SOURCE-IP': 'hash:ip,port,ip',
  'KUBE-LOAD-BALANCER-SOURCE-CIDR': 'hash:ip,port,net',
  'KUBE-NODE-PORT-TCP': 'bitmap:port',
  'KUBE-NODE-PORT-LOCAL-TCP': 'bitmap:port',
  'KUBE-NODE-PORT-UDP': 'bitmap:port',
  'KUBE-NODE-PORT-LOCAL-UDP': 'bitmap:port',
  'KUBE-NODE-PORT-SCTP-HASH': 'hash:ip,port',
  'KUBE-NODE-PORT-LOCAL-SCTP-HASH': 'hash:ip,port',
  'KUBE-HEALTH-CHECK-NODE-PORT': 'bitmap:port',
  'KUBE-IPVS-IPS': 'hash:ip',
} as const satisfies Readonly<Record<string, SetType>>

export type SetBase = keyof typeof SETS

/** IPSET_MAXNAMELEN counts the terminating NUL. */
const LONGEST_NAME = 31

/** The set's name in the kernel: those of IPv6 say so, cut to what the kernel takes. */
export function setName(base: SetBase, family: Family): string {
  return family === 'IPv4' ? base : base.replace('KUBE-', 'KUBE-6-').slice(0, LONGEST_NAME)
}

/** A set as the kernel has to have it. */
export interface SetSpec {
  readonly name: string
  readonly type: SetType
  readonly family: Family
}

/** All sets of one family. */
export function setsOf(family: Family): SetSpec[] {
  return Object.entries(SETS).map(([base, type]) => ({
    name: setName(base as SetBase, family),
    type,
    family,
  }))
}

declare const setMemberKey: unique symbol

/** A member of a set: `KUBE-CLUSTER-IP 10.96.0.1,tcp:443`, as after `ipset add`. */
export type SetMemberKey = string & { readonly [setMemberKey]: true }

export function setMember(set: string, element: string): SetMemberKey {
  return `${set} ${element}` as SetMemberKey
}

/** The set and the element of a member. */
export function splitSetMember(key: SetMemberKey): { readonly set: string; readonly element: string } {
  const space = key.indexOf(' ')
  return { set: key.slice(0, space), element: key.slice(space + 1) }
}

/** The member that says "this address is on kube-ipvs0". */
export function ipvsIpsMember(address: Address): SetMemberKey {
  return setMember(setName('KUBE-IPVS-IPS', familyOf(address)), address)
}

/** A member of a set whose elements begin with an address and a port; `third` is the address or network after them. */
export function portMember(
  base: SetBase,
  address: Address,
  protocol: Protocol,
  port: number,
  third?: string,
): SetMemberKey {
  const element = `${address},${protocol.toLowerCase()}:${port}`
  return setMember(setName(base, familyOf(address)), third === undefined ? element : `${element},${third}`)
}

/** A member of a set of ports. */
export function bitmapMember(base: SetBase, family: Family, port: number): SetMemberKey {
  return setMember(setName(base, family), String(port))
}

/** What each set holds, by its name in the kernel. */
const TYPES: ReadonlyMap<string, SetType> = new Map(
  FAMILIES.flatMap(setsOf).map(({ name, type }) => [name, type]),
)

/** Undefined: it is none of ours. */
export function typeOfSet(name: string): SetType | undefined {
  return TYPES.get(name)
}

/** The address that a member begins with; undefined for a member of a set of ports. */
export function addressInMember(key: SetMemberKey): Address | undefined {
  const { set, element } = splitSetMember(key)
  return TYPES.get(set) === 'bitmap:port' ? undefined : (element.split(',')[0] as Address)
}
