/**
 * A cluster for the lab, with the addresses of `test/fixtures/kube-proxy-node`: the test's own namespace is the
 * node `lab` with three Pods; behind another node are three more, and an outside host is on the nodes' network.
 *
 *   a1, a2, a3 ── node lab ──┐
 *   10.244.1.x   192.168.50.1├── outside 192.168.50.100
 *   b1, b2, b3 ── node2 ─────┘
 *   10.244.2.x   192.168.50.2
 *
 * a1, a2, b1 and b2 serve; a3 and b3 are clients. Packets of b3 to virtual addresses are routed to node lab, as if
 * node2 had no proxy; node2 swallows those of b1 and b2, as a node does whose own proxy holds these addresses.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Family } from '../../src/model/address.ts'
import { Host, namespaceOf, type Question, type Reply, sh, temporaryFolder } from './lab.ts'

const FIXTURE = join(process.cwd(), 'test/fixtures/kube-proxy-node')
/** The node's addresses. */
export const NODE: Readonly<Record<Family, string>> = { IPv4: '192.168.50.1', IPv6: 'fd00:192:168:50::1' }
/** The node's addresses on the wires of its Pods. */
export const GATEWAY: readonly string[] = ['169.254.1.1', 'fd00:10:244:1::1']
const NODE2 = { IPv4: '192.168.50.2', IPv6: 'fd00:192:168:50::2' }
/** Where ClusterIPs, external IPs and the addresses of load balancers are. */
const VIRTUAL = ['10.96.0.0/16', '203.0.113.0/24', 'fd00:10:96::/64', 'fd00:203::/64']

/** A cluster's hosts; the node itself is none. */
export interface ClusterLab {
  /** Servers. */
  readonly local: readonly [Host, Host]
  readonly remote: readonly [Host, Host]
  /** Clients. */
  readonly pod: Host
  readonly remotePod: Host
  readonly outside: Host
  /** The other node. */
  readonly node2: Host
  readonly remove: () => Promise<void>
}

const pod = (name: string, node: 1 | 2, number: number): Host =>
  Host.of(name, `10.244.${node}.${number}`, `fd00:10:244:${node}::${number}`)

/** A line of shell: many commands of ip in one process, in a namespace or on the node. */
const ip = (namespace: string | undefined, ...commands: readonly string[]): string =>
  `ip ${namespace === undefined ? '' : `-n ${namespace} `}-batch - <<END\n${commands.join('\n')}\nEND`

/** What a node's network has to be told; refusals must not depend on their rate. */
const prepare = (namespace?: string): string =>
  `${namespace === undefined ? '' : `ip netns exec ${namespace} `}sysctl -qw \\
    net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0 \\
    net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 \\
    net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratemask=3-127`

/**
 * A Pod's wire to its node. Without a global IPv6 address on it, masquerading would give the Pod's packets one of
 * kube-ipvs0, as the longest match, for a source.
 */
const attachPod = ({ name, namespace, ipv4, ipv6 }: Host, node?: string): string => `
  ip netns add ${namespace}
  ${ip(
    node,
    `link add v-${name} type veth peer name eth0 netns ${namespace}`,
    `addr add 169.254.1.1/32 dev v-${name}`,
    `addr add fe80::ecee/64 dev v-${name} nodad`,
    `addr add ${ipv6.replace(/::.*/, '::1')}/128 dev v-${name} nodad`,
    `link set v-${name} up`,
    `route add ${ipv4}/32 dev v-${name}`,
    `route add ${ipv6}/128 dev v-${name}`,
  )}
  ${ip(
    namespace,
    'link set lo up',
    `addr add ${ipv4}/32 dev eth0`,
    `addr add ${ipv6}/128 dev eth0 nodad`,
    'link set eth0 up',
    'route add 169.254.1.1 dev eth0',
    'route add 0.0.0.0/0 via 169.254.1.1',
    'route add ::/0 via fe80::ecee dev eth0',
  )}`

/** A host's interface `wire0` on the nodes' network, which is a bridge in a namespace of its own. */
const plugIn = (
  wire: string,
  port: string,
  addresses: Record<Family, string>,
  namespace?: string,
): string => `
  ${ip(
    namespace,
    `link add wire0 type veth peer name ${port} netns ${wire}`,
    `addr add ${addresses.IPv4}/24 dev wire0`,
    `addr add ${addresses.IPv6}/64 dev wire0 nodad`,
    'link set wire0 up',
  )}
  ip -n ${wire} link set ${port} master br0 up`

const via = (gateway: Record<Family, string>, networks: readonly string[], table = 'main'): string[] =>
  networks.map((to) => `route add ${to} via ${to.includes(':') ? gateway.IPv6 : gateway.IPv4} table ${table}`)

/** node2, which has a way to node lab's virtual addresses for one Pod only. */
const addNode2 = (node2: string, wire: string, client: Host): string => `
  ip netns add ${node2}
  ${prepare(node2)}
  ${plugIn(wire, 'node2', NODE2, node2)}
  ${ip(
    node2,
    'link set lo up',
    ...via(NODE, ['10.244.1.0/24', 'fd00:10:244:1::/64']),
    ...VIRTUAL.map((network) => `route add blackhole ${network}`),
    ...via(NODE, VIRTUAL, '100'),
    `rule add from ${client.ipv4} lookup 100`,
  )}
  ip -n ${node2} -6 rule add from ${client.ipv6} lookup 100`

const addOutside = ({ namespace, ipv4, ipv6 }: Host, wire: string): string => `
  ip netns add ${namespace}
  ${plugIn(wire, 'outside', { IPv4: ipv4, IPv6: ipv6 }, namespace)}
  ${ip(namespace, 'link set lo up', ...via(NODE, VIRTUAL))}`

/** Builds the cluster around the test's namespace, and starts the servers on port 8080. */
export async function buildCluster(): Promise<ClusterLab> {
  const [a1, a2, a3] = [pod('a1', 1, 11), pod('a2', 1, 12), pod('a3', 1, 20)]
  const [b1, b2, b3] = [pod('b1', 2, 11), pod('b2', 2, 12), pod('b3', 2, 20)]
  const outside = Host.of('outside', '192.168.50.100', 'fd00:192:168:50::100')
  const other = Host.of('node2', NODE2.IPv4, NODE2.IPv6)
  const [wire, node2] = [namespaceOf('wire'), other.namespace]
  await sh(`
    ip link set lo up
    ${prepare()}
    ip netns add ${wire}
    ip -n ${wire} link add br0 up type bridge mcast_snooping 0
    ${plugIn(wire, 'node', NODE)}
    ${addNode2(node2, wire, b3)}
    ${addOutside(outside, wire)}
    ${ip(undefined, ...via(NODE2, ['10.244.2.0/24', 'fd00:10:244:2::/64']))}
    ${[a1, a2, a3].map((host) => attachPod(host)).join('\n')}
    ${[b1, b2, b3].map((host) => attachPod(host, node2)).join('\n')}`)
  await Promise.all([a1, a2, b1, b2].map((host) => host.serve()))
  return {
    local: [a1, a2],
    remote: [b1, b2],
    pod: a3,
    remotePod: b3,
    outside,
    node2: other,
    remove: async () => {
      await Promise.all([a1, a2, a3, b1, b2, b3, outside, other].map((host) => host.remove()))
      await sh(`ip netns del ${wire}`)
    },
  }
}

/** The fixture's text, by file name. */
export const fixture = (name: string): string => readFileSync(join(FIXTURE, name), 'utf8')

type Json = Record<string, unknown>

const KINDS = { services: 'Service', endpointslices: 'EndpointSlice', nodes: 'Node' }

/** The objects that the fixture's kube-proxy was given, as manifests. */
export function fixtureObjects(kind: keyof typeof KINDS): readonly Json[] {
  const { apiVersion, items } = JSON.parse(fixture(`${kind}.json`)) as { apiVersion: string; items: Json[] }
  return items.map((item) => ({ apiVersion, kind: KINDS[kind], ...item }))
}

/** Gives the node's kernel what kube-proxy left in its own: the same addresses, sets, rules and virtual servers. */
export async function loadKubeProxyState(): Promise<void> {
  const folder = temporaryFolder()
  for (const name of ['ipset', 'iptables', 'ip6tables', 'ipvsadm']) {
    writeFileSync(join(folder, name), fixture(`${name}.txt`))
  }
  const bound = [...fixture('addr.txt').matchAll(/kube-ipvs0 +inet6? (\S+)/g)].map(([, address]) => address!)
  await sh(`
    ip link add kube-ipvs0 type dummy
    ${ip(undefined, ...bound.map((address) => `addr add ${address} dev kube-ipvs0`))}
    ipset restore < ${folder}/ipset
    iptables-restore < ${folder}/iptables
    ip6tables-restore < ${folder}/ip6tables
    ipvsadm -R < ${folder}/ipvsadm
    sysctl -qw net.ipv4.vs.conntrack=1 net.ipv4.vs.expire_nodest_conn=1 net.ipv4.vs.expire_quiescent_template=1`)
}

/** Takes all of it away. */
export async function clearKubeProxyState(): Promise<void> {
  await sh(`
    ipvsadm -C
    ip link del kube-ipvs0
    for tables in iptables ip6tables; do
      for table in nat filter; do $tables -t $table -F; $tables -t $table -X; done
    done
    ipset destroy`)
}

/** What to ask of each cell of a table, and what to make of the reply. */
export interface Experiment<Cell> {
  readonly ask: (questions: readonly Question[], seconds: number) => Promise<readonly Reply[]>
  readonly question: (cell: Cell) => Question
  readonly outcome: (cell: Cell, reply: Reply) => string
  readonly expected: (cell: Cell) => string
}

/** Asks all cells at once; those that surprise once more, with more time, for the sake of slow machines. */
export async function observe<Cell>(
  cells: readonly Cell[],
  { ask, question, outcome, expected }: Experiment<Cell>,
): Promise<ReadonlyMap<Cell, string>> {
  const once = async (asked: readonly Cell[], seconds: number): Promise<Map<Cell, string>> => {
    const replies = await ask(asked.map(question), seconds)
    return new Map(asked.map((cell, i) => [cell, outcome(cell, replies[i]!)]))
  }
  const first = await once(cells, 3)
  const surprises = cells.filter((cell) => first.get(cell) !== expected(cell))
  return surprises.length === 0 ? first : new Map([...first, ...(await once(surprises, 10))])
}
