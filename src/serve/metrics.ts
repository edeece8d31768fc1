/** What the proxy reports, in Prometheus's terms: kube-proxy's metrics (1.36), those of its API client, and our own. */
import { Registry } from 'prom-client'
import { FAMILIES, type Family } from '../model/address.ts'
import type { Binding } from '../model/binding.ts'
import type { OperationKind } from '../model/operation.ts'
import type { RequestOutcome } from '../source/api-client.ts'
import { addSlis, componentMetrics } from './component-metrics.ts'
import { kubeProxyMetrics } from './kube-proxy-metrics.ts'
import { type Counted, ownMetrics } from './own-metrics.ts'
import { addProcessMetrics, type LoopDelay } from './process-metrics.ts'

const TRAFFICS = ['internal', 'external'] as const

/** The registries, and the metrics in them; `registry.metrics()` is the text for /metrics. */
export class Metrics {
  readonly registry = new Registry()
  /** For /metrics/slis (KEP-3466). */
  readonly slis = new Registry()
  readonly #families: readonly Family[]
  readonly #kubeProxy = kubeProxyMetrics(this.registry)
  readonly #component = componentMetrics(this.registry)
  readonly #counted: Counted = { rounds: 0 }
  readonly #own = ownMetrics(this.registry, this.#counted)
  readonly #loopDelay: LoopDelay | undefined

  /** `process_*` and `nodejs_*` metrics are added unless `defaults` is false. */
  constructor(options: { readonly defaults?: boolean; readonly families?: Iterable<Family> } = {}) {
    const { defaults = true, families = FAMILIES } = options
    this.#families = [...families]
    if (defaults) this.#loopDelay = addProcessMetrics(this.registry)
    for (const ip_family of this.#families) this.#zero(ip_family)
    addSlis(this.slis)
  }

  /** There is nothing to do, and nothing to be held up: the event loop is not watched until `working`. */
  resting(): void {
    this.#loopDelay?.disable()
  }

  working(): void {
    this.#loopDelay?.enable()
  }

  // --- kube-proxy's ---------------------------------------------------------------------------------------

  /** A change has been noticed. */
  queued(): void {
    for (const ip_family of this.#families) this.#kubeProxy.lastQueued.setToCurrentTime({ ip_family })
  }

  serviceChanged(): void {
    this.#kubeProxy.servicesChanged.inc()
    this.#kubeProxy.servicesPending.inc()
  }

  endpointsChanged(): void {
    this.#kubeProxy.endpointsChanged.inc()
    this.#kubeProxy.endpointsPending.inc()
  }

  /** Nothing is pending any more. */
  checkedOut(): void {
    this.#kubeProxy.servicesPending.set(0)
    this.#kubeProxy.endpointsPending.set(0)
  }

  /** All families are synced together. */
  synced(durationSeconds: number): void {
    for (const ip_family of this.#families) {
      this.#kubeProxy.duration.observe({ ip_family }, durationSeconds)
      this.#kubeProxy.lastSync.setToCurrentTime({ ip_family })
    }
  }

  /** Endpoints have changed in the cluster so many seconds ago, and now the kernel has them. */
  programmed(ip_family: Family, seconds: number): void {
    this.#kubeProxy.programming.observe({ ip_family }, seconds)
  }

  setNoLocalEndpoints(traffic_policy: (typeof TRAFFICS)[number], ip_family: Family, count: number): void {
    this.#kubeProxy.noLocalEndpoints.set({ traffic_policy, ip_family }, count)
  }

  restoreFailed(ip_family: Family): void {
    this.#kubeProxy.restoreFailures.inc({ ip_family })
  }

  flowsDeleted(ip_family: Family, seconds: number, deleted: number): void {
    this.#kubeProxy.conntrackDuration.observe({ ip_family }, seconds)
    this.#kubeProxy.conntrackDeleted.inc({ ip_family }, deleted)
  }

  healthChecked(path: 'healthz' | 'livez', code: number): void {
    this.#kubeProxy[path].inc({ code })
  }

  requested({ verb, method, host, code, seconds }: RequestOutcome): void {
    this.#component.requests.inc({ code, method, host })
    this.#component.requestDuration.observe({ verb, host }, seconds)
  }

  // --- Ours -----------------------------------------------------------------------------------------------

  changed(operation: OperationKind, count: number): void {
    this.#own.changes.inc({ operation }, count)
  }

  failed(operation: OperationKind, count: number): void {
    this.#own.failures.inc({ operation }, count)
  }

  repaired(count: number): void {
    this.#own.repairs.inc(count)
  }

  /** The loop has made a round; an idle one is one too many that did nothing. */
  turned(isIdle: boolean): void {
    this.#counted.rounds++
    if (isIdle) this.#own.idleRounds.inc()
  }

  setEstimation(seconds: number): void {
    this.#own.estimation.set(seconds)
  }

  setDraining(count: number): void {
    this.#own.draining.set(count)
  }

  drained(count: number): void {
    this.#own.drained.inc(count)
  }

  setDrainedByHand(count: number): void {
    this.#own.drainedByHand.set(count)
  }

  setConflicts(count: number): void {
    this.#own.conflicts.set(count)
  }

  setRefused(count: number): void {
    this.#own.refused.set(count)
  }

  setRefusedEndpoints(count: number): void {
    this.#own.refusedEndpoints.set(count)
  }

  setFailing(count: number): void {
    this.#own.failing.set(count)
  }

  setFaults(count: number): void {
    this.#own.faults.set(count)
  }

  audited(): void {
    this.#own.lastAudit.setToCurrentTime()
  }

  setScheduler(scheduler: string): void {
    this.#own.scheduler.reset()
    this.#own.scheduler.set({ scheduler }, 1)
  }

  setVipBinding(binding: Binding): void {
    this.#own.vipBinding.reset()
    this.#own.vipBinding.set({ binding }, 1)
  }

  /** What is counted by labels is there from the start, so that its growth can be told. */
  #zero(ip_family: Family): void {
    for (const traffic of TRAFFICS) this.setNoLocalEndpoints(traffic, ip_family, 0)
    this.#kubeProxy.restoreFailures.inc({ ip_family }, 0)
    this.#kubeProxy.conntrackDeleted.inc({ ip_family }, 0)
    this.#kubeProxy.programming.zero({ ip_family })
  }
}
