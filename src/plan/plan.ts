/**
 * What has to change, in which order: make before break.
 *
 *   make:   set members, virtual servers with their real servers, addresses
 *   break:  real servers, addresses, virtual servers, set members
 */
import type { Address } from '../model/address.ts'
import type { Claim, WantedVirtualServer } from '../model/claims.ts'
import {
  addressOf,
  type KernelState,
  kindOf,
  type KnownVirtualServer,
  type ObjectKey,
  type SetMemberKey,
} from '../model/kernel-object.ts'
import type { Operation } from '../model/operation.ts'
import {
  type RealServer,
  sameRealServerSettings,
  sameVirtualServerSettings,
  type VirtualServerId,
  type VirtualServerKey,
} from '../model/virtual-server.ts'

/** What to plan from. Nothing here is changed. */
export interface PlanInput {
  /** The claim that counts for a key, if anybody wants the object. */
  readonly wanted: (key: ObjectKey) => Claim | undefined
  readonly known: KernelState
  /** Addresses on which somebody else has virtual servers: nothing on them is touched, wanted or not. */
  readonly foreign: ReadonlySet<Address>
}

type Step = 'addSetMember' | 'make' | 'bind' | 'break' | 'unbind' | 'deleteVirtualServer' | 'deleteSetMember'
type Steps = Record<Step, Operation[]>

/** The operations that make the objects under `keys` what is wanted, in the order in which to execute them. */
export function planChanges(keys: Iterable<ObjectKey>, input: PlanInput): Operation[] {
  const steps: Steps = {
    addSetMember: [],
    make: [],
    bind: [],
    break: [],
    unbind: [],
    deleteVirtualServer: [],
    deleteSetMember: [],
  }
  for (const key of keys) planObject(key, input, steps)
  return Object.values(steps).flat()
}

function planObject(key: ObjectKey, { wanted, known, foreign }: PlanInput, steps: Steps): void {
  if (foreign.has(addressOf(key))) return
  const claim = wanted(key)
  switch (kindOf(key)) {
    case 'setMember':
      planSetMember(key as SetMemberKey, claim !== undefined, known, steps)
      return
    case 'address':
      planAddress(key as Address, claim !== undefined, known, steps)
      return
    case 'virtualServer':
      planVirtualServer(claim?.virtualServer, known.virtualServers.get(key as VirtualServerKey), steps)
  }
}

function planSetMember(member: SetMemberKey, isWanted: boolean, known: KernelState, steps: Steps): void {
  const isKnown = known.setMembers.has(member)
  if (isWanted && !isKnown) steps.addSetMember.push({ kind: 'addSetMember', member })
  if (!isWanted && isKnown) steps.deleteSetMember.push({ kind: 'deleteSetMember', member })
}

function planAddress(address: Address, isWanted: boolean, known: KernelState, steps: Steps): void {
  const isKnown = known.addresses.has(address)
  if (isWanted && !isKnown) steps.bind.push({ kind: 'bindAddress', address })
  if (!isWanted && isKnown) steps.unbind.push({ kind: 'unbindAddress', address })
}

function planVirtualServer(
  wanted: WantedVirtualServer | undefined,
  known: KnownVirtualServer | undefined,
  steps: Steps,
): void {
  if (wanted === undefined) {
    if (known !== undefined) steps.deleteVirtualServer.push({ kind: 'deleteVirtualServer', of: known.id })
    return
  }
  const { id: of, settings } = wanted
  if (known === undefined) steps.make.push({ kind: 'createVirtualServer', of, settings })
  else if (!sameVirtualServerSettings(known.settings, settings)) {
    steps.make.push({ kind: 'updateVirtualServer', of, settings })
  }
  for (const realServer of wanted.realServers.values()) {
    planRealServer(of, realServer, known?.realServers.get(realServer.key), steps)
  }
  for (const realServer of known?.realServers.values() ?? []) {
    if (!wanted.realServers.has(realServer.key)) steps.break.push(...retire(wanted, realServer))
  }
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
function retire({ id: of, settings }: WantedVirtualServer, realServer: RealServer): Operation[] {
  if (of.protocol === 'UDP' || settings.scheduler === 'dh')
    return [{ kind: 'deleteRealServer', of, realServer }]
  if (realServer.settings.weight === 0) return []
  const quiesced = { ...realServer, settings: { ...realServer.settings, weight: 0 } }
  return [{ kind: 'updateRealServer', of, realServer: quiesced }]
}
