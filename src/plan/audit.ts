/**
 * Compares what the kernel shows with what we believe it holds, and corrects the belief. At the start, when we
 * believe nothing, it is adopted; later this finds what somebody else has edited and what a lost reply hid.
 */
import { type Address, familyOf } from '../model/address.ts'
import type { Bound } from '../model/binding.ts'
import type {
  KernelObject,
  KernelState,
  KernelTables,
  KnownVirtualServer,
  ObjectKey,
} from '../model/kernel-object.ts'
import { bitmapMember, ipvsIpsMember, portMember, type SetMemberKey } from '../model/sets.ts'
import {
  type ObservedRealServer,
  type RealServer,
  type RealServerKey,
  sameRealServerSettings,
  sameVirtualServerSettings,
  type VirtualServerId,
  type VirtualServerKey,
} from '../model/virtual-server.ts'

/** Something is not as we left it. */
export interface Difference {
  readonly object: KernelObject
  /** What was found, for a log line: "real server 10.244.0.7:53 is missing". */
  readonly found: string
}

/** Set members that only we make for this address and port: before the virtual server, and deleted after it. */
function marks({ address, protocol, port }: VirtualServerId): SetMemberKey[] {
  return [
    portMember('KUBE-CLUSTER-IP', address, protocol, port),
    portMember('KUBE-EXTERNAL-IP', address, protocol, port),
    portMember('KUBE-EXTERNAL-IP-LOCAL', address, protocol, port),
    portMember('KUBE-LOAD-BALANCER', address, protocol, port),
    ...(protocol === 'SCTP' ? [portMember('KUBE-NODE-PORT-SCTP-HASH', address, protocol, port)] : []),
  ]
}

/** Whose a virtual server is: ours for sure, ours as far as its address or its port alone tell, or somebody else's. */
type Ownership = 'proven' | 'likely' | 'foreign'

/** A virtual server is ours when we made it, or when its address is on our interface or it is in our sets. */
function ownershipOf(
  id: VirtualServerId,
  tables: KernelTables,
  known: KernelState,
  foreignBefore: ReadonlySet<ObjectKey>,
): Ownership {
  const believed = known.virtualServers.get(id.key)
  if (believed !== undefined) return believed.isProven ? 'proven' : 'likely'
  if (marks(id).some((member) => tables.setMembers.has(member))) return 'proven'
  const { addresses, setMembers } = tables
  if (addresses.has(id.address) || setMembers.has(ipvsIpsMember(id.address))) return 'likely'
  // That a Service has got a node port of this number meanwhile does not make it ours.
  if (id.protocol === 'SCTP' || foreignBefore.has(id.key)) return 'foreign'
  const port = bitmapMember(`KUBE-NODE-PORT-${id.protocol}`, familyOf(id.address), id.port)
  return setMembers.has(port) ? 'likely' : 'foreign'
}

const NONE: ReadonlySet<ObjectKey> = new Set()

/** What a comparison has found. */
export interface Findings {
  readonly differences: Difference[]
  /** Virtual servers of somebody else, with their addresses. */
  readonly foreign: Set<ObjectKey>
}

/**
 * Corrects `known` but for the real servers, an object at a time: it can be left and taken up again. What has been
 * changed since the tables were read (`changed`) is not compared.
 */
export function* compareTables(
  tables: KernelTables,
  known: KernelState,
  changed: ReadonlySet<ObjectKey>,
  { differences, foreign }: Findings,
  foreignBefore: ReadonlySet<ObjectKey> = NONE,
): Generator<void> {
  const found = new Set<VirtualServerId['key']>()
  for (const { id, settings } of tables.virtualServers) {
    yield
    const ownership = ownershipOf(id, tables, known, foreignBefore)
    if (ownership === 'foreign') foreign.add(id.key).add(id.address)
    else {
      found.add(id.key)
      const isProven = ownership === 'proven'
      if (!changed.has(id.key)) differences.push(...correctVirtualServer({ id, settings, isProven }, known))
    }
  }
  for (const key of known.virtualServers.keys()) {
    yield
    if (found.has(key) || changed.has(key)) continue
    known.virtualServers.delete(key)
    differences.push({ object: { kind: 'virtualServer', key }, found: 'virtual server is missing' })
  }
  const adoptAddress = (key: Address): string | undefined =>
    adoptBinding(key, tables.addresses.get(key)!, known.addresses)
  yield* compareKeys(tables.addresses, known.addresses, changed, adoptAddress, (key, verdict) => {
    differences.push({ object: { kind: 'address', key }, found: `address ${verdict}` })
  })
  const adoptSetMember = (key: SetMemberKey): string | undefined => adoptMember(key, known.setMembers)
  yield* compareKeys(tables.setMembers, known.setMembers, changed, adoptSetMember, (key, verdict) => {
    differences.push({ object: { kind: 'setMember', key }, found: `set member ${verdict}` })
  })
}

/**
 * Believes what the kernel shows, but for the real servers, all at once: a start has no use for what is not as it was
 * believed. Returns the virtual servers of somebody else, with their addresses.
 */
export function adoptTables(
  tables: KernelTables,
  known: KernelState,
  foreignBefore: ReadonlySet<ObjectKey> = NONE,
): Set<ObjectKey> {
  const foreign = new Set<ObjectKey>()
  const adopted: KnownVirtualServer[] = []
  for (const { id, settings } of tables.virtualServers) {
    const realServers = known.virtualServers.get(id.key)?.realServers ?? new Map<RealServerKey, RealServer>()
    const ownership = ownershipOf(id, tables, known, foreignBefore)
    if (ownership === 'foreign') foreign.add(id.key).add(id.address)
    else adopted.push({ id, settings, realServers, isProven: ownership === 'proven' })
  }
  known.virtualServers.clear()
  for (const virtualServer of adopted) known.virtualServers.set(virtualServer.id.key, virtualServer)
  known.addresses.clear()
  for (const [address, bound] of tables.addresses) known.addresses.set(address, bound)
  refill(known.setMembers, tables.setMembers)
  return foreign
}

function refill<Key>(set: Set<Key>, keys: Iterable<Key>): void {
  set.clear()
  for (const key of keys) set.add(key)
}

function correctVirtualServer(
  { id, settings, isProven }: Omit<KnownVirtualServer, 'realServers'>,
  known: KernelState,
): Difference[] {
  const believed = known.virtualServers.get(id.key)
  if (believed !== undefined && sameVirtualServerSettings(believed.settings, settings)) return []
  const realServers = believed?.realServers ?? new Map<RealServerKey, RealServer>()
  known.virtualServers.set(id.key, { id, settings, realServers, isProven })
  const found = believed === undefined ? 'virtual server has appeared' : 'virtual server has other settings'
  return [{ object: { kind: 'virtualServer', key: id.key }, found }]
}

/** The keys of a set or of a map. */
type Keyed<Key> = Pick<ReadonlySet<Key>, 'has' | 'keys'>

/** `adopt` corrects the belief about a key that the kernel shows, and says what differs; undefined where nothing does. */
function* compareKeys<Key extends ObjectKey>(
  actual: Keyed<Key>,
  believed: Keyed<Key> & Pick<Set<Key>, 'delete'>,
  changed: ReadonlySet<ObjectKey>,
  adopt: (key: Key) => string | undefined,
  report: (key: Key, verdict: string) => void,
): Generator<void> {
  for (const key of actual.keys()) {
    yield
    const verdict = changed.has(key) ? undefined : adopt(key)
    if (verdict !== undefined) report(key, verdict)
  }
  for (const key of believed.keys()) {
    yield
    if (actual.has(key) || changed.has(key)) continue
    believed.delete(key)
    report(key, 'is missing')
  }
}

function adoptMember(key: SetMemberKey, believed: Set<SetMemberKey>): string | undefined {
  if (believed.has(key)) return undefined
  believed.add(key)
  return 'has appeared'
}

function adoptBinding(key: Address, bound: Bound, believed: Map<Address, Bound>): string | undefined {
  const before = believed.get(key)
  if (before === bound) return undefined
  believed.set(key, bound)
  return before === undefined ? 'has appeared' : 'is bound in another way'
}

function describe(realServer: RealServer, believed: RealServer | undefined): string | undefined {
  if (believed === undefined) return `real server ${realServer.key} has appeared`
  if (sameRealServerSettings(realServer.settings, believed.settings)) return undefined
  const weights = `weight ${realServer.settings.weight}, expected ${believed.settings.weight}`
  return `real server ${realServer.key} has other settings (${weights})`
}

function without(keys: Iterable<RealServerKey>, observed: readonly ObservedRealServer[]): RealServerKey[] {
  const seen = new Set(observed.map(({ key }) => key))
  return [...keys].filter((key) => !seen.has(key))
}

/** Believes what the kernel shows of one virtual server that we know. */
export function adoptRealServers(
  of: VirtualServerKey,
  observed: readonly ObservedRealServer[],
  known: KernelState,
): void {
  const realServers = known.virtualServers.get(of)?.realServers
  realServers?.clear()
  for (const { key, address, port, settings } of observed)
    realServers?.set(key, { key, address, port, settings })
}

/** The same, and says what is not as we believed. */
export function correctRealServers(
  of: VirtualServerId,
  observed: readonly ObservedRealServer[],
  known: KernelState,
): Difference[] {
  const differences: Difference[] = []
  const object: KernelObject = { kind: 'virtualServer', key: of.key }
  const realServers = known.virtualServers.get(of.key)?.realServers
  if (realServers === undefined) return differences
  let missing = realServers.size
  for (const { key, address, port, settings } of observed) {
    const believed = realServers.get(key)
    if (believed !== undefined) missing--
    const realServer = { key, address, port, settings }
    const found = describe(realServer, believed)
    if (found === undefined) continue
    differences.push({ object, found })
    realServers.set(key, realServer)
  }
  if (missing === 0) return differences
  for (const key of without(realServers.keys(), observed)) {
    realServers.delete(key)
    differences.push({ object, found: `real server ${key} is missing` })
  }
  return differences
}
