import { once } from 'node:events'
import type { Server } from 'node:http'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { mock } from 'node:test'
import { expect } from 'chai'
import { ProxyHealth } from '../../src/serve/health.ts'
import { healthRoutes, metricsRoutes, type Routes, serve, type ServeOptions } from '../../src/serve/http.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import { eventually } from '../support/eventually.ts'
import { recordingLog } from '../support/log.ts'

const portOf = (server: { address: () => unknown }): number => (server.address() as AddressInfo).port

describe('serve', () => {
  let abort: AbortController
  let metrics: Metrics
  let health: ProxyHealth
  let isNodeEligible: boolean
  beforeEach(() => {
    abort = new AbortController()
    metrics = new Metrics({ defaults: false })
    isNodeEligible = true
    health = new ProxyHealth({
      families: ['IPv4'],
      isNodeEligible: () => isNodeEligible,
      staleAfterMs: () => 60_000,
      now: () => new Date(),
    })
  })
  afterEach(() => {
    abort.abort()
    mock.timers.reset()
  })

  const options = (parts: Partial<ServeOptions> = {}): ServeOptions => ({
    log: recordingLog().log,
    signal: abort.signal,
    ...parts,
  })
  async function start(routes: Routes, address = '127.0.0.1:0'): Promise<string> {
    const server: Server = serve(address, routes, options())!
    await once(server, 'listening')
    return `http://127.0.0.1:${portOf(server)}`
  }
  const startMetrics = (document: object = {}): Promise<string> =>
    start(metricsRoutes({ metrics, document: () => document }))
  const textOf = async (url: string): Promise<string> => (await fetch(url)).text()

  /** Sends text as it is, and resolves with the first line of the answer. */
  async function raw(url: string, text: string): Promise<string> {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.end(text)
    const [data] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    return data.toString().split('\r\n')[0]!
  }

  for (const path of ['//', '///', '//x y', 'http://[', '/\\\\', 'nonsense'])
    it(`goes on after a request for ${path}, which anybody may send`, async () => {
      health.updated()
      const url = await start(healthRoutes(health, metrics))

      expect(await raw(url, `GET ${path} HTTP/1.1\r\nHost: x\r\n\r\n`)).to.match(/^HTTP\/1.1 40[04] /)
      expect((await fetch(`${url}/healthz`)).status).to.equal(200)
    })

  it('writes a long answer a part at a time, and is silent where who asked has gone', async () => {
    const { log, lines } = recordingLog()
    const part = 'x'.repeat(10_000)
    const more = Array.from({ length: 2_000 }, () => part)
    const routes: Routes = { '/long': () => ({ status: 200, type: 'text/plain', body: 'begin', more }) }
    const server = serve('127.0.0.1:0', routes, options({ log }))!
    await once(server, 'listening')
    const url = `http://127.0.0.1:${portOf(server)}/long`

    expect((await textOf(url)).length).to.equal('begin'.length + 2_000 * 10_000)
    const gone = new AbortController()
    const answered = await fetch(url, { signal: gone.signal })
    await answered.body!.getReader().read()
    gone.abort()
    expect((await textOf(url)).length).to.equal('begin'.length + 2_000 * 10_000)
    expect(lines).to.deep.equal([])
  })

  it('goes on when an answer cannot be given, and says why', async () => {
    const { log, lines } = recordingLog()
    const failing = (): never => {
      throw new Error('no answer')
    }
    const server = serve(
      '127.0.0.1:0',
      { '/fails': failing, '/': () => ({ status: 200, type: 'x', body: '' }) },
      options({ log }),
    )!
    await once(server, 'listening')
    const url = `http://127.0.0.1:${portOf(server)}`

    const failure = await fetch(`${url}/fails`).catch((error: unknown) => error)
    expect(failure).to.be.instanceOf(Error)
    expect((await fetch(url)).status).to.equal(200)
    expect(lines.map(({ msg }) => msg)).to.deep.equal(['cannot answer a request'])
  })

  it('has room for others when somebody holds as many connections as he can', async () => {
    const server = serve('127.0.0.1:0', healthRoutes(health, metrics), options())!
    await once(server, 'listening')
    const port = portOf(server)
    let seen = 0
    for (const event of ['connection', 'drop']) server.on(event, () => seen++)
    const held: Socket[] = []
    try {
      // Not all at once: what finds the kernel's queue full is not closed, but tried again by TCP, for seconds.
      while (held.length < 1_300) {
        for (let i = 0; i < 100; i++) held.push(connect(port, '127.0.0.1').on('error', () => undefined))
        await eventually(() => expect(seen).to.equal(held.length), 5_000, 1)
      }
      const closed = (): number =>
        held.filter(({ destroyed, readyState }) => destroyed || readyState !== 'open').length
      await eventually(() => expect(closed()).to.be.greaterThan(100))
    } finally {
      for (const socket of held) socket.destroy()
    }
    await eventually(async () =>
      expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).to.equal(503),
    )
  })

  it('says by its status whether all is well, and counts what it has said', async () => {
    const url = await start(healthRoutes(health, metrics))
    const codes = async (): Promise<number[]> =>
      Promise.all(['/healthz', '/livez'].map(async (path) => (await fetch(url + path)).status))

    expect(await codes()).to.deep.equal([503, 503])
    health.updated()
    expect(await codes()).to.deep.equal([200, 200])
    isNodeEligible = false
    expect(await codes()).to.deep.equal([503, 200])

    const { headers } = await fetch(`${url}/healthz`, { method: 'POST' })
    expect(headers.get('content-type')).to.equal('application/json')
    expect(headers.get('x-content-type-options')).to.equal('nosniff')
    const text = await metrics.registry.metrics()
    for (const line of [
      'healthz_total{code="503"} 3',
      'healthz_total{code="200"} 1',
      'livez_total{code="200"} 2',
    ])
      expect(text).to.contain(`kubeproxy_proxy_${line}\n`)
  })

  it('gives metrics, the proxy mode and the health of the process, as text', async () => {
    metrics.changed('createVirtualServer', 3)
    const url = await startMetrics()

    expect(await textOf(`${url}/metrics`)).to.contain(
      'kube_ipvs_kernel_changes_total{operation="createVirtualServer"} 3',
    )
    expect(await textOf(`${url}/metrics/slis`)).to.contain(
      'kubernetes_healthcheck{name="ping",type="healthz"} 1',
    )
    const mode = await fetch(`${url}/proxyMode`)
    expect(await mode.text()).to.equal('ipvs')
    expect(mode.headers.get('content-type')).to.equal('text/plain; charset=utf-8')
    for (const path of ['/healthz', '/healthz/ping', '/healthz?exclude=ping'])
      expect(await textOf(url + path)).to.equal('ok')
    expect(await textOf(`${url}/healthz?verbose`)).to.equal('[+]ping ok\nhealthz check passed\n')
  })

  it('gives the configuration', async () => {
    const url = await startMetrics({ mode: 'ipvs' })

    expect(await (await fetch(`${url}/configz`)).json()).to.deep.equal({
      'kubeproxy.config.k8s.io': { mode: 'ipvs' },
    })
  })

  it('knows no other path, not even of objects', async () => {
    for (const url of [await start(healthRoutes(health, metrics)), await startMetrics()]) {
      for (const path of ['/', '/nothing', '/toString', '/__proto__', '/livez/', '/debug/pprof'])
        expect((await fetch(url + path)).status, path).to.equal(404)
    }
  })

  it('listens on both families for the wildcard of either', async () => {
    for (const wildcard of ['0.0.0.0:0', '[::]:0']) {
      const server = serve(wildcard, { '/': () => ({ status: 200, type: '', body: 'here' }) }, options())!
      await once(server, 'listening')
      for (const host of ['127.0.0.1', '[::1]'])
        expect(await textOf(`http://${host}:${portOf(server)}/`), `${wildcard} ${host}`).to.equal('here')
    }
  })

  it('serves nothing when the program has been told to stop before', () => {
    expect(serve('127.0.0.1:0', {}, { ...options(), signal: AbortSignal.abort() })).to.equal(undefined)
  })

  it('serves nothing on no address', () => {
    expect(serve('', {}, options())).to.equal(undefined)
  })

  it('says once that an address is taken, tries again, and says that it has it', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { log, lines } = recordingLog()
    mock.timers.enable({ apis: ['setTimeout'] })
    const address = `127.0.0.1:${portOf(other)}`
    const server = serve(address, {}, options({ log }))!
    for (let attempt = 0; attempt < 2; attempt++) {
      await once(server, 'error')
      mock.timers.tick(5_000)
    }
    await once(server, 'error')
    other.close()
    mock.timers.tick(5_000)
    await once(server, 'listening')

    expect(lines.map(({ msg }) => msg)).to.deep.equal(['cannot listen: retrying', 'listening at last'])
  })

  it('gives up on an address that is taken where that is to end the program', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { log, lines } = recordingLog()
    const errors: Error[] = []
    serve(`127.0.0.1:${portOf(other)}`, {}, options({ log, onFailure: (error) => errors.push(error) }))

    await eventually(() => expect(errors.map(({ message }) => message)[0]).to.contain('EADDRINUSE'))
    expect(lines).to.deep.equal([])
    other.close()
  })
})
