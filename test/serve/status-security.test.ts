/** Who may read the status page, and what a request must not be: as it comes over the wire. */
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { expect } from 'chai'
import { metricsRoutes, serve } from '../../src/serve/http.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import { node, service } from '../support/builders.ts'
import { recordingLog } from '../support/log.ts'
import { StatusPage } from '../support/status-page.ts'

interface Reply {
  readonly status: number
  readonly head: string
  readonly body: string
}

/** Sends text as it is. */
async function send(port: number, text: string): Promise<Reply> {
  const socket = connect(port, '127.0.0.1')
  socket.end(text)
  const chunks = (await socket.toArray()) as Buffer[]
  const [head = '', chunk = ''] = Buffer.concat(chunks).toString().split('\r\n\r\n', 2)
  // Short enough to come in one chunk, between its length and that of the last one.
  const body = chunk.replaceAll(/^[\da-f]+\r\n|\r\n0$/g, '')
  return { status: Number(head.split(' ')[1]), head, body }
}

describe('the status page refuses', () => {
  let status: StatusPage
  let port: number
  before(async () => {
    status = new StatusPage()
    await status.story.list([service()], [], [node()])
    port = Number(new URL(await status.serve()).port)
  })
  after(() => status.close())

  const ask = (
    path: string,
    headers: readonly string[] = ['Host: localhost'],
    method = 'GET',
  ): Promise<Reply> =>
    send(port, [`${method} ${path} HTTP/1.1`, ...headers, 'Connection: close', '', ''].join('\r\n'))
  const statusOf = async (...asked: Parameters<typeof ask>): Promise<number> => (await ask(...asked)).status

  for (const [host, expected] of [
    ['evil.example', 403],
    ['evil.example:10249', 403],
    ['127.0.0.1.evil.example', 403],
    ['localhost.evil.example', 403],
    ['node-1.evil.example', 403],
    ['evil.example/127.0.0.1', 403],
    ['[::1].evil.example', 403],
    ['[evil.example]', 403],
    ['127.0.0.1:10249:80', 403],
    ['0x7f000001', 403],
    ['', 403],
    ['127.0.0.1', 200],
    ['127.0.0.1:10249', 200],
    ['192.168.50.1', 200],
    ['[::1]', 200],
    ['[fd00::1]:10249', 200],
    ['localhost', 200],
    ['LOCALHOST:10249', 200],
    ['node-1', 200],
    ['Node-1:10249', 200],
  ] as const)
    it(`${expected === 200 ? 'not' : 'DNS rebinding:'} the host "${host}"`, async () => {
      for (const path of ['/status/', '/status/page.js', '/status/v1/summary', '/status/v1/virtual-servers'])
        expect(await statusOf(path, [`Host: ${host}`]), path).to.equal(expected)
    })

  it('another host, in words, and with nothing of this node in them', async () => {
    const { body } = await ask('/status/v1/summary', ['Host: evil.example'])
    expect(body).to.equal('Ask for this page by an IP address, by localhost, or by the name of this node\n')
  })

  it('a request with two hosts, with none, or with another one in its first line', async () => {
    expect(await statusOf('/status/', ['Host: localhost', 'Host: evil.example'])).to.equal(403)
    expect(await statusOf('/status/', ['Host: evil.example', 'Host: localhost'])).to.equal(403)
    expect(await statusOf('/status/', [])).to.equal(400)
    expect((await send(port, 'GET /status/ HTTP/1.0\r\n\r\n')).status).to.equal(403)
    expect(await statusOf('http://evil.example/status/v1/summary')).to.equal(400)
  })

  for (const [site, expected] of [
    ['cross-site', 403],
    ['same-site', 403],
    ['same-origin', 200],
    ['none', 200],
  ] as const)
    it(`${expected === 200 ? 'not ' : ''}what a browser asks for on behalf of ${site}`, async () => {
      const headers = ['Host: localhost', `Sec-Fetch-Site: ${site}`]
      expect(await statusOf('/status/v1/summary', headers)).to.equal(expected)
    })

  for (const method of ['POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE'])
    it(`to be anything but read: ${method}`, async () => {
      const { status, head } = await ask('/status/v1/summary', ['Host: localhost'], method)
      expect(status).to.equal(405)
      expect(head).to.contain('Allow: GET, HEAD')
    })

  it('not HEAD, which has no body', async () => {
    expect(await ask('/status/', ['Host: localhost'], 'HEAD')).to.include({ status: 200, body: '' })
  })

  for (const path of [
    '/status/../../etc/passwd',
    '/status/%2e%2e/%2e%2e/etc/passwd',
    '/status/..%2f..%2fetc%2fpasswd',
    '/status/..\\..\\etc\\passwd',
    '/status//etc/passwd',
    '/status/page.js/',
    '/status/page.js%00',
    '/status/PAGE.JS',
    '/status/index.html',
    '/status/v1/',
    '/status/__proto__',
    '/statusx',
  ])
    it(`a path that is none of its own: ${path}`, async () => {
      const { status, body } = await ask(path)
      expect(status).to.equal(404)
      expect(body).to.equal('404 page not found\n')
    })

  it('what is too long: a URL, headers, a parameter', async () => {
    expect(await statusOf(`/status/v1/virtual-servers?search=${'a'.repeat(2_000)}`)).to.equal(414)
    expect(await statusOf(`/status/v1/virtual-servers?search=${'a'.repeat(257)}`)).to.equal(400)
    expect(await statusOf('/status/', ['Host: localhost', `X: ${'a'.repeat(20_000)}`])).to.equal(431)
  })

  for (const query of [
    'offset=-1',
    'offset=1e3',
    'offset=1.5',
    'offset=0x10',
    'offset=99999999999',
    'limit=101',
    'limit=NaN',
    'sort=constructor',
    'sort=Service',
    'order=up',
    'search=a&search=b',
  ])
    it(`a question that makes no sense: ${query}`, async () => {
      const { status, body } = await ask(`/status/v1/virtual-servers?${query}`)
      expect(status).to.equal(400)
      expect(body).to.match(/^Cannot use (offset|limit|sort|order|search): .*\n$/)
    })

  for (const key of ['', '10.96.0.99:80/TCP', '10.96.0.10', '__proto__', 'nonsense', '10.96.0.10:80/TCP/'])
    it(`a virtual server that is not there: "${key}"`, async () => {
      expect(await statusOf(`/status/v1/virtual-server?key=${encodeURIComponent(key)}`)).to.equal(404)
    })

  it('to be framed, cached, or to load anything from elsewhere: every answer says so', async () => {
    for (const [path, host] of [
      ['/status', 'localhost'],
      ['/status/', 'localhost'],
      ['/status/page.css', 'localhost'],
      ['/status/v1/summary', 'localhost'],
      ['/status/nothing', 'localhost'],
      ['/status/', 'evil.example'],
    ] as const) {
      const { head } = await ask(path, [`Host: ${host}`])
      expect(head, path).to.contain(
        "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'",
      )
      for (const line of [
        'X-Content-Type-Options: nosniff',
        'Referrer-Policy: no-referrer',
        'Cross-Origin-Resource-Policy: same-origin',
        'Cache-Control: no-store',
      ])
        expect(head, path).to.contain(line)
      expect(head, path).not.to.contain('unsafe')
      expect(head, path).not.to.contain('Access-Control')
    }
  })

  it('nothing of the page without its last slash: it leads there', async () => {
    const { status, head } = await ask('/status')
    expect(status).to.equal(308)
    expect(head).to.contain('Location: status/')
  })
})

describe('the metrics port without --status-page', () => {
  const abort = new AbortController()
  after(() => abort.abort())

  it('has no page, and answers as before, whatever the host', async () => {
    const routes = metricsRoutes({ metrics: new Metrics({ defaults: false }), document: () => ({}) })
    const server = serve('127.0.0.1:0', routes, { log: recordingLog().log, signal: abort.signal })!
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const ask = (path: string): Promise<Reply> =>
      send(port, `GET ${path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n`)

    for (const path of ['/status', '/status/', '/status/v1/summary'])
      expect((await ask(path)).status).to.equal(404)
    expect(await ask('/proxyMode')).to.include({ status: 200, body: 'ipvs' })
  })
})
