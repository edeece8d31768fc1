/**
 * Every command of docs/operations.md and docs/migrating.md is run, with a real kubectl against a stand-in API server,
 * and asks what commands.yaml says; or it says where it stands that it needs a real cluster, or a node.
 */
import { execFile, execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { parse, stringify } from 'yaml'
import { parseConfig } from '../../src/config/config.ts'
import { type Manifest, type Placement, podSpecOf, runsOn } from '../support/deploy.ts'
import { type Asked, KubectlServer, type StoredObject } from '../support/kubectl-server.ts'
import { type Command, fencedCommands, inlineCommands } from '../support/shell-blocks.ts'

/** A command, and what it asks of the API server, without reading where it also writes. */
interface Expected {
  readonly run: string
  readonly asks: readonly string[]
  /** It was not run. */
  readonly why?: string
}
const TABLE = parse(readFileSync('test/deploy/commands.yaml', 'utf8')) as Record<string, readonly Expected[]>

const PAGES = ['operations', 'migrating'] as const
const textOf = (page: string): string => readFileSync(`docs/${page}.md`, 'utf8')

const OS = { 'kubernetes.io/os': 'linux' }
const CONFIG = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
clusterCIDR: 10.244.0.0/16
ipvs:
  scheduler: ""
kind: KubeProxyConfiguration
mode: MODE
nodePortAddresses: null
`
const KUBECONFIG = 'apiVersion: v1\nkind: Config\nclusters:\n- cluster: {}\n  name: default\n'

const object = (apiVersion: string, kind: string, name: string, rest: object = {}): StoredObject => ({
  ...{ apiVersion, kind, metadata: { name, namespace: 'kube-system', uid: '1', resourceVersion: '1' } },
  ...rest,
})
const node = (name: string): StoredObject => ({
  ...{ apiVersion: 'v1', kind: 'Node', metadata: { name, labels: OS } },
  spec: {},
  status: { conditions: [{ type: 'Ready', status: 'True' }] },
})
const daemonSet = (name: string, args: readonly string[]): StoredObject =>
  object('apps/v1', 'DaemonSet', name, {
    spec: { template: { spec: { nodeSelector: OS, containers: [{ name, image: `${name}:1`, args }] } } },
  })

/** A cluster of two nodes, of kubeadm; kube-proxy has this mode, or kube-router is there in its place. */
function cluster(proxy: 'ipvs' | 'iptables' | 'kube-router'): StoredObject[] {
  const services = [
    object('v1', 'Service', 'web', { spec: { externalIPs: ['203.0.113.7'] } }),
    object('v1', 'Service', 'dns', { spec: {} }),
  ]
  const nodes = [node('worker-1'), node('worker-2')]
  if (proxy === 'kube-router') {
    const pod = object('v1', 'Pod', 'kube-router-x', {
      spec: { nodeName: 'worker-1' },
      status: { phase: 'Running' },
    })
    pod.metadata.labels = { 'k8s-app': 'kube-router' }
    const owner = {
      apiVersion: 'apps/v1',
      kind: 'DaemonSet',
      name: 'kube-router',
      uid: '1',
      controller: true,
    }
    pod.metadata.ownerReferences = [owner]
    return [...nodes, daemonSet('kube-router', ['--run-router=true', '--run-service-proxy=true']), pod]
  }
  const data = { 'config.conf': CONFIG.replace('MODE', proxy), 'kubeconfig.conf': KUBECONFIG }
  return [
    ...nodes,
    ...services,
    daemonSet('kube-proxy', []),
    object('v1', 'ConfigMap', 'kube-proxy', { data }),
  ]
}

/** What kubectl keeps of the manifest says the same once more. */
const withoutCopy = (key: string, value: unknown): unknown =>
  key === 'kubectl.kubernetes.io/last-applied-configuration' ? undefined : value

/** What can be compared of a request. */
function described({ method, path, body }: Asked): string {
  const line = `${method} ${path.replace(/[?&]fieldManager=[\w-]+/, '').replace(/[?&]fieldValidation=\w+/, '')}`
  if (method === 'PATCH')
    return `${line} ${JSON.stringify(body, withoutCopy).replaceAll(/"\d{4}-\d\d-\d\dT[^"]+"/g, '"NOW"')}`
  if (method !== 'POST' && method !== 'PUT') return line
  const { kind, metadata } = body as StoredObject
  const [images, args] = ['image', 'args'].map((field) => [
    ...JSON.stringify(body, (key, value: unknown) =>
      key === 'annotations' || key === 'managedFields' ? undefined : value,
    ).matchAll(new RegExp(`"${field}":("[^"]+"|\\[[^\\]]*\\])`, 'g')),
  ])
  const shown = [...images!, ...(kind === 'DaemonSet' && metadata.name !== 'kube-ipvs' ? args! : [])]
  return [`${line} ${kind}/${metadata.name}`, ...new Set(shown.map(([, value]) => value!))].join(' ')
}

/** A machine with a checkout, kubectl, and what else the commands call. */
class Desk {
  readonly folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-commands-'))
  readonly server: KubectlServer
  #exports = ''

  private constructor(server: KubectlServer) {
    this.server = server
    const bin = join(this.folder, 'bin')
    mkdirSync(bin)
    symlinkSync(execFileSync('scripts/kubectl', { encoding: 'utf8' }).trim(), join(bin, 'kubectl'))
    writeFileSync(join(bin, 'docker'), '#!/bin/sh\ncase $1 in build|push) ;; *) exit 1 ;; esac\n', {
      mode: 0o755,
    })
    writeFileSync(join(this.folder, 'config'), server.config)
    cpSync('deploy', join(this.folder, 'deploy'), { recursive: true })
  }

  static async open(objects: readonly StoredObject[]): Promise<Desk> {
    return new Desk(await KubectlServer.start(objects))
  }

  /** What a command asks. */
  async run(text: string): Promise<string[]> {
    const { folder, server } = this
    server.asked.length = 0
    if (text.startsWith('export ')) this.#exports += `${text}\n`
    const env = { PATH: `${folder}/bin:/usr/bin:/bin`, HOME: folder, KUBECONFIG: join(folder, 'config') }
    const options = { cwd: folder, env, timeout: 60_000 }
    await promisify(execFile)('bash', ['--norc', '-euo', 'pipefail', '-c', this.#exports + text], options)
    const isWaiting = ({ path }: Asked): boolean => /[?&](watch|resourceVersion)=/.test(path)
    const asked = [...new Set(server.asked.filter((one) => !isWaiting(one)).map(described))]
    const changes = asked.filter((line) => !line.startsWith('GET '))
    return changes.length > 0 ? changes : asked
  }

  close(): void {
    this.server.close()
    rmSync(this.folder, { recursive: true })
  }
}

/** Commands that follow each other in one cluster, by the name of their part of the table. */
function parts(): Map<string, { proxy: Parameters<typeof cluster>[0]; commands: Command[] }> {
  const found = new Map<string, { proxy: Parameters<typeof cluster>[0]; commands: Command[] }>()
  for (const page of PAGES)
    for (const command of fencedCommands(textOf(page))) {
      const name = page === 'operations' ? page : `${page}: ${command.section}`
      const from = command.section.includes('iptables') ? 'iptables' : 'ipvs'
      const proxy = command.section.includes('kube-router') ? 'kube-router' : from
      if (!found.has(name)) found.set(name, { proxy, commands: [] })
      found.get(name)!.commands.push(command)
    }
  return found
}

/** Ours is one that the program takes, whichever command has made it. */
function checkConfigMaps(objects: readonly StoredObject[]): void {
  for (const { kind, metadata, data } of objects)
    if (kind === 'ConfigMap' && metadata.name === 'kube-ipvs') {
      const { warnings, unused } = parseConfig(
        'config.conf',
        (data as Record<string, string>)['config.conf']!,
      )
      expect([...warnings, ...unused]).to.deep.equal([])
    }
}

const nodesOf = ({ server }: Desk): StoredObject[] =>
  structuredClone(server.objects.filter(({ kind }) => kind === 'Node'))

/** The proxies of each node, with a plus between those of one node. */
function proxiesOf(desk: Desk): string {
  const daemonSets = desk.server.objects.filter(({ kind }) => kind === 'DaemonSet') as unknown as Manifest[]
  return nodesOf(desk)
    .map(({ metadata }) =>
      daemonSets
        .filter((one) => runsOn(podSpecOf(one) as Placement, metadata.labels ?? {}))
        .map((one) => one.metadata.name)
        .join('+'),
    )
    .join(' ')
}

const WRITTEN: Record<string, Expected[]> = {}

/** Compares, and keeps what was found for whoever has changed a page. */
function compare(name: string, found: readonly Expected[]): void {
  WRITTEN[name] = [...found]
  expect(found, `commands of docs and what they ask, against test/deploy/commands.yaml`).to.deep.equal(
    TABLE[name],
  )
}

describe('the commands of docs', function () {
  this.timeout(300_000)
  after(() => {
    if (process.env.COMMANDS_OUT !== undefined)
      writeFileSync(process.env.COMMANDS_OUT, stringify(WRITTEN, { lineWidth: 0 }))
  })

  for (const [name, { proxy, commands }] of parts()) {
    it(`${name}: ask what is expected, and leave the nodes as they were`, async () => {
      const desk = await Desk.open(cluster(proxy))
      try {
        const before = nodesOf(desk)
        const found: Expected[] = []
        for (const { text, marker } of commands) {
          if (marker !== undefined) continue
          found.push({ run: text, asks: await desk.run(text) })
          checkConfigMaps(desk.server.objects)
          if (proxy !== 'kube-router')
            expect(proxiesOf(desk), `proxies after ${text}`).to.match(/^kube-\w+ kube-\w+$/)
        }
        compare(name, found)
        expect(nodesOf(desk)).to.deep.equal(before)
        for (const { spec, metadata } of desk.server.objects.filter(({ kind }) => kind === 'DaemonSet'))
          expect(spec, metadata.name)
            .to.have.nested.property('template.spec.nodeSelector')
            .that.deep.equals(OS)
      } finally {
        desk.close()
      }
    })
  }

  it('within sentences ask what is expected, too, or the table says why they are not run', async () => {
    const desk = await Desk.open([...cluster('ipvs'), daemonSet('kube-ipvs', [])])
    try {
      const found: Expected[] = []
      for (const text of new Set(PAGES.flatMap((page) => inlineCommands(textOf(page))))) {
        const why = TABLE.sentences?.find(({ run }) => run === text)?.why
        const command = text.replaceAll(/\bNODE\b/g, 'worker-1').replaceAll(/\bNAME\b/g, 'web')
        found.push(
          why === undefined ? { run: text, asks: await desk.run(command) } : { run: text, asks: [], why },
        )
      }
      compare('sentences', found)
    } finally {
      desk.close()
    }
  })

  it('of kubectl are all run, but for those that run something in a Pod', () => {
    for (const { commands } of parts().values())
      for (const { text, marker } of commands)
        if (marker !== undefined) expect(text).to.match(/^(?!kubectl |.*\| *kubectl )|^kubectl ipvs /)
  })
})
