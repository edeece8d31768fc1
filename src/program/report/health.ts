/** Whether this node serves, by what is known of it; and the counting of what changes and what is brought into the kernel. */
import type { Family } from '../../model/address.ts'
import type { Cluster, Trigger } from '../../model/facts/cluster.ts'
import type { Node } from '../../model/facts/facts.ts'
import { ProxyHealth } from '../../serve/health.ts'
import type { Metrics } from '../../serve/metrics.ts'
import type { Bell } from '../../waiting/doorbell.ts'
import type { Current } from '../current.ts'

export interface HealthInput {
  readonly families: Iterable<Family>
  readonly cluster: Cluster
  /** Where facts come from there is an object for every node. */
  readonly hasNodes: boolean
  readonly current: Pick<Current, 'config' | 'missingNode'>
  readonly metrics: Pick<Metrics, 'setFaults'>
}

export function openHealth({ families, cluster, hasNodes, current, metrics }: HealthInput): ProxyHealth {
  return new ProxyHealth({
    families,
    isNodeEligible: () => isNodeEligible(cluster.node, hasNodes),
    nodeProblem: () => nodeProblem(cluster.node, current.missingNode),
    staleAfterMs: () => 2 * current.config.syncPeriodMs,
    onFaults: (count) => {
      metrics.setFaults(count)
    },
    now: () => new Date(),
  })
}

/** Load balancers may send to this node. Without an object it may have traffic only where nodes need none. */
export function isNodeEligible(node: Pick<Node, 'leaving'> | undefined, hasNodes: boolean): boolean {
  return node === undefined ? !hasNodes : !node.leaving
}

/** Why load balancers should leave this node, as far as its object tells; that there is none, once it was looked for. */
export function nodeProblem(
  node: Pick<Node, 'leaving'> | undefined,
  missingNode: string | undefined,
): string | undefined {
  if (node === undefined) return missingNode
  return node.leaving ? 'This node is about to be deleted' : undefined
}

/** Has health, metrics and rules told of every change of the facts. */
export function reportChanges(
  cluster: Pick<Cluster, 'listen'>,
  {
    health,
    metrics,
    rulesBell,
  }: {
    readonly health: Pick<ProxyHealth, 'queued'>
    readonly metrics: Pick<Metrics, 'queued' | 'serviceChanged' | 'endpointsChanged'>
    readonly rulesBell: Pick<Bell, 'ring'>
  },
): void {
  cluster.listen({
    onChange: () => {
      health.queued()
      metrics.queued()
    },
    onServiceChange: () => {
      metrics.serviceChanged()
    },
    onEndpointsChange: () => {
      metrics.endpointsChanged()
    },
    onNodeChange: () => {
      rulesBell.ring()
    },
  })
}

/**
 * The kernel is as it should be: how long it took since the endpoints changed in the cluster; `now` in ms since the epoch.
 * Returns the seconds of each change.
 */
export function reportSettled(
  health: Pick<ProxyHealth, 'updated'>,
  metrics: Pick<Metrics, 'checkedOut' | 'programmed'>,
  triggers: readonly Trigger[],
  now = Date.now(),
): number[] {
  health.updated()
  metrics.checkedOut()
  return triggers.map(({ family, at }) => {
    const seconds = Math.max(0, now - at) / 1000
    metrics.programmed(family, seconds)
    return seconds
  })
}
