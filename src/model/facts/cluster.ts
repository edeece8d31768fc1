/** The facts as they stand now, and the Services whose facts have changed since somebody asked. */
import { AddressIndex } from './address-index.ts'
import { type Address, type Family, familyOf } from '../address.ts'
import { type Cidr, contains, formatCidr } from '../cidr.ts'
import { clusterIpNetworks } from './cluster-ip-range.ts'
import {
  API_SERVER,
  type EndpointSlice,
  isExposed,
  type Node,
  type Parsed,
  type Resource,
  type Service,
  type ServiceCidr,
  type ServiceName,
} from './facts.ts'

/** How many there are to be listed. */
const RESOURCES = 4

/** Where a source puts the facts of one resource. */
export interface Collection<Fact> {
  /** Some objects of the first list, before it is whole: it says what is there, and not yet what is not. */
  foresee(objects: Iterable<Parsed<Fact>>): void
  /** The whole list at once: what is not in it is gone. Marks the resource as listed. */
  replace(objects: Iterable<Parsed<Fact>>): void
  /** One object was added or has changed. */
  put(object: Parsed<Fact>): void
  /** One object is gone. */
  remove(name: string): void
}

/** When something happened that has led to a change of endpoints. */
export interface Trigger {
  readonly family: Family
  /** In ms since the epoch. */
  readonly at: number
}

/** Called as things happen. */
export interface ClusterListener {
  /** Something has changed, or a resource has been listed for the first time. */
  readonly onChange?: () => void
  /** This node's own object is another. */
  readonly onNodeChange?: () => void
  /** A Service, or a slice, was added, has changed or is gone. */
  readonly onServiceChange?: () => void
  readonly onEndpointsChange?: () => void
  /** A Service names an external address that none has named before. */
  readonly onExternalAddressNamed?: () => void
}

export interface ClusterHooks extends Omit<ClusterListener, 'onChange'> {
  /** Triggers before this time do not count, in ms since the epoch. */
  readonly since?: number
}

export class Cluster {
  readonly #services = new Map<ServiceName, Service>()
  readonly #slices = new Map<string, EndpointSlice>()
  /** Mostly one, so a list, which takes little memory. */
  readonly #slicesByService = new Map<ServiceName, readonly EndpointSlice[]>()
  readonly #nodes = new Map<string, Node>()
  readonly #serviceCidrs = new Map<string, ServiceCidr>()
  /** What the listed cluster IPs tell; made anew when there are others. */
  #clusterIpRange: readonly Cidr[] = []
  #isRangeStale = false
  readonly #addresses = new AddressIndex(this.#slices)
  readonly #nodeName: string
  readonly #listed = new Set<Resource>()
  readonly #dirty = new Set<ServiceName>()
  readonly #listeners: ClusterListener[]
  readonly #since: number
  #triggers: Trigger[] = []

  readonly services: Collection<Service>
  readonly endpointSlices: Collection<EndpointSlice>
  readonly nodes: Collection<Node>
  readonly serviceCidrs: Collection<ServiceCidr>

  /** `onChange` is called after every change, also when a resource has been listed for the first time. */
  constructor(nodeName: string, onChange: () => void, hooks: ClusterHooks = {}) {
    this.#nodeName = nodeName
    this.#listeners = [{ ...hooks, onChange }]
    this.#since = hooks.since ?? Infinity
    this.services = this.#collection('services', this.#services, (before, after, name) => {
      this.#dirty.add(name)
      this.#noteAddresses(before, after)
      this.#tell('onServiceChange')
    })
    this.endpointSlices = this.#collection('endpointSlices', this.#slices, (before, after) => {
      this.#index(before, after)
      this.#mark(this.#addresses.noteSlice(before, after))
      this.#noteTrigger(before, after)
      this.#tell('onEndpointsChange')
      if ((after ?? before)?.service === API_SERVER) this.markExposed()
    })
    this.nodes = this.#collection('nodes', this.#nodes, (before, after, name) => {
      if (name === this.#nodeName) this.#noteNode(before, after)
      else if ((before?.addresses ?? []).join() !== (after?.addresses ?? []).join()) this.markExposed()
    })
    this.serviceCidrs = this.#collection('serviceCidrs', this.#serviceCidrs, () => {
      this.markExposed()
    })
  }

  /** Tells somebody else, too, from now on. */
  listen(listener: ClusterListener): void {
    this.#listeners.push(listener)
  }

  /** Every resource has been listed once. Before that, absence means nothing. */
  get synced(): boolean {
    return this.#listed.size === RESOURCES
  }

  /** This one has been. */
  isListed(resource: Resource): boolean {
    return this.#listed.has(resource)
  }

  get node(): Node | undefined {
    return this.#nodes.get(this.#nodeName)
  }

  /** Of all Nodes that the source has: an API server is asked for this one only. */
  get nodeNames(): readonly string[] {
    return [...this.#nodes.keys()]
  }

  get serviceCount(): number {
    return this.#services.size
  }

  service(name: ServiceName): Service | undefined {
    return this.#services.get(name)
  }

  slicesOf(name: ServiceName): Iterable<EndpointSlice> {
    return this.#slicesByService.get(name) ?? []
  }

  /** Some slice of it is known. */
  hasSlices(name: ServiceName): boolean {
    return this.#slicesByService.has(name)
  }

  /** The older ones come first, the essential ones before all others. Each is looked up once, not for every comparison. */
  byAge(names: Iterable<ServiceName>): ServiceName[] {
    const found = Array.from(names, (name) => ({ name, service: this.#services.get(name) }))
    found.sort((a, b) => {
      const essential = Number(b.service?.essential ?? false) - Number(a.service?.essential ?? false)
      if (essential !== 0) return essential
      const age = (a.service?.createdAt ?? 0) - (b.service?.createdAt ?? 0)
      return age !== 0 ? age : a.name < b.name ? -1 : 1
    })
    return found.map(({ name }) => name)
  }

  /** Marks every Service as changed: something that all depend on has. */
  markAll(): void {
    for (const name of this.#services.keys()) this.#dirty.add(name)
    this.#tell('onChange')
  }

  /** Marks every Service that is reached from outside: something about the node's or its peers' addresses has changed. */
  markExposed(): void {
    for (const [name, service] of this.#services) if (isExposed(service)) this.#dirty.add(name)
    this.#tell('onChange')
  }

  /** External IPs and those of load balancers, of all Services. */
  externalAddresses(): Set<Address> {
    return new Set(this.#addresses.external)
  }

  /** Who names which addresses. */
  get addresses(): Pick<AddressIndex, 'clusterIpOwner' | 'publisher' | 'isMixed'> {
    return this.#addresses
  }

  /** Networks from which cluster IPs are taken, as far as is known. */
  clusterIpNetworks(): Cidr[] {
    const stated = this.#statedNetworks()
    return stated.length > 0 ? stated : [...this.#clusterIpRange]
  }

  /** Another node that is known has it: a directory of manifests has them all, a list from an API server only this one. */
  isOtherNodes(address: Address): boolean {
    return [...this.#nodes.values()].some(
      ({ name, addresses }) => name !== this.#nodeName && addresses.includes(address),
    )
  }

  /** Marks the Services that name one of these external addresses. */
  markNaming(addresses: Iterable<Address>): void {
    for (const address of addresses) this.#mark(this.#addresses.namedBy(address))
    this.#tell('onChange')
  }

  /** Marks the Services that have an endpoint at one of these addresses. */
  markServedAt(addresses: ReadonlySet<Address>): void {
    this.#mark(this.#addresses.servedAt(addresses))
  }

  /** Services whose load balancers are for some clients only. */
  restrictedServices(): Service[] {
    return [...this.#services.values()].filter(({ sourceRanges }) => sourceRanges.length > 0)
  }

  /** Some Service has a cluster IP of the family. */
  hasClusterIps(family: Family): boolean {
    return [...this.#services.values()].some(({ clusterIps }) =>
      clusterIps.some((ip) => familyOf(ip) === family),
    )
  }

  /** Addresses of the API servers. */
  apiServers(): Address[] {
    return [...this.slicesOf(API_SERVER)].flatMap(({ endpoints }) => endpoints.map(({ address }) => address))
  }

  /** Takes the Services that have changed, the essential ones first. */
  takeDirty(): ServiceName[] {
    if (this.#isRangeStale && this.#statedNetworks().length === 0) this.#findRange()
    const isEssential = (name: ServiceName): boolean => this.#services.get(name)?.essential === true
    const names = [...this.#dirty]
    this.#dirty.clear()
    return [...names.filter(isEssential), ...names.filter((name) => !isEssential(name))]
  }

  /** Takes the triggers of what has changed since the last call. */
  takeTriggers(): readonly Trigger[] {
    const triggers = this.#triggers
    this.#triggers = []
    return triggers
  }

  #tell(what: keyof ClusterListener): void {
    for (const listener of this.#listeners) listener[what]?.()
  }

  /** What ServiceCIDRs say, which know better than what is listed. */
  #statedNetworks(): Cidr[] {
    return [...this.#serviceCidrs.values()].flatMap(({ cidrs }) => cidrs)
  }

  #isInRange(address: Address): boolean {
    return this.#clusterIpRange.some((range) => contains(range, address))
  }

  #findRange(): void {
    this.#isRangeStale = false
    const before = this.#clusterIpRange
    this.#clusterIpRange = clusterIpNetworks(this.#addresses.clusterIps())
    if (before.map(formatCidr).join() !== this.#clusterIpRange.map(formatCidr).join()) this.markExposed()
  }

  #mark(names: Iterable<ServiceName>): void {
    for (const name of names) this.#dirty.add(name)
  }

  #noteAddresses(before: Service | undefined, after: Service | undefined): void {
    const isNamed = (address: Address): boolean => this.#addresses.isExternal(address)
    const isNew =
      after !== undefined && !(after.externalIps.every(isNamed) && after.loadBalancerIps.every(isNamed))
    this.#mark(this.#addresses.noteService(before, after))
    const [left, taken] = [before?.clusterIps ?? [], after?.clusterIps ?? []]
    this.#isRangeStale ||= left.some((ip) => !taken.includes(ip)) || !taken.every((ip) => this.#isInRange(ip))
    if (isNew) this.#tell('onExternalAddressNamed')
  }

  #noteNode(before: Node | undefined, after: Node | undefined): void {
    const differs = (parts: (node: Node | undefined) => unknown): boolean =>
      JSON.stringify(parts(before)) !== JSON.stringify(parts(after))
    if (!differs((node) => node)) return
    if (differs((node) => node?.zone)) this.markAll()
    else if (differs((node) => [node?.addresses, node?.podCidrs])) this.markExposed()
    this.#tell('onNodeChange')
  }

  #noteTrigger(before: EndpointSlice | undefined, after: EndpointSlice | undefined): void {
    if (after === undefined || after.triggeredAt <= this.#since || after.triggeredAt === before?.triggeredAt)
      return
    this.#triggers.push({ family: after.family, at: after.triggeredAt })
  }

  #index(before: EndpointSlice | undefined, after: EndpointSlice | undefined): void {
    if (before !== undefined) this.#setSlices(before, [])
    if (after !== undefined) this.#setSlices(after, [after])
  }

  /** Puts slices of its Service in the place of one. */
  #setSlices({ name, service }: EndpointSlice, slices: readonly EndpointSlice[]): void {
    const others = this.#slicesByService.get(service)?.filter((slice) => slice.name !== name) ?? []
    const all = others.length === 0 ? slices : [...others, ...slices]
    if (all.length > 0) this.#slicesByService.set(service, all)
    else this.#slicesByService.delete(service)
    this.#dirty.add(service)
  }

  #collection<Fact>(
    resource: Resource,
    facts: Map<string, Fact>,
    onFactChange: (before: Fact | undefined, after: Fact | undefined, name: string) => void,
  ): Collection<Fact> {
    const set = (name: string, after: Fact | undefined): void => {
      const before = facts.get(name)
      if (before === after) return
      // What was known of this node goes on to count until there is something newer.
      if (after === undefined && resource === 'nodes' && name === this.#nodeName) return
      if (after === undefined) facts.delete(name)
      else facts.set(name, after)
      onFactChange(before, after, name)
    }
    const put = (object: Parsed<Fact>): void => {
      if (object.unusable !== true) set(object.name, object.fact)
    }
    return {
      foresee: (objects) => {
        if (this.#listed.has(resource)) return
        for (const object of objects) put(object)
        this.#tell('onChange')
      },
      put: (object) => {
        put(object)
        this.#tell('onChange')
      },
      remove: (name) => {
        set(name, undefined)
        this.#tell('onChange')
      },
      replace: (objects) => {
        const gone = new Set(facts.keys())
        for (const object of objects) {
          gone.delete(object.name)
          put(object)
        }
        for (const name of gone) set(name, undefined)
        this.#listed.add(resource)
        this.#tell('onChange')
      },
    }
  }
}
