import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import {
  ApiError,
  loadKubeConfig,
  openApiClient,
  readJson,
  type RequestOutcome,
} from '../../src/source/api-client.ts'
import { ApiServer } from '../support/api-server.ts'
import { service } from '../support/builders.ts'
import { rejectionOf } from '../support/rejection.ts'
import { SocksProxy } from '../support/socks-proxy.ts'

const SERVICES = '/api/v1/services'
const EVENTS = '/apis/events.k8s.io/v1/namespaces/shop/events'
const TIME = '2026-01-01T00:00:00.000000Z'
const SERIES = { count: 2, lastObservedTime: TIME }
const EVENT = {
  apiVersion: 'events.k8s.io/v1',
  kind: 'Event',
  metadata: { name: 'web.1', namespace: 'shop' },
  eventTime: TIME,
  reportingController: 'kube-ipvs',
  reportingInstance: 'kube-ipvs-node-1',
  type: 'Warning',
  reason: 'Reason',
  action: 'Action',
  regarding: { apiVersion: 'v1', kind: 'Service', name: 'web', namespace: 'shop' },
  note: 'note',
}
const { signal } = new AbortController()

describe('the API client', () => {
  let server: ApiServer
  let folder: string
  let kubeconfig: string
  beforeEach(async () => {
    server = await ApiServer.start()
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    kubeconfig = join(folder, 'kubeconfig')
    writeFileSync(kubeconfig, server.kubeconfig())
  })
  afterEach(async () => {
    await server.close()
    rmSync(folder, { recursive: true })
  })

  /** The kubeconfig.conf of kubeadm's ConfigMap, but for where the Pod's files are. */
  function kubeadmKubeconfig(url: string, secrets = join(folder, 'serviceaccount')): string {
    const { clusters } = JSON.parse(server.kubeconfig()) as {
      clusters: { cluster: { 'certificate-authority-data': string } }[]
    }
    const mounted = resolve(folder, secrets)
    mkdirSync(mounted)
    const certificate = Buffer.from(clusters[0]!.cluster['certificate-authority-data'], 'base64')
    writeFileSync(join(mounted, 'ca.crt'), certificate)
    writeFileSync(join(mounted, 'token'), `${server.token}\n`)
    const file = join(folder, 'kubeconfig.conf')
    writeFileSync(
      file,
      `apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: ${secrets}/ca.crt
    server: ${url}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: ${secrets}/token
`,
    )
    return file
  }

  const listed = async (file: string, master?: string): Promise<string> => {
    const api = openApiClient(() => loadKubeConfig(file, master))
    return ((await readJson(await api.get(SERVICES, {}, signal))) as { kind: string }).kind
  }

  it("takes kubeadm's kubeconfig, with its files", async () => {
    expect(await listed(kubeadmKubeconfig(server.url))).to.equal('ServiceList')
  })

  it('takes files that are named from where the kubeconfig is', async () => {
    expect(await listed(kubeadmKubeconfig(server.url, 'relative'))).to.equal('ServiceList')
  })

  it('prefers a token file to a token, and reads it again after a 401', async () => {
    const file = kubeadmKubeconfig(server.url)
    appendFileSync(file, '    token: another\n')
    const api = openApiClient(() => loadKubeConfig(file))
    expect((await api.get(SERVICES, {}, signal)).statusCode).to.equal(200)

    server.token = 'token-2'
    writeFileSync(join(folder, 'serviceaccount', 'token'), server.token)
    expect((await api.get(SERVICES, {}, signal)).statusCode).to.equal(200)
    expect(server.requests.map(({ status }) => status)).to.deep.equal([200, 401, 200])
  })

  it('takes another URL for the API server, with the credentials of the kubeconfig', async () => {
    const file = kubeadmKubeconfig('https://192.0.2.1:6443')

    expect(await listed(file, server.url)).to.equal('ServiceList')
    expect(await listed(file, new URL(server.url).host)).to.equal('ServiceList')
  })

  it('takes a URL without a kubeconfig, and then has no credentials', async () => {
    const seen: IncomingHttpHeaders[] = []
    const plain = createServer((request, response) => {
      seen.push(request.headers)
      response.end('{"kind":"ServiceList"}')
    })
    await new Promise<void>((resolve) => plain.listen(0, '127.0.0.1', resolve))
    const host = `127.0.0.1:${(plain.address() as AddressInfo).port}`
    for (const master of [`http://${host}`, host]) expect(await listed('', master)).to.equal('ServiceList')
    plain.close()

    expect(seen.map(({ host, authorization }) => ({ host, authorization }))).to.deep.equal(
      Array(2).fill({ host, authorization: undefined }),
    )
  })

  it('does not trust a certificate that nobody vouches for', async () => {
    expect(String(await rejectionOf(listed('', server.url)))).to.match(/self-signed certificate/)
  })

  for (const master of ['ftp://192.0.2.1', 'https://', 'http://[::1', 'a b:6443']) {
    it(`refuses a URL that is none: ${master}`, () => {
      expect(() => loadKubeConfig('', master)).to.throw(`Cannot use --master ${master}: give a URL such as`)
      expect(() => loadKubeConfig(kubeconfig, master)).to.throw(
        `Cannot use --master ${master}: give a URL such as`,
      )
    })
  }

  describe('in a pod', () => {
    const names = ['KUBERNETES_SERVICE_HOST', 'KUBERNETES_SERVICE_PORT'] as const
    const before = names.map((name) => process.env[name])
    afterEach(() => {
      for (const [i, name] of names.entries()) {
        if (before[i] === undefined) Reflect.deleteProperty(process.env, name)
        else process.env[name] = before[i]
      }
    })

    it('uses the service account, whose token is read anew as kubelet rotates it', () => {
      process.env.KUBERNETES_SERVICE_HOST = 'fd00::1'
      process.env.KUBERNETES_SERVICE_PORT = '443'
      const config = loadKubeConfig('')

      const mounted = '/var/run/secrets/kubernetes.io/serviceaccount'
      expect(config.getCurrentCluster()).to.include({
        server: 'https://[fd00::1]:443',
        caFile: `${mounted}/ca.crt`,
      })
      expect(config.getCurrentUser()!.authProvider).to.deep.equal({
        name: 'tokenFile',
        config: { tokenFile: `${mounted}/token` },
      })
    })

    it('says what to do where there is no pod', () => {
      Reflect.deleteProperty(process.env, 'KUBERNETES_SERVICE_HOST')

      expect(() => loadKubeConfig('')).to.throw('set clientConnection.kubeconfig')
    })
  })

  it('names a kubeconfig that is not there', () => {
    expect(() => loadKubeConfig('/nowhere')).to.throw('Cannot use kubeconfig /nowhere')
  })

  describe('takes what is compressed', () => {
    const open = () => openApiClient(() => loadKubeConfig(kubeconfig))
    const names = Array.from({ length: 2_000 }, (_, i) => `a-service-with-a-long-name-${i}`)

    it('a long list, and reads all of it', async () => {
      server.load('services', names.map((name) => service({ name })) as never)
      const list = (await readJson(await open().get(SERVICES, {}, signal))) as {
        items: { metadata: { name: string } }[]
      }

      expect(list.items.map(({ metadata }) => metadata.name)).to.deep.equal(names.toSorted())
      expect(server.requests.at(-1)!.isZipped).to.equal(true)
    })

    it('but not one that is cut off', async () => {
      server.load('services', names.map((name) => service({ name })) as never)
      server.faults.push({ matches: () => true, cutAfter: 0.5 })

      const error = await rejectionOf(open().get(SERVICES, {}, signal).then(readJson))
      expect(String(error)).to.match(/cut off|aborted/)
    })

    it('the reason of an error', async () => {
      const proxy = createServer((_request, response) => {
        response.writeHead(503, { 'Content-Encoding': 'gzip' }).end(gzipSync('{"message":"no upstream"}'))
      })
      await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
      const url = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`
      const api = openApiClient(() => loadKubeConfig('', url))
      const error = await rejectionOf(api.get(SERVICES, {}, signal))
      proxy.close()

      expect(String(error)).to.contain('API server answered 503: no upstream')
    })
  })

  describe('asks for a certificate of the server that it was told', () => {
    /** With another host than the certificate is for, and perhaps through a proxy. */
    const get = async (host: string, through?: string): Promise<unknown> => {
      writeFileSync(kubeconfig, server.kubeconfig(undefined, through).replace('127.0.0.1', host))
      const api = openApiClient(() => loadKubeConfig(kubeconfig))
      return (await api.get(SERVICES, {}, signal)).statusCode
    }
    const NO_NAME = 'ERR_TLS_CERT_ALTNAME_INVALID'
    let proxy: SocksProxy
    beforeEach(async () => {
      proxy = await SocksProxy.start()
    })
    afterEach(() => {
      proxy.close()
    })

    it('directly', async () => {
      expect(await get('127.0.0.1')).to.equal(200)
      expect(await rejectionOf(get('localhost'))).to.have.property('code', NO_NAME)
    })

    it('through a proxy that speaks SOCKS', async () => {
      expect(await get('127.0.0.1', proxy.url)).to.equal(200)
      expect(await rejectionOf(get('127.0.0.2', proxy.url))).to.have.property('code', NO_NAME)
      expect(proxy.asked).to.have.length(2)
    })
  })

  describe('asks again over the same connection', () => {
    const askThrice = async (): Promise<void> => {
      const api = openApiClient(() => loadKubeConfig(kubeconfig))
      for (let i = 0; i < 3; i++) await readJson(await api.get(SERVICES, {}, signal))
    }

    it('directly', async () => {
      await askThrice()
      expect(server.connections).to.equal(1)
    })

    it('through a proxy that speaks SOCKS', async () => {
      const proxy = await SocksProxy.start()
      writeFileSync(kubeconfig, server.kubeconfig(undefined, proxy.url))
      await askThrice()
      proxy.close()
      expect(proxy.asked).to.have.length(1)
    })

    it('but over another one when that is closed just as it is used', async () => {
      server.faults.push({ matches: () => server.requests.length === 1, resets: true })
      await askThrice()
      expect(server.connections).to.equal(2)
      expect(server.requests).to.have.length(3)
    })

    it('and a new one that is closed is an error', async () => {
      server.faults.push({ matches: () => true, resets: true })
      expect(await rejectionOf(askThrice())).to.have.property('code', 'ECONNRESET')
      expect(server.connections).to.equal(1)
    })
  })

  it('tells of every request: what it was, where it went, what came of it', async () => {
    const outcomes: RequestOutcome[] = []
    const api = openApiClient(
      () => loadKubeConfig(kubeconfig),
      (outcome) => outcomes.push(outcome),
    )
    await readJson(await api.get(SERVICES, {}, signal))
    const watching = await api.get(SERVICES, { watch: 'true', resourceVersion: '1' }, signal)
    watching.destroy()
    await api.send('POST', EVENTS, EVENT, signal)
    await api.send('PATCH', `${EVENTS}/web.1`, { series: SERIES }, signal)
    await rejectionOf(api.send('PATCH', `${EVENTS}/web.2`, { series: SERIES }, signal))
    server.faults.push({ matches: () => true, status: 500 })
    await rejectionOf(api.get(SERVICES, {}, signal))
    server.dead = true
    await rejectionOf(api.get(SERVICES, {}, signal))

    const host = new URL(server.url).host
    expect(outcomes.map(({ seconds: _seconds, ...outcome }) => outcome)).to.deep.equal([
      { verb: 'LIST', method: 'GET', host, code: '200' },
      { verb: 'WATCH', method: 'GET', host, code: '200' },
      { verb: 'POST', method: 'POST', host, code: '201' },
      { verb: 'PATCH', method: 'PATCH', host, code: '200' },
      { verb: 'PATCH', method: 'PATCH', host, code: '404' },
      { verb: 'LIST', method: 'GET', host, code: '500' },
      { verb: 'LIST', method: 'GET', host, code: '<error>' },
    ])
    for (const { seconds } of outcomes) expect(seconds).to.be.within(0, 60)
  })

  describe('sends', () => {
    const open = () => openApiClient(() => loadKubeConfig(kubeconfig))

    it('an object, and a merge patch of it, and returns what has become of it', async () => {
      expect(await open().send('POST', EVENTS, EVENT, signal)).to.deep.equal(EVENT)
      expect(await open().send('PATCH', `${EVENTS}/web.1`, { series: SERIES }, signal)).to.deep.equal({
        ...EVENT,
        series: SERIES,
      })
    })

    const MISSING: readonly [string, 'POST' | 'PATCH', string, number][] = [
      ['an Event that exists', 'POST', EVENTS, 409],
      ['a patch of an Event that does not', 'PATCH', `${EVENTS}/web.2`, 404],
    ]
    for (const [name, method, path, status] of MISSING) {
      it(`${name}: ${status}`, async () => {
        await open().send('POST', EVENTS, EVENT, signal)
        const error = await rejectionOf(open().send(method, path, EVENT, signal))
        expect(error).to.be.instanceOf(ApiError).and.include({ status })
      })
    }

    // Of the stand-in: what it let pass would fail only in a real cluster.
    const INVALID: readonly [string, object][] = [
      ['metadata', { ...EVENT, metadata: { ...EVENT.metadata, name: 'a..b' } }],
      ['metadata', { ...EVENT, metadata: { ...EVENT.metadata, name: `${'a'.repeat(250)}.123` } }],
      ['metadata.namespace', { ...EVENT, metadata: { name: 'web.1', namespace: 'other' } }],
      ['regarding.namespace', { ...EVENT, regarding: { ...EVENT.regarding, namespace: 'other' } }],
      ['regarding', { ...EVENT, regarding: undefined }],
      ['eventTime', { ...EVENT, eventTime: '2026-01-01T00:00:00Z' }],
      ['reportingController', { ...EVENT, reportingController: 'kube ipvs' }],
      ['reportingInstance', { ...EVENT, reportingInstance: 'a'.repeat(129) }],
      ['action', { ...EVENT, action: '' }],
      ['reason', { ...EVENT, reason: 'a'.repeat(129) }],
      ['note', { ...EVENT, note: 'ü'.repeat(513) }],
      ['type', { ...EVENT, type: 'Error' }],
      ['series', { ...EVENT, series: { ...SERIES, count: 1 } }],
      ['deprecatedCount', { ...EVENT, deprecatedCount: 1 }],
      ['no object', []],
    ]
    for (const [field, event] of INVALID) {
      it(`an Event that is invalid: ${field}`, async () => {
        const error = await rejectionOf(open().send('POST', EVENTS, event, signal))
        expect(String(error)).to.equal(`ApiError: API server answered 422: Event is invalid: ${field}`)
        expect(server.events).to.deep.equal([])
        expect(server.refusedEvents.splice(0)).to.deep.equal([field])
      })
    }

    const INVALID_PATCHES: readonly [string, object][] = [
      ['note', { note: 'other' }],
      ['series', { series: { count: 2 } }],
      ['reason', { reason: null }],
    ]
    for (const [field, patch] of INVALID_PATCHES) {
      it(`a patch that is invalid: ${field}`, async () => {
        await open().send('POST', EVENTS, EVENT, signal)
        const error = await rejectionOf(open().send('PATCH', `${EVENTS}/web.1`, patch, signal))
        expect(error).to.include({ status: 422 })
        expect(server.events).to.deep.equal([EVENT])
        expect(server.refusedEvents.splice(0)).to.deep.equal([field])
      })
    }

    it('an invalid Event that a test does not expect', async () => {
      const other = await ApiServer.start()
      writeFileSync(kubeconfig, other.kubeconfig())
      await rejectionOf(open().send('POST', EVENTS, {}, signal))

      expect(String(await rejectionOf(other.close()))).to.equal('Error: Events were refused: apiVersion')
    })
  })
})
