/** What a scrape is told of Services, on the loop and a fake kernel. */
import { expect } from 'chai'
import type { Counted } from '../../src/kernel/ipvs/ipvs.ts'
import type { VirtualServerKey } from '../../src/model/virtual-server.ts'
import { virtualServerIdOf } from '../../src/model/virtual-server.ts'
import { openServiceMetrics } from '../../src/program/report/service-metrics.ts'
import { metricsRoutes } from '../../src/serve/http.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import { textOf } from '../support/answer.ts'
import { service, slice } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { complaints, recordingLog } from '../support/log.ts'
import { Story } from '../support/story.ts'

const WEB = '10.96.0.10:80/TCP'
const PAY = '10.96.0.11:80/TCP'
const FOREIGN = '192.168.50.1:6443/TCP'

describe('metrics of Services', () => {
  /** Bytes by virtual server, as the kernel counts them. */
  let bytes: Map<string, number>
  let story: Story
  let readings: number
  let failure: Error | undefined
  let recorded: ReturnType<typeof recordingLog>
  beforeEach(async () => {
    bytes = new Map([
      [WEB, 10],
      [PAY, 20],
      [FOREIGN, 99],
      ['10.96.0.99:80/TCP', 98],
    ])
    readings = 0
    failure = undefined
    recorded = recordingLog()
    story = new Story(new FakeKernel('-A -t 192.168.50.1:6443 -s wlc', []))
    const services = [
      service(),
      service({ name: 'till', namespace: 'pay', clusterIP: '10.96.0.11' }),
      // It wants what somebody else has.
      service({
        ...{ name: 'thief', clusterIP: '10.96.0.12', ports: [{ port: 6443, protocol: 'TCP' }] },
        spec: { externalIPs: ['192.168.50.1'] },
      }),
    ]
    await story.list(services, [slice({ endpoints: ['10.244.2.1', '10.244.2.2'] })])
  })
  afterEach(() => story.stop())

  const readCounters = async (): Promise<Counted[]> => {
    readings++
    await Promise.resolve()
    if (failure !== undefined) throw failure
    return [...bytes].map(([key, inBytes]) => {
      const total = { connections: 1, inPackets: 1, outPackets: 1, inBytes, outBytes: 0 }
      return { id: virtualServerIdOf(key as VirtualServerKey), stats: { total, perSecond: total } }
    })
  }
  const open = (most: number, ...namespaces: string[]): (() => Promise<string>) =>
    openServiceMetrics(
      { most, namespaces: new Set(namespaces) },
      { inspection: story.proxy.inspection, ipvs: { readCounters }, log: recorded.log, now },
    )!
  /** Every look at the clock is later than what was read before. */
  let time = 0
  const now = (): number => (time += 2_000)
  /** Bytes that clients have sent, by virtual server. */
  const bytesIn = (text: string): Record<string, number> => {
    const found = text.matchAll(
      /^kube_ipvs_service_bytes_total\{.*virtual_server="(.+?)",direction="in"\} (\d+)$/gm,
    )
    return Object.fromEntries([...found].map((match) => [match[1]!, Number(match[2])]))
  }

  it('are there only where they are asked for', () => {
    const { inspection } = story.proxy
    expect(
      openServiceMetrics(undefined, { inspection, ipvs: { readCounters }, log: recorded.log, now }),
    ).to.equal(undefined)
  })

  it('are those of Services, never of others', async () => {
    const text = await open(10)()
    expect(bytesIn(text)).to.deep.equal({ [WEB]: 10, [PAY]: 20 })
    expect(text).to.contain('{namespace="pay",service="till",port="http",virtual_server="10.96.0.11:80/TCP"}')
    expect(text).to.contain('kube_ipvs_service_metrics_left_out 0\n')
  })

  it('are of the virtual servers with most traffic, and say how many are left out', async () => {
    const text = await open(1)()
    expect(bytesIn(text)).to.deep.equal({ [PAY]: 20 })
    expect(text).to.contain('kube_ipvs_service_metrics_left_out 1\n')
  })

  it('are of the namespaces that are named', async () => {
    const text = await open(10, 'shop')()
    expect(bytesIn(text)).to.deep.equal({ [WEB]: 10 })
    expect(text).to.contain('kube_ipvs_service_metrics_left_out 0\n')
  })

  it("are the kernel's counters: one begins at 0 with a virtual server that is made anew", async () => {
    const scrape = open(10)
    bytes.set(WEB, 500)
    expect(bytesIn(await scrape())).to.include({ [WEB]: 500 })
    bytes.set(WEB, 0)
    expect(bytesIn(await scrape())).to.include({ [WEB]: 0 })
    bytes.delete(WEB)
    expect(bytesIn(await scrape())).to.deep.equal({ [PAY]: 20 })
  })

  it('count real servers, and those that drain', async () => {
    story.kernel.setConnections(WEB, '10.244.2.1:8080', { active: 1 })
    await story.put(slice({ endpoints: ['10.244.2.2'] }))
    await story.advance(3_000)
    const text = await open(10, 'shop')()
    expect(text).to.match(/^kube_ipvs_service_real_servers\{.*\} 1$/m)
    expect(text).to.match(/^kube_ipvs_service_draining_real_servers\{.*\} 1$/m)
  })

  it('are read once for scrapes at one time, and not before one', async () => {
    const scrape = open(10)
    expect(readings).to.equal(0)
    const [first, second] = await Promise.all([scrape(), scrape()])
    expect(readings).to.equal(1)
    expect(first).to.equal(second)
    await scrape()
    expect(readings).to.equal(2)
  })

  it('are missing where the kernel cannot be read, and all others are there; the log says it once', async () => {
    failure = new Error('Cannot read the virtual servers')
    const serviceMetrics = open(10)
    const routes = metricsRoutes({
      metrics: new Metrics({ defaults: false }),
      serviceMetrics,
      document: () => ({}),
    })
    const scrape = async (): Promise<string> =>
      textOf(await routes['/metrics']!(new URLSearchParams(), 'GET'))
    for (let i = 0; i < 3; i++)
      expect(await scrape())
        .to.contain('kube_ipvs_faults')
        .and.not.contain('ipvs_service')
    expect(complaints(recorded.lines)).to.have.length(1)
    failure = undefined
    expect(bytesIn(await scrape())).to.deep.equal({ [WEB]: 10, [PAY]: 20 })
    expect(recorded.lines.at(-1)!.msg).to.equal('metrics of Services are there again')
    failure = new Error('Cannot read the virtual servers')
    await scrape()
    expect(complaints(recorded.lines)).to.have.length(2)
  })
})
