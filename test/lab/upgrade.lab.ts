/**
 * From the version before this one to this one, back, and forth again, under traffic, as a DaemonSet does it:
 * connections stay open, new ones are answered, and nothing in the kernel changes but what is listed here.
 */
import { join } from 'node:path'
import { expect } from 'chai'
import { ApiServer } from '../support/api-server.ts'
import { endpoint, node, service, slice } from '../support/builders.ts'
import { buildCluster, type ClusterLab, NODE } from '../support/cluster-lab.ts'
import { eventually } from '../support/eventually.ts'
import {
  boundAddresses,
  clearNode,
  ConfigMapVolume,
  type HeldConnections,
  type Host,
  ipvsadm,
  type NewConnections,
  nodeState,
  noteFigure,
  Program,
  PROGRAM,
  run,
  type Target,
} from '../support/lab.ts'
import { changing, ipvsFamily, NetlinkMonitor } from '../support/netlink-monitor.ts'
import { confined } from '../support/pod.ts'

const HELD = 200
/** Of UDP, beside these. */
const FLOWS = 8
/** Each speaks every few seconds, and is broken when it has no answer in a minute: the lab may be slow. */
const TIMES = { pause: 3, timeout: 60 }
const NEW_A_SECOND = 50

type Version = 'previous' | 'current'

/** `previous` is what scripts/previous has made. */
const PROGRAMS: Readonly<Record<Version, string>> = {
  previous: join(process.env.LAB_PREVIOUS ?? '/no/LAB_PREVIOUS', 'dist/kube-ipvs.cjs'),
  current: PROGRAM,
}

/** What a start changes after another version has ended: docs/CHANGELOG.md says it in words. */
interface Changes {
  /** Lines of the node's state that have gone (-), and that have come (+). */
  readonly lines: readonly string[]
  readonly messages: Readonly<Record<string, number>>
}
const NOTHING: Changes = { lines: [], messages: {} }

interface Switch {
  readonly to: Version
  /** How the other version ends. */
  readonly by: NodeJS.Signals
  readonly changes: Changes
}
const SWITCHES: readonly Switch[] = [
  { to: 'current', by: 'SIGTERM', changes: NOTHING },
  { to: 'previous', by: 'SIGTERM', changes: NOTHING },
  { to: 'current', by: 'SIGKILL', changes: NOTHING },
]

const WEB = { IPv4: '10.96.0.10', IPv6: 'fd00:10:96::10', nodePort: 30_080 }
const SHOP = { clusterIP: '10.96.0.11', loadBalancer: '203.0.113.80', nodePort: 30_081 }
const LOCAL = { clusterIP: '10.96.0.12', loadBalancer: '203.0.113.81', nodePort: 30_082 }
const STICKY = '10.96.0.13'
const DRAINED = '10.96.0.14'
const DNS = '10.96.0.53'

const http = (nodePort: number) => [{ name: 'http', port: 80, protocol: 'TCP', nodePort }]
const balanced = (name: string, of: typeof SHOP, spec: object): object => ({
  ...service({
    name,
    clusterIP: of.clusterIP,
    ports: http(of.nodePort),
    spec: { type: 'LoadBalancer', ...spec },
  }),
  status: { loadBalancer: { ingress: [{ ip: of.loadBalancer }] } },
})

/** Services of every kind. */
const services = (): object[] => [
  service({
    clusterIP: WEB.IPv4,
    ports: http(WEB.nodePort),
    spec: { type: 'NodePort', clusterIPs: [WEB.IPv4, WEB.IPv6] },
  }),
  balanced('shop', SHOP, { loadBalancerSourceRanges: ['192.168.50.0/24', 'fd00:192:168:50::/64'] }),
  balanced('local', LOCAL, { externalTrafficPolicy: 'Local', healthCheckNodePort: 32_082 }),
  service({
    name: 'sticky',
    clusterIP: STICKY,
    spec: { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 10_800 } } },
  }),
  service({ name: 'drained', clusterIP: DRAINED }),
  service({ name: 'dns', clusterIP: DNS, ports: [{ name: 'dns', port: 53, protocol: 'UDP' }] }),
]

let cluster: ClusterLab
let server: ApiServer
const config = new ConfigMapVolume()
const ARGS = ['--config', join(config.folder, 'config.conf'), '--hostname-override', 'lab']

/** The endpoints of a Service in IPv4: Pods of both nodes, unless given. */
function endpoints(of: string, pods: readonly Host[] = [...cluster.local, ...cluster.remote]): object {
  const ports = of === 'dns' ? [{ name: 'dns', port: 8080, protocol: 'UDP' }] : undefined
  return slice({ service: of, endpoints: pods.map((pod) => placed(pod, pod.ipv4)), ...(ports && { ports }) })
}

const placed = (pod: Host, address: string) =>
  endpoint(address, { nodeName: cluster.local.includes(pod) ? 'lab' : 'node-2' })

/** What is there before the program is. */
function load(): void {
  server.load('nodes', [node('lab'), node('node-2')] as never[])
  server.load('services', services() as never[])
  const pods = [...cluster.local, ...cluster.remote]
  const slices = ['web', 'shop', 'local', 'sticky', 'drained', 'dns'].map((name) => endpoints(name))
  const ipv6 = slice({
    name: 'web-6',
    addressType: 'IPv6',
    endpoints: pods.map((pod) => placed(pod, pod.ipv6)),
  })
  server.load('endpointslices', [...slices, ipv6] as never[])
}

function configure(): void {
  config.publish({
    'config.conf': `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
clusterCIDR: 10.244.0.0/16,fd00:10:244::/48
ipvs: {syncPeriod: 2s}
clientConnection: {kubeconfig: ${config.folder}/kubeconfig.conf}
`,
    'kubeconfig.conf': server.kubeconfig(),
  })
}

/** A Pod of the DaemonSet: its init container, then its main one, until it has looked at all of the kernel once more. */
async function startPod(version: Version): Promise<Program> {
  const command = [process.execPath, PROGRAMS[version]]
  const init = new Program([...ARGS, '--init-only'], [], command)
  expect(await init.ended(), JSON.stringify(init.lines)).to.equal(0)
  const program = new Program(ARGS, confined(), command)
  await program.logged('first sync finished')
  const atFirst = await lastAudit()
  await eventually(async () => expect(await lastAudit()).to.be.greaterThan(atFirst), 60_000, 100)
  return program
}

async function lastAudit(): Promise<number> {
  const text = await (await fetch('http://127.0.0.1:10249/metrics')).text()
  return Number(/^kube_ipvs_last_audit_timestamp_seconds (\S+)$/m.exec(text)![1])
}

/** Virtual IPs that are routes. */
const routes = async (family: string): Promise<string[]> =>
  (await run('ip', family, 'route', 'show', 'table', 'local', 'proto', '73')).trim().split('\n')

/** All that there is on the node, a line each. */
async function stateLines(): Promise<string[]> {
  const pattern = String.raw`^net\.(bridge|ipv4\.vs|netfilter\.nf_conntrack_(max|tcp|udp))|ip_forward|route_localnet|arp_`
  const state = {
    ...(await nodeState()),
    sysctl: (await run('sysctl', '-a', '--pattern', pattern)).trim().split('\n'),
    routes: (await Promise.all(['-4', '-6'].map(routes))).flat(),
  }
  return Object.entries(state).flatMap(([kind, lines]) => lines.map((line) => `${kind}: ${line}`))
}

/** A line that is there twice where it was there once is a difference, too. */
function differences(before: readonly string[], after: readonly string[]): string[] {
  const come = [...after]
  const gone = before.filter((line) => {
    const place = come.indexOf(line)
    if (place >= 0) come.splice(place, 1)
    return place < 0
  })
  return [...gone.map((line) => `- ${line}`), ...come.map((line) => `+ ${line}`)]
}

describe('an upgrade, and the way back', () => {
  const held: HeldConnections[] = []
  const arriving: NewConnections[] = []
  let family: number
  let program: Program

  before(async () => {
    cluster = await buildCluster()
    server = await ApiServer.start()
    load()
    configure()
    program = await startPod('previous')
    family = await ipvsFamily()
    held.push(...(await holdAll()))
    server.put('endpointslices', endpoints('drained', cluster.local))
    const [pod] = cluster.remote
    const draining = `-a -t ${DRAINED}:80 -r ${pod.ipv4}:8080 -m -w 0`
    await eventually(async () => expect(await ipvsadm()).to.include(draining), 60_000)
    arriving.push(...arrive())
  })
  after(async () => {
    await Promise.all([...held, ...arriving].map((connections) => connections.close()))
    await program.stop()
    await server.close()
    await cluster.remove()
    await clearNode()
  })

  /** Connections of every kind, and flows of UDP beside them. */
  async function holdAll(): Promise<HeldConnections[]> {
    const { pod, outside } = cluster
    // Source ports are apart: IPVS cannot tell two connections of one port to one real server apart on the way back.
    let sourcePort = 10_000
    const of = (host: Host, address: string, port: number, count: number): Promise<HeldConnections> =>
      host.hold('tcp', address, port, count, { ...TIMES, sourcePort: (sourcePort += 100) })
    return Promise.all([
      of(pod, WEB.IPv4, 80, 60),
      of(pod, WEB.IPv6, 80, 30),
      of(pod, STICKY, 80, 10),
      of(pod, DRAINED, 80, 10),
      of(outside, NODE.IPv4, WEB.nodePort, 60),
      of(outside, SHOP.loadBalancer, 80, 20),
      of(outside, LOCAL.loadBalancer, 80, 10),
      pod.hold('udp', DNS, 53, FLOWS, TIMES),
    ])
  }

  function arrive(): NewConnections[] {
    const tcp = (address: string, port: number): Target => ({ protocol: 'tcp', address, port })
    const { pod, outside } = cluster
    const within = [
      ...[WEB.IPv4, WEB.IPv6, SHOP.clusterIP, STICKY, DRAINED].map((address) => tcp(address, 80)),
      { protocol: 'udp', address: DNS, port: 53 } as const,
    ]
    const without = [
      ...[SHOP.loadBalancer, LOCAL.loadBalancer].map((address) => tcp(address, 80)),
      ...[WEB, SHOP, LOCAL].map(({ nodePort }) => tcp(NODE.IPv4, nodePort)),
    ]
    return [pod.stream(NEW_A_SECOND / 2, within), outside.stream(NEW_A_SECOND / 2, without)]
  }

  async function allOpen(): Promise<void> {
    const open = await Promise.all(held.map((connections) => connections.open()))
    expect(held.map(({ broken }) => broken)).to.deep.equal(held.map(() => ({})))
    expect(open.reduce((sum, count) => sum + count)).to.equal(HELD + FLOWS)
  }

  async function noneRefused(): Promise<void> {
    for (const { errors } of await Promise.all(arriving.map((one) => one.tally())))
      expect(errors).to.deep.equal({})
  }

  for (const { to, by, changes } of SWITCHES)
    it(`to the ${to} version after ${by}: no connection breaks, and nothing changes that should not`, async () => {
      const before = await stateLines()
      const monitor = await NetlinkMonitor.start()
      await program.stop(by)
      program = await startPod(to)
      const messages = changing(await monitor.stop(), family)

      expect({ lines: differences(before, await stateLines()), messages }).to.deep.equal(changes)
      await allOpen()
      await noneRefused()
      expect(program.complaints(50)).to.deep.equal([])
    })

  it('the version that is there in the end follows changes, and the monitor sees them', async () => {
    const monitor = await NetlinkMonitor.start()
    server.put('services', service({ name: 'late', clusterIP: '10.96.0.99' }))
    await eventually(async () => expect(await boundAddresses()).to.include('10.96.0.99'), 60_000, 100)

    expect(changing(await monitor.stop(), family)).to.deep.equal({
      'virtual server added': 1,
      'address added': 1,
      'set member added': 2,
    })
  })

  it('in the end every new connection has been answered', async () => {
    const tallies = await Promise.all(arriving.map((one) => one.close()))
    for (const { asked, answered, errors, seconds } of tallies) {
      expect({ answered, errors }).to.deep.equal({ answered: asked, errors: {} })
      expect(asked).to.be.at.least(Math.floor((0.9 * seconds * NEW_A_SECOND) / 2))
    }
    const sum = tallies.reduce((total, { asked }) => total + asked, 0)
    const slowest = Math.max(...tallies.map((one) => one.slowest)).toFixed(1)
    noteFigure(`upgrade: ${HELD} connections held, ${sum} new ones, the slowest answered after ${slowest} s`)
    await allOpen()
  })
})
