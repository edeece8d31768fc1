/** What the loop knows of virtual servers, beside what the kernel has now. Nothing is changed. */
import type { Claim, VirtualServerClaim } from '../model/claims/claim.ts'
import { drainByHand, type HandDrains } from '../model/claims/hand-drains.ts'
import type { ServiceName } from '../model/facts/facts.ts'
import type { KnownVirtualServer, ObjectKey } from '../model/kernel-object.ts'
import {
  type RealServer,
  type RealServerKey,
  type VirtualServerId,
  virtualServerIdOf,
  type VirtualServerKey,
} from '../model/virtual-server.ts'
import { isDraining } from '../plan/drain.ts'
import { isForeign } from '../plan/plan.ts'
import type { FailureView, State } from '../view/documents.ts'
import { type Inspected, podsOf, portOf, stateOfStanding } from '../view/virtual-server-view.ts'
import { leisure, mapAtLeisure } from '../waiting/turns.ts'
import type { Parts } from './parts.ts'
import type { Failure, Queue } from './queue.ts'

/** Virtual servers whose real servers are read in one exchange: changes wait for its answer. */
const VIRTUAL_SERVERS_PER_STEP = 10

const DEPENDS = 'it depends on another object that was refused'

export type Inspection = Pick<Parts, 'options' | 'ledger' | 'queue' | 'auditor' | 'drainer' | 'mapper'>

/** Services that want something of the kernel. */
export function serviceNames({ ledger }: Pick<Inspection, 'ledger'>): ServiceName[] {
  return [...ledger.owners()]
}

/** The virtual servers that a Service claims, whoever has them. */
export function claimedBy({ ledger }: Pick<Inspection, 'ledger'>, name: ServiceName): VirtualServerClaim[] {
  return ledger.claimsOf(name).filter((claim) => claim.kind === 'virtualServer')
}

/** Why a Service does not have what it claims: a sentence each. */
export function conflictsOf({ ledger, auditor }: Inspection, name: ServiceName): string[] {
  return claimedBy({ ledger }, name).flatMap((claim) => {
    if (isForeign(claim, auditor.foreign))
      return `${claim.key}: somebody else has virtual servers on its address`
    const lost = ledger.conflicts(claim.key).find(({ loser }) => loser === name)
    return lost === undefined ? [] : `${claim.key}: ${lost.reason}`
  })
}

/** All virtual servers that are wanted or there, ours or not, that `isAsked` picks. */
export function virtualServerKeys(
  { ledger, auditor }: Inspection,
  isAsked: (key: VirtualServerKey) => boolean,
): VirtualServerKey[] {
  const keys = new Set<VirtualServerKey>()
  for (const { kind, key } of ledger.objects()) if (kind === 'virtualServer' && isAsked(key)) keys.add(key)
  for (const key of auditor.known.virtualServers.keys()) if (isAsked(key)) keys.add(key)
  for (const key of auditor.foreign) if (isVirtualServer(key) && isAsked(key)) keys.add(key)
  return [...keys]
}

/** Only theirs end in a protocol. */
function isVirtualServer(key: ObjectKey): key is VirtualServerKey {
  return /\/(?:TCP|UDP|SCTP)$/.test(key)
}

/** The Service that has a virtual server, as far as we know, and the name of its port; undefined where none has. */
export function servedOn(
  { options: { cluster }, ledger, auditor }: Pick<Inspection, 'options' | 'ledger' | 'auditor'>,
  id: VirtualServerId,
): { readonly service: ServiceName; readonly port: string } | undefined {
  const claim = ledger.wanted(id.key)
  // Somebody else's is never known, whoever claims it.
  if (claim?.kind !== 'virtualServer' || !auditor.known.virtualServers.has(id.key)) return undefined
  const port = portOf({ id, claim, service: cluster.service(claim.owner) })
  return { service: claim.owner, port: port?.name ?? '' }
}

/** The real servers of a virtual server as we know them: those that drain, and all others. */
export function countRealServers(
  { ledger, auditor }: Pick<Inspection, 'ledger' | 'auditor'>,
  key: VirtualServerKey,
): { readonly realServers: number; readonly draining: number } {
  const wanted = ledger.virtualServer(key)
  const known = [...(auditor.known.virtualServers.get(key)?.realServers.values() ?? [])]
  const draining = known.filter((realServer) => isDraining(realServer, wanted)).length
  return { realServers: known.length - draining, draining }
}

/** The virtual servers of Services of which the kernel refuses something. */
export function failingKeys({ ledger, queue }: Inspection): VirtualServerKey[] {
  const owners = [...queue.failures()].flatMap(({ object }) => ledger.wanted(object.key)?.owner ?? [])
  return [...new Set(owners)].flatMap((owner) => claimedBy({ ledger }, owner).map(({ key }) => key))
}

/** A virtual server as the loop believes it to be: the kernel is not asked. */
export interface Believed {
  readonly key: VirtualServerKey
  readonly claim: VirtualServerClaim | undefined
  readonly known: KnownVirtualServer | undefined
  readonly state: State
}

/** All virtual servers that are wanted or there, ours or not; those of `first` before the others. */
export async function believe(
  inspection: Inspection,
  first: Iterable<VirtualServerKey> = [],
): Promise<Believed[]> {
  const { ledger, auditor } = inspection
  const keys = new Set(first)
  await mapAtLeisure(ledger.owners(), (name) => {
    for (const { key } of claimedBy({ ledger }, name)) keys.add(key)
  })
  await mapAtLeisure(auditor.known.virtualServers.keys(), (key) => keys.add(key))
  for (const key of auditor.foreign) if (isVirtualServer(key)) keys.add(key)
  const failing = new Map([...inspection.queue.failures()].map((failure) => [failure.object.key, failure]))
  const believed = await mapAtLeisure(keys, (key) => believeOne(inspection, key, failing))
  return believed.filter((one) => one !== undefined)
}

function believeOne(
  { ledger, auditor, queue }: Inspection,
  key: VirtualServerKey,
  failing: ReadonlyMap<ObjectKey, Failure>,
): Believed | undefined {
  const { claim, isTaken, known } = holdersOf({ ledger, auditor }, key)
  if (claim === undefined && known === undefined && !isTaken) return undefined
  const state = stateOfStanding({
    claim,
    isForeign: isTaken,
    isPending: known === undefined || isInQueue(queue, key) || isInQueue(queue, claim?.vip),
    isFailing:
      failing.size > 0 &&
      failuresOf(virtualServerIdOf(key), claim && ledger.claimsOf(claim.owner), failing).length > 0,
  })
  return { key, claim, known, state }
}

/** Who wants a virtual server, what we know of it, and whether somebody else has it. */
function holdersOf(
  { ledger, auditor }: Pick<Inspection, 'ledger' | 'auditor'>,
  key: VirtualServerKey,
): Omit<Believed, 'key' | 'state'> & { readonly isTaken: boolean } {
  const wanted = ledger.wanted(key)
  const claim = wanted?.kind === 'virtualServer' ? wanted : undefined
  const isTaken = claim === undefined ? auditor.foreign.has(key) : isForeign(claim, auditor.foreign)
  return { claim, isTaken, known: auditor.known.virtualServers.get(key) }
}

/** A real server that drains, as far as the loop has noticed. */
export interface Draining {
  readonly of: VirtualServerKey
  readonly realServer: RealServer
  readonly owner: ServiceName | undefined
  /** When it is deleted at the latest; undefined: when its last connection ends. */
  readonly endsInSeconds: number | undefined
}

export function* drains({ options: { now }, ledger, auditor, drainer }: Inspection): Generator<Draining> {
  for (const of of drainer.draining) {
    const ends = secondsUntil(drainer.endsOf(of), now())
    const owner = ledger.wanted(of)?.owner
    for (const realServer of auditor.known.virtualServers.get(of)?.realServers.values() ?? [])
      if (isDraining(realServer, ledger.virtualServer(of)))
        yield { of, realServer, owner, endsInSeconds: ends.get(realServer.key) }
  }
}

/**
 * Looks at virtual servers, a few at a time, and yields what `view` makes of what is known of each. Their real servers are
 * read from the kernel. Throws when it cannot be read.
 */
export async function* inspectEach<View>(
  inspection: Inspection,
  keys: readonly VirtualServerKey[],
  view: (inspected: Inspected) => View,
): AsyncGenerator<View> {
  const { kernel } = inspection.options
  const failing = new Map([...inspection.queue.failures()].map((failure) => [failure.object.key, failure]))
  const { drains } = inspection.options.mapping()
  const atLeisure = leisure()
  for (let start = 0; start < keys.length; start += VIRTUAL_SERVERS_PER_STEP) {
    const ids = keys.slice(start, start + VIRTUAL_SERVERS_PER_STEP).map(virtualServerIdOf)
    const observed = await kernel.readRealServers(ids)
    const viewOf = (id: VirtualServerId): View =>
      view(inspectOne(inspection, id, observed.get(id.key), { failing, drains }))
    yield* await atLeisure(() => ids.map(viewOf))
  }
}

/** All of them at once. Throws as `inspectEach`. */
export async function inspect<View>(...asked: Parameters<typeof inspectEach<View>>): Promise<View[]> {
  return Array.fromAsync(inspectEach(...asked))
}

function inspectOne(
  inspection: Inspection,
  id: VirtualServerId,
  observed: Inspected['observed'],
  { failing, drains }: { failing: ReadonlyMap<ObjectKey, Failure>; drains: HandDrains },
): Inspected {
  const { ledger, queue, drainer } = inspection
  const { cluster, now } = inspection.options
  const { claim, isTaken, known } = holdersOf(inspection, id.key)
  return {
    ...{ id, claim },
    service: claim && cluster.service(claim.owner),
    scheduler: known?.settings.scheduler,
    observed: known === undefined && !isTaken ? undefined : observed,
    isForeign: isTaken,
    isPending: known === undefined || isInQueue(queue, id.key) || isInQueue(queue, claim?.vip),
    failures: failing.size === 0 ? [] : failuresOf(id, claim && ledger.claimsOf(claim.owner), failing),
    pods: claim === undefined ? new Map() : podsOf(drainByHand(cluster.slicesOf(claim.owner), drains)),
    drainEndsInSeconds: secondsUntil(drainer.endsOf(id.key), now()),
  }
}

function isInQueue(queue: Queue, key: ObjectKey | undefined): boolean {
  return key !== undefined && queue.stateOf(key) !== undefined
}

function secondsUntil(ends: ReadonlyMap<RealServerKey, number>, now: number): Map<RealServerKey, number> {
  return new Map([...ends].map(([key, end]) => [key, Math.max(0, Math.round((end - now) / 1_000))]))
}

/** What the kernel refuses of a virtual server: itself, its address, set members about it. */
function failuresOf(
  { key, address }: VirtualServerId,
  claims: readonly Claim[] | undefined,
  failing: ReadonlyMap<ObjectKey, Failure>,
): FailureView[] {
  const isAbout = (claim: Claim): boolean => {
    if (claim.kind === 'virtualServer') return claim.key === key
    if (claim.kind === 'setMember' && claim.about !== undefined) return claim.about.includes(key)
    return claim.vip === undefined || claim.vip === address
  }
  const keys: readonly ObjectKey[] = claims?.filter(isAbout).map((claim) => claim.key) ?? [key]
  return keys.flatMap((one) => {
    const failure = failing.get(one)
    if (failure === undefined) return []
    const { reason, retryInMs } = failure
    return {
      object: one,
      reason: reason === '' ? DEPENDS : reason,
      retryInSeconds: Math.ceil(retryInMs / 1_000),
    }
  })
}
