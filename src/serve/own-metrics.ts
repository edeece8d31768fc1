/** Metrics of our own: of the kernel's objects, the loop and its audits. */
import type { Counter, Gauge, Registry } from 'prom-client'
import { makers } from './metric-makers.ts'

/** What is counted too often to be told to a metric each time. */
export interface Counted {
  rounds: number
}

interface OwnMetrics {
  readonly changes: Counter<'operation'>
  readonly failures: Counter<'operation'>
  readonly repairs: Counter
  readonly draining: Gauge
  readonly drained: Counter
  readonly drainedByHand: Gauge
  readonly conflicts: Gauge
  readonly refused: Gauge
  readonly refusedEndpoints: Gauge
  readonly failing: Gauge
  readonly rounds: Counter
  readonly idleRounds: Counter
  readonly faults: Gauge
  readonly estimation: Gauge
  readonly lastAudit: Gauge
  readonly scheduler: Gauge<'scheduler'>
  readonly vipBinding: Gauge<'binding'>
}

/** Makes them in one registry. */
export function ownMetrics(registry: Registry, counted: Counted): OwnMetrics {
  const { counter, gauge } = makers(registry)
  return {
    changes: counter('kube_ipvs_kernel_changes_total', 'Changes made to the kernel', ['operation']),
    failures: counter('kube_ipvs_kernel_failures_total', 'Changes that the kernel refused', ['operation']),
    repairs: counter(
      'kube_ipvs_repairs_total',
      'Kernel objects that were not as they had been left, found by the audit',
    ),
    draining: gauge('kube_ipvs_draining_real_servers', 'Real servers that wait for their last connections'),
    drained: counter(
      'kube_ipvs_drained_real_servers_total',
      'Real servers deleted after their last connection',
    ),
    drainedByHand: gauge('kube_ipvs_drained_by_hand', 'Pods and addresses that an operator has drained'),
    conflicts: gauge(
      'kube_ipvs_conflicts',
      'Virtual servers that more than one Service, or somebody else, claims',
    ),
    refused: gauge(
      'kube_ipvs_refused_addresses',
      'External addresses of Services that are not served because somebody else has them, or the namespace may not use them',
    ),
    refusedEndpoints: gauge(
      'kube_ipvs_refused_endpoints',
      'Endpoints that are not served because their addresses lead to the node itself',
    ),
    failing: gauge(
      'kube_ipvs_failing_objects',
      'Kernel objects that are not as they should be and are retried',
    ),
    rounds: counter('kube_ipvs_loop_rounds_total', 'Rounds of the loop', [], {
      collect() {
        this.reset()
        this.inc(counted.rounds)
      },
    }),
    idleRounds: counter(
      'kube_ipvs_loop_idle_rounds_total',
      'Rounds of the loop after a hundred in a row that did nothing: a fault of this program',
    ),
    faults: gauge(
      'kube_ipvs_faults',
      'Rules, sets and addresses that traffic depends on and that are missing: /healthz says which',
    ),
    estimation: gauge(
      'kube_ipvs_estimation_seconds',
      "About what the kernel's statistics of IPVS take every two seconds, while they are on",
    ),
    lastAudit: gauge('kube_ipvs_last_audit_timestamp_seconds', 'When the last audit ended'),
    scheduler: gauge('kube_ipvs_scheduler_info', 'The scheduler of the virtual servers; always 1', [
      'scheduler',
    ]),
    vipBinding: gauge('kube_ipvs_vip_binding_info', 'How virtual IPs are bound; always 1', ['binding']),
  }
}
