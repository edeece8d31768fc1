/** kube-proxy's metrics (1.36), by its names. */
import type { Counter, Gauge, Histogram, Registry } from 'prom-client'
import { makers } from './metric-makers.ts'

const range = (start: number, count: number, step: number): number[] =>
  Array.from({ length: count }, (_, i) => start + i * step)

/** 1 ms doubling to 16 s. */
const SYNC_BUCKETS = Array.from({ length: 15 }, (_, i) => 0.001 * 2 ** i)
const PROGRAMMING_BUCKETS = [0.25, 0.5, ...range(1, 59, 1), ...range(60, 12, 5), ...range(120, 7, 30)]

type ByFamily = 'ip_family'

interface KubeProxyMetrics {
  readonly duration: Histogram<ByFamily>
  readonly lastQueued: Gauge<ByFamily>
  readonly lastSync: Gauge<ByFamily>
  readonly endpointsPending: Gauge
  readonly endpointsChanged: Counter
  readonly servicesPending: Gauge
  readonly servicesChanged: Counter
  readonly healthz: Counter<'code'>
  readonly livez: Counter<'code'>
  readonly programming: Histogram<ByFamily>
  readonly noLocalEndpoints: Gauge<'traffic_policy' | ByFamily>
  readonly restoreFailures: Counter<ByFamily>
  readonly conntrackDuration: Histogram<ByFamily>
  readonly conntrackDeleted: Counter<ByFamily>
}

/** Makes them in one registry. */
export function kubeProxyMetrics(registry: Registry): KubeProxyMetrics {
  const { counter, gauge, histogram } = makers(registry)
  const rules = 'kubeproxy_sync_proxy_rules'
  const reconciler = 'kubeproxy_conntrack_reconciler'
  return {
    duration: histogram(
      `${rules}_duration_seconds`,
      'Time from a change to a kernel that has it',
      ['ip_family'],
      SYNC_BUCKETS,
    ),
    lastQueued: gauge(`${rules}_last_queued_timestamp_seconds`, 'When a change was last noticed', [
      'ip_family',
    ]),
    lastSync: gauge(`${rules}_last_timestamp_seconds`, 'When a change was last brought into the kernel', [
      'ip_family',
    ]),
    endpointsPending: gauge(
      `${rules}_endpoint_changes_pending`,
      'Changes of endpoints not in the kernel yet',
    ),
    endpointsChanged: counter(`${rules}_endpoint_changes_total`, 'Changes of endpoints so far'),
    servicesPending: gauge(`${rules}_service_changes_pending`, 'Changes of Services not in the kernel yet'),
    servicesChanged: counter(`${rules}_service_changes_total`, 'Changes of Services so far'),
    healthz: counter('kubeproxy_proxy_healthz_total', 'Answers of /healthz by status', ['code']),
    livez: counter('kubeproxy_proxy_livez_total', 'Answers of /livez by status', ['code']),
    programming: histogram(
      'kubeproxy_network_programming_duration_seconds',
      'Time from a change of a Pod or Service in the cluster to a kernel that has it',
      ['ip_family'],
      PROGRAMMING_BUCKETS,
    ),
    noLocalEndpoints: gauge(
      `${rules}_no_local_endpoints_total`,
      'Services with a Local traffic policy that have endpoints, but none on this node',
      ['traffic_policy', 'ip_family'],
    ),
    restoreFailures: counter(
      `${rules}_iptables_restore_failures_total`,
      'How often the rules of iptables could not be looked at, or written',
      ['ip_family'],
    ),
    conntrackDuration: histogram(
      `${reconciler}_sync_duration_seconds`,
      'Time taken to forget tracked flows that go where they must not',
      ['ip_family'],
      SYNC_BUCKETS,
    ),
    conntrackDeleted: counter(`${reconciler}_deleted_entries_total`, 'Tracked flows forgotten', [
      'ip_family',
    ]),
  }
}
