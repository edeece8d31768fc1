/** What the proxy reports, in Prometheus's terms. */
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from 'prom-client'
import type { OperationKind } from '../model/operation.ts'

/** kube-proxy's buckets: 1 ms doubling to 16 s. */
const SYNC_BUCKETS = Array.from({ length: 15 }, (_, i) => 0.001 * 2 ** i)

/** One registry and the metrics in it; `registry.metrics()` is the text for /metrics. */
export class Metrics {
  readonly registry = new Registry()

  readonly #changes = this.#counter('kube_ipvs_kernel_changes_total', 'Changes made to the kernel', [
    'operation',
  ])
  readonly #failures = this.#counter('kube_ipvs_kernel_failures_total', 'Changes that the kernel refused', [
    'operation',
  ])
  readonly #repairs = this.#counter(
    'kube_ipvs_repairs_total',
    'Kernel objects that were not as they had been left, found by the audit',
  )
  readonly #draining = this.#gauge(
    'kube_ipvs_draining_real_servers',
    'Real servers that wait for their last connections',
  )
  readonly #conflicts = this.#gauge(
    'kube_ipvs_conflicts',
    'Virtual servers that more than one Service, or somebody else, claims',
  )
  readonly #refused = this.#gauge(
    'kube_ipvs_refused_addresses',
    'External addresses of Services that are not served because they belong to the node, to Pods or to the API server',
  )
  readonly #failing = this.#gauge(
    'kube_ipvs_failing_objects',
    'Kernel objects that are not as they should be and are retried',
  )
  readonly #lastAudit = this.#gauge('kube_ipvs_last_audit_timestamp_seconds', 'When the last audit ended')
  readonly #lastSync = this.#gauge(
    'kubeproxy_sync_proxy_rules_last_timestamp_seconds',
    'When the kernel last was as the API server wants it',
  )
  readonly #duration = new Histogram({
    name: 'kubeproxy_sync_proxy_rules_duration_seconds',
    help: 'How long it took to bring a change into the kernel',
    buckets: SYNC_BUCKETS,
    registers: [this.registry],
  })

  /** `process_*` and `nodejs_*` metrics are added unless `defaults` is false. */
  constructor({ defaults = true }: { readonly defaults?: boolean } = {}) {
    if (defaults) collectDefaultMetrics({ register: this.registry })
  }

  changed(operation: OperationKind, count: number): void {
    this.#changes.inc({ operation }, count)
  }

  failed(operation: OperationKind, count: number): void {
    this.#failures.inc({ operation }, count)
  }

  repaired(count: number): void {
    this.#repairs.inc(count)
  }

  setDraining(count: number): void {
    this.#draining.set(count)
  }

  setConflicts(count: number): void {
    this.#conflicts.set(count)
  }

  setRefused(count: number): void {
    this.#refused.set(count)
  }

  setFailing(count: number): void {
    this.#failing.set(count)
  }

  audited(): void {
    this.#lastAudit.setToCurrentTime()
  }

  synced(durationSeconds: number): void {
    this.#duration.observe(durationSeconds)
    this.#lastSync.setToCurrentTime()
  }

  #counter<Label extends string>(name: string, help: string, labelNames: Label[] = []): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: [this.registry] })
  }

  #gauge(name: string, help: string): Gauge {
    return new Gauge({ name, help, registers: [this.registry] })
  }
}
