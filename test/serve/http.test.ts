import type { Server } from 'node:http'
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { expect } from 'chai'
import { healthRoutes, metricsRoutes, serve } from '../../src/serve/http.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import { complaints, recordingLog } from '../support/log.ts'
import { eventually } from '../support/eventually.ts'

describe('serve', () => {
  let abort: AbortController
  beforeEach(() => (abort = new AbortController()))
  afterEach(() => abort.abort())

  async function start(routes: Parameters<typeof serve>[1], address = '127.0.0.1:0'): Promise<string> {
    const server: Server = serve(address, routes, recordingLog().log, abort.signal)
    await once(server, 'listening')
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  }

  it('is healthy once the first sync is through', async () => {
    let healthy = false
    const url = await start(
      healthRoutes(
        () => healthy,
        () => new Date(0),
      ),
    )

    for (const path of ['/healthz', '/livez']) {
      healthy = false
      expect((await fetch(url + path)).status).to.equal(503)
      healthy = true
      const response = await fetch(url + path)
      expect(response.status).to.equal(200)
      expect(response.headers.get('content-type')).to.equal('application/json')
      expect(await response.json()).to.deep.equal({ currentTime: '1970-01-01T00:00:00.000Z', healthy: true })
    }
  })

  it('gives metrics and the proxy mode, as text', async () => {
    const metrics = new Metrics({ defaults: false })
    metrics.changed('createVirtualServer', 3)
    const url = await start(metricsRoutes(metrics))

    expect(await (await fetch(`${url}/metrics`)).text()).to.contain(
      'kube_ipvs_kernel_changes_total{operation="createVirtualServer"} 3',
    )
    expect(await (await fetch(`${url}/proxyMode`)).text()).to.equal('ipvs')
    expect(await (await fetch(`${url}/healthz`)).text()).to.equal('ok')
  })

  it('knows no other path, not even of objects', async () => {
    const url = await start(
      healthRoutes(
        () => true,
        () => new Date(),
      ),
    )

    for (const path of ['/', '/nothing', '/toString', '/__proto__'])
      expect((await fetch(url + path)).status).to.equal(404)
  })

  it('says that an address is taken, and goes on', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { log, lines } = recordingLog()

    serve(`127.0.0.1:${(other.address() as AddressInfo).port}`, {}, log, abort.signal)

    await eventually(() => expect(complaints(lines)).to.deep.equal(['cannot listen: retrying']))
    other.close()
  })
})
