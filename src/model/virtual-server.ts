/** What IPVS holds, in LVS's words: virtual servers and their real servers. */
import { type Address, familyOf, formatSocketAddress, withoutBrackets } from './address.ts'

export type Protocol = 'TCP' | 'UDP' | 'SCTP'

/** IANA's numbers (linux/in.h). */
export const PROTOCOL_NUMBERS: Readonly<Record<Protocol, number>> = { TCP: 6, UDP: 17, SCTP: 132 }

/** How a real server is reached: `-m`, `-i`, `-g` and the local node, in ipvsadm's words. */
export type ForwardingMethod = 'masquerade' | 'tunnel' | 'directRoute' | 'local'

/** Flags of a virtual server: IP_VS_SVC_F_* of linux/ip_vs.h, without the kernel's own IP_VS_SVC_F_HASHED. */
export const PERSISTENT = 0x01
export const ONE_PACKET = 0x04
export const SCHEDULER_FLAG_1 = 0x08
export const SCHEDULER_FLAG_2 = 0x10
export const SCHEDULER_FLAG_3 = 0x20

declare const virtualServerKey: unique symbol
declare const realServerKey: unique symbol

/** `10.96.0.1:443/TCP`. */
export type VirtualServerKey = string & { readonly [virtualServerKey]: true }
/** `10.244.0.7:8443`. */
export type RealServerKey = string & { readonly [realServerKey]: true }

/** What makes a virtual server that one. */
export interface VirtualServerId {
  readonly key: VirtualServerKey
  readonly address: Address
  readonly protocol: Protocol
  readonly port: number
}

/** What can be changed of a virtual server while connections pass through it. */
export interface VirtualServerSettings {
  readonly scheduler: string
  readonly flags: number
  /** Life of a persistence template; 0 without PERSISTENT. */
  readonly persistenceSeconds: number
  /** Prefix length of the client network that a template stands for: 32 or 128. */
  readonly persistencePrefix: number
  /** Only foreign virtual servers have one (`--pe sip`). */
  readonly persistenceEngine?: string
}

/** Encapsulation of the tunnel forwarding method. */
export interface Tunnel {
  readonly type: 'ipip' | 'gue' | 'gre'
  readonly port: number
  readonly flags: number
}

/** What can be changed of a real server while connections pass through it. */
export interface RealServerSettings {
  readonly forwarding: ForwardingMethod
  /** 0: no new connections, those open go on (quiesced). */
  readonly weight: number
  readonly upperThreshold: number
  readonly lowerThreshold: number
  readonly tunnel?: Tunnel
}

/** A backend of a virtual server. */
export interface RealServer {
  readonly key: RealServerKey
  readonly address: Address
  readonly port: number
  readonly settings: RealServerSettings
}

/** A virtual server as it is wanted, or as it is in the kernel. */
export interface VirtualServer {
  readonly id: VirtualServerId
  readonly settings: VirtualServerSettings
  readonly realServers: ReadonlyMap<RealServerKey, RealServer>
}

/** How busy a real server is. */
export interface Connections {
  readonly active: number
  readonly inactive: number
  readonly persistent: number
}

/** A real server as the kernel has it. */
export interface ObservedRealServer extends RealServer {
  readonly connections: Connections
}

/** A real server as every Service wants it. */
export const IN_SERVICE: RealServerSettings = {
  forwarding: 'masquerade',
  weight: 1,
  upperThreshold: 0,
  lowerThreshold: 0,
}

export function virtualServerId(address: Address, port: number, protocol: Protocol): VirtualServerId {
  const key = `${formatSocketAddress(address, port)}/${protocol}` as VirtualServerKey
  return { key, address, protocol, port }
}

/** The virtual server that a key names. */
export function virtualServerIdOf(key: VirtualServerKey): VirtualServerId {
  const [colon, slash] = [key.lastIndexOf(':'), key.lastIndexOf('/')]
  const [port, protocol] = [Number(key.slice(colon + 1, slash)), key.slice(slash + 1) as Protocol]
  return { key, address: addressOfVirtualServer(key), protocol, port }
}

/** The address in a key. */
export function addressOfVirtualServer(key: VirtualServerKey): Address {
  return withoutBrackets(key.slice(0, key.lastIndexOf(':'))) as Address
}

export function realServerKeyOf(address: Address, port: number): RealServerKey {
  return formatSocketAddress(address, port) as RealServerKey
}

export function realServer(address: Address, port: number, settings = IN_SERVICE): RealServer {
  return { key: realServerKeyOf(address, port), address, port, settings }
}

/** The netmask that makes each client address a persistence client of its own. */
export function fullPrefix(address: Address): number {
  return familyOf(address) === 'IPv6' ? 128 : 32
}

export function sameVirtualServerSettings(a: VirtualServerSettings, b: VirtualServerSettings): boolean {
  return (
    a.scheduler === b.scheduler &&
    a.flags === b.flags &&
    a.persistenceSeconds === b.persistenceSeconds &&
    a.persistencePrefix === b.persistencePrefix &&
    a.persistenceEngine === b.persistenceEngine
  )
}

export function sameRealServerSettings(a: RealServerSettings, b: RealServerSettings): boolean {
  if (a === b) return true
  return (
    a.forwarding === b.forwarding &&
    a.weight === b.weight &&
    a.upperThreshold === b.upperThreshold &&
    a.lowerThreshold === b.lowerThreshold &&
    a.tunnel?.type === b.tunnel?.type &&
    a.tunnel?.port === b.tunnel?.port &&
    a.tunnel?.flags === b.tunnel?.flags
  )
}
