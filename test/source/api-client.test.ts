import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { loadKubeConfig, openApiClient, readJson, type RequestOutcome } from '../../src/source/api-client.ts'
import { ApiServer } from '../support/api-server.ts'
import { rejectionOf } from '../support/rejection.ts'

const SERVICES = '/api/v1/services'
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
  afterEach(() => server.close())

  /** The kubeconfig.conf of kubeadm's ConfigMap, but for where the Pod's files are. */
  function kubeadmKubeconfig(url: string): string {
    const { clusters } = JSON.parse(server.kubeconfig()) as {
      clusters: { cluster: { 'certificate-authority-data': string } }[]
    }
    const secrets = join(folder, 'serviceaccount')
    mkdirSync(secrets)
    const certificate = Buffer.from(clusters[0]!.cluster['certificate-authority-data'], 'base64')
    writeFileSync(join(secrets, 'ca.crt'), certificate)
    writeFileSync(join(secrets, 'token'), server.token)
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

  const listed = async (file: string, master?: string): Promise<unknown> => {
    const api = openApiClient(() => loadKubeConfig(file, master))
    return ((await readJson(await api.get(SERVICES, {}, signal))) as { kind: string }).kind
  }

  it("takes kubeadm's kubeconfig, with its files", async () => {
    expect(await listed(kubeadmKubeconfig(server.url))).to.equal('ServiceList')
  })

  it('takes another URL for the API server, with the credentials of the kubeconfig', async () => {
    const file = kubeadmKubeconfig('https://192.0.2.1:6443')

    expect(await listed(file, server.url)).to.equal('ServiceList')
  })

  it('takes a URL without a kubeconfig, and then has no credentials', async () => {
    const config = loadKubeConfig('', 'http://127.0.0.1:8001')

    expect(config.getCurrentCluster()!.server).to.equal('http://127.0.0.1:8001')
  })

  it('names a kubeconfig that is not there', () => {
    expect(() => loadKubeConfig('/nowhere')).to.throw('Cannot use kubeconfig /nowhere')
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
    await rejectionOf(api.send('POST', '/apis/events.k8s.io/v1/namespaces/a/events', { metadata: {} }, signal))
    server.faults.push({ matches: () => true, status: 500 })
    await rejectionOf(api.get(SERVICES, {}, signal))
    server.dead = true
    await rejectionOf(api.get(SERVICES, {}, signal))

    const host = new URL(server.url).host
    expect(outcomes.map(({ seconds: _seconds, ...outcome }) => outcome)).to.deep.equal([
      { verb: 'LIST', method: 'GET', host, code: '200' },
      { verb: 'WATCH', method: 'GET', host, code: '200' },
      { verb: 'POST', method: 'POST', host, code: '422' },
      { verb: 'LIST', method: 'GET', host, code: '500' },
      { verb: 'LIST', method: 'GET', host, code: '<error>' },
    ])
    for (const { seconds } of outcomes) expect(seconds).to.be.within(0, 60)
  })
})
