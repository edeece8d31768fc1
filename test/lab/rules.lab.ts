/**
 * The rules among Services whose ports are the same, and under a host's firewall that drops what it does not accept:
 * who is let through, and which client address the endpoints see.
 */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Family } from '../../src/model/address.ts'
import { endpoint, service, slice } from '../support/builders.ts'
import {
  buildCluster,
  type ClusterLab,
  fixtureObjects,
  GATEWAY,
  NODE,
  observe,
} from '../support/cluster-lab.ts'
import { eventually } from '../support/eventually.ts'
import {
  clearNode,
  type Host,
  Program,
  type Reply,
  run,
  sh,
  temporaryFolder,
  type WireProtocol,
} from '../support/lab.ts'

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']
const PROTOCOLS: readonly WireProtocol[] = ['tcp', 'udp']
const STRANGER: Readonly<Record<Family, string>> = { IPv4: '198.51.100.7', IPv6: 'fd00:dead::7' }
const CONFIG = {
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: 'ipvs',
  clusterCIDR: '10.244.0.0/16,fd00:10:244::/48',
}
const SELECTED = { ...CONFIG, nodePortAddresses: ['192.168.50.0/24', 'fd00:192:168:50::/64'] }
/** Another address of the node, which these leave without node ports. */
const ASIDE: Readonly<Record<Family, string>> = { IPv4: '192.0.2.1', IPv6: 'fd00:2::1' }

type Client = 'pod' | 'outside' | 'stranger'
type Addresses = Readonly<Record<Family, string>>

const clusterIp = (number: number): Addresses => ({
  IPv4: `10.96.0.${number}`,
  IPv6: `fd00:10:96::${number}`,
})
const external = (number: number): Addresses => ({ IPv4: `203.0.113.${number}`, IPv6: `fd00:203::${number}` })
const list = (addresses: Addresses): string[] => [addresses.IPv4, addresses.IPv6]

interface Port {
  readonly port: number
  readonly nodePort?: number
}

/** A Service of both families and protocols whose cluster IPs end in `number`. */
function serviceOf(
  name: string,
  number: number,
  ports: readonly Port[],
  spec: Readonly<Record<string, unknown>> = {},
  balancer?: Addresses,
): { readonly metadata: { readonly name: string } } {
  const clusterIPs = list(clusterIp(number))
  const object = service({
    ...{ name, clusterIP: clusterIPs[0]!, spec: { clusterIPs, ...spec } },
    ports: ports.flatMap((port) =>
      PROTOCOLS.map((protocol) => ({
        ...port,
        ...{ name: `${protocol}-${port.port}`, targetPort: 8080, protocol: protocol.toUpperCase() },
      })),
    ),
  })
  const ingress = balancer && list(balancer).map((ip) => ({ ip }))
  return { ...object, ...(ingress && { status: { loadBalancer: { ingress } } }) } as never
}

const balancerSpec = {
  type: 'LoadBalancer',
  externalTrafficPolicy: 'Local',
  allocateLoadBalancerNodePorts: false,
}
const RANGES = { loadBalancerSourceRanges: ['192.168.50.100/32', 'fd00:192:168:50::100/128'] }

/** Whose node port 80 comes and goes. */
const LEGACY = serviceOf('legacy', 42, [{ port: 8000, nodePort: 80 }], { type: 'NodePort' })
const SERVICES = [
  serviceOf('app', 31, [{ port: 31_000 }]),
  serviceOf('other', 32, [{ port: 80, nodePort: 31_000 }], { type: 'NodePort' }),
  serviceOf('same', 33, [{ port: 30_080, nodePort: 30_080 }], { type: 'NodePort' }),
  serviceOf('ingress', 41, [{ port: 80 }], { ...balancerSpec, healthCheckNodePort: 32_041 }, external(41)),
  serviceOf('restricted', 43, [{ port: 31_000 }], { ...balancerSpec, ...RANGES }, external(43)),
  // Restricted, and its port is the port of somebody else's health checks.
  serviceOf('checked', 44, [{ port: 32_041 }], { ...balancerSpec, ...RANGES }, external(44)),
  serviceOf('external', 45, [{ port: 30_080 }], {
    externalIPs: list(external(45)),
    externalTrafficPolicy: 'Local',
  }),
  serviceOf('local', 46, [{ port: 80, nodePort: 31_001 }], {
    type: 'NodePort',
    externalTrafficPolicy: 'Local',
  }),
  serviceOf('beside', 47, [{ port: 31_001 }]),
  // The host's firewall drops what is for this one's ports.
  serviceOf('forbidden', 51, [{ port: 80 }, { port: 32_041 }]),
]

/** What a host's firewall says before kube-ipvs starts; its policies are set later. */
const FIREWALL = FAMILIES.map((family) => {
  const [command, icmp] = family === 'IPv4' ? ['iptables', 'icmp'] : ['ip6tables', 'ipv6-icmp']
  const dropped = [80, 32_041].flatMap((port) =>
    PROTOCOLS.map((protocol) => `-d ${clusterIp(51)[family]} -p ${protocol} --dport ${port} -j DROP`),
  )
  const accepted = ['-i lo', `-p ${icmp}`, '-m conntrack --ctstate RELATED,ESTABLISHED'].map(
    (match) => `${match} -j ACCEPT`,
  )
  return [...dropped, ...accepted].map((rule) => `${command} -A INPUT ${rule}`).join('\n')
}).join('\n')

/** A Pod's hostPort there, as network plug-ins have it, which is somebody's node port. */
const hostPort = (pod: Host): string =>
  PROTOCOLS.map(
    (protocol) => `
      iptables -t nat -A PREROUTING -d ${ASIDE.IPv4} -p ${protocol} --dport 31000 -j DNAT --to ${pod.ipv4}:8080
      ip6tables -t nat -A PREROUTING -d ${ASIDE.IPv6} -p ${protocol} --dport 31000 -j DNAT --to [${pod.ipv6}]:8080`,
  ).join('')

const setPolicy = (policy: 'ACCEPT' | 'DROP'): Promise<string> =>
  sh(`iptables -P INPUT ${policy}; ip6tables -P INPUT ${policy}`)

/** As docs/operations.md says it. */
const OPEN_NODE_PORTS = `
iptables -A INPUT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j ACCEPT
iptables -A INPUT -p udp -m set --match-set KUBE-NODE-PORT-UDP dst -j ACCEPT
ip6tables -A INPUT -p tcp -m set --match-set KUBE-6-NODE-PORT-TCP dst -j ACCEPT
ip6tables -A INPUT -p udp -m set --match-set KUBE-6-NODE-PORT-UDP dst -j ACCEPT`

/** A connection, and what comes of it: the client's address or the node's, or an error. */
type Row = readonly [
  client: Client,
  to: Addresses,
  port: number,
  expected: string,
  protocols?: readonly WireProtocol[],
]

describe('rules among rules', () => {
  const [config, folder] = [join(temporaryFolder(), 'config.json'), temporaryFolder()]
  let cluster: ClusterLab
  let program: Program | undefined

  const ports = PROTOCOLS.flatMap((protocol) =>
    [80, 8000, 30_080, 31_000, 31_001, 32_041].map((port) => ({
      ...{ name: `${protocol}-${port}`, port: 8080, protocol: protocol.toUpperCase() },
    })),
  )
  /** An endpoint on the node, and one on another. */
  const slicesOf = (name: string): object[] =>
    (['ipv4', 'ipv6'] as const).map((family) =>
      slice({
        ...{ name: `${name}-${family}`, service: name, ports },
        addressType: family === 'ipv4' ? 'IPv4' : 'IPv6',
        endpoints: [
          endpoint(cluster.local[0][family], { nodeName: 'lab' }),
          endpoint(cluster.remote[0][family], { nodeName: 'node2' }),
        ],
      }),
    )
  const write = (name: string, objects: readonly object[]): void => {
    writeFileSync(join(folder, name), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  }

  before(async () => {
    cluster = await buildCluster()
    await sh(`
      ip -n ${cluster.outside.namespace} addr add ${STRANGER.IPv4}/32 dev wire0
      ip -n ${cluster.outside.namespace} addr add ${STRANGER.IPv6}/128 dev wire0 nodad
      ip route add ${STRANGER.IPv4}/32 via ${cluster.outside.ipv4}
      ip -6 route add ${STRANGER.IPv6}/128 via ${cluster.outside.ipv6}
      ip link add aside up type dummy
      ip addr add ${ASIDE.IPv4}/32 dev aside
      ip addr add ${ASIDE.IPv6}/128 dev aside nodad
      ip -n ${cluster.outside.namespace} route add ${ASIDE.IPv4} via ${NODE.IPv4}
      ip -n ${cluster.outside.namespace} route add ${ASIDE.IPv6} via ${NODE.IPv6}
      ${hostPort(cluster.local[0])}
      ${FIREWALL}`)
    writeFileSync(config, JSON.stringify(CONFIG))
    const slices = SERVICES.flatMap(({ metadata }) => slicesOf(metadata.name))
    write('all.yaml', [...SERVICES, ...slices, ...fixtureObjects('nodes')])
    program = await Program.start('--config', config, '--manifests', folder, '--hostname-override', 'lab')
  })
  after(async () => {
    await program?.stop()
    await setPolicy('ACCEPT')
    await clearNode()
    await cluster.remove()
    await sh('ip link del aside')
  })

  function outcome(client: Client, { seen, errors }: Reply): string {
    const { pod, outside } = cluster
    const own = { pod: [pod.ipv4, pod.ipv6], outside: [outside.ipv4, outside.ipv6], stranger: list(STRANGER) }
    const sources = Object.keys(seen).map((text) => text.split(' ')[1]!)
    const words = sources.map((source) => {
      if (own[client].includes(source)) return 'client'
      return [...list(NODE), ...GATEWAY].includes(source) ? 'node' : source
    })
    return [...new Set([...words, ...Object.keys(errors)])].sort().join(' and ')
  }

  /** Asks all rows for both families and their protocols. */
  async function check(rows: readonly Row[]): Promise<void> {
    const cells = rows.flatMap(([client, to, port, expected, protocols = PROTOCOLS]) =>
      FAMILIES.flatMap((family) =>
        protocols.map((protocol) => ({ client, address: to[family], family, port, protocol, expected })),
      ),
    )
    type Cell = (typeof cells)[number]
    const surprises: string[] = []
    for (const client of ['pod', 'outside', 'stranger'] as const) {
      const asked = cells.filter((cell) => cell.client === client)
      if (asked.length === 0) continue
      const host = client === 'pod' ? cluster.pod : cluster.outside
      const observed = await observe<Cell>(asked, {
        ask: (questions, seconds) => host.ask(questions, seconds),
        question: ({ protocol, address, port, family }) => ({
          ...{ protocol, address, port, count: 2 },
          ...(client === 'stranger' && { source: STRANGER[family] }),
        }),
        outcome: (cell, reply) => outcome(cell.client, reply),
        expected: (cell) => cell.expected,
      })
      for (const [{ protocol, address, port, expected }, found] of observed)
        if (found !== expected)
          surprises.push(`${client} ${protocol} ${address} ${port}: ${found}; expected: ${expected}`)
    }
    expect(surprises).to.deep.equal([])
  }

  it("a cluster IP's port is somebody's node port: its servers see the Pod that asks", () =>
    check([
      ['pod', clusterIp(31), 31_000, 'client'],
      ['pod', clusterIp(32), 80, 'client'],
      ['pod', clusterIp(33), 30_080, 'client'],
      ['pod', clusterIp(47), 31_001, 'client'],
    ]))

  it("a load balancer's, or an external address's, is: policy Local keeps the client", () =>
    check([
      ['outside', external(41), 80, 'client'],
      ['outside', external(43), 31_000, 'client'],
      ['stranger', external(43), 31_000, 'timeout'],
      ['outside', external(45), 30_080, 'client'],
    ]))

  it('a node port 80 comes and goes: the load balancer on port 80 goes on to see its clients', async () => {
    const ipset = (): Promise<string> => run('ipset', 'list', 'KUBE-NODE-PORT-TCP')
    write('legacy.yaml', [LEGACY, ...slicesOf('legacy')])
    await eventually(async () => expect(await ipset()).to.match(/^80$/m), 60_000)
    await check([
      ['outside', external(41), 80, 'client'],
      ['pod', clusterIp(32), 80, 'client'],
      ['outside', NODE, 80, 'node'],
    ])
    rmSync(join(folder, 'legacy.yaml'))
    await eventually(async () => expect(await ipset()).to.not.match(/^80$/m), 60_000)
    await check([['outside', external(41), 80, 'client']])
  })

  it('node ports are as they were: masqueraded, but for policy Local', () =>
    check([
      ['outside', NODE, 31_000, 'node'],
      ['outside', NODE, 30_080, 'node'],
      ['outside', NODE, 31_001, 'client'],
    ]))

  it("a health check's port is let in for the node and its load balancer, not for another Service", async () => {
    const { namespace } = cluster.outside
    for (const address of [NODE.IPv4, `[${NODE.IPv6}]`, external(41).IPv4, `[${external(41).IPv6}]`]) {
      const answer = await sh(`ip netns exec ${namespace} curl -sm 10 http://${address}:32041/`)
      expect(answer, address).to.contain('"localEndpoints": 1')
    }
    await check([
      // Dropped by the host.
      ['pod', clusterIp(51), 32_041, 'timeout'],
      ['outside', external(44), 32_041, 'client'],
      ['stranger', external(44), 32_041, 'timeout'],
    ])
  })

  it('source ranges are asked before health checks pass, in whatever order the jumps stand', async () => {
    for (const tables of ['iptables', 'ip6tables']) {
      const jump = '-m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT'
      await sh(`${tables} -D INPUT ${jump}; ${tables} -I INPUT ${jump}`)
    }
    await check([
      ['outside', external(44), 32_041, 'client'],
      ['stranger', external(44), 32_041, 'timeout'],
    ])
  })

  describe('under a firewall that drops', () => {
    before(() => setPolicy('DROP'))

    it('what is for the address and port of a Service is let through', () =>
      check([
        ['pod', clusterIp(32), 80, 'client'],
        ['pod', clusterIp(31), 31_000, 'client'],
        ['outside', external(41), 80, 'client'],
        ['outside', external(45), 30_080, 'client'],
        ['outside', external(43), 31_000, 'client'],
      ]))

    it('what source ranges or a rule of the host forbid is not, nor what is for no Service', () =>
      check([
        ['stranger', external(43), 31_000, 'timeout'],
        ['stranger', external(44), 32_041, 'timeout'],
        ['pod', clusterIp(51), 80, 'timeout'],
        ['pod', clusterIp(51), 32_041, 'timeout'],
        ['outside', NODE, 22, 'timeout'],
        // The set of health checks would let in UDP, too.
        ['outside', NODE, 32_041, 'timeout', ['udp']],
      ]))

    it('source ranges hold wherever somebody has put the jump', async () => {
      for (const tables of ['iptables', 'ip6tables']) {
        const jump = /^-A INPUT (.* -j KUBE-IPVS-ACCEPT)$/m.exec(
          await run(`${tables}-save`, '-t', 'filter'),
        )![1]!
        await sh(`${tables} -D INPUT ${jump}; ${tables} -I INPUT ${jump}`)
      }
      await check([
        ['outside', external(43), 31_000, 'client'],
        ['stranger', external(43), 31_000, 'timeout'],
      ])
    })

    it('node ports are the host’s to open, and are, by the command of the handbook', async () => {
      const rows = (outcome: string, local: string): Row[] => [
        ['outside', NODE, 31_000, outcome],
        ['outside', NODE, 31_001, local],
      ]
      await check(rows('timeout', 'timeout'))
      await sh(OPEN_NODE_PORTS)
      await check(rows('node', 'client'))
    })
  })

  describe('with node ports on some addresses only', () => {
    before(async () => {
      writeFileSync(config, JSON.stringify(SELECTED))
      for (const tables of ['iptables', 'ip6tables'])
        await eventually(
          async () =>
            expect(await run(tables, '-t', 'nat', '-S', 'KUBE-SERVICES')).to.contain('-A KUBE-SERVICES -d '),
          60_000,
        )
    })

    it('the others are left to whoever has the same port there', () =>
      check([
        ['outside', ASIDE, 31_000, 'client'],
        ['outside', NODE, 31_000, 'node'],
        ['pod', clusterIp(31), 31_000, 'client'],
      ]))

    it('and nothing is complained of, and nobody else’s rule is another', async () => {
      expect(program!.complaints().map(({ msg }) => msg)).to.deep.equal([])
      const foreign = (text: string): string[] =>
        text.match(/^-A INPUT (?!.*-j KUBE-).*$/gm)!.filter((rule) => !rule.includes('KUBE-'))
      for (const tables of ['iptables-save', 'ip6tables-save'])
        expect(foreign(await run(tables, '-t', 'filter'))).to.have.length(7)
    })
  })
})
