/** What the status page is told: of virtual servers from memory, and of what cannot be read later. */
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { mock } from 'node:test'
import { expect } from 'chai'
import { defaultConfig } from '../../src/config/config.ts'
import { openLife } from '../../src/program/life.ts'
import { serveHttp } from '../../src/program/report/http.ts'
import { Catalog, type CountedRates } from '../../src/program/status/catalog.ts'
import { readFiles } from '../../src/program/status/files.ts'
import { History } from '../../src/program/status/history.ts'
import { openStatus } from '../../src/program/status/status.ts'
import { parseConnections } from '../../src/kernel/ipvs/totals.ts'
import { ProxyHealth } from '../../src/serve/health.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import type { StatusDetail, StatusRow, StatusSummary, StatusTable } from '../../src/view/documents.ts'
import { RecentJournal } from '../../src/view/journal.ts'
import { endpoint, node, service, slice, TERMINATING } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { recordingLog } from '../support/log.ts'
import { StatusPage } from '../support/status-page.ts'
import { Story } from '../support/story.ts'

const WEB = '10.96.0.10:80/TCP'

describe('the data of the status page', () => {
  let status: StatusPage
  afterEach(() => status.close())

  async function tell(services: object[], slices: object[], kernel = new FakeKernel()): Promise<void> {
    status = new StatusPage(kernel)
    await status.story.list(services, slices, [node()])
  }
  async function read<Document>(
    path: string,
    query: Readonly<Record<string, string>> = {},
  ): Promise<Document> {
    const { status: code, body } = await status.ask(path, query)
    expect(code, body).to.equal(200)
    return JSON.parse(body) as Document
  }
  const table = (query: Readonly<Record<string, string>> = {}): Promise<StatusTable> =>
    read('virtual-servers', query)
  const rowOf = async (key: string): Promise<StatusRow> =>
    (await table()).rows.find(({ virtualServer }) => virtualServer === key)!
  /** As if so many ms had passed. */
  const wait = (ms: number): void => {
    const { now } = status
    status.now = () => now() + ms
  }

  it('of a virtual server: whose it is, its real servers and its rates', async () => {
    await tell([service()], [slice({ endpoints: ['10.244.2.1', '10.244.2.2'] })])
    status.rates.set(WEB, { connections: 3 })

    expect(await table()).to.deep.equal({
      apiVersion: 'kube-ipvs.io/v1',
      kind: 'StatusTable',
      total: 1,
      matching: 1,
      ageSeconds: 0,
      rows: [
        {
          virtualServer: WEB,
          service: 'shop/web',
          role: 'clusterIp',
          port: 'http',
          state: 'programmed',
          scheduler: 'rr',
          realServers: { programmed: 2, missing: 0, draining: 0 },
          rates: { connections: 3, inPackets: 0, outPackets: 0, inBytes: 0, outBytes: 0 },
        },
      ],
      offset: 0,
    })
  })

  it('of one that drains, and until when', async () => {
    await tell([service()], [slice({ endpoints: ['10.244.2.1', '10.244.2.2'] })])
    for (const real of ['10.244.2.1:8080', '10.244.2.2:8080'])
      status.kernel.setConnections(WEB, real, { active: 1 })
    const ending = endpoint('10.244.2.2', {
      conditions: TERMINATING,
      targetRef: { kind: 'Pod', name: 'web-b', namespace: 'shop' },
    })
    await status.story.put(slice({ endpoints: [ending, '10.244.2.3'] }))
    await status.story.advance(10_000)

    expect((await rowOf(WEB)).realServers).to.deep.equal({ programmed: 1, missing: 0, draining: 2 })
    const { drains, counts } = await read<StatusSummary>('summary')
    expect(counts.draining).to.equal(2)
    const [gone, alive] = drains
    expect(gone).to.deep.include({ realServer: '10.244.2.1:8080', service: 'shop/web' })
    expect(gone!.endsInSeconds).to.be.within(40, 60)
    expect(alive).to.deep.equal({
      virtualServer: WEB,
      realServer: '10.244.2.2:8080',
      service: 'shop/web',
      pod: 'shop/web-b',
    })
  })

  it('of what the kernel refuses, of what is foreign, and of what nobody wants', async () => {
    const kernel = new FakeKernel('-A -t 192.168.50.1:6443 -s wlc', [])
    kernel.refuse = ({ kind }) => (kind === 'createVirtualServer' ? 'ENOSPC' : undefined)
    await tell([service()], [slice({ endpoints: ['10.244.2.1'] })], kernel)

    const { rows } = await table({ sort: 'state', order: 'descending' })
    expect(rows.map(({ virtualServer, state }) => [virtualServer, state])).to.deep.equal([
      [WEB, 'failing'],
      ['192.168.50.1:6443/TCP', 'foreign'],
    ])
    expect(rows[0]!.realServers).to.deep.equal({ programmed: 0, missing: 1, draining: 0 })
    const { counts, journal } = await read<StatusSummary>('summary')
    expect(counts.failing).to.be.above(0)
    expect(journal[0]).to.deep.include({ kind: 'refusal', object: WEB, service: 'shop/web' })
    expect(journal[0]!.reason).to.contain('ENOSPC')
    const detail = await read<StatusDetail>('virtual-server', { key: '192.168.50.1:6443/TCP' })
    expect(detail.virtualServer.state).to.equal('foreign')
  })

  it('of conflicts and refused endpoints, with the Service that is not served', async () => {
    const shared = { spec: { externalIPs: ['203.0.113.5'] } }
    const later = {
      metadata: { creationTimestamp: '2026-02-01T00:00:00Z' },
      name: 'later',
      clusterIP: '10.96.0.11',
    }
    await tell([service(shared), service({ ...later, ...shared })], [slice({ endpoints: ['127.0.0.1'] })])

    const { journal, counts } = await read<StatusSummary>('summary')
    expect(counts).to.include({ conflicts: 1, refused: 1 })
    expect(journal.map(({ object, service: of, reason }) => [object, of, reason])).to.deep.include.members([
      ['203.0.113.5:80/TCP', 'shop/later', 'shop/web is older'],
    ])
    expect(journal.find(({ object }) => object === 'endpoint')).to.deep.include({ service: 'shop/web' })
  })

  it('a page at a time, in an order that does not jump', async () => {
    const many = Array.from({ length: 250 }, (_, i) => i)
    await tell(
      many.map((i) => service({ name: `s-${String(i).padStart(3, '0')}`, clusterIP: `10.96.1.${i}` })),
      [],
    )
    const namesOf = ({ rows }: StatusTable): (string | undefined)[] => rows.map(({ service: name }) => name)
    const all = many.map((i) => `shop/s-${String(i).padStart(3, '0')}`)

    expect(namesOf(await table())).to.deep.equal(all.slice(0, 100))
    expect(namesOf(await table({ offset: '200' }))).to.deep.equal(all.slice(200))
    expect(namesOf(await table({ order: 'descending', limit: '3' }))).to.deep.equal(
      all.toReversed().slice(0, 3),
    )
    expect(namesOf(await table({ sort: 'bytes', limit: '3' }))).to.deep.equal(all.slice(0, 3))
    expect(await table({ search: 's-24' })).to.include({ total: 250, matching: 10 })
    expect(namesOf(await table({ offset: '999' }))).to.deep.equal([])
  })

  it('of a Service with thousands of endpoints: two hundred, those first that are not as they should be', async () => {
    const endpoints = Array.from({ length: 300 }, (_, i) => `10.244.${2 + (i >> 8)}.${i & 255}`)
    await tell([service()], [slice({ endpoints })])
    status.kernel.setConnections(WEB, '10.244.3.43:8080', { active: 1 })
    await status.story.put(slice({ endpoints: endpoints.slice(0, -1) }))

    const { virtualServer, realServers } = await read<StatusDetail>('virtual-server', { key: WEB })
    expect(realServers).to.equal(300)
    expect(virtualServer.realServers).to.have.length(200)
    expect(virtualServer.realServers[0]).to.include({ realServer: '10.244.3.43:8080', state: 'draining' })
  })

  it('is less than 200 kB a refresh, whatever there is to see', async () => {
    const long = 'a-service-with-quite-a-long-name-as-some-people-like-it-'
    const many = Array.from({ length: 300 }, (_, i) => i)
    const pods = many.map((i) =>
      endpoint(`10.244.${2 + (i >> 8)}.${i & 255}`, {
        targetRef: { kind: 'Pod', name: `${long}5d9f7c6b8-${i}`, namespace: 'shop' },
      }),
    )
    const services = many.map((i) =>
      service({
        name: `${long}${i}`,
        clusterIP: i === 0 ? '10.96.0.10' : `10.96.${1 + (i >> 8)}.${i & 255}`,
      }),
    )
    await tell(services, [slice({ service: `${long}0`, endpoints: pods })])
    for (let i = 0; i < 300; i++)
      status.kernel.setConnections(WEB, `10.244.${2 + (i >> 8)}.${i & 255}:8080`, { active: 12_345 })
    await status.story.put(slice({ service: `${long}0`, endpoints: pods.slice(0, 100) }))
    await status.story.advance(2_000)
    for (const kind of ['refusal', 'repair'] as const)
      for (let i = 0; i < 200; i++)
        status.journal.note({ kind, object: WEB, service: `shop/${long}${i}`, reason: 'x'.repeat(999) })
    for (let at = 1; at <= 180; at++)
      status.samples.push({
        at: at * 1.7e10,
        latency: { median: 0.333, max: 6.67 },
        ...{ changes: 33.3, connections: 143_000 },
      })
    const rates = { connections: 123_456, inPackets: 1e9, outPackets: 1e9, inBytes: 1e12, outBytes: 1e12 }
    for (const key of status.kernel.state.virtualServers.keys()) status.rates.set(key, rates)

    const answers = await Promise.all([
      status.ask('summary'),
      status.ask('virtual-servers'),
      status.ask('virtual-server', { key: WEB }),
    ])
    expect((JSON.parse(answers[0].body) as StatusSummary).drains).to.have.length(100)
    const bytes = answers.reduce((sum, { body }) => sum + Buffer.byteLength(body), 0)
    expect(bytes).to.be.within(100_000, 200_000)
  })

  it('is read from the kernel once for all who look, and not while nobody does', async () => {
    await tell([service()], [])
    status.now = () => 0
    await Promise.all([table(), table(), table({ search: 'web' })])
    expect(status.readings).to.equal(1)
    wait(1_000)
    await table()
    expect(status.readings).to.equal(1)
    wait(1_000)
    await Promise.all([table(), table()])
    expect(status.readings).to.equal(2)
    await read('summary')
    await read('virtual-server', { key: WEB })
    expect(status.readings).to.equal(2)
  })

  it('is read less often where reading takes long, and says how old it is', async () => {
    await tell([service()], [])
    let now = 0
    let readings = 0
    const catalog = new Catalog({
      inspection: status.story.proxy.inspection,
      readCounters: () => {
        readings++
        now += 1_000
        return Promise.resolve([])
      },
      now: () => now,
    })
    const find = (): ReturnType<Catalog['find']> =>
      catalog.find({ search: '', sort: 'service', order: 'ascending', offset: 0, limit: 9 })
    await find()
    now += 18_000
    expect(await find()).to.include({ ageSeconds: 19 })
    expect(readings).to.equal(1)
    now += 1_001
    expect(await find()).to.include({ ageSeconds: 1 })
    expect(readings).to.equal(2)
  })

  it('is there without rates where the kernel does not count', async () => {
    await tell([service()], [])
    const catalog = new Catalog({
      inspection: status.story.proxy.inspection,
      readCounters: () => Promise.reject<CountedRates[]>(new Error('no')),
      now: () => 0,
    })
    const { rows } = await catalog.find({
      search: '',
      sort: 'service',
      order: 'ascending',
      offset: 0,
      limit: 9,
    })
    expect(rows[0]).to.include({ virtualServer: WEB }).and.not.have.property('rates')
  })
})

describe('History', () => {
  it('has a sample for each interval: changes and connections a second, the median and longest latency', async () => {
    const metrics = new Metrics({ defaults: false })
    let [at, connections] = [1_000, 50 as number | undefined]
    const readConnectionTotal = (): Promise<number | undefined> => Promise.resolve(connections)
    const history = new History({ registry: metrics.registry, readConnectionTotal, now: () => at })
    const sample = async (): Promise<unknown> => {
      await history.sample()
      at += 10_000
      return history.samples.at(-1)
    }

    expect(await sample(), 'the first one only begins').to.equal(undefined)
    metrics.changed('createVirtualServer', 20)
    metrics.changed('bindAddress', 10)
    connections = 150
    for (const seconds of [0.30001, 0.1, 2]) history.programmed(seconds)
    expect(await sample()).to.deep.equal({
      at: 11_000,
      latency: { median: 0.3, max: 2 },
      changes: 3,
      connections: 10,
    })
    connections = 7
    expect(await sample(), 'counters were zeroed').to.deep.equal({ at: 21_000, changes: 0 })
    connections = undefined
    expect(await sample()).to.deep.equal({ at: 31_000, changes: 0 })
    for (let i = 0; i < 200; i++) await sample()
    expect(history.samples).to.have.length(180)
  })

  it('takes connections from what the kernel writes of IPVS', () => {
    const text = [
      '   Total Incoming Outgoing         Incoming         Outgoing',
      '   Conns  Packets  Packets            Bytes            Bytes',
      '     1F4     ABCD     1234          FFFFFFF               10 ',
      '',
    ].join('\n')
    expect(parseConnections(text)).to.equal(500)
    expect(parseConnections('')).to.equal(undefined)
  })
})

describe('RecentJournal', () => {
  it('keeps the last hundred of each kind, the newest first, and no long reason', () => {
    let now = 0
    const journal = new RecentJournal(() => now++)
    for (let i = 0; i < 150; i++)
      journal.note({ kind: 'refusal', object: `r${i}`, reason: 'x'.repeat(9_999) })
    journal.note({ kind: 'repair', object: 'mended', reason: 'it was missing' })

    const { entries } = journal
    expect(entries).to.have.length(101)
    expect(entries[0]).to.deep.equal({ at: 150, kind: 'repair', object: 'mended', reason: 'it was missing' })
    expect(entries.at(-1)!.object).to.equal('r50')
    expect(entries[1]!.reason).to.have.length(300)
  })
})

describe('openStatus', () => {
  it('says how the page is made where it has not been', () => {
    expect(() => readFiles('/nowhere')).to.throw('"npm run build" makes it')
  })

  it('is served beside the metrics, which anybody may ask for as before', async () => {
    const probe = createServer().listen(0, '127.0.0.1')
    await once(probe, 'listening')
    const { port } = probe.address() as AddressInfo
    probe.close()
    await once(probe, 'close')
    const life = openLife(new AbortController().signal)
    const metrics = new Metrics({ defaults: false })
    const files = { 'index.html': '<title>it</title>', 'page.js': 'let it', 'page.css': '' }
    const opened = openStatus({ nodeName: 'node-1', metrics, signal: life.signal, files })
    const story = new Story(new FakeKernel(), { journal: opened.journal })
    await story.list([service({ spec: { externalIPs: ['127.0.0.9'] } })], [], [node()])
    const health = new ProxyHealth({
      ...{ families: [], isNodeEligible: () => true, staleAfterMs: () => 0, now: () => new Date() },
    })
    const { inspection } = story.proxy
    const page = opened.page({
      inspection,
      readCounters: () => Promise.resolve([]),
      current: { drains: new Map() },
      health,
    })
    const config = { ...defaultConfig(), healthzBindAddress: '', metricsBindAddress: `127.0.0.1:${port}` }
    serveHttp({
      ...{ current: { config, document: {} }, health, metrics, page, life, log: recordingLog().log },
      recordNodeEvent: () => undefined,
    })
    const ask = (path: string): Promise<Response> => fetch(`http://127.0.0.1:${port}${path}`)

    await eventually(async () => expect(await (await ask('/proxyMode')).text()).to.equal('ipvs'))
    expect(await (await ask('/status')).text(), 'after the redirect').to.equal('<title>it</title>')
    expect((await ask('/status/page.js')).headers.get('Content-Type')).to.contain('text/javascript')
    expect((await ask('/metrics')).headers.has('Content-Security-Policy')).to.equal(false)
    const { journal, health: told } = (await (await ask('/status/v1/summary')).json()) as StatusSummary
    expect(journal[0]).to.deep.include({ object: 'external address', service: 'shop/web' })
    expect(told.isOk, 'nothing has been synced').to.equal(false)
    await life.end()
    await story.stop()
  })

  it('takes samples until the program ends', () => {
    mock.timers.enable({ apis: ['setInterval'] })
    const abort = new AbortController()
    const files = { 'index.html': '', 'page.js': '', 'page.css': '' }
    const metrics = new Metrics({ defaults: false })
    const look = mock.method(metrics.registry, 'getSingleMetric')
    openStatus({ nodeName: 'node-1', metrics, signal: abort.signal, files })
    mock.timers.tick(20_000)
    expect(look.mock.callCount()).to.equal(3)
    abort.abort()
    mock.timers.tick(60_000)
    expect(look.mock.callCount()).to.equal(3)
    mock.timers.reset()
  })
})
