/** Waits until all facts are listed: before, an absent Service means nothing. */
import type { Logger } from 'pino'
import type { Cluster } from '../../model/facts/cluster.ts'
import type { Bell } from '../../waiting/doorbell.ts'
import type { Mapper } from './mapper.ts'

export interface ListsOptions {
  readonly cluster: Cluster
  readonly mapper: Pick<Mapper, 'foresee'>
  /** Rung by whatever changes facts. */
  readonly doorbell: Bell
  /** Called once when this node has been listed, before anything is mapped. */
  readonly onNodeListed: () => Promise<unknown>
  /** Whoever else may have the external addresses of Services has been looked for: before, nothing is served. */
  readonly hasLookedAround: () => boolean
  readonly log: Logger
}

/**
 * Returns when every resource has been listed, or the signal aborts; Services are mapped meanwhile. `whileBlind` is called
 * again and again while not even the nodes are listed.
 */
export async function awaitLists(
  options: ListsOptions,
  signal: AbortSignal,
  whileBlind: () => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const { cluster, mapper, doorbell, onNodeListed, hasLookedAround, log } = options
  while (!cluster.isListed('nodes') && !signal.aborted) {
    await whileBlind()
    await doorbell.wait(Infinity, signal)
  }
  if (!signal.aborted) await onNodeListed()
  while (!(cluster.synced && hasLookedAround()) && !signal.aborted) {
    await mapper.foresee()
    await doorbell.wait(Infinity, signal)
  }
  if (!signal.aborted) log.info({ services: cluster.serviceCount }, 'all facts are listed')
}
