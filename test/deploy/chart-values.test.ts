/** values.schema.json refuses what is wrong, by its name, and takes each field that the program has. */
import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { fieldPaths } from '../../src/config/schema.ts'
import { SCHEDULER_NAMES } from '../../src/model/schedulers.ts'
import { template, type Values } from '../support/chart.ts'

/** Good but for what is added. */
const GOOD: Values = { apiServer: 'https://192.0.2.1:6443' }

/** Where the fault is, as helm has to name it, and what makes it. */
type Bad = readonly [path: string, values: Values]

const required = (terms: unknown): Values => ({
  affinity: {
    nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: terms } },
  },
})
const TERMS = '/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms'

const PLACES: readonly Bad[] = [
  ["': additional properties 'imgae'", { imgae: {} }],
  ["': additional properties 'replicas'", { replicas: 3 }],
  ['/image', { image: 'kube-ipvs:0.1.0' }],
  ["/image': additional properties 'tagg'", { image: { tagg: '0.1.0' } }],
  ['/image/repository', { image: { repository: 'kube-ipvs:0.1.0' } }],
  ['/image/repository', { image: { repository: '' } }],
  ['/image/tag', { image: { tag: 0.1 } }],
  ['/image/tag', { image: { tag: 'a tag' } }],
  ['/image/digest', { image: { digest: 'sha256:0123' } }],
  ['/image/pullPolicy', { image: { pullPolicy: 'always' } }],
  ['/image/pullSecrets', { image: { pullSecrets: 'registry' } }],
  ['/image/pullSecrets/0', { image: { pullSecrets: [{ name: 'registry' }] } }],
  ['/replaceKubeProxy', { replaceKubeProxy: 'yes' }],
  ['/pool', { pool: 'Blue Pool' }],
  ['/pool', { pool: 'a'.repeat(41) }],
  ['/apiServer', { apiServer: '192.0.2.1:6443' }],
  ['/apiServer', { apiServer: 'http://192.0.2.1:8080' }],
  ['/apiServer', { existingConfigMap: 'proxies' }],
  ['/existingConfigMap', { apiServer: '', existingConfigMap: 'kube_proxy' }],
  ['/nodeSelector', { nodeSelector: ['linux'] }],
  ['/nodeSelector/gpu', { nodeSelector: { gpu: true } }],
  ['/nodeSelector/kube-ipvs.io~1pool', { nodeSelector: { 'kube-ipvs.io/pool': 'lc' } }],
  ['/tolerations', { tolerations: 'all' }],
  ["/tolerations/0': additional properties 'kye'", { tolerations: [{ kye: 'example.com/a' }] }],
  ['/tolerations/0/operator', { tolerations: [{ operator: 'Exist' }] }],
  ["/affinity': additional properties 'podAffinity'", { affinity: { podAffinity: {} } }],
  [TERMS, required([])],
  [
    `${TERMS}/0/matchExpressions/0/operator`,
    required([{ matchExpressions: [{ key: 'a', operator: 'Not' }] }]),
  ],
  ['/priorityClassName', { priorityClassName: 'System Critical' }],
  ['/podLabels/app.kubernetes.io~1name', { podLabels: { 'app.kubernetes.io/name': 'proxy' } }],
  ['/podLabels/team', { podLabels: { team: 'net and more' } }],
  ['/podAnnotations/port', { podAnnotations: { port: 10_249 } }],
]

const WORK: readonly Bad[] = [
  ["/config': additional properties 'schedular'", { config: { schedular: 'lc' } }],
  ["/config/ipvs': additional properties 'schedular'", { config: { ipvs: { schedular: 'lc' } } }],
  ['/config/mode', { config: { mode: 'iptables' } }],
  ['/config/ipvs/scheduler', { config: { ipvs: { scheduler: 'least' } } }],
  ['/config/ipvs/syncPeriod', { config: { ipvs: { syncPeriod: 30 } } }],
  ['/config/ipvs/excludeCIDRs/0', { config: { ipvs: { excludeCIDRs: ['192.0.2.1'] } } }],
  ['/config/ipvs/excludeCIDRs/0', { config: { ipvs: { excludeCIDRs: ['192.0.2.0/33'] } } }],
  ['/config/ipvs/excludeCIDRs/0', { config: { ipvs: { excludeCIDRs: ['192.0.256.0/24'] } } }],
  ['/config/clientConnection/kubeconfig', { config: { clientConnection: { kubeconfig: '/etc/other' } } }],
  ['/config/conntrack/maxPerCore', { config: { conntrack: { maxPerCore: 2 ** 31 } } }],
  ['/config/conntrack/min', { config: { conntrack: { min: -1 } } }],
  ['/config/clusterCIDR', { config: { clusterCIDR: '10.244.0.0' } }],
  ['/config/hostnameOverride', { config: { hostnameOverride: 'node-1' } }],
  ['/config/healthzBindAddress', { config: { healthzBindAddress: '127.0.0.1:10256' } }],
  ['/config/healthzBindAddress', { config: { healthzBindAddress: '0.0.0.0:0' } }],
  ['/config/healthzBindAddress', { config: { healthzBindAddress: ':10256' } }],
  ['/config/metricsBindAddress', { config: { metricsBindAddress: 'all' } }],
  ['/config/metricsBindAddress', { config: { metricsBindAddress: '0.0.0.0:65536' } }],
  ['/config/oomScoreAdj', { config: { oomScoreAdj: -1001 } }],
  ['/config/nodePortAddresses/0', { config: { nodePortAddresses: ['first'] } }],
  ['/config/nodePortAddresses', { config: { nodePortAddresses: ['primary', '192.0.2.0/24'] } }],
  ['/externalAddresses/shop/0', { externalAddresses: { shop: ['203.0.113.7'] } }],
  ["/externalAddresses': additional properties 'Shop'", { externalAddresses: { Shop: [] } }],
  ["/externalAddresses': additional properties", { externalAddresses: { ['a'.repeat(64)]: [] } }],
  ['/vipBinding', { vipBinding: 'routes' }],
  ['/statusPage', { statusPage: 'true' }],
  ['/serviceMetrics/servers', { serviceMetrics: { servers: 1001 } }],
  ['/serviceMetrics/servers', { serviceMetrics: { servers: '100' } }],
  ['/serviceMetrics/namespaces', { serviceMetrics: { namespaces: 'shop' } }],
  ['/extraArgs/0', { extraArgs: ['v=4'] }],
  ['/extraArgs/1', { extraArgs: ['--v=4', '--config=/etc/other'] }],
  ['/extraArgs/0', { extraArgs: ['--vip-binding=route'] }],
  ['/seccompProfile', { seccompProfile: '../kube-ipvs.json' }],
  ['/seccompProfile', { seccompProfile: '/etc/kube-ipvs.json' }],
  ['/seccompProfile', { seccompProfile: { type: 'Unconfined' } }],
  ['/appArmorProfile', { appArmorProfile: 'localhost/kube-ipvs' }],
  ["/resources/requests': additional properties 'mem'", { resources: { requests: { mem: '1Gi' } } }],
  ['/resources/requests/cpu', { resources: { requests: { cpu: '100mm' } } }],
  ['/resources/limits/memory', { resources: { limits: { memory: '128MB' } } }],
  ['/updateStrategy/type', { updateStrategy: { type: 'Recreate' } }],
  [
    '/updateStrategy/rollingUpdate/maxUnavailable',
    { updateStrategy: { rollingUpdate: { maxUnavailable: 0 } } },
  ],
  ["/updateStrategy/rollingUpdate': add", { updateStrategy: { rollingUpdate: { maxSurge: 1 } } }],
  ["/podMonitor': additional properties 'enable'", { podMonitor: { enable: true } }],
  ['/alerts/enabled', { alerts: { enabled: 'on' } }],
  ['/dashboard/labels/grafana_dashboard', { dashboard: { labels: { grafana_dashboard: 1 } } }],
]

interface Schema {
  readonly $ref?: string
  readonly type?: string | readonly string[]
  readonly enum?: readonly unknown[]
  readonly additionalProperties?: unknown
  readonly properties?: Readonly<Record<string, Schema>>
  readonly items?: Schema
  readonly definitions?: Readonly<Record<string, Schema>>
}
const ROOT = JSON.parse(readFileSync('deploy/chart/values.schema.json', 'utf8')) as Schema
const resolve = (schema: Schema): Schema =>
  schema.$ref === undefined ? schema : ROOT.definitions![schema.$ref.replace('#/definitions/', '')]!

/** Paths of the values that have no other ones in them. */
function leaves(schema: Schema, path = ''): string[] {
  const { properties } = resolve(schema)
  if (properties === undefined) return [path]
  return Object.entries(properties).flatMap(([name, inner]) =>
    leaves(inner, path === '' ? name : `${path}.${name}`),
  )
}

/** Every schema with properties, at any depth. */
function sections(schema: Schema): Schema[] {
  const inner = [...Object.values(schema.properties ?? {}), ...(schema.items ? [schema.items] : [])]
  return [...(schema.properties ? [schema] : []), ...inner.flatMap(sections)]
}

describe('the values of the chart', function () {
  this.timeout(120_000)

  it('are taken where they are good', async () => {
    const { isGood, stderr } = await template(GOOD)
    expect(isGood, stderr).to.equal(true)
  })

  it('are taken at their limits', async () => {
    const config = {
      clientConnection: { kubeconfig: '/var/lib/kube-proxy/kubeconfig.conf' },
      healthzBindAddress: '255.255.255.255:65535',
      ipvs: {
        excludeCIDRs: ['0.0.0.0/0', '198.51.100.255/32', '::/0', '2001:db8::1/128', '::ffff:192.0.2.0/120'],
      },
      metricsBindAddress: '2001:db8::1',
      nodePortAddresses: ['10.0.0.0/8', 'fd00::/8'],
    }
    const { isGood, stderr } = await template({
      ...GOOD,
      config,
      externalAddresses: { ['a'.repeat(63)]: [] },
    })
    expect(isGood, stderr).to.equal(true)
  })

  for (const [path, values] of [...PLACES, ...WORK]) {
    it(`are refused: ${JSON.stringify(values)}`, async () => {
      const { isGood, stderr } = await template({ ...GOOD, ...values })
      expect(isGood).to.equal(false)
      expect(stderr).to.contain("values don't meet the specifications of the schema")
      expect(stderr).to.contain(`at '${path}`)
    })
  }

  it('have every field of the configuration, and every scheduler', () => {
    const config = ROOT.properties!.config!
    expect(leaves(config).sort()).to.deep.equal(fieldPaths().sort())
    const { scheduler } = resolve(config.properties!.ipvs!).properties!
    expect(scheduler!.enum!.filter(Boolean)).to.deep.equal([...SCHEDULER_NAMES])
  })

  it('have no section that would take a misspelt name', () => {
    const all = [ROOT, ...Object.values(ROOT.definitions!)].flatMap(sections)
    expect(all.length).to.be.above(20)
    for (const section of all)
      expect(section.additionalProperties, Object.keys(section.properties!).join()).to.equal(false)
  })
})
