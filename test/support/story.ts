/**
 * A proxy on a fake kernel with a clock of its own: a story is told step by step. Tests build a Proxy here and
 * nowhere else.
 */
import { defaultConfig } from '../../src/config/config.ts'
import type { Bell } from '../../src/waiting/doorbell.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { Proxy } from '../../src/loop/proxy.ts'
import { Reporter } from '../../src/loop/reporter.ts'
import type { Current } from '../../src/program/current.ts'
import { mappingOptions } from '../../src/program/mapping.ts'
import type { Address } from '../../src/model/address.ts'
import type { Binding } from '../../src/model/binding.ts'
import { Cluster, type Trigger } from '../../src/model/facts/cluster.ts'
import type { ExternalPolicy } from '../../src/model/claims/external-policy.ts'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import type { OperationKind } from '../../src/model/operation.ts'
import { parseEndpointSlice, parseNode, parseService } from '../../src/model/facts/parse-facts.ts'
import { type Links, surroundingsOf } from '../../src/model/claims/surroundings.ts'
import { parseServiceCidr } from '../../src/model/facts/service-cidr.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import type { Happening } from '../../src/source/events.ts'
import type { Journal } from '../../src/view/journal.ts'
import { FakeKernel } from './fake-kernel.ts'
import { type LogLine, recordingLog } from './log.ts'

/** Time passes only when the story says so. */
class StoryBell implements Bell {
  now = 0
  #rung = false
  #wake: (() => void) | undefined
  #due = Infinity
  #idle: (() => void) | undefined

  ring(): void {
    this.#rung = true
    this.#wake?.()
  }

  async wait(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (!this.#rung && timeoutMs > 0 && !signal.aborted) {
      this.#due = this.now + timeoutMs
      await new Promise<void>((resolve) => {
        this.#wake = resolve
        signal.addEventListener('abort', () => resolve(), { once: true })
        this.#idle?.()
      })
      this.#wake = undefined
    }
    this.#rung = false
  }

  /** Resolves when the loop has nothing left to do at this time. */
  async settle(): Promise<void> {
    await new Promise(setImmediate)
    if (this.#wake !== undefined) return
    await new Promise<void>((resolve) => {
      this.#idle = resolve
    })
    this.#idle = undefined
    await this.settle()
  }

  /** Lets time pass, from one thing that is due to the next. */
  async advance(ms: number): Promise<void> {
    const end = this.now + ms
    for (;;) {
      await this.settle()
      if (this.#due > end) break
      this.now = Math.max(this.now, this.#due)
      this.#wake!()
      this.#wake = undefined
    }
    this.now = end
  }
}

/** What a story has otherwise than most. */
export interface StoryOptions {
  /** Resolves when the rules of iptables stand; without it, they do. */
  readonly rules?: Promise<unknown>
  /** What the loop speaks to, instead of the kernel itself. */
  readonly wires?: Kernel
  /** Where it is read what was refused, and put right. */
  readonly journal?: Journal
  readonly isExcluded?: (address: Address) => boolean
  readonly addressesToFree?: () => ReadonlySet<Address>
  readonly onNodeListed?: () => void
  readonly onServiceMapped?: () => void
  readonly onAddressesRefused?: (reasons: ReadonlyMap<Address, string>) => void
}

/** The resources of the API, by kind. */
export type Kind = 'Service' | 'EndpointSlice' | 'Node' | 'ServiceCIDR'

/** The kind of an object that may not say it. */
export function kindOf(object: object): Kind {
  return 'addressType' in object ? 'EndpointSlice' : ((object as { kind?: Kind }).kind ?? 'Service')
}

export class Story {
  readonly bell = new StoryBell()
  readonly kernel: FakeKernel
  readonly cluster: Cluster
  readonly metrics = new Metrics({ defaults: false })
  readonly events: Happening[] = []
  /** How often the kernel was as it should be, and what had led there. */
  readonly settled: (readonly Trigger[])[] = []
  readonly lines: LogLine[]
  scheduler = 'rr'
  vipBinding: Binding = 'address'
  nodeAddresses: Address[] = ['192.168.50.1' as Address]
  apiAddresses: ReadonlySet<Address> = new Set()
  links: Links = { gateways: new Map(), neighbours: new Map(), routes: [] }
  /** Addresses of other nodes. */
  peers: ReadonlySet<Address> = new Set()
  policy: ExternalPolicy | undefined
  readonly current: Pick<Current, 'drains'> = { drains: new Map() }
  minSyncPeriodMs = 0
  cpuMs = 0
  readonly #abort = new AbortController()
  readonly #running: Promise<void>
  readonly proxy: Proxy

  constructor(kernel = new FakeKernel(), options: StoryOptions = {}) {
    this.kernel = kernel
    if (options.rules !== undefined) kernel.rulesReady = options.rules
    this.cluster = new Cluster('node-1', () => this.bell.ring(), { since: 0 })
    const { log, lines } = recordingLog('debug')
    this.lines = lines
    this.proxy = new Proxy({
      cluster: this.cluster,
      kernel: options.wires ?? kernel,
      doorbell: this.bell,
      log,
      metrics: this.metrics,
      reporter: new Reporter({
        log,
        metrics: this.metrics,
        recordEvent: (happening) => this.events.push(happening),
        journal: options.journal,
      }),
      journal: options.journal,
      onNodeListed: () => Promise.resolve(options.onNodeListed?.()),
      hasLookedAround: () => true,
      addressesToFree: options.addressesToFree ?? (() => new Set()),
      onSettled: (triggers) => this.settled.push(triggers),
      mapping: () =>
        mappingOptions({
          config: defaultConfig(),
          cluster: this.cluster,
          nodeName: 'node-1',
          families: new Set(['IPv4', 'IPv6']),
          scheduler: this.scheduler,
          vipBinding: this.vipBinding,
          nodeAddresses: this.nodeAddresses,
          apiAddresses: this.apiAddresses,
          surroundings: surroundingsOf(this.links, this.peers, this.cluster.node?.podCidrs ?? [], () => true),
          policy: this.policy,
          drains: this.current.drains,
        }),
      isExcluded: options.isExcluded ?? (() => false),
      onServiceMapped: () => options.onServiceMapped?.(),
      onServersCounted: () => undefined,
      onAddressesRefused: (reasons) => options.onAddressesRefused?.(reasons),
      auditIntervalMs: () => 30_000,
      minSyncPeriodMs: () => this.minSyncPeriodMs,
      drainDeadlineMs: 60_000,
      now: () => this.bell.now,
      cpuMs: () => this.cpuMs,
    })
    this.#running = this.proxy.run(this.#abort.signal)
  }

  /** The first list of every resource. */
  async list(
    services: readonly object[] = [],
    slices: readonly object[] = [],
    nodes: readonly object[] = [],
    serviceCidrs: readonly object[] = [],
  ): Promise<void> {
    this.replace('Service', services)
    this.replace('EndpointSlice', slices)
    this.replace('Node', nodes)
    this.replace('ServiceCIDR', serviceCidrs)
    await this.bell.settle()
  }

  /** The list of one resource. The loop gets its turn later. */
  replace(kind: Kind, objects: readonly object[]): void {
    const { services, endpointSlices, nodes, serviceCidrs } = this.cluster
    if (kind === 'Service') services.replace(objects.map(parseService))
    else if (kind === 'EndpointSlice') endpointSlices.replace(objects.map(parseEndpointSlice))
    else if (kind === 'Node') nodes.replace(objects.map(parseNode))
    else serviceCidrs.replace(objects.map(parseServiceCidr))
  }

  /** Events of a watch. */
  async put(...objects: readonly object[]): Promise<void> {
    for (const object of objects) this.tell(object)
    await this.bell.settle()
  }

  /** One event of a watch. The loop gets its turn later. */
  tell(object: object): void {
    const kind = kindOf(object)
    const { services, endpointSlices, nodes, serviceCidrs } = this.cluster
    if (kind === 'Service') services.put(parseService(object))
    else if (kind === 'EndpointSlice') endpointSlices.put(parseEndpointSlice(object))
    else if (kind === 'Node') nodes.put(parseNode(object))
    else serviceCidrs.put(parseServiceCidr(object))
  }

  /** `name` has the namespace before it, if there is one. The loop gets its turn later. */
  remove(kind: Kind, name: string): void {
    const { services, endpointSlices, nodes, serviceCidrs } = this.cluster
    const of = { Service: services, EndpointSlice: endpointSlices, Node: nodes, ServiceCIDR: serviceCidrs }
    of[kind].remove(name)
  }

  async removeService(name: string): Promise<void> {
    this.remove('Service', name)
    await this.bell.settle()
  }

  async advance(ms: number): Promise<void> {
    await this.bell.advance(ms)
  }

  /** What has been executed since the last call, as the tools' lines. */
  takeExecuted(): string[] {
    return this.kernel.executed.splice(0).map(formatOperation)
  }

  executedKinds(): OperationKind[] {
    return this.kernel.executed.map(({ kind }) => kind)
  }

  /** Messages of warnings and errors since the last call. */
  takeComplaints(): string[] {
    const complaints = this.lines
      .filter(({ level }) => level >= 40)
      .map(({ msg, err, found, conflict, reason }) =>
        [msg, (err as { message?: string } | undefined)?.message, found, conflict, reason]
          .filter(Boolean)
          .join(': '),
      )
    this.lines.length = 0
    return complaints
  }

  async stop(): Promise<void> {
    this.#abort.abort()
    await this.#running
  }
}
