/** What load balancers are told of this node, and on which addresses. */
import { createServer } from 'node:http'
import { type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { expect } from 'chai'
import { type Config, defaultConfig, parseConfig } from '../../src/config/config.ts'
import { type Family, parseAddress } from '../../src/model/address.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { parseEndpointSlice, parseNode, parseService } from '../../src/model/facts/parse-facts.ts'
import { initially } from '../../src/program/current.ts'
import { openLife } from '../../src/program/life.ts'
import { healthAddresses, openHealthNodePorts } from '../../src/program/report/health-node-ports.ts'
import {
  isNodeEligible,
  nodeProblem,
  openHealth,
  reportChanges,
  reportSettled,
} from '../../src/program/report/health.ts'
import { serveHttp } from '../../src/program/report/http.ts'
import type { NodeHappening } from '../../src/program/report/node-events.ts'
import { ProxyHealth } from '../../src/serve/health.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import type { Happening } from '../../src/source/events.ts'
import { endpoint, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { recordingLog } from '../support/log.ts'
import { rejectionOf } from '../support/rejection.ts'

const CONFIG = JSON.stringify({
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: 'ipvs',
})
const MISSING = 'There is no Node "x"'
const nodes: readonly (readonly [string, { leaving: boolean } | undefined, boolean, boolean, string?])[] = [
  ['is there', { leaving: false }, true, true],
  ['is about to be deleted', { leaving: true }, true, false, 'This node is about to be deleted'],
  ['has no object where every node has one', undefined, true, false, MISSING],
  ['has no object where there need be none', undefined, false, true, MISSING],
]
describe('a node', () => {
  for (const [what, node, hasNodes, isEligible, problem] of nodes) {
    it(`that ${what}: ${isEligible ? 'eligible' : 'not eligible'}, ${problem ?? 'no problem'}`, () => {
      expect(isNodeEligible(node, hasNodes)).to.equal(isEligible)
      expect(nodeProblem(node, MISSING)).to.equal(problem)
    })
  }

  it('that was not looked for yet has no problem', () => {
    expect(nodeProblem(undefined, undefined)).to.equal(undefined)
  })

  it('says in /healthz what was found when the Nodes were listed, and counts what is missing', () => {
    const cluster = new Cluster('node-1', () => undefined)
    const current = initially(parseConfig('x', CONFIG), undefined)
    const counts: number[] = []
    const metrics = { setFaults: (count: number) => void counts.push(count) }
    const health = openHealth({ families: ['IPv4'], cluster, hasNodes: true, current, metrics })
    health.updated()
    health.faults('rules', new Map([['IPv4', 'no iptables']]))
    current.missingNode = MISSING

    expect(health.readiness().isOk).to.equal(false)
    expect(health.readiness().body).to.deep.include({ reasons: [MISSING, 'no iptables'] })
    expect(counts).to.deep.equal([1])
    cluster.nodes.put(parseNode({ metadata: { name: 'node-1' } }))
    expect(health.readiness().isOk).to.equal(true)
  })
})

describe('reportChanges', () => {
  it('tells health, metrics and rules what has changed', () => {
    const cluster = new Cluster('node-1', () => undefined)
    const told: string[] = []
    const tell = (what: string) => () => void told.push(what)
    reportChanges(cluster, {
      health: { queued: tell('health') },
      metrics: {
        queued: tell('queued'),
        serviceChanged: tell('service'),
        endpointsChanged: tell('endpoints'),
      },
      rulesBell: { ring: tell('rules') },
    })
    const toldOf = (change: () => void): string[] => {
      told.length = 0
      change()
      return [...new Set(told)]
    }
    expect(toldOf(() => cluster.services.put(parseService(service())))).to.include('service')
    expect(toldOf(() => cluster.endpointSlices.put(parseEndpointSlice(slice())))).to.include('endpoints')
    const put = (): void => cluster.nodes.put(parseNode({ metadata: { name: 'node-1' } }))
    expect(toldOf(put)).to.include.members(['rules', 'health', 'queued'])
    expect(toldOf(put), 'the same again').to.deep.equal(['health', 'queued'])
  })
})

describe('reportSettled', () => {
  it('says since when the kernel was behind the cluster; a clock that was set back makes it no less than 0', () => {
    const programmed: (readonly [Family, number])[] = []
    const told: string[] = []
    reportSettled(
      { updated: () => void told.push('updated') },
      {
        checkedOut: () => void told.push('checked out'),
        programmed: (family, seconds) => void programmed.push([family, seconds]),
      },
      [
        { family: 'IPv4', at: 8_500 },
        { family: 'IPv6', at: 11_000 },
      ],
      10_000,
    )
    expect(programmed).to.deep.equal([
      ['IPv4', 1.5],
      ['IPv6', 0],
    ])
    expect(told).to.deep.equal(['updated', 'checked out'])
  })
})

describe('healthAddresses', () => {
  const nodeAddresses = ['192.168.50.1', '10.0.2.15', '127.0.0.1', 'fd00:50::1'].map((ip) =>
    parseAddress(ip)!,
  )
  const cluster = new Cluster('node-1', () => undefined)
  const addresses = [{ type: 'InternalIP', address: '192.168.50.1' }]
  cluster.nodes.put(parseNode({ metadata: { name: 'node-1' }, status: { addresses } }))
  const table: readonly (readonly [readonly string[], Family, readonly string[]])[] = [
    [[], 'IPv4', ['0.0.0.0']],
    [[], 'IPv6', ['::']],
    [['0.0.0.0/0'], 'IPv4', ['0.0.0.0']],
    [['192.168.50.0/24'], 'IPv4', ['192.168.50.1']],
    [['192.168.50.0/24', '10.0.0.0/8'], 'IPv4', ['10.0.2.15', '192.168.50.1']],
    [['fd00:50::/64'], 'IPv6', ['fd00:50::1']],
    [['primary'], 'IPv4', ['192.168.50.1']],
    [['primary'], 'IPv6', []],
  ]
  for (const [networks, family, expected] of table) {
    it(`of ${family} with nodePortAddresses [${networks.join()}]: ${expected.join() || 'none'}`, () => {
      const config: Config = { ...defaultConfig(), nodePortAddresses: networks }
      expect(healthAddresses(cluster, { config, nodeAddresses }, family)).to.deep.equal(expected)
    })
  }
})

describe('openHealthNodePorts', () => {
  let life: ReturnType<typeof openLife>
  beforeEach(() => {
    life = openLife(new AbortController().signal)
  })
  afterEach(() => life.end())

  async function freePort(): Promise<number> {
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    server.close()
    await once(server, 'close')
    return port
  }
  function setUp(healthCheckNodePort: number) {
    const cluster = new Cluster('node-1', () => undefined)
    const spec = { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort }
    cluster.services.put(parseService(service({ name: 'web', spec })))
    cluster.endpointSlices.put(
      parseEndpointSlice(
        slice({ service: 'web', endpoints: [endpoint('10.244.1.5', { nodeName: 'node-1' })] }),
      ),
    )
    const events: Happening[] = []
    const current = initially(parseConfig('x', CONFIG), undefined)
    const ports = openHealthNodePorts({
      ...{ nodeName: 'node-1', families: new Set(['IPv4'] as const), cluster, current, life },
      health: { healthy: true, lastingFaults: [] },
      recordEvent: (event) => events.push(event),
      log: recordingLog().log,
    })
    return { ports, cluster, events }
  }

  it("answers for a Service as long as it has one, with this node's endpoints", async () => {
    const port = await freePort()
    const { ports, cluster } = setUp(port)
    const answer = async (): Promise<unknown> => (await fetch(`http://127.0.0.1:${port}`)).json()
    ports.update('shop/web')
    await eventually(async () => expect(await answer()).to.include({ localEndpoints: 1 }))

    cluster.services.remove('shop/web')
    ports.update('shop/web')
    expect(await rejectionOf(answer())).to.be.instanceOf(Error)
  })

  it('says as an Event of the Service that its port cannot be had', async () => {
    const other = createServer().listen(0, '0.0.0.0')
    await once(other, 'listening')
    const { ports, events } = setUp((other.address() as AddressInfo).port)
    ports.update('shop/web')

    await eventually(() => expect(events).to.have.length(1))
    expect(events[0]).to.deep.include({
      type: 'Warning',
      reason: 'FailedToStartServiceHealthcheck',
      action: 'Listen',
      regarding: { kind: 'Service', namespace: 'shop', name: 'web' },
    })
    other.close()
  })
})

describe('serveHttp', () => {
  for (const hardFail of [false, true]) {
    it(`an address that is taken ${hardFail ? 'ends the program' : 'is tried again'} with bindAddressHardFail ${String(hardFail)}`, async () => {
      const other = createServer().listen(0, '127.0.0.1')
      await once(other, 'listening')
      const address = `127.0.0.1:${(other.address() as AddressInfo).port}`
      const config = {
        ...defaultConfig(),
        ...{ healthzBindAddress: address, metricsBindAddress: '', bindAddressHardFail: hardFail },
      }
      const life = openLife(new AbortController().signal)
      const { log, lines } = recordingLog()
      const events: NodeHappening[] = []
      serveHttp({
        ...{ current: { config, document: {} }, metrics: new Metrics({ defaults: false }), life, log },
        health: new ProxyHealth({
          families: [],
          isNodeEligible: () => true,
          staleAfterMs: () => 0,
          now: () => new Date(),
        }),
        recordNodeEvent: (event) => void events.push(event),
      })
      if (hardFail) {
        expect(await rejectionOf(life.failure)).to.have.property(
          'message',
          `Cannot listen on ${address}, and bindAddressHardFail is set`,
        )
        expect(events.map(({ reason, action }) => [reason, action])).to.deep.equal([
          ['FailedToStartProxierHealthcheck', 'StartKubeProxy'],
        ])
      } else {
        await eventually(() => expect(lines.map(({ msg }) => msg)).to.deep.equal(['cannot listen: retrying']))
        expect(events).to.deep.equal([])
      }
      await life.end()
      other.close()
    })
  }
})
