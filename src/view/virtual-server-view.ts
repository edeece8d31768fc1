/** A virtual server as it is shown: what Services want beside what the kernel has. */
import type { Address } from '../model/address.ts'
import type { VirtualServerClaim } from '../model/claims/claim.ts'
import { type EndpointSlice, type Service, type ServicePort, splitServiceName } from '../model/facts/facts.ts'
import type {
  ObservedRealServer,
  RealServer,
  RealServerKey,
  VirtualServerId,
} from '../model/virtual-server.ts'
import { sameRealServerSettings } from '../model/virtual-server.ts'
import type { FailureView, RealServerView, State, VirtualServerView } from './documents.ts'

/** The Pod at an address, and its node. */
export interface PodAt {
  readonly pod?: string
  readonly node?: string
  /** By hand, and under which name. */
  readonly drainedAs?: string
}

/** All that is known of a virtual server. */
export interface Inspected {
  readonly id: VirtualServerId
  /** That of the Service that has it; undefined: nobody wants it. */
  readonly claim: VirtualServerClaim | undefined
  readonly service: Service | undefined
  /** In the kernel, as far as we know: its scheduler. */
  readonly scheduler: string | undefined
  /** In the kernel, as it was just read; undefined: it is not there. */
  readonly observed: readonly ObservedRealServer[] | undefined
  readonly isForeign: boolean
  /** It may have to change, and that has not been done. */
  readonly isPending: boolean
  readonly failures: readonly FailureView[]
  readonly pods: ReadonlyMap<Address, PodAt>
  /** When those that drain are deleted at the latest. */
  readonly drainEndsInSeconds: ReadonlyMap<RealServerKey, number>
}

/** The Pods behind a Service, by address. */
export function podsOf(slices: Iterable<EndpointSlice>): Map<Address, PodAt> {
  const pods = new Map<Address, PodAt>()
  for (const { service, endpoints } of slices) {
    const { namespace } = splitServiceName(service)
    for (const { address, pod, nodeName, drainedAs } of endpoints)
      pods.set(address, {
        ...(pod !== undefined && { pod: `${namespace}/${pod}` }),
        ...(nodeName !== undefined && { node: nodeName }),
        ...(drainedAs !== undefined && { drainedAs }),
      })
  }
  return pods
}

/** The Service's port that a virtual server is for; undefined where nobody wants it. */
export function portOf({
  id,
  claim,
  service,
}: Pick<Inspected, 'id' | 'claim' | 'service'>): ServicePort | undefined {
  const isIts = ({ port, nodePort }: ServicePort): boolean =>
    (claim?.right === 'nodePort' ? nodePort : port) === id.port
  return service?.ports.find((port) => port.protocol === id.protocol && isIts(port))
}

/** What decides on the state of a virtual server. */
export interface Standing extends Pick<Inspected, 'claim' | 'isForeign' | 'isPending'> {
  readonly isFailing: boolean
}

export function stateOfStanding({ claim, isForeign, isPending, isFailing }: Standing): State {
  if (isForeign) return 'foreign'
  if (isFailing) return 'failing'
  if (claim === undefined) return 'unwanted'
  return isPending ? 'pending' : 'programmed'
}

export function stateOf(inspected: Inspected): State {
  const { claim, observed, failures } = inspected
  const has = new Set(observed?.map(({ key }) => key))
  const isWhole = [...(claim?.virtualServer.realServers.keys() ?? [])].every((key) => has.has(key))
  const isPending = inspected.isPending || observed === undefined || !isWhole
  return stateOfStanding({ ...inspected, isPending, isFailing: failures.length > 0 })
}

function realServerState(
  wanted: RealServer | undefined,
  observed: ObservedRealServer | undefined,
  inspected: Inspected,
): State {
  if (inspected.isForeign) return 'foreign'
  if (wanted === undefined) return observed?.settings.weight === 0 ? 'draining' : 'unwanted'
  if (observed !== undefined && sameRealServerSettings(wanted.settings, observed.settings))
    return 'programmed'
  return inspected.failures.length > 0 ? 'failing' : 'pending'
}

function realServerView(
  key: RealServerKey,
  wanted: RealServer | undefined,
  observed: ObservedRealServer | undefined,
  inspected: Inspected,
): RealServerView {
  const { pods, drainEndsInSeconds } = inspected
  const end = drainEndsInSeconds.get(key)
  return {
    realServer: key,
    ...pods.get((wanted ?? observed)!.address),
    state: realServerState(wanted, observed, inspected),
    weight: {
      ...(wanted !== undefined && { wanted: wanted.settings.weight }),
      ...(observed !== undefined && { programmed: observed.settings.weight }),
    },
    ...(observed !== undefined && {
      connections: { active: observed.connections.active, inactive: observed.connections.inactive },
    }),
    ...(end !== undefined && { drainEndsInSeconds: end }),
  }
}

/** Those that are wanted, in the order of their claim, then those that only the kernel has. */
function realServerViews(inspected: Inspected): RealServerView[] {
  const wanted = inspected.claim?.virtualServer.realServers ?? new Map<RealServerKey, RealServer>()
  const observed = new Map(inspected.observed?.map((one) => [one.key, one]))
  const keys = new Set([...wanted.keys(), ...observed.keys()])
  return [...keys].map((key) => realServerView(key, wanted.get(key), observed.get(key), inspected))
}

export function virtualServerView(inspected: Inspected): VirtualServerView {
  const { id, claim, scheduler, failures } = inspected
  const port = portOf(inspected)?.name ?? ''
  return {
    virtualServer: id.key,
    ...(claim !== undefined && { service: claim.owner }),
    ...(port !== '' && { port }),
    ...(claim !== undefined && { role: claim.right }),
    state: stateOf(inspected),
    scheduler: {
      ...(claim !== undefined && { wanted: claim.virtualServer.settings.scheduler }),
      ...(scheduler !== undefined && { programmed: scheduler }),
    },
    failures,
    realServers: realServerViews(inspected),
  }
}

/** A virtual server where only the kernel can be asked: nobody knows who wants it. */
export function kernelView(
  id: VirtualServerId,
  scheduler: string,
  observed: readonly ObservedRealServer[],
  isForeign: boolean,
): VirtualServerView {
  const state: State = isForeign ? 'foreign' : 'unknown'
  return {
    virtualServer: id.key,
    state,
    scheduler: { programmed: scheduler },
    failures: [],
    realServers: observed.map(({ key, settings, connections: { active, inactive } }) => ({
      realServer: key,
      state,
      weight: { programmed: settings.weight },
      connections: { active, inactive },
    })),
  }
}
