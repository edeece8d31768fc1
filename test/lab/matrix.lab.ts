/**
 * The packet matrix: who reaches which endpoints through which frontend, and which client address they see. What is
 * expected was written from kube-proxy's documented behaviour before the packets, and is shown to be kube-proxy's
 * by running the same packets through the kernel state that a real kube-proxy left.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Family } from '../../src/model/address.ts'
import { ask as askProgram } from '../../src/commands/look/ask.ts'
import type { Binding } from '../../src/model/binding.ts'
import type { Explanation, SeenAs } from '../../src/view/documents.ts'
import {
  buildCluster,
  clearKubeProxyState,
  type ClusterLab,
  fixtureObjects,
  GATEWAY,
  loadKubeProxyState,
  NODE,
  observe,
} from '../support/cluster-lab.ts'
import { eventually } from '../support/eventually.ts'
import { ask, Program, type Reply, run, temporaryFolder, type WireProtocol } from '../support/lab.ts'

const FAMILIES: readonly Family[] = ['IPv4', 'IPv6']
const PROTOCOLS: readonly WireProtocol[] = ['tcp', 'udp', 'sctp']
const CLIENTS = ['pod', 'same pod', 'remote pod', 'node', 'outside'] as const
const FRONTENDS = ['ClusterIP', 'NodePort', 'externalIP', 'LB VIP'] as const
/** internalTrafficPolicy for ClusterIPs, externalTrafficPolicy for the others; `none`: no endpoint is local. */
const POLICIES = ['Cluster', 'Local', 'Local, none', 'Local, none, with NodePort'] as const
/** As many as there are endpoints: under rr every one gets its turn. */
const CONNECTIONS = 4

const CONFIG = {
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: 'ipvs',
  clusterCIDR: '10.244.0.0/16,fd00:10:244::/48',
  detectLocalMode: 'ClusterCIDR',
}

type Client = (typeof CLIENTS)[number]
type Frontend = (typeof FRONTENDS)[number]
type Policy = (typeof POLICIES)[number]
type Proxy = 'kube-proxy' | OurProxy
/** By the way in which virtual IPs are bound. */
type OurProxy = 'kube-ipvs' | 'kube-ipvs with routes'
const BINDINGS: Readonly<Record<OurProxy, Binding>> = {
  'kube-ipvs': 'address',
  'kube-ipvs with routes': 'route',
}

/** The Services of the fixture, and two that it lacks, by what they show. */
const SERVICES: Readonly<Record<Frontend, Partial<Record<Policy, string>>>> = {
  ClusterIP: {
    Cluster: 'cip',
    Local: 'itp-local',
    'Local, none': 'itp-local-none',
    'Local, none, with NodePort': 'itp-local-np-none',
  },
  NodePort: { Cluster: 'np', Local: 'np-local', 'Local, none': 'np-local-none' },
  externalIP: { Cluster: 'ext', Local: 'ext-local', 'Local, none': 'ext-local-none' },
  'LB VIP': { Cluster: 'lb', Local: 'lb-local', 'Local, none': 'lb-local-none' },
}
/** kube-proxy's state has no external address whose policy is Local. */
const OURS = ['ext-local', 'ext-local-none']

interface Cell {
  readonly client: Client
  readonly frontend: Frontend
  readonly policy: Policy
  readonly family: Family
  readonly protocol: WireProtocol
}

const nameOf = (cell: Cell): string => Object.values(cell).join(', ')

/** A process on the node that speaks to a virtual IP, and is not masqueraded. */
const isNodesOwn = ({ client, frontend, policy }: Cell): boolean =>
  client === 'node' && ['externalIP', 'LB VIP'].includes(frontend) && policy !== 'Cluster'

/** Where routes are no equal of addresses, and why. Anything else that differs is a fault. */
const LISTED: readonly { readonly why: string; readonly concerns: (cell: Cell) => boolean }[] = [
  {
    why: "an IPv6 route has no source of its own: a process on the node speaks from the node's address",
    concerns: (cell) => isNodesOwn(cell) && cell.family === 'IPv6',
  },
  {
    why: 'SCTP takes its source from the addresses of interfaces only, so it is one of the node',
    concerns: (cell) => isNodesOwn(cell) && cell.protocol === 'sctp',
  },
]

const reasonOf = (cell: Cell): string | undefined => LISTED.find(({ concerns }) => concerns(cell))?.why

/** What a cell shows with addresses, and with routes. */
interface Difference {
  readonly cell: Cell
  readonly before: string | undefined
  readonly text: string
}

function describeDifferences(differences: readonly Difference[]): string {
  const lines = differences.map(
    ({ cell, before, text }) => `${nameOf(cell)}: ${before}; as routes: ${text}  (${reasonOf(cell)})`,
  )
  return ['With virtual IPs as routes, all is the same, but:', ...lines].join('\n')
}

/** An endpoint of the client's own, endpoints on the node, and those on the other node. */
type Group = 'self' | 'local' | 'remote'
/** The client address that an endpoint sees: the client's own, one of the node's, or the frontend's. */
type Seen = 'client' | 'node' | 'VIP'

/** Whose endpoints a frontend has under a policy. */
function endpointsOf({ client, frontend, policy }: Cell, proxy: Proxy): readonly Group[] {
  const local: readonly Group[] = client === 'same pod' ? ['self', 'local'] : ['local']
  if (policy === 'Cluster') return [...local, 'remote']
  if (policy === 'Local') return local
  // No local endpoint: externalTrafficPolicy falls back to all, internalTrafficPolicy does not.
  if (frontend !== 'ClusterIP') return ['remote']
  // kube-proxy's internalTrafficPolicy does after all where the Service has a NodePort; ours never does.
  return policy === 'Local, none, with NodePort' && proxy === 'kube-proxy' ? ['remote'] : []
}

/** Which client address an endpoint sees, by section 4.7. */
function sourceAt(group: Group, cell: Cell, proxy: Proxy): Seen {
  const { client, frontend, policy } = cell
  if (group === 'self') return 'node'
  if (frontend === 'ClusterIP') return client === 'node' || client === 'outside' ? 'node' : 'client'
  if (policy === 'Cluster') return 'node'
  if (client !== 'node') return 'client'
  if (proxy === 'kube-ipvs with routes' && reasonOf(cell) !== undefined) return 'node'
  // A process takes the address that it speaks to, where that is the machine's own.
  return frontend === 'NodePort' ? 'node' : 'VIP'
}

/** Whether the answer goes through the node, which alone can give it the frontend's address. */
const returns = (group: Group, source: Seen, { client }: Cell): boolean =>
  group !== 'remote' ||
  source === 'node' ||
  (source === 'client' && client === 'pod') ||
  client === 'same pod'

function expected(cell: Cell, proxy: Proxy): string {
  const groups = endpointsOf(cell, proxy)
  // SCTP takes an ICMP error for a hint, and tries on.
  if (groups.length === 0) return cell.protocol === 'sctp' ? 'timeout' : 'refused'
  const answers = new Map<Group, Seen>()
  for (const group of groups) {
    const source = sourceAt(group, cell, proxy)
    if (returns(group, source, cell)) answers.set(group, source)
  }
  return describeOutcome(answers, answers.size < groups.length ? ['timeout'] : [])
}

const SEEN: Readonly<Record<SeenAs, Seen>> = { client: 'client', node: 'node', virtualIp: 'VIP' }

/** The address of `10.244.1.2:80` or `[fd00::2]:80`. */
const hostOfSocket = (socket: string): string => socket.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')

/** In the order of the table. */
const inOrder = (seen: ReadonlyMap<Group, Seen>): Map<Group, Seen> =>
  new Map(
    (['self', 'local', 'remote'] as const).flatMap((group) =>
      seen.has(group) ? [[group, seen.get(group)!]] : [],
    ),
  )

/** `local + remote see client; timeout`. */
function describeOutcome(answers: ReadonlyMap<string, string>, errors: readonly string[]): string {
  const sources = [...new Set(answers.values())]
  const seen = sources.map((source) => {
    const groups = [...answers].filter(([, at]) => at === source).map(([group]) => group)
    return `${groups.join(' + ')} see${groups.length === 1 && groups[0] === 'self' ? 's' : ''} ${source}`
  })
  return [...seen, ...errors].join('; ')
}

type Json = Record<string, unknown>
interface ServiceObject extends Json {
  readonly metadata: { readonly name: string }
  readonly spec: Json & {
    readonly clusterIPs: string[]
    readonly externalIPs?: string[]
    readonly ports: { nodePort: number }[]
  }
  readonly status: { readonly loadBalancer: { readonly ingress?: { ip: string }[] } }
}
interface SliceObject extends Json {
  readonly metadata: { readonly name: string; readonly labels: Record<string, string> }
}

/** The fixture's objects, and the Services that it lacks: `ext` again, with externalTrafficPolicy Local. */
function objects(): { readonly services: readonly ServiceObject[]; readonly all: readonly object[] } {
  const services = fixtureObjects('services') as unknown as ServiceObject[]
  const slices = fixtureObjects('endpointslices') as unknown as SliceObject[]
  const ext = services.find(({ metadata }) => metadata.name === 'ext')!
  const more = OURS.map((name, i): ServiceObject => {
    const clusterIPs = [`10.96.0.21${i}`, `fd00:10:96::21${i}`]
    const externalIPs = [`203.0.113.1${i + 1}`, `fd00:203::1${i + 1}`]
    const spec = {
      ...ext.spec,
      clusterIP: clusterIPs[0],
      clusterIPs,
      externalIPs,
      externalTrafficPolicy: 'Local',
    }
    return { ...ext, metadata: { ...ext.metadata, name }, spec }
  })
  const copies = OURS.flatMap((name, i) =>
    slices
      .filter(({ metadata }) => metadata.labels['kubernetes.io/service-name'] === ['ext', 'cip-remote'][i])
      .map((slice) => ({
        ...slice,
        metadata: {
          ...slice.metadata,
          name: slice.metadata.name.replace(/^(ext|cip-remote)/, name),
          labels: { 'kubernetes.io/service-name': name },
        },
      })),
  )
  const all = [...services, ...more]
  return { services: all, all: [...all, ...slices, ...copies, ...fixtureObjects('nodes')] }
}

const { services, all: manifests } = objects()

/** Where a frontend's clients connect to. */
function targetOf({ frontend, policy, family }: Cell): { readonly address: string; readonly port: number } {
  const { spec, status } = services.find(({ metadata }) => metadata.name === SERVICES[frontend][policy])!
  const i = FAMILIES.indexOf(family)
  if (frontend === 'NodePort') return { address: NODE[family], port: spec.ports[0]!.nodePort }
  const addresses = {
    ClusterIP: spec.clusterIPs,
    externalIP: spec.externalIPs,
    'LB VIP': status.loadBalancer.ingress?.map(({ ip }) => ip),
  }
  return { address: addresses[frontend]![i]!, port: 80 }
}

/** Every cell of a client; a Pod is no endpoint of a Service that has none on its node. */
const cellsOf = (client: Client, proxy: Proxy): readonly Cell[] =>
  FRONTENDS.flatMap((frontend) =>
    POLICIES.filter((policy) => SERVICES[frontend][policy] !== undefined)
      .filter((policy) => client !== 'same pod' || !policy.includes('none'))
      .filter((policy) => proxy !== 'kube-proxy' || !OURS.includes(SERVICES[frontend][policy]!))
      .flatMap((policy) =>
        FAMILIES.flatMap((family) =>
          PROTOCOLS.map((protocol) => ({ client, frontend, policy, family, protocol })),
        ),
      ),
  )

/** `udp, sctp` or `IPv6` or `tcp/IPv4`: the columns that say the same, empty when all do. */
function nameColumns(cells: readonly Cell[]): string {
  const families = [...new Set(cells.map(({ family }) => family))]
  const protocols = [...new Set(cells.map(({ protocol }) => protocol))]
  if (cells.length < families.length * protocols.length) {
    return cells.map(({ protocol, family }) => `${protocol}/${family}`).join(', ')
  }
  const names = [
    protocols.length < PROTOCOLS.length ? protocols.join(', ') : '',
    families.length < FAMILIES.length ? families.join(', ') : '',
  ]
  return names.filter((name) => name !== '').join('/')
}

/** One row for each client, frontend and policy; equal columns are one. */
function describeRow(cells: readonly Cell[], results: ReadonlyMap<Cell, string>): string {
  const [cell] = cells
  const columns = Map.groupBy(cells, (each) => results.get(each) ?? 'not asked')
  const outcomes = [...columns].map(([text, same]) =>
    [nameColumns(same), text].filter((part) => part !== '').join(': '),
  )
  const theirs = [...new Set(cells.map((each) => expected(each, 'kube-proxy')))]
  const differs = cells.some((each) => expected(each, 'kube-proxy') !== expected(each, 'kube-ipvs'))
  const note = differs ? `  (issue 3; kube-proxy: ${theirs.join(' | ')})` : ''
  const { client, frontend, policy } = cell!
  return `${client.padEnd(12)}${frontend.padEnd(12)}${policy.padEnd(28)}${outcomes.join(' | ')}${note}`
}

function describeTable(results: ReadonlyMap<Cell, string>): string {
  const rows = Map.groupBy(
    results.keys(),
    ({ client, frontend, policy }) => `${client} ${frontend} ${policy}`,
  )
  const head = `${'client'.padEnd(12)}${'frontend'.padEnd(12)}${'traffic policy'.padEnd(28)}who answers, and the client that they see`
  return [head, ...[...rows.values()].map((cells) => describeRow(cells, results))].join('\n')
}

describe('the packet matrix', () => {
  let cluster: ClusterLab
  /** Of addresses. */
  const results = new Map<Cell, string>()
  const differences: Difference[] = []
  /** How many cells have been asked with routes, too. */
  let compared = 0
  /** How many cells have been explained. */
  let told = 0

  before(async () => {
    cluster = await buildCluster()
  })
  after(async () => {
    await cluster.remove()
  })

  const hostOf = (client: Client) =>
    ({
      pod: cluster.pod,
      'same pod': cluster.local[0],
      'remote pod': cluster.remotePod,
      node: undefined,
      outside: cluster.outside,
    })[client]

  /** What an endpoint saw, in the words of the table; an address that is neither as it is. */
  function classify(cell: Cell, source: string): string {
    const host = hostOf(cell.client)
    if (host !== undefined && [host.ipv4, host.ipv6].includes(source)) return 'client'
    if ([...Object.values(NODE), ...GATEWAY].includes(source)) return 'node'
    return source === targetOf(cell).address ? 'VIP' : source
  }

  /** A reply in the words of the table: a group's name stands for all its endpoints. */
  function outcome(cell: Cell, { seen, errors }: Reply): string {
    const self = cell.client === 'same pod' ? [cluster.local[0].name] : []
    const groups: Record<Group, readonly string[]> = {
      self,
      local: cluster.local.map(({ name }) => name).filter((name) => !self.includes(name)),
      remote: cluster.remote.map(({ name }) => name),
    }
    const sources = new Map(Object.keys(seen).map((text) => text.split(' ') as [string, string]))
    const answers = new Map<string, string>()
    for (const [group, names] of Object.entries(groups)) {
      const found = names.filter((name) => sources.has(name))
      const at = new Set(found.map((name) => classify(cell, sources.get(name)!)))
      if (found.length === 0) continue
      answers.set(found.length === names.length ? group : found.join(' + '), [...at].join(' and '))
    }
    // EPERM is what a process on the node gets when its own datagram is refused.
    const words: Record<string, string> = { ECONNREFUSED: 'refused', EPERM: 'refused' }
    return describeOutcome(
      answers,
      Object.keys(errors).map((error) => words[error] ?? error),
    )
  }

  /** What `kube-ipvs explain` says of a cell, in the words of the table. */
  async function explained(cell: Cell): Promise<string> {
    const { address, port } = targetOf(cell)
    const host = hostOf(cell.client)
    const of = `${address.includes(':') ? `[${address}]` : address}:${port}/${cell.protocol}`
    const from = host === undefined ? 'node' : cell.family === 'IPv4' ? host.ipv4 : host.ipv6
    const { frontends } = await askProgram<Explanation>('/run/kube-ipvs/socket', '/v1/explanation', {
      of,
      from,
    })
    const groupOf = (address: string): Group =>
      [host?.ipv4, host?.ipv6].includes(address)
        ? 'self'
        : cluster.local.some(({ ipv4, ipv6 }) => [ipv4, ipv6].includes(address))
          ? 'local'
          : 'remote'
    const seen = new Map<Group, Seen>()
    for (const { endpoint, isIn, seenAs } of frontends[0]!.endpoints)
      if (isIn) seen.set(groupOf(hostOfSocket(endpoint)), SEEN[seenAs!])
    if (seen.size === 0) return cell.protocol === 'sctp' ? 'timeout' : 'refused'
    const answers = [...seen].filter(([group, source]) => returns(group, source, cell))
    return describeOutcome(inOrder(new Map(answers)), answers.length < seen.size ? ['timeout'] : [])
  }

  async function check(client: Client, proxy: Proxy): Promise<void> {
    const cells = cellsOf(client, proxy)
    const observed = await observe(cells, {
      ask: (questions, seconds) => hostOf(client)?.ask(questions, seconds) ?? ask(questions, seconds),
      question: (cell) => ({ ...targetOf(cell), protocol: cell.protocol, count: CONNECTIONS }),
      outcome,
      expected: (cell) => expected(cell, proxy),
    })
    if (proxy === 'kube-ipvs') for (const [cell, text] of observed) results.set(cell, text)
    if (proxy === 'kube-ipvs with routes')
      for (const [cell, text] of observed) {
        const before = [...results].find(([one]) => nameOf(one) === nameOf(cell))?.[1]
        compared++
        if (before !== text) differences.push({ cell, before, text })
      }
    if (proxy !== 'kube-proxy') {
      const lies: string[] = []
      for (const cell of cells) {
        const said = await explained(cell)
        told++
        if (said !== observed.get(cell))
          lies.push(`${nameOf(cell)}: ${observed.get(cell)}; explained: ${said}`)
      }
      expect(lies).to.deep.equal([])
    }
    const surprises = cells.filter((cell) => observed.get(cell) !== expected(cell, proxy))
    expect(
      surprises.map((cell) => `${nameOf(cell)}: ${observed.get(cell)}; expected: ${expected(cell, proxy)}`),
    ).to.deep.equal([])
  }

  describe("of kube-proxy's own kernel state", () => {
    before(loadKubeProxyState)
    after(clearKubeProxyState)

    for (const client of CLIENTS) it(`a client: ${client}`, () => check(client, 'kube-proxy'))
  })

  function startWith(binding: Binding): Promise<Program> {
    const [config, folder] = [join(temporaryFolder(), 'config.json'), temporaryFolder()]
    writeFileSync(config, JSON.stringify(CONFIG))
    writeFileSync(join(folder, 'all.yaml'), manifests.map((object) => JSON.stringify(object)).join('\n---\n'))
    const args = ['--config', config, '--manifests', folder, '--hostname-override', 'lab']
    return Program.start(...args, '--vip-binding', binding)
  }

  for (const proxy of ['kube-ipvs', 'kube-ipvs with routes'] as const)
    describe(`of ${proxy}`, () => {
      let program: Program | undefined

      before(async () => {
        program = await startWith(BINDINGS[proxy])
        // The second one finds addresses, and switches.
        if (proxy === 'kube-ipvs with routes') await eventually(expectNoAddresses, 30_000)
      })
      after(async () => {
        await program?.stop()
      })

      for (const client of CLIENTS) it(`a client: ${client}`, () => check(client, proxy))

      it('was made without a complaint', () => {
        expect(program!.complaints().map(({ msg }) => msg)).to.deep.equal([])
      })
    })

  // In a suite of its own, as suites come after tests.
  describe('of kube-ipvs in both bindings', () => {
    it('is the same for addresses and for routes, but for what is listed', () => {
      const table = `${describeTable(results)}\n\n${describeDifferences(differences)}`
      console.log(table)
      writeFileSync(join(process.env.LAB_OUT ?? '.', 'matrix.txt'), `${table}\n`)
      expect(compared).to.equal(results.size)
      expect(told).to.equal(2 * results.size)
      expect(differences.filter(({ cell }) => reasonOf(cell) === undefined)).to.deep.equal([])
      expect(differences.map(({ cell }) => reasonOf(cell))).to.include.members(LISTED.map(({ why }) => why))
    })
  })
})

async function expectNoAddresses(): Promise<void> {
  expect(await run('ip', '-o', 'addr', 'show', 'dev', 'kube-ipvs0')).to.equal('')
}
