/** What the proxy reports, in Prometheus's terms: kube-proxy's metrics (1.36), those of its API client, and our own. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import {
  collectDefaultMetrics,
  Counter,
  type CounterConfiguration,
  Gauge,
  type GaugeConfiguration,
  Histogram,
  type HistogramConfiguration,
  Registry,
} from 'prom-client'
import packageJson from '../../package.json' with { type: 'json' }
import { FAMILIES, type Family } from '../model/address.ts'
import type { OperationKind } from '../model/operation.ts'

const TRAFFICS = ['internal', 'external'] as const
const range = (start: number, count: number, step: number): number[] =>
  Array.from({ length: count }, (_, i) => start + i * step)

/** 1 ms doubling to 16 s. */
const SYNC_BUCKETS = Array.from({ length: 15 }, (_, i) => 0.001 * 2 ** i)
const PROGRAMMING_BUCKETS = [0.25, 0.5, ...range(1, 59, 1), ...range(60, 12, 5), ...range(120, 7, 30)]
/** client-go's. */
const REQUEST_BUCKETS = [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60]

/** Defaults of prom-client whose names are those of counters, though they are none. */
const MISNAMED = [
  'nodejs_active_handles_total',
  'nodejs_active_requests_total',
  'nodejs_active_resources_total',
]
/** Of prom-client, which measures them with a timer every 10 ms, for ever: see `watchEventLoop`. */
const RESTLESS = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map(
  (stat) => `nodejs_eventloop_lag_${stat}_seconds`,
)
const NEVER_MS = 2 ** 31 - 1

/** A request to the API server that has ended. */
export interface ApiRequest {
  /** GET, LIST, WATCH, POST or PATCH. */
  readonly verb: string
  /** Of HTTP. */
  readonly method: string
  readonly host: string
  /** HTTP status, or `<error>` when there was no answer. */
  readonly code: string
  readonly seconds: number
}

/** Makes metrics in one registry. */
function makers(registry: Registry) {
  const registers = [registry]
  return {
    counter: <Label extends string = never>(
      name: string,
      help: string,
      labelNames: Label[] = [],
      parts: Partial<CounterConfiguration<Label>> = {},
    ) => new Counter<Label>({ name, help, labelNames, registers, ...parts }),
    gauge: <Label extends string = never>(
      name: string,
      help: string,
      labelNames: Label[] = [],
      parts: Partial<GaugeConfiguration<Label>> = {},
    ) => new Gauge<Label>({ name, help, labelNames, registers, ...parts }),
    histogram: <Label extends string>(
      name: string,
      help: string,
      labelNames: Label[],
      buckets: number[],
      parts: Partial<HistogramConfiguration<Label>> = {},
    ) => new Histogram<Label>({ name, help, labelNames, buckets, registers, ...parts }),
  }
}

/** Metrics of kube-proxy, by its names. */
function kubeProxyMetrics(registry: Registry) {
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

/** Metrics that every component of Kubernetes has. */
function componentMetrics(registry: Registry) {
  const { counter, gauge, histogram } = makers(registry)
  const build = gauge('kubernetes_build_info', 'Which build this is; always 1', [
    'major',
    'minor',
    'git_version',
    'platform',
    'compiler',
  ])
  const [major = '', minor = ''] = packageJson.version.split('.')
  const git_version = `v${packageJson.version}`
  build.set({ major, minor, git_version, platform: 'linux', compiler: `node ${process.version}` }, 1)
  return {
    requests: counter('rest_client_requests_total', 'Requests to the API server by their outcome', [
      'code',
      'method',
      'host',
    ]),
    requestDuration: histogram(
      'rest_client_request_duration_seconds',
      'How long requests to the API server took to be answered',
      ['verb', 'host'],
      REQUEST_BUCKETS,
    ),
  }
}

/** What is counted too often to be told to a metric each time. */
interface Counted {
  rounds: number
}

/** Metrics of our own. */
function ownMetrics(registry: Registry, counted: Counted) {
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
  }
}

type LoopDelay = ReturnType<typeof monitorEventLoopDelay>

/** How late timers were since the last scrape: how long other work has had to wait. */
function watchEventLoop(registry: Registry): LoopDelay {
  const delay = monitorEventLoopDelay({ resolution: 20 })
  delay.enable()
  makers(registry).gauge(
    'kube_ipvs_event_loop_delay_seconds',
    'How long the event loop was blocked since the last scrape',
    ['stat'],
    {
      collect() {
        this.set({ stat: 'p50' }, delay.percentile(50) / 1e9)
        this.set({ stat: 'p99' }, delay.percentile(99) / 1e9)
        this.set({ stat: 'max' }, delay.max / 1e9)
        delay.reset()
      },
    },
  )
  return delay
}

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
    if (defaults) {
      collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: NEVER_MS })
      for (const name of [...MISNAMED, ...RESTLESS]) this.registry.removeSingleMetric(name)
      this.#loopDelay = watchEventLoop(this.registry)
    }
    for (const ip_family of this.#families) this.#zero(ip_family)
    this.#addSlis()
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

  requested({ verb, method, host, code, seconds }: ApiRequest): void {
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

  /** What is counted by labels is there from the start, so that its growth can be told. */
  #zero(ip_family: Family): void {
    for (const traffic of TRAFFICS) this.setNoLocalEndpoints(traffic, ip_family, 0)
    this.#kubeProxy.restoreFailures.inc({ ip_family }, 0)
    this.#kubeProxy.conntrackDeleted.inc({ ip_family }, 0)
  }

  /** As long as we answer, the one check passes: ours, and each scrape is one. */
  #addSlis(): void {
    const { counter, gauge } = makers(this.slis)
    const labels = { name: 'ping', type: 'healthz' }
    gauge('kubernetes_healthcheck', 'Whether a health check passes', ['name', 'type']).set(labels, 1)
    counter('kubernetes_healthchecks_total', 'Health checks by their outcome', ['name', 'type', 'status'], {
      collect() {
        this.inc({ ...labels, status: 'success' })
      },
    })
  }
}
