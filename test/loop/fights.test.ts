/**
 * Random histories of Services that fight over addresses, ports, families and namespaces, while the kernel refuses some of
 * what it is asked for. Cluster IPs and node ports are given to one Service at a time, as an API server does; all else is
 * whatever somebody writes.
 */
import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { objectOf } from '../../src/model/operation.ts'
import { type VirtualServerKey, virtualServerId } from '../../src/model/virtual-server.ts'
import { boundLines } from '../support/bound.ts'
import { Coverage } from '../support/coverage.ts'
import { service, slice } from '../support/builders.ts'
import { type Random, withRandom } from '../support/random.ts'
import { Story } from '../support/story.ts'

const HISTORIES = 1_000
const EVENTS = 12
/** What the loop may need for one event, with all that is tried again within a second. */
const ROUNDS_PER_EVENT = 60

const NAMES = ['kube-system/dns', 'shop/a', 'shop/b', 'evil/c', 'evil/d']
const CLUSTER_IPS = ['10.96.0.1', '10.96.0.2', '10.96.0.3', '10.96.0.4', '10.96.0.5', '10.96.0.6']
const CLUSTER_IPS6 = ['fd00:10:96::1', 'fd00:10:96::2', 'fd00:10:96::3']
const NODE_PORTS = [30_080, 30_081]
const NODE_ADDRESSES = ['192.168.50.1', '10.0.2.15'] as Address[]
const EXTERNAL = [
  ...CLUSTER_IPS,
  ...CLUSTER_IPS6,
  ...NODE_ADDRESSES,
  '203.0.113.1',
  '203.0.113.2',
  '127.0.0.1',
  'fd00:203::1',
]
const PORTS = [80, 81, ...NODE_PORTS]

interface Held {
  readonly clusterIps: readonly string[]
  readonly ports: readonly { port: number; protocol: string; nodePort: number }[]
  readonly object: Record<string, unknown>
}

/** Endpoints that nobody else has: whose a real server is can be told by it. */
const ownEndpoint = (name: string, i: number): string => `10.244.${NAMES.indexOf(name)}.${i + 1}`
const isOwn = (name: string, address: string): boolean =>
  address.startsWith(`10.244.${NAMES.indexOf(name)}.`) ||
  address.startsWith(`fd00:10:244:${NAMES.indexOf(name)}:`)

class World {
  readonly story = new Story()
  readonly held = new Map<string, Held>()
  readonly slices = new Map<string, Record<string, unknown>>()
  readonly random: Random
  readonly serviceCidrs: readonly object[]
  #created = 0

  constructor(random: Random) {
    this.random = random
    this.story.nodeAddresses = NODE_ADDRESSES
    const kubernetes = {
      metadata: { name: 'kubernetes' },
      spec: { cidrs: ['10.96.0.0/24', 'fd00:10:96::/120'] },
    }
    this.serviceCidrs = random.chance(0.3) ? [kubernetes] : []
  }

  #free<Item>(all: readonly Item[], taken: (held: Held) => readonly Item[], count: number): Item[] {
    const used = new Set([...this.held.values()].flatMap(taken))
    return this.random.shuffle(all.filter((item) => !used.has(item))).slice(0, count)
  }

  /** A Service that the API server would take. */
  #invent(name: string): Held | undefined {
    const { random } = this
    const [namespace, own] = name.split('/') as [string, string]
    const v4 = this.#free(CLUSTER_IPS, ({ clusterIps }) => clusterIps, 1)
    const v6 = this.#free(CLUSTER_IPS6, ({ clusterIps }) => clusterIps, random.chance(0.4) ? 1 : 0)
    if (v4.length === 0) return undefined
    const nodePorts = this.#free(
      NODE_PORTS,
      ({ ports }) => ports.map(({ nodePort }) => nodePort),
      random.int(2),
    )
    const ports = random
      .shuffle(PORTS)
      .slice(0, 1 + random.int(2))
      .map((port, i) => ({
        name: `p${i}`,
        port,
        protocol: random.pick(['TCP', 'UDP']),
        nodePort: nodePorts[i] ?? 0,
      }))
    const some = (): string[] => random.shuffle(EXTERNAL).slice(0, random.int(3))
    const clusterIps = [...v4, ...v6]
    const object = {
      ...service({
        name: own,
        namespace,
        ports,
        clusterIP: clusterIps[0]!,
        metadata: { creationTimestamp: new Date(Date.UTC(2026, 0, 1 + this.#created++)).toISOString() },
        spec: { type: 'LoadBalancer', clusterIPs: clusterIps, externalIPs: some() },
      }),
      status: { loadBalancer: { ingress: some().map((ip) => ({ ip })) } },
    }
    return { clusterIps, ports, object }
  }

  #inventSlice(name: string): Record<string, unknown> {
    const [namespace, own] = name.split('/') as [string, string]
    const own4 = [0, 1, 2].filter(() => this.random.chance(0.6)).map((i) => ownEndpoint(name, i))
    const odd = this.random
      .shuffle([...CLUSTER_IPS, '127.0.0.1', '203.0.113.1', '169.254.169.254'])
      .slice(0, this.random.int(2))
    const ports = ['TCP', 'UDP'].flatMap((protocol) =>
      [0, 1].map((i) => ({ name: `p${i}`, port: 8080, protocol })),
    )
    return slice({ namespace, service: own, ports, endpoints: [...own4, ...odd] })
  }

  /** One event of one object. */
  async happen(): Promise<void> {
    const name = this.random.pick(NAMES)
    if (this.random.chance(0.4)) {
      const made = this.#inventSlice(name)
      this.slices.set(name, made)
      await this.story.put(made)
    } else if (this.held.has(name) && this.random.chance(0.4)) {
      this.held.delete(name)
      await this.story.removeService(name)
    } else await this.#change(name)
    await this.story.advance(1_000)
  }

  async #change(name: string): Promise<void> {
    const before = this.held.get(name)
    this.held.delete(name)
    const made = this.#invent(name)
    // Cluster IPs cannot be changed: another one is another Service.
    if (before !== undefined) await this.story.removeService(name)
    if (made === undefined) return
    this.held.set(name, made)
    await this.story.put(made.object)
  }

  /** Its own, or what it says to be. */
  #isOwn(name: string, address: string): boolean {
    return isOwn(name, address) || JSON.stringify(this.slices.get(name) ?? {}).includes(`"${address}"`)
  }

  /** Where a Service is reached that nobody else may have: cluster IPs and node ports. */
  #frontends(name: string): string[] {
    const { clusterIps, ports } = this.held.get(name)!
    const keyOf = (ip: string, port: number, protocol: string): string =>
      virtualServerId(ip as Address, port, protocol as 'TCP').key
    return ports.flatMap(({ port, nodePort, protocol }) => [
      ...clusterIps.map((ip) => keyOf(ip, port, protocol)),
      ...(nodePort === 0 ? [] : NODE_ADDRESSES.map((ip) => keyOf(ip, nodePort, protocol))),
    ])
  }

  /** Real servers that get new connections there, and are not its Service's. */
  strangers(): string[] {
    const { virtualServers } = this.story.kernel.state
    return [...this.held.keys()].flatMap((name) =>
      this.#frontends(name).flatMap((key) =>
        [...(virtualServers.get(key as VirtualServerKey)?.realServers.values() ?? [])]
          .filter(({ address, settings }) => settings.weight > 0 && !this.#isOwn(name, address))
          .map(({ address }) => `${key} of ${name}: ${address}`),
      ),
    )
  }

  /** Endpoints that lead to the node itself. */
  loops(): string[] {
    const { virtualServers, addresses } = this.story.kernel.state
    return [...virtualServers.values()].flatMap(({ id, realServers }) =>
      [...realServers.values()]
        .filter(
          ({ settings, address }) =>
            settings.weight > 0 && (addresses.has(address) || /^127|^169/.test(address)),
        )
        .map(({ address }) => `${id.key} has ${address}`),
    )
  }
}

function picture({ kernel }: Story): string[] {
  const { addresses, setMembers } = kernel.state
  return [...kernel.toString().split('\n'), ...boundLines(addresses), ...setMembers].sort()
}

async function fresh(world: World): Promise<Story> {
  const story = new Story()
  story.nodeAddresses = NODE_ADDRESSES
  const services = [...world.held.values()].map(({ object }) => object)
  await story.list(services, [...world.slices.values()], [], world.serviceCidrs)
  await story.advance(5_000)
  return story
}

async function rounds({ metrics }: Story, name: string): Promise<number> {
  const text = await metrics.registry.metrics()
  return Number(new RegExp(`^kube_ipvs_loop_${name}_total (\\d+)$`, 'm').exec(text)?.[1])
}

describe('Services that fight', () => {
  it(`never have a cluster IP or a node port of another, in ${HISTORIES} histories with refusals, and end as a fresh start does`, () =>
    withRandom(async (random) => {
      const coverage = new Coverage()
      for (let i = 0; i < HISTORIES; i++) {
        const world = new World(random)
        const { story } = world
        const share = random.pick([0, 0.1, 0.3])
        const refused = new Set<string>()
        await story.list([], [], [], world.serviceCidrs)
        story.kernel.refuse = (operation) => {
          if (!random.chance(share)) return undefined
          refused.add(objectOf(operation).key)
          return 'ENOMEM'
        }
        for (let event = 0; event < EVENTS; event++) {
          await world.happen()
          // Of a virtual server, or an address, that the kernel does not let be changed, it can say nothing.
          const isObeyed = (found: string): boolean => !found.split(' ').some((word) => refused.has(word))
          expect(world.strangers().filter(isObeyed), `after event ${event}`).to.deep.equal([])
          expect(world.loops().filter(isObeyed), `after event ${event}`).to.deep.equal([])
        }
        coverage.note(refused.size === 0 ? 'obeyed' : 'refused')
        if (story.events.some(({ reason }) => reason === 'VirtualServerConflict')) coverage.note('conflict')
        if (story.events.some(({ reason }) => reason === 'EndpointRefused')) coverage.note('endpoint')
        if (story.events.some(({ note }) => note.includes('cluster IP of'))) coverage.note('cluster IP')
        expect(await rounds(story, 'rounds')).to.be.below(EVENTS * ROUNDS_PER_EVENT)
        expect(await rounds(story, 'idle_rounds')).to.equal(0)
        story.kernel.refuse = () => undefined
        await story.advance(180_000)
        expect(world.strangers()).to.deep.equal([])
        expect(world.loops()).to.deep.equal([])
        const other = await fresh(world)
        expect(picture(story), `history ${i}`).to.deep.equal(picture(other))
        await Promise.all([story.stop(), other.stop()])
      }
      coverage.expectAll('obeyed', 'refused', 'conflict', 'endpoint', 'cluster IP')
    })).timeout(300_000)
})
