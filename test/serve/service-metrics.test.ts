import { spawnSync } from 'node:child_process'
import { expect } from 'chai'
import type { VirtualServerKey } from '../../src/model/virtual-server.ts'
import { metricsRoutes } from '../../src/serve/http.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import { formatServiceMetrics, type ServiceSample, withMostTraffic } from '../../src/serve/service-metrics.ts'
import { textOf } from '../support/answer.ts'

const keyOf = (i: number): VirtualServerKey => `10.96.0.${i}:80/TCP` as VirtualServerKey

function sample(parts: Partial<ServiceSample> = {}, bytes = 0): ServiceSample {
  const traffic = { connections: 7, inPackets: 40, outPackets: 30, inBytes: bytes, outBytes: 2 * bytes }
  return {
    ...{ namespace: 'shop', service: 'web', port: 'http', key: keyOf(10), traffic },
    ...{ realServers: 3, draining: 1, ...parts },
  }
}

describe('withMostTraffic', () => {
  const samples = [5, 9, 1, 7].map((bytes, i) => sample({ key: keyOf(i) }, bytes))

  it('takes those with most bytes, and no more than are asked for', () => {
    expect(withMostTraffic(samples, 2).map(({ key }) => key)).to.deep.equal([keyOf(1), keyOf(3)])
    expect(withMostTraffic(samples, 9)).to.have.length(4)
  })

  it('takes the same ones of equal ones, however the kernel lists them', () => {
    const idle = [3, 1, 2].map((i) => sample({ key: keyOf(i) }))
    for (const listed of [idle, idle.toReversed()])
      expect(withMostTraffic(listed, 2).map(({ key }) => key)).to.deep.equal([keyOf(1), keyOf(2)])
  })
})

describe('formatServiceMetrics', () => {
  it('has the counters and the real servers of each virtual server, and how many are left out', async () => {
    const lines = (await formatServiceMetrics([sample({}, 1_000)], 4)).split('\n')
    const labels = 'namespace="shop",service="web",port="http",virtual_server="10.96.0.10:80/TCP"'
    expect(lines.filter((line) => line !== '' && !line.startsWith('#'))).to.deep.equal([
      `kube_ipvs_service_connections_total{${labels}} 7`,
      `kube_ipvs_service_packets_total{${labels},direction="in"} 40`,
      `kube_ipvs_service_packets_total{${labels},direction="out"} 30`,
      `kube_ipvs_service_bytes_total{${labels},direction="in"} 1000`,
      `kube_ipvs_service_bytes_total{${labels},direction="out"} 2000`,
      `kube_ipvs_service_real_servers{${labels}} 3`,
      `kube_ipvs_service_draining_real_servers{${labels}} 1`,
      'kube_ipvs_service_metrics_left_out 4',
    ])
  })

  it('escapes what a label must not have as it is', async () => {
    const text = await formatServiceMetrics([sample({ port: 'a"b\\c\nd' })], 0)
    expect(text).to.contain('port="a\\"b\\\\c\\nd",')
  })

  it('lets everything else have its turn', async () => {
    let turns = 0
    const count = setInterval(() => turns++, 0)
    const many = Array.from({ length: 5_000 }, (_, i) => sample({ key: keyOf(i) }))
    await formatServiceMetrics(many, 0)
    clearInterval(count)
    expect(turns).to.be.above(5)
  })

  it('follows all other metrics, in a text that Prometheus takes', async () => {
    const samples = [sample(), sample({ key: keyOf(11), port: '' })]
    const routes = metricsRoutes({
      metrics: new Metrics(),
      serviceMetrics: () => formatServiceMetrics(samples, 0),
      document: () => ({}),
    })
    const body = await textOf(await routes['/metrics']!(new URLSearchParams(), 'GET'))
    expect(body).to.match(/^kube_ipvs_faults /m)
    expect(body).to.match(/^kube_ipvs_service_bytes_total\{.*virtual_server="10\.96\.0\.11:80\/TCP"/m)
    const { stdout, stderr } = spawnSync('scripts/promtool', ['check', 'metrics'], {
      input: body,
      encoding: 'utf8',
    })
    expect(
      `${stdout}${stderr}`.split('\n').filter((line) => /service_metrics|ipvs_service|error/.test(line)),
    ).to.deep.equal([])
  })
})
