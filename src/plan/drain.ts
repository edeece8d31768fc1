/** When a real server that nobody wants any more, and that gets no new connections, is deleted. */
import type { WantedVirtualServer } from '../model/claims/claim.ts'
import type { Operation } from '../model/operation.ts'
import type {
  ObservedRealServer,
  RealServer,
  RealServerKey,
  VirtualServerId,
} from '../model/virtual-server.ts'

/** Since when (ms) the endpoint of each draining real server has been gone from every slice. */
export type GoneSince = Map<RealServerKey, number>

export interface DrainInput {
  readonly of: VirtualServerId
  readonly wanted: WantedVirtualServer | undefined
  readonly observed: readonly ObservedRealServer[]
  readonly goneSince: GoneSince
  readonly now: number
  /** How long connections to an endpoint that is gone may last. */
  readonly deadlineMs: number
}

export interface Drain {
  /** Deletes the real servers that are drained or out of time. */
  readonly operations: Operation[]
  /** Real servers that still drain, with the new `goneSince`. */
  readonly draining: GoneSince
  /** How many still drain, gone or not. */
  readonly left: number
}

/** Draining is what the kernel shows: weight 0 and nobody wants it. */
export function isDraining(realServer: RealServer, wanted: WantedVirtualServer | undefined): boolean {
  return realServer.settings.weight === 0 && wanted?.realServers.has(realServer.key) !== true
}

/**
 * A draining real server is deleted when its last connection has ended. While its endpoint is published
 * (unready, terminating), its Pod is alive and there is no deadline; once it is gone, there is.
 */
export function planDrain({ of, wanted, observed, goneSince, now, deadlineMs }: DrainInput): Drain {
  const operations: Operation[] = []
  const draining: GoneSince = new Map()
  let left = 0
  for (const { connections, ...realServer } of observed) {
    if (!isDraining(realServer, wanted)) continue
    const isGone = wanted?.lingering.has(realServer.key) !== true
    const since = isGone ? (goneSince.get(realServer.key) ?? now) : undefined
    const isIdle = connections.active + connections.inactive === 0
    if (isIdle || (since !== undefined && now - since >= deadlineMs)) {
      operations.push({ kind: 'deleteRealServer', of, realServer })
      continue
    }
    left++
    if (since !== undefined) draining.set(realServer.key, since)
  }
  return { operations, draining, left }
}
