/** Metrics of this process: what prom-client knows of every process, and how late the event loop is. */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { collectDefaultMetrics, type Registry } from 'prom-client'
import { makers } from './metric-makers.ts'

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

export type LoopDelay = ReturnType<typeof monitorEventLoopDelay>

/** Adds `process_*` and `nodejs_*`, and ours of the event loop. Returns what watches that, which can be stopped. */
export function addProcessMetrics(registry: Registry): LoopDelay {
  collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: NEVER_MS })
  for (const name of [...MISNAMED, ...RESTLESS]) registry.removeSingleMetric(name)
  return watchEventLoop(registry)
}

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
