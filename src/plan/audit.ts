/**
 * Compares what the kernel shows with what we believe it holds, and corrects the belief: at the start, when
 * we believe nothing, this adopts; later it finds what somebody else has edited and what a lost reply hid.
 */
import { type Address, familyOf } from '../model/address.ts'
import type { KernelState, KernelTables, ObjectKey } from '../model/kernel-object.ts'
import { bitmapMember, ipvsIpsMember, portMember, type SetMemberKey } from '../model/sets.ts'
import {
  type ObservedRealServer,
  type RealServer,
  type RealServerKey,
  sameRealServerSettings,
  sameVirtualServerSettings,
  type VirtualServerId,
} from '../model/virtual-server.ts'

/** Something is not as we left it. */
export interface Difference {
  readonly key: ObjectKey
  /** What was found, for a log line: "real server 10.244.0.7:53 is missing". */
  readonly found: string
}

/** Set members that say that a virtual server is ours: they are made before it and deleted after it. */
function marks({ address, protocol, port }: VirtualServerId): SetMemberKey[] {
  return [
    ipvsIpsMember(address),
    portMember('KUBE-EXTERNAL-IP', address, protocol, port),
    portMember('KUBE-EXTERNAL-IP-LOCAL', address, protocol, port),
    portMember('KUBE-LOAD-BALANCER', address, protocol, port),
    protocol === 'SCTP'
      ? portMember('KUBE-NODE-PORT-SCTP-HASH', address, protocol, port)
      : bitmapMember(`KUBE-NODE-PORT-${protocol}`, familyOf(address), port),
  ]
}

/** A virtual server is ours when we made it, or when its address is on our interface or it is in our sets. */
function isOurs(id: VirtualServerId, tables: KernelTables, known: KernelState): boolean {
  if (known.virtualServers.has(id.key) || tables.addresses.has(id.address)) return true
  return marks(id).some((member) => tables.setMembers.has(member))
}

/** Corrects `known` but for the real servers, and finds the virtual servers of somebody else, with their addresses. */
export function correctTables(
  tables: KernelTables,
  known: KernelState,
): { readonly differences: Difference[]; readonly foreign: Set<ObjectKey> } {
  const differences: Difference[] = []
  const foreign = new Set<ObjectKey>()
  const gone = new Set(known.virtualServers.keys())
  for (const { id, settings } of tables.virtualServers) {
    if (!isOurs(id, tables, known)) {
      foreign.add(id.key).add(id.address)
      continue
    }
    gone.delete(id.key)
    const believed = known.virtualServers.get(id.key)
    if (believed !== undefined && sameVirtualServerSettings(believed.settings, settings)) continue
    const found = believed === undefined ? 'virtual server has appeared' : 'virtual server has other settings'
    differences.push({ key: id.key, found })
    const realServers = believed?.realServers ?? new Map<RealServerKey, RealServer>()
    known.virtualServers.set(id.key, { id, settings, realServers })
  }
  for (const key of gone) {
    known.virtualServers.delete(key)
    differences.push({ key, found: 'virtual server is missing' })
  }
  differences.push(...correctSet<Address>(tables.addresses, known.addresses, 'address'))
  differences.push(...correctSet(tables.setMembers, known.setMembers, 'set member'))
  return { differences, foreign }
}

function correctSet<Key extends ObjectKey>(
  actual: ReadonlySet<Key>,
  believed: Set<Key>,
  noun: string,
): Difference[] {
  const differences: Difference[] = []
  for (const key of actual) if (!believed.has(key)) differences.push({ key, found: `${noun} has appeared` })
  for (const key of believed) if (!actual.has(key)) differences.push({ key, found: `${noun} is missing` })
  for (const { key } of differences) {
    if (actual.has(key as Key)) believed.add(key as Key)
    else believed.delete(key as Key)
  }
  return differences
}

function describe(realServer: RealServer, believed: RealServer | undefined): string | undefined {
  if (believed === undefined) return `real server ${realServer.key} has appeared`
  if (sameRealServerSettings(realServer.settings, believed.settings)) return undefined
  const weights = `weight ${realServer.settings.weight}, expected ${believed.settings.weight}`
  return `real server ${realServer.key} has other settings (${weights})`
}

/** Corrects the real servers of one virtual server that we know. */
export function correctRealServers(
  of: VirtualServerId,
  observed: readonly ObservedRealServer[],
  known: KernelState,
): Difference[] {
  const differences: Difference[] = []
  const realServers = known.virtualServers.get(of.key)?.realServers
  if (realServers === undefined) return differences
  const gone = new Set(realServers.keys())
  for (const { connections: _connections, ...realServer } of observed) {
    gone.delete(realServer.key)
    const found = describe(realServer, realServers.get(realServer.key))
    if (found === undefined) continue
    differences.push({ key: of.key, found })
    realServers.set(realServer.key, realServer)
  }
  for (const key of gone) {
    realServers.delete(key)
    differences.push({ key: of.key, found: `real server ${key} is missing` })
  }
  return differences
}
