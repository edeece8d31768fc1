import { execFileSync, spawnSync } from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'
import perfHooks from 'node:perf_hooks'
import { mock } from 'node:test'
import { expect } from 'chai'
import { Metrics } from '../../src/serve/metrics.ts'

const FAMILY = ['ip_family']
const doubling = Array.from({ length: 15 }, (_, i) => 0.001 * 2 ** i)

/** kube-proxy 1.36 in ipvs mode: name, type, labels, buckets. */
const KUBE_PROXY: readonly (readonly [string, string, readonly string[], (readonly number[])?])[] = [
  ['kubeproxy_sync_proxy_rules_duration_seconds', 'histogram', FAMILY, doubling],
  ['kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds', 'gauge', FAMILY],
  ['kubeproxy_sync_proxy_rules_last_timestamp_seconds', 'gauge', FAMILY],
  ['kubeproxy_sync_proxy_rules_endpoint_changes_pending', 'gauge', []],
  ['kubeproxy_sync_proxy_rules_endpoint_changes_total', 'counter', []],
  ['kubeproxy_sync_proxy_rules_service_changes_pending', 'gauge', []],
  ['kubeproxy_sync_proxy_rules_service_changes_total', 'counter', []],
  ['kubeproxy_proxy_healthz_total', 'counter', ['code']],
  ['kubeproxy_proxy_livez_total', 'counter', ['code']],
  [
    'kubeproxy_network_programming_duration_seconds',
    'histogram',
    FAMILY,
    // prettier-ignore
    [0.25, 0.5, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
      30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58,
      59, 60, 65, 70, 75, 80, 85, 90, 95, 100, 105, 110, 115, 120, 150, 180, 210, 240, 270, 300],
  ],
  ['kubeproxy_sync_proxy_rules_no_local_endpoints_total', 'gauge', ['traffic_policy', 'ip_family']],
  ['kubeproxy_sync_proxy_rules_iptables_restore_failures_total', 'counter', FAMILY],
  ['kubeproxy_conntrack_reconciler_sync_duration_seconds', 'histogram', FAMILY, doubling],
  ['kubeproxy_conntrack_reconciler_deleted_entries_total', 'counter', FAMILY],
  ['rest_client_requests_total', 'counter', ['code', 'method', 'host']],
  [
    'rest_client_request_duration_seconds',
    'histogram',
    ['verb', 'host'],
    [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60],
  ],
]

/** Every metric once. */
function touched(defaults: boolean): Metrics {
  const metrics = new Metrics({ defaults })
  metrics.queued()
  metrics.serviceChanged()
  metrics.endpointsChanged()
  metrics.synced(0.5)
  metrics.programmed('IPv4', 1.5)
  metrics.setNoLocalEndpoints('internal', 'IPv4', 2)
  metrics.restoreFailed('IPv6')
  metrics.flowsDeleted('IPv4', 0.01, 3)
  metrics.healthChecked('healthz', 200)
  metrics.healthChecked('livez', 503)
  metrics.requested({ verb: 'LIST', method: 'GET', host: '192.0.2.1:6443', code: '200', seconds: 0.2 })
  metrics.changed('bindAddress', 2)
  metrics.failed('bindAddress', 1)
  metrics.repaired(1)
  metrics.setDraining(1)
  metrics.drained(4)
  metrics.audited()
  metrics.setScheduler('rr')
  return metrics
}

describe('Metrics', () => {
  it("has kube-proxy's by name, type, labels and buckets", async () => {
    const found = await touched(false).registry.getMetricsAsJSON()
    for (const [name, type, labels, buckets] of KUBE_PROXY) {
      const metric = found.find((candidate) => candidate.name === name)!
      expect(metric.type, name).to.equal(type)
      const values = metric.values as readonly { labels: Record<string, unknown>; metricName?: string }[]
      const names = new Set(values.flatMap((value) => Object.keys(value.labels)))
      names.delete('le')
      expect([...names], name).to.have.members([...labels])
      const bounds = values.map((value) => value.labels.le).filter((le) => typeof le === 'number')
      expect([...new Set(bounds)], name).to.deep.equal(buckets ?? [])
    }
  })

  it('has what is counted from the start', async () => {
    const text = await new Metrics({ defaults: false }).registry.metrics()
    for (const family of ['IPv4', 'IPv6']) {
      expect(text).to.contain(
        `network_programming_duration_seconds_bucket{le="0.25",ip_family="${family}"} 0`,
      )
      expect(text).to.contain(`_iptables_restore_failures_total{ip_family="${family}"} 0`)
      for (const policy of ['internal', 'external'])
        expect(text).to.contain(
          `_no_local_endpoints_total{traffic_policy="${policy}",ip_family="${family}"} 0`,
        )
    }
  })

  it('has values of the families that the node serves only', async () => {
    const metrics = new Metrics({ defaults: false, families: ['IPv4'] })
    metrics.synced(1)
    expect(await metrics.registry.metrics()).not.to.contain('IPv6')
  })

  it('has one scheduler at a time', async () => {
    const metrics = touched(false)
    metrics.setScheduler('lc')
    const text = await metrics.registry.metrics()
    expect(text).to.contain('kube_ipvs_scheduler_info{scheduler="lc"} 1')
    expect(text).not.to.contain('scheduler="rr"')
  })

  it('forgets what was pending when all of it is in the kernel', async () => {
    const metrics = touched(false)
    metrics.checkedOut()
    const text = await metrics.registry.metrics()
    for (const what of ['endpoint', 'service']) {
      expect(text).to.contain(`${what}_changes_pending 0\n`)
      expect(text).to.contain(`${what}_changes_total 1\n`)
    }
  })

  describe('of the event loop', () => {
    /** What the process has measured, in ns, and what it was told. */
    const delay = {
      calls: [] as string[],
      max: 80_000_000,
      percentile: (percent: number) => percent * 1_000_000,
      enable: () => delay.calls.push('enable'),
      disable: () => delay.calls.push('disable'),
      reset: () => delay.calls.push('reset'),
    }
    beforeEach(() => {
      delay.calls = []
      // prom-client has one of its own, which never measures.
      const others = { ...delay, enable: () => undefined, reset: () => undefined }
      mock.method(perfHooks, 'monitorEventLoopDelay', ({ resolution }: { resolution: number }) =>
        resolution === 20 ? delay : others,
      )
      syncBuiltinESMExports()
    })
    afterEach(() => {
      mock.restoreAll()
      syncBuiltinESMExports()
    })

    it('are in seconds, and of the time since the last scrape', async () => {
      const metrics = touched(true)
      const text = await metrics.registry.metrics()
      for (const line of ['{stat="p50"} 0.05', '{stat="p99"} 0.099', '{stat="max"} 0.08'])
        expect(text).to.contain(`kube_ipvs_event_loop_delay_seconds${line}\n`)
      expect(text).not.to.contain('nodejs_eventloop_lag_max')
      expect(delay.calls).to.deep.equal(['enable', 'reset'])
    })

    it('are not measured while there is nothing to do', () => {
      const metrics = touched(true)
      metrics.resting()
      metrics.working()
      expect(delay.calls).to.deep.equal(['enable', 'disable', 'enable'])
    })
  })

  it('passes promtool check metrics, but for the name of one metric of kube-proxy', async () => {
    execFileSync('scripts/promtool', ['--version'], { stdio: 'ignore' })
    const metrics = touched(true)
    for (const registry of [metrics.registry, metrics.slis]) {
      const input = await registry.metrics()
      const { stdout, stderr } = spawnSync('scripts/promtool', ['check', 'metrics'], {
        input,
        encoding: 'utf8',
      })
      const complaints = `${stdout}${stderr}`.split('\n').filter((line) => line !== '')
      const expected =
        registry === metrics.slis
          ? []
          : [
              'kubeproxy_sync_proxy_rules_no_local_endpoints_total non-counter metrics should not have "_total" suffix',
            ]
      expect(complaints).to.deep.equal(expected)
    }
  })
})
