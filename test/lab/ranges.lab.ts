/** loadBalancerSourceRanges, by packets: who gets through to the address of a load balancer, and who does not. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Family } from '../../src/model/address.ts'
import { endpoint, service, slice } from '../support/builders.ts'
import {
  buildCluster,
  clearKubeProxyState,
  type ClusterLab,
  fixtureObjects,
  loadKubeProxyState,
  NODE,
  observe,
} from '../support/cluster-lab.ts'
import { eventually } from '../support/eventually.ts'
import {
  ask,
  type Host,
  Program,
  type Reply,
  run,
  sh,
  temporaryFolder,
  type WireProtocol,
} from '../support/lab.ts'

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']
const PROTOCOLS: readonly WireProtocol[] = ['tcp', 'udp', 'sctp']
/**
 * `neighbour` is 192.168.50.100 and fd00:192:168:50::100, `stranger` the same host with addresses of elsewhere. A
 * process on the node has the load balancer's own address unless it chooses the node's.
 */
const CLIENTS = ['neighbour', 'stranger', 'pod', 'node', 'node by its address'] as const
const STRANGER: Readonly<Record<Family, string>> = { IPv4: '198.51.100.7', IPv6: 'fd00:dead::7' }
const CONFIG = {
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: 'ipvs',
  clusterCIDR: '10.244.0.0/16,fd00:10:244::/48',
  detectLocalMode: 'ClusterCIDR',
}

type Client = (typeof CLIENTS)[number]

/** A load balancer's address and port, and who is let through to it. */
interface Case {
  readonly title: string
  readonly addresses: Readonly<Record<Family, string>>
  readonly port: number
  readonly ranges: readonly string[]
  readonly admits: Readonly<Record<Family, readonly Client[]>>
}

const both = (...clients: readonly Client[]) => ({ IPv4: clients, IPv6: clients })
const balancer = (number: number) => ({ IPv4: `203.0.113.${number}`, IPv6: `fd00:203::${number}` })

/** Services of the fixture, which kube-proxy's state serves too. */
const RECORDED: readonly Case[] = [
  {
    title: 'one address of each family',
    addresses: balancer(83),
    port: 80,
    ranges: ['192.168.50.100/32', 'fd00:192:168:50::100/128'],
    admits: both('neighbour'),
  },
  {
    title: 'networks elsewhere',
    addresses: balancer(84),
    port: 80,
    ranges: ['198.51.100.0/24', 'fd00:dead::/64'],
    admits: both('stranger'),
  },
  {
    title: 'no ranges',
    addresses: balancer(80),
    port: 80,
    ranges: [],
    admits: both(...CLIENTS),
  },
]
const WRITTEN: readonly Case[] = [
  {
    title: 'the first Service of a shared address',
    addresses: balancer(90),
    port: 80,
    ranges: ['192.168.50.100/32', 'fd00:192:168:50::100/128'],
    admits: both('neighbour'),
  },
  {
    title: 'the second Service of a shared address',
    addresses: balancer(90),
    port: 81,
    ranges: ['198.51.100.0/24', 'fd00:dead::/64'],
    admits: both('stranger'),
  },
  {
    title: 'the node itself',
    addresses: balancer(91),
    port: 80,
    ranges: ['192.168.50.1/32', 'fd00:192:168:50::1/128'],
    admits: both('node'),
  },
  {
    title: 'the nodes, as a network',
    addresses: balancer(92),
    port: 80,
    ranges: ['192.168.50.0/24', 'fd00:192:168:50::/64'],
    admits: both('neighbour', 'node'),
  },
  {
    title: 'the Pods, as a network',
    addresses: balancer(93),
    port: 80,
    ranges: ['10.244.0.0/16', 'fd00:10:244::/48'],
    admits: both('pod'),
  },
  {
    title: 'everybody',
    addresses: balancer(94),
    port: 80,
    ranges: ['0.0.0.0/0', '198.51.100.0/24', 'fd00:dead::/64', '::/0'],
    admits: both(...CLIENTS),
  },
  {
    title: 'two halves of the Internet, written with spaces',
    addresses: balancer(95),
    port: 80,
    ranges: [' 0.0.0.0/1', '128.0.0.0/1 ', '::/1', '8000::/1'],
    admits: both(...CLIENTS),
  },
  {
    title: 'IPv4 only, which leaves IPv6 open',
    addresses: balancer(96),
    port: 80,
    ranges: ['198.51.100.7/32'],
    admits: { IPv4: ['stranger'], IPv6: CLIENTS },
  },
  {
    title: 'IPv6 only, which leaves IPv4 open',
    addresses: balancer(97),
    port: 80,
    ranges: ['fd00:dead::7/128'],
    admits: { IPv4: CLIENTS, IPv6: ['stranger'] },
  },
]
/** The last Service's node port: ranges are for load balancers. */
const NODE_PORT: Case = {
  title: 'the node port of a Service with ranges',
  addresses: NODE,
  port: 30_097,
  ranges: [],
  admits: both(...CLIENTS),
}

interface Cell extends Case {
  readonly client: Client
  readonly family: Family
  readonly protocol: WireProtocol
}

const cellsOf = (client: Client, cases: readonly Case[]): readonly Cell[] =>
  cases.flatMap((each) =>
    FAMILIES.flatMap((family) => PROTOCOLS.map((protocol) => ({ ...each, client, family, protocol }))),
  )

/** The Service of a case, with a node port if it has the last one's address. */
function balancerService({ addresses, port, ranges }: Case): object {
  const number = addresses.IPv4.split('.')[3]!
  const nodePort = number === '97' ? { nodePort: NODE_PORT.port } : {}
  const clusterIPs = [`10.96.1.${number}`, `fd00:10:96::1:${number}${port}`]
  const ports = PROTOCOLS.map((name) => ({ name, port, protocol: name.toUpperCase(), ...nodePort }))
  const parts = { type: 'LoadBalancer', clusterIPs, loadBalancerSourceRanges: ranges }
  // Two Services on one address have a ClusterIP each.
  const clusterIP = port === 80 ? clusterIPs[0]! : `10.96.2.${number}`
  const spec = { ...parts, clusterIPs: [clusterIP, clusterIPs[1]] }
  const ingress = Object.values(addresses).map((ip) => ({ ip }))
  return {
    ...service({ name: `lb-${number}-${port}`, clusterIP, ports, spec }),
    status: { loadBalancer: { ingress } },
  }
}

describe('source ranges of load balancers', () => {
  let cluster: ClusterLab

  before(async () => {
    cluster = await buildCluster()
    const { namespace } = cluster.outside
    await sh(`
      ip -n ${namespace} addr add ${STRANGER.IPv4}/32 dev wire0
      ip -n ${namespace} addr add ${STRANGER.IPv6}/128 dev wire0 nodad
      ip route add ${STRANGER.IPv4}/32 via ${cluster.outside.ipv4}
      ip -6 route add ${STRANGER.IPv6}/128 via ${cluster.outside.ipv6}`)
  })
  after(async () => {
    await cluster.remove()
  })

  /** Where a client's connections start, and the address that they are bound to. */
  function clientOf(client: Client): { readonly ask: typeof ask; readonly source?: Record<Family, string> } {
    const { outside, pod } = cluster
    const from =
      (host: Host): typeof ask =>
      (questions, seconds) =>
        host.ask(questions, seconds)
    return {
      neighbour: { ask: from(outside), source: { IPv4: outside.ipv4, IPv6: outside.ipv6 } },
      stranger: { ask: from(outside), source: STRANGER },
      pod: { ask: from(pod) },
      node: { ask },
      'node by its address': { ask, source: NODE },
    }[client]
  }

  /** EPERM is what a process on the node gets when its own datagram is dropped. */
  const outcome = (_: Cell, { seen, errors }: Reply): string =>
    [
      ...(Object.keys(seen).length > 0 ? ['answered'] : []),
      ...Object.keys(errors).map((error) => (['timeout', 'EPERM'].includes(error) ? 'dropped' : error)),
    ].join(' and ')
  const expected = ({ client, family, admits }: Cell): string =>
    admits[family].includes(client === 'node by its address' ? 'node' : client) ? 'answered' : 'dropped'

  async function check(client: Client, cases: readonly Case[]): Promise<void> {
    const cells = cellsOf(client, cases)
    const { ask, source } = clientOf(client)
    const observed = await observe(cells, {
      ask,
      question: ({ protocol, addresses, family, port }) => ({
        protocol,
        address: addresses[family],
        port,
        count: 2,
        ...(source === undefined ? {} : { source: source[family] }),
      }),
      outcome,
      expected,
    })
    const name = ({ title, family, protocol }: Cell) => `${title}, ${family}, ${protocol}`
    const surprises = cells.filter((cell) => observed.get(cell) !== expected(cell))
    expect(
      surprises.map((cell) => `${name(cell)}: ${observed.get(cell)}; expected: ${expected(cell)}`),
    ).to.deep.equal([])
  }

  describe("in kube-proxy's own kernel state", () => {
    before(loadKubeProxyState)
    after(clearKubeProxyState)

    // Of a process on the node it lets pass whatever has another source than the load balancer's address.
    for (const client of CLIENTS.filter((name) => name !== 'node by its address')) {
      it(`a client: ${client}`, () => check(client, RECORDED))
    }
  })

  describe('in kube-ipvs', () => {
    const [config, folder] = [join(temporaryFolder(), 'config.json'), temporaryFolder()]
    let program: Program | undefined

    /** Writes the fixture's objects and these cases' Services. */
    function write(cases: readonly Case[]): void {
      const services = cases.map((each) => balancerService(each) as ReturnType<typeof service>)
      const slices = services.flatMap(({ metadata }) => {
        const { name } = metadata as { name: string }
        const ports = PROTOCOLS.map((protocol) => ({
          name: protocol,
          port: 8080,
          protocol: protocol.toUpperCase(),
        }))
        const [ipv4, ipv6] = (['ipv4', 'ipv6'] as const).map((family) =>
          cluster.local.map((host) => endpoint(host[family], { nodeName: 'lab' })),
        )
        return [
          slice({ name: `${name}-4`, service: name, ports, endpoints: ipv4! }),
          slice({ name: `${name}-6`, service: name, ports, endpoints: ipv6!, addressType: 'IPv6' }),
        ]
      })
      const fixtures = (['services', 'endpointslices', 'nodes'] as const).flatMap(fixtureObjects)
      const objects = [...fixtures, ...services, ...slices]
      writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
    }

    before(async () => {
      writeFileSync(config, JSON.stringify(CONFIG))
      write(WRITTEN)
      program = await Program.start('--config', config, '--manifests', folder, '--hostname-override', 'lab')
    })
    after(() => program?.stop())

    for (const client of CLIENTS) {
      it(`a client: ${client}`, () => check(client, [...RECORDED, ...WRITTEN, NODE_PORT]))
    }

    it('changes of ranges take effect, and the rules stay as they are', async () => {
      const rules = () => run('iptables-save').then((text) => text.replaceAll(/^#.*$|\[\d+:\d+\]/gm, ''))
      const before = await rules()
      const [first, second, ...rest] = WRITTEN
      // The Services of the shared address change places.
      const swapped = [
        { ...first!, ranges: second!.ranges, admits: second!.admits },
        { ...second!, ranges: first!.ranges, admits: first!.admits },
      ]
      write([...swapped, ...rest])
      await eventually(() => check('stranger', swapped), 60_000)

      await check('neighbour', swapped)
      await check('node', swapped)
      expect(await rules()).to.equal(before)
    })

    it('was made without a complaint', () => {
      expect(program!.complaints().map(({ msg }) => msg)).to.deep.equal([])
    })
  })
})
