/** An upgrade of the chart keeps what somebody has edited in its ConfigMap. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { renderChart, objectsIn, templateInCluster, type Values } from '../support/chart.ts'
import type { Manifest } from '../support/deploy.ts'

type ConfigMap = Manifest & {
  readonly metadata: { readonly annotations: Record<string, string> }
  readonly data: Record<string, string>
}

const resources = (groupVersion: string, kinds: readonly string[]): object => ({
  kind: 'APIResourceList',
  groupVersion,
  resources: kinds.map((kind) => ({
    name: `${kind.toLowerCase()}s`,
    kind,
    namespaced: !kind.startsWith('Cluster'),
    verbs: ['get'],
  })),
})
const group = (name: string): object => {
  const version = { groupVersion: `${name}/v1`, version: 'v1' }
  return { name, versions: [version], preferredVersion: version }
}
const RBAC = 'rbac.authorization.k8s.io'
/** What helm asks an API server before it looks for an object. */
const DISCOVERY: Readonly<Record<string, object>> = {
  '/version': { major: '1', minor: '36', gitVersion: 'v1.36.2' },
  '/api': { kind: 'APIVersions', versions: ['v1'] },
  '/apis': { kind: 'APIGroupList', groups: [group('apps'), group(RBAC)] },
  '/api/v1': resources('v1', ['ConfigMap', 'ServiceAccount']),
  '/apis/apps/v1': resources('apps/v1', ['DaemonSet']),
  [`/apis/${RBAC}/v1`]: resources(`${RBAC}/v1`, ['ClusterRole', 'ClusterRoleBinding']),
}

const FIRST: Values = { apiServer: 'https://192.0.2.1:6443', config: { ipvs: { scheduler: 'rr' } } }
const configMapIn = (objects: readonly Manifest[]): ConfigMap =>
  objects.find(({ kind }) => kind === 'ConfigMap') as ConfigMap

describe('an upgrade of the chart', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-upgrade-'))
  const kubeconfig = join(folder, 'kubeconfig')
  let server: Server
  /** The ConfigMap in the cluster. */
  let there: ConfigMap | undefined
  /** The node selector of kube-proxy's DaemonSet. */
  let nodeSelector: Readonly<Record<string, string>>

  before(async () => {
    server = createServer(({ url }, response) => {
      const [path] = url!.split('?')
      const kubeProxy = {
        apiVersion: 'apps/v1',
        kind: 'DaemonSet',
        spec: { template: { spec: { nodeSelector } } },
      }
      const objects = { '/configmaps/kube-ipvs': there, '/daemonsets/kube-proxy': kubeProxy }
      const [, object = DISCOVERY[path!]] =
        Object.entries(objects).find(([name]) => path!.endsWith(name)) ?? []
      response.writeHead(object === undefined ? 404 : 200, { 'content-type': 'application/json' })
      response.end(
        JSON.stringify(object ?? { kind: 'Status', status: 'Failure', reason: 'NotFound', code: 404 }),
      )
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as AddressInfo
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [{ name: 'a', cluster: { server: `http://127.0.0.1:${port}` } }],
      contexts: [{ name: 'a', context: { cluster: 'a', user: 'a' } }],
      'current-context': 'a',
      users: [{ name: 'a', user: {} }],
    }
    writeFileSync(kubeconfig, JSON.stringify(config))
  })
  after(() => {
    server.close()
    rmSync(folder, { recursive: true })
  })

  /** What an upgrade with these values would send, with an edited ConfigMap in the cluster. */
  async function upgrade(values: Values): Promise<ConfigMap> {
    const { isGood, stdout, stderr } = await templateInCluster(values, kubeconfig)
    expect(isGood, stderr).to.equal(true)
    return configMapIn(objectsIn(stdout))
  }

  beforeEach(async () => {
    const made = configMapIn(await renderChart(FIRST))
    const release = {
      'meta.helm.sh/release-name': 'kube-ipvs',
      'meta.helm.sh/release-namespace': 'kube-system',
    }
    there = {
      ...made,
      metadata: {
        ...made.metadata,
        labels: { 'app.kubernetes.io/managed-by': 'Helm' },
        annotations: { ...made.metadata.annotations, ...release },
      },
      data: {
        ...made.data,
        'config.conf': made.data['config.conf']!.replace('scheduler: rr', 'scheduler: lc'),
        'external-addresses.yaml': 'namespaces: {}\n',
      },
    } as ConfigMap
  })

  it('to another image leaves the files as they are in the cluster', async () => {
    const { data } = await upgrade({ ...FIRST, image: { tag: '0.2.0' }, statusPage: true })
    expect(data).to.deep.equal(there!.data)
    expect(data['config.conf']).to.contain('scheduler: lc')
  })

  it('to another configuration writes that one', async () => {
    const values = { ...FIRST, config: { ipvs: { scheduler: 'sh' } } }
    const { data } = await upgrade(values)
    expect(data).to.deep.equal(configMapIn(await renderChart(values)).data)
    expect(data['config.conf']).to.contain('scheduler: sh')
  })

  it('writes the files where there are none yet', async () => {
    there = undefined
    const { data } = await upgrade(FIRST)
    expect(data['config.conf']).to.contain('scheduler: rr')
  })

  it('is refused where kube-proxy would be on its nodes, too', async () => {
    nodeSelector = { 'kubernetes.io/os': 'linux' }
    const values = { replaceKubeProxy: true }
    const { isGood, stderr } = await templateInCluster(values, kubeconfig)
    expect(isGood).to.equal(false)
    expect(stderr).to.contain(
      "kube-proxy's DaemonSet does not keep to nodes with kube-ipvs.io/kube-proxy=true",
    )

    const elsewise = { ...values, existingConfigMap: 'kube-proxy' }
    expect((await templateInCluster(elsewise, kubeconfig)).isGood).to.equal(true)
    nodeSelector = { 'kube-ipvs.io/kube-proxy': 'true' }
    expect((await templateInCluster(values, kubeconfig)).isGood).to.equal(true)
  })

  it('to another ConfigMap, and an uninstall, leave this one behind', () => {
    expect(there!.metadata.annotations['helm.sh/resource-policy']).to.equal('keep')
  })
})
