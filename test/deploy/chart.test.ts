/** deploy/chart: what helm says of it, and that it has the same objects as kustomize, for the same choices. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parse, stringify } from 'yaml'
import packageJson from '../../package.json' with { type: 'json' }
import { chartReadme } from '../../scripts/chart-readme.ts'
import { parseCommandLine } from '../../src/command-line.ts'
import { parseConfig } from '../../src/config/config.ts'
import { parseExternalPolicy } from '../../src/config/external-policy.ts'
import { checkManifest } from '../support/api-types.ts'
import { CHART, helm, objectsIn, renderChart, template, type Values } from '../support/chart.ts'
import { type Container, type Manifest, manifestsOf, podSpecOf } from '../support/deploy.ts'

const API_SERVER = 'https://kubernetes-api.example.com:6443'
const BASE = '../deploy/base'
const OVERLAY = '../deploy/overlays/replace-kube-proxy'

const COMPONENTS = ['seccomp', 'apparmor']

/** The same choices, said to helm and to kustomize. */
interface Choice {
  readonly name: string
  readonly values: Values
  readonly kustomization: object
  readonly namespace?: string
  /** More files beside the kustomization. */
  readonly files?: Readonly<Record<string, string>>
}

const daemonSetPatch = (operations: readonly object[]): object => ({
  target: { kind: 'DaemonSet' },
  patch: JSON.stringify(operations),
})
const add = (path: string, value: unknown): object => ({ op: 'add', path, value })
const POD = '/spec/template/spec'

/** What docs/operations.md tells who wants a pool of nodes with another ConfigMap. */
const pool = (): object => {
  const text = readFileSync('docs/operations.md', 'utf8')
  const [, block] = /^ {2}```yaml\n([^]*?)^ {2}```$/m.exec(text)!
  return parse(block!.replaceAll(/^ {2}/gm, '').replace('../my-cluster', OVERLAY)) as object
}

const alertGroups = (): object => parse(readFileSync('deploy/monitoring/alerts.yaml', 'utf8')) as object
const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`
const awayFromPool = { key: 'kube-ipvs.io/pool', operator: 'NotIn', values: ['lc'] }
const config = {
  bindAddress: null,
  clusterCIDR: '10.244.0.0/16,fd00:10:244::/48',
  conntrack: { min: 262_144, tcpCloseWaitTimeout: '30m0s' },
  healthzBindAddress: '0.0.0.0:20256',
  ipvs: { scheduler: 'lc', excludeCIDRs: ['192.0.2.0/24'], strictARP: true, tcpTimeout: '1h15m' },
  metricsBindAddress: '[::]:20249',
  nodePortAddresses: ['primary'],
}
const externalAddresses = { shop: ['203.0.113.0/24', '2001:db8:1::/64'], '*': ['198.51.100.0/24'] }

/** The ConfigMap of deploy/base with another configuration, as a kustomization of one's own would have it. */
function configMapPatch(): object {
  const [{ data }] = manifestsOf('deploy/base/configmap.yaml') as unknown as [
    { data: Record<string, string> },
  ]
  const file = { ...(parse(data['config.conf']!) as object), ...config }
  const policy = { apiVersion: 'kube-ipvs.io/v1alpha1', kind: 'ExternalAddressPolicy' }
  const patch = [
    add('/data/config.conf', stringify(file)),
    add('/data/external-addresses.yaml', stringify({ ...policy, namespaces: externalAddresses })),
  ]
  return { target: { kind: 'ConfigMap', name: 'kube-ipvs' }, patch: JSON.stringify(patch) }
}

const portsPatch = (): object =>
  daemonSetPatch(
    [20_256, 20_249].flatMap((port, i) =>
      ['containerPort', 'hostPort'].map((name) => add(`${POD}/containers/0/ports/${i}/${name}`, port)),
    ),
  )

const PLACES: readonly Choice[] = [
  { name: 'a ConfigMap of its own', values: { apiServer: API_SERVER }, kustomization: { resources: [BASE] } },
  {
    name: "kube-proxy's place",
    values: { replaceKubeProxy: true },
    kustomization: { resources: [OVERLAY] },
  },
  {
    name: 'an image by its tag',
    values: {
      apiServer: API_SERVER,
      image: { repository: 'registry.example.com:5000/net/kube-ipvs', tag: '0.1.1' },
    },
    kustomization: {
      resources: [BASE],
      images: [{ name: 'kube-ipvs', newName: 'registry.example.com:5000/net/kube-ipvs', newTag: '0.1.1' }],
    },
  },
  {
    name: 'an image by its digest',
    values: { replaceKubeProxy: true, image: { tag: 'none', digest: DIGEST } },
    kustomization: { resources: [OVERLAY], images: [{ name: 'kube-ipvs', digest: DIGEST }] },
  },
  {
    name: 'another namespace',
    namespace: 'proxies',
    values: { apiServer: API_SERVER },
    kustomization: { resources: [BASE], namespace: 'proxies' },
  },
  {
    name: 'a pool of nodes, as docs/operations.md has it',
    values: { replaceKubeProxy: true, pool: 'lc', existingConfigMap: 'kube-proxy-lc' },
    kustomization: pool(),
  },
  {
    name: 'nodes, taints, priority, resources',
    values: {
      replaceKubeProxy: true,
      nodeSelector: { 'example.com/proxy': 'ipvs' },
      tolerations: [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }],
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchExpressions: [awayFromPool] }],
          },
        },
      },
      priorityClassName: 'network-critical',
      resources: { requests: { cpu: 0.25 }, limits: { memory: '512Mi' } },
    },
    kustomization: {
      resources: [OVERLAY],
      patches: [
        daemonSetPatch([
          add(`${POD}/nodeSelector/example.com~1proxy`, 'ipvs'),
          add(`${POD}/tolerations`, [{ key: 'node-role.kubernetes.io/control-plane', effect: 'NoSchedule' }]),
          add(
            `${POD}/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms/0/` +
              'matchExpressions/0',
            awayFromPool,
          ),
          add(`${POD}/priorityClassName`, 'network-critical'),
          add(`${POD}/containers/0/resources`, {
            requests: { cpu: 0.25, memory: '128Mi' },
            limits: { memory: '512Mi' },
          }),
        ]),
      ],
    },
  },
]

const WORK: readonly Choice[] = [
  {
    name: 'a configuration with other ports, and a list of external addresses',
    values: { apiServer: API_SERVER, config, externalAddresses },
    kustomization: { resources: [BASE], patches: [configMapPatch(), portsPatch()] },
  },
  {
    name: 'flags',
    values: {
      apiServer: API_SERVER,
      vipBinding: 'route',
      statusPage: true,
      serviceMetrics: { servers: 100, namespaces: ['shop', 'pay'] },
      extraArgs: ['--v=4', '--local-socket='],
    },
    kustomization: {
      resources: [BASE],
      patches: [
        daemonSetPatch(
          [
            '--vip-binding=route',
            '--status-page',
            '--service-metrics=100',
            '--service-metrics-namespaces=shop,pay',
            '--v=4',
            '--local-socket=',
          ].map((flag) => add(`${POD}/containers/0/args/-`, flag)),
        ),
      ],
    },
  },
  {
    name: 'updates by hand, a private registry, annotations and labels',
    values: {
      replaceKubeProxy: true,
      image: { pullPolicy: 'Always', pullSecrets: ['registry'] },
      updateStrategy: { type: 'OnDelete' },
      podAnnotations: { 'example.com/owner': 'net' },
      podLabels: { team: 'net' },
    },
    kustomization: {
      resources: [OVERLAY],
      patches: [
        daemonSetPatch([
          { op: 'replace', path: '/spec/updateStrategy', value: { type: 'OnDelete' } },
          add('/spec/template/metadata/annotations/example.com~1owner', 'net'),
          add('/spec/template/metadata/labels/team', 'net'),
          add(`${POD}/imagePullSecrets`, [{ name: 'registry' }]),
          add(`${POD}/containers/0/imagePullPolicy`, 'Always'),
          add(`${POD}/initContainers/0/imagePullPolicy`, 'Always'),
        ]),
      ],
    },
  },
  {
    name: 'profiles that are on every node',
    values: { replaceKubeProxy: true, seccompProfile: 'kube-ipvs.json', appArmorProfile: 'kube-ipvs' },
    kustomization: {
      resources: [OVERLAY],
      components: COMPONENTS.map((name) => `../deploy/components/${name}`),
    },
  },
  {
    name: 'a monitor, alerts and a dashboard',
    values: {
      replaceKubeProxy: true,
      podMonitor: { enabled: true, labels: { release: 'prometheus' } },
      alerts: { enabled: true, labels: { release: 'prometheus' } },
      dashboard: { enabled: true },
    },
    kustomization: {
      resources: [OVERLAY, 'monitoring.yaml'],
      configMapGenerator: [
        {
          name: 'kube-ipvs-dashboard',
          namespace: 'kube-system',
          files: ['kube-ipvs.json'],
          options: { disableNameSuffixHash: true, labels: { grafana_dashboard: '1' } },
        },
      ],
    },
    files: {
      'kube-ipvs.json': readFileSync('deploy/monitoring/dashboard.json', 'utf8'),
      'monitoring.yaml': [
        {
          kind: 'PodMonitor',
          spec: {
            selector: {
              matchLabels: { 'app.kubernetes.io/name': 'kube-ipvs' },
              matchExpressions: [{ key: 'kube-ipvs.io/pool', operator: 'DoesNotExist' }],
            },
            podMetricsEndpoints: [
              {
                port: 'metrics',
                relabelings: [
                  { targetLabel: 'job', replacement: 'kube-proxy' },
                  { sourceLabels: ['__meta_kubernetes_pod_node_name'], targetLabel: 'instance' },
                ],
              },
            ],
          },
        },
        { kind: 'PrometheusRule', spec: alertGroups() },
      ]
        .map((object) =>
          stringify({
            apiVersion: 'monitoring.coreos.com/v1',
            metadata: { name: 'kube-ipvs', namespace: 'kube-system', labels: { release: 'prometheus' } },
            ...object,
          }),
        )
        .join('---\n'),
    },
  },
]
const CHOICES = [...PLACES, ...WORK]

/** What only the chart's own ConfigMap has: by these an upgrade knows what to keep. */
const KEPT = ['helm.sh/resource-policy', 'kube-ipvs.io/values']

type WithData = Manifest & {
  readonly metadata: { readonly annotations?: Record<string, string> }
  readonly data?: Record<string, string>
}

/** Objects in one order; the files in ConfigMaps as what they say, for helm writes keys in another order. */
function comparable(objects: readonly Manifest[]): object[] {
  return objects
    .toSorted((a, b) => (`${a.kind} ${a.metadata.name}` < `${b.kind} ${b.metadata.name}` ? -1 : 1))
    .map((object) => {
      const { data, metadata, ...rest } = structuredClone(object) as WithData
      if (data === undefined) return { ...rest, metadata }
      for (const name of KEPT) Reflect.deleteProperty(metadata.annotations ?? {}, name)
      if (Object.keys(metadata.annotations ?? {}).length === 0)
        Reflect.deleteProperty(metadata, 'annotations')
      const files = Object.entries(data).map(([name, text]) => [name, parse(text) as unknown])
      return { ...rest, metadata, data: Object.fromEntries(files) as object }
    })
}

function kustomize(root: string, { kustomization, files = {} }: Choice): Manifest[] {
  const folder = mkdtempSync(join(root, 'choice-'))
  writeFileSync(join(folder, 'kustomization.yaml'), stringify(kustomization))
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text)
  const kubectl = execFileSync('scripts/kubectl', { encoding: 'utf8' }).trim()
  return objectsIn(execFileSync(kubectl, ['kustomize', folder], { encoding: 'utf8' }))
}

describe('the chart', () => {
  const root = mkdtempSync(join(tmpdir(), 'kube-ipvs-chart-'))
  const rendered = new Map<Choice, Manifest[]>()
  before(async () => {
    for (const name of ['base', 'overlays', 'components'])
      cpSync(`deploy/${name}`, join(root, 'deploy', name), { recursive: true })
    for (const choice of CHOICES) rendered.set(choice, await renderChart(choice.values, choice.namespace))
  })
  after(() => {
    rmSync(root, { recursive: true })
  })

  it('is one that helm has nothing to say against', async () => {
    for (const values of [{}, WORK[0]!.values, WORK[3]!.values, WORK[4]!.values]) {
      const { isGood, stdout } = await helm(['lint', '--strict', CHART], { values })
      expect(isGood, stdout).to.equal(true)
      // An icon is for pages that list charts.
      const lines = stdout.split('\n').filter((line) => line.startsWith('['))
      expect(lines).to.deep.equal(['[INFO] Chart.yaml: icon is recommended'])
    }
  })

  it('has the version of the program', () => {
    const chart = parse(readFileSync(join(CHART, 'Chart.yaml'), 'utf8')) as Record<string, string>
    expect(chart).to.include({ version: packageJson.version, appVersion: packageJson.version })
  })

  it('has a README made of values.yaml and the schema: node scripts/chart-readme.ts', async () => {
    expect(readFileSync(join(CHART, 'README.md'), 'utf8')).to.equal(await chartReadme())
  })

  it('is packed with the alerts and the dashboard of deploy/monitoring', async () => {
    const { isGood, stderr } = await helm(['package', CHART, '--destination', root])
    expect(isGood, stderr).to.equal(true)
    const folder = join(root, 'packed')
    mkdirSync(folder)
    execFileSync('tar', ['xzf', join(root, `kube-ipvs-${packageJson.version}.tgz`), '-C', folder])
    for (const name of ['alerts.yaml', 'dashboard.json'])
      expect(readFileSync(join(folder, 'kube-ipvs/files', name), 'utf8')).to.equal(
        readFileSync(`deploy/monitoring/${name}`, 'utf8'),
      )
  })

  it('is whole in the copy that scripts/publish makes of it', async () => {
    const [copy] = /^ *cp .* deploy\/chart .*$/m.exec(readFileSync('scripts/publish', 'utf8'))!
    execFileSync('bash', ['-c', copy], { env: { ...process.env, work: root } })
    const { isGood, stderr } = await helm(['package', join(root, 'chart'), '--destination', root])
    expect(isGood, stderr).to.equal(true)
  })

  it('says what is missing, what would be ignored, and what would not be scraped', async () => {
    const nothing = await template({})
    expect(nothing.stderr).to.contain('apiServer: give the URL of the API server')
    const unreachable = await template({ apiServer: API_SERVER, podMonitor: { enabled: true } })
    expect(unreachable.stderr).to.contain('podMonitor.enabled: set config.metricsBindAddress')
    for (const ignored of [{ config }, { externalAddresses }]) {
      const { stderr } = await template({ replaceKubeProxy: true, ...ignored })
      expect(stderr).to.contain('edit the ConfigMap kube-proxy instead')
    }
    const elsewhere = await template({ replaceKubeProxy: true }, 'default')
    expect(elsewhere.stderr).to.contain(
      "kube-proxy's ConfigMap is in kube-system: install with -n kube-system",
    )
  })

  it('takes names that look like other things, and what is empty', async () => {
    const oneOf = async (values: Values, kind: string): Promise<Manifest> =>
      (await renderChart(values)).find((object) => object.kind === kind)!
    const odd = {
      existingConfigMap: '1e3',
      priorityClassName: '123',
      image: { pullSecrets: ['true', '0755'] },
    }
    for (const values of [
      odd,
      { apiServer: API_SERVER, pool: '123', nodeSelector: { 'kubernetes.io/os': null }, tolerations: [] },
      { apiServer: API_SERVER, nodeSelector: { 'kubernetes.io/os': null }, extraArgs: null, podLabels: null },
    ])
      checkManifest(await oneOf(values, 'DaemonSet'))
    const unlabelled = { apiServer: API_SERVER, alerts: { enabled: true, labels: null } }
    expect((await oneOf(unlabelled, 'PrometheusRule')).metadata).not.to.have.property('labels')
  })

  it('takes no part of an IPv6 address for a port', async () => {
    const addresses = { healthzBindAddress: '2001:db8::10', metricsBindAddress: '[2001:db8::10]:20249' }
    const objects = await renderChart({ apiServer: API_SERVER, config: addresses })
    const [main] = podSpecOf(objects.find(({ kind }) => kind === 'DaemonSet')!).containers
    expect(JSON.stringify(main)).to.contain('"containerPort":10256').and.to.contain('"containerPort":20249')
  })

  describe('has the objects that kustomize has, for', () => {
    for (const choice of CHOICES) {
      it(choice.name, () => {
        const objects = rendered.get(choice)!

        expect(comparable(objects)).to.deep.equal(comparable(kustomize(root, choice)))
        for (const object of objects) {
          const { annotations = {} } = object.metadata as { annotations?: Record<string, string> }
          const isOwn = object.kind === 'ConfigMap' && object.metadata.name === 'kube-ipvs'
          expect(Object.keys(annotations)).to.deep.equal(isOwn ? KEPT : [])
          if (!object.apiVersion.startsWith('monitoring.')) checkManifest(object)
        }
      })
    }
  })

  it('has containers with no more privileges than deploy/base, whatever is chosen', () => {
    // Which ones there can be is what kustomize says above.
    const withoutProfiles = ({
      seccompProfile,
      appArmorProfile,
      ...rest
    }: Container['securityContext']): object => {
      expect(seccompProfile?.type).to.not.equal('Unconfined')
      expect(appArmorProfile?.type).to.not.equal('Unconfined')
      return rest
    }
    const containersOf = (daemonSet: Manifest): Container[] => {
      const { initContainers, containers } = podSpecOf(daemonSet)
      return [...initContainers, ...containers]
    }
    const expected = containersOf(manifestsOf('deploy/base/daemonset.yaml')[0]!)
    for (const objects of rendered.values()) {
      const daemonSet = objects.find(({ kind }) => kind === 'DaemonSet')!
      for (const [i, { securityContext, volumeMounts }] of containersOf(daemonSet).entries())
        expect({ securityContext: withoutProfiles(securityContext), volumeMounts }).to.deep.equal({
          securityContext: withoutProfiles(expected[i]!.securityContext),
          volumeMounts: expected[i]!.volumeMounts,
        })
    }
  })

  it('starts the program with flags and files that it takes', async () => {
    const objects = await renderChart({ ...WORK[1]!.values, ...WORK[0]!.values })
    const [main] = podSpecOf(objects.find(({ kind }) => kind === 'DaemonSet')!).containers
    const { data } = objects.find(({ kind }) => kind === 'ConfigMap') as WithData

    expect(parseCommandLine(['node', ...main!.command, ...main!.args])).to.include({ action: 'run' })
    const { warnings, unused, config: read } = parseConfig('config.conf', data!['config.conf']!)
    expect([...warnings, ...unused]).to.deep.equal([])
    expect(read).to.include({ scheduler: 'lc', metricsBindAddress: '[::]:20249' })
    const policy = parseExternalPolicy('external-addresses.yaml', data!['external-addresses.yaml']!)
    expect([...policy.keys()].sort()).to.deep.equal(['*', 'shop'])
  })
})
