/**
 * What has to change, in which order: make before break.
 *
 *   make:   set members, virtual servers with their real servers, addresses
 *   break:  real servers, addresses, virtual servers, set members, tracked flows
 */
import type { Address } from '../model/address.ts'
import { type Binding, BINDINGS, isBoundAs } from '../model/binding.ts'
import type { Claim, WantedVirtualServer } from '../model/claims/claim.ts'
import type { KernelObject, KernelState, KnownVirtualServer, ObjectKey } from '../model/kernel-object.ts'
import type { Operation } from '../model/operation.ts'
import type { SetMemberKey } from '../model/sets.ts'
import { schedulerOf } from '../model/schedulers.ts'
import {
  type RealServer,
  sameRealServerSettings,
  sameVirtualServerSettings,
  type VirtualServerId,
} from '../model/virtual-server.ts'

/** What to plan from. Nothing here is changed. */
export interface PlanInput {
  /** The claim that counts for a key, if anybody wants the object. */
  readonly wanted: (key: ObjectKey) => Claim | undefined
  readonly known: KernelState
  /** Virtual servers of somebody else, and their addresses: these do not become ours. */
  readonly foreign: ReadonlySet<ObjectKey>
  /** Addresses on which nothing is deleted that is not proven to be ours (ipvs.excludeCIDRs). */
  readonly isExcluded: (address: Address) => boolean
}

type Step =
  | 'addSetMember'
  | 'make'
  | 'bind'
  | 'break'
  | 'unbind'
  | 'deleteVirtualServer'
  | 'deleteSetMember'
  | 'deleteFlows'
type Steps = Record<Step, Operation[]>

/** What is to be done about some objects; others can be added before it is asked for. */
export class Plan {
  readonly #steps: Steps = {
    addSetMember: [],
    make: [],
    bind: [],
    break: [],
    unbind: [],
    deleteVirtualServer: [],
    deleteSetMember: [],
    deleteFlows: [],
  }

  /** Adds what makes these objects what is wanted. */
  add(objects: Iterable<KernelObject>, input: PlanInput): void {
    for (const object of objects) planObject(object, input, this.#steps)
  }

  get length(): number {
    return Object.values(this.#steps).reduce((sum, { length }) => sum + length, 0)
  }

  /** In the order in which to execute them. */
  operations(): Operation[] {
    return Object.values(this.#steps).flat()
  }
}

/** The operations that make these objects what is wanted, in the order in which to execute them. */
export function planChanges(objects: Iterable<KernelObject>, input: PlanInput): Operation[] {
  const plan = new Plan()
  plan.add(objects, input)
  return plan.operations()
}

/** Somebody else has what is claimed, or all that it is about, or would lose the address to us. */
export function isForeign(claim: Claim, foreign: ReadonlySet<ObjectKey>): boolean {
  if (foreign.size === 0) return false
  const { key, vip } = claim
  if (foreign.has(key) || (vip !== undefined && foreign.has(vip))) return true
  return claim.kind === 'setMember' && claim.about?.every((one) => foreign.has(one)) === true
}

/** Nobody wants the object, but it may be somebody else's, or is an address that somebody else uses. */
function isProtected(object: KernelObject, { isExcluded, foreign, known }: PlanInput): boolean {
  switch (object.kind) {
    case 'address':
      return foreign.has(object.key)
    case 'virtualServer': {
      const virtualServer = known.virtualServers.get(object.key)
      return virtualServer?.isProven === false && isExcluded(virtualServer.id.address)
    }
    case 'setMember':
      return false
  }
}

function planObject(object: KernelObject, input: PlanInput, steps: Steps): void {
  const { wanted, known, foreign } = input
  const claim = wanted(object.key)
  if (claim === undefined ? isProtected(object, input) : isForeign(claim, foreign)) return
  switch (object.kind) {
    case 'setMember':
      planSetMember(object.key, claim !== undefined, known, steps)
      return
    case 'address':
      planAddress(object.key, claim?.kind === 'address' ? claim.binding : undefined, known, steps)
      return
    case 'virtualServer': {
      const virtualServer = claim?.kind === 'virtualServer' ? claim.virtualServer : undefined
      planVirtualServer(virtualServer, known.virtualServers.get(object.key), steps)
    }
  }
}

function planSetMember(member: SetMemberKey, isWanted: boolean, known: KernelState, steps: Steps): void {
  const isKnown = known.setMembers.has(member)
  if (isWanted && !isKnown) steps.addSetMember.push({ kind: 'addSetMember', member })
  if (!isWanted && isKnown) steps.deleteSetMember.push({ kind: 'deleteSetMember', member })
}

/** One that is bound in another way than it is wanted is bound in both for a moment: it is never gone. */
function planAddress(
  address: Address,
  wanted: Binding | undefined,
  { addresses }: KernelState,
  steps: Steps,
): void {
  const bound = addresses.get(address)
  for (const binding of BINDINGS) {
    const isBound = isBoundAs(binding, bound)
    if (binding === wanted && !isBound) steps.bind.push({ kind: 'bindAddress', address, binding })
    if (binding !== wanted && isBound) steps.unbind.push({ kind: 'unbindAddress', address, binding })
  }
}

function planVirtualServer(
  wanted: WantedVirtualServer | undefined,
  known: KnownVirtualServer | undefined,
  steps: Steps,
): void {
  if (wanted === undefined) {
    if (known !== undefined) deleteVirtualServer(known.id, steps)
    return
  }
  const { id: of, settings } = wanted
  if (known === undefined) createVirtualServer(wanted, steps)
  else if (!sameVirtualServerSettings(known.settings, settings)) {
    steps.make.push({ kind: 'updateVirtualServer', of, settings })
  }
  for (const realServer of wanted.realServers.values()) {
    planRealServer(of, realServer, known?.realServers.get(realServer.key), steps)
  }
  for (const realServer of known?.realServers.values() ?? []) {
    if (!wanted.realServers.has(realServer.key)) retire(wanted, realServer, steps)
  }
}

/** UDP senders that began before there was a virtual server are tracked as they were: forgotten, they get through. */
function createVirtualServer({ id: of, settings }: WantedVirtualServer, steps: Steps): void {
  steps.make.push({ kind: 'createVirtualServer', of, settings })
  if (of.protocol === 'UDP') steps.deleteFlows.push({ kind: 'deleteFlows', of })
}

function deleteVirtualServer(of: VirtualServerId, steps: Steps): void {
  steps.deleteVirtualServer.push({ kind: 'deleteVirtualServer', of })
  if (of.protocol === 'UDP') steps.deleteFlows.push({ kind: 'deleteFlows', of })
}

function planRealServer(
  of: VirtualServerId,
  realServer: RealServer,
  known: RealServer | undefined,
  steps: Steps,
): void {
  if (known === undefined) steps.make.push({ kind: 'createRealServer', of, realServer })
  else if (!sameRealServerSettings(known.settings, realServer.settings)) {
    steps.make.push({ kind: 'updateRealServer', of, realServer })
  }
}

/**
 * UDP has no connections to wait for, and dh goes on choosing a real server of weight 0, only to refuse its
 * clients. Everything else is quiesced here and deleted once drained (drain.ts).
 */
function retire({ id: of, settings }: WantedVirtualServer, realServer: RealServer, steps: Steps): void {
  if (of.protocol === 'UDP' || !schedulerOf(settings.scheduler).drains) {
    steps.break.push({ kind: 'deleteRealServer', of, realServer })
    if (of.protocol === 'UDP') steps.deleteFlows.push({ kind: 'deleteFlows', of, to: realServer })
  } else if (realServer.settings.weight !== 0) {
    const quiesced = { ...realServer, settings: { ...realServer.settings, weight: 0 } }
    steps.break.push({ kind: 'updateRealServer', of, realServer: quiesced })
  }
}
