/** The facts as they stand now, and the Services whose facts have changed since somebody asked. */
import type { Address } from './address.ts'
import type { EndpointSlice, Node, Parsed, Service, ServiceName } from './facts.ts'

/** Its endpoints are the API servers. */
const API_SERVER: ServiceName = 'default/kubernetes'

/** Where a source puts the facts of one resource. */
export interface Collection<Fact> {
  /** The whole list at once: what is not in it is gone. Marks the resource as listed. */
  replace(objects: Iterable<Parsed<Fact>>): void
  /** One object was added or has changed. */
  put(object: Parsed<Fact>): void
  /** One object is gone. */
  remove(name: string): void
}

export class Cluster {
  readonly #services = new Map<ServiceName, Service>()
  readonly #slices = new Map<string, EndpointSlice>()
  readonly #slicesByService = new Map<ServiceName, Map<string, EndpointSlice>>()
  readonly #nodes = new Map<string, Node>()
  readonly #nodeName: string
  readonly #listed = new Set<string>()
  readonly #dirty = new Set<ServiceName>()
  readonly #changed: () => void
  readonly #nodeChanged: () => void

  readonly services: Collection<Service>
  readonly endpointSlices: Collection<EndpointSlice>
  readonly nodes: Collection<Node>

  /**
   * `changed` is called after every change, also when a resource has been listed for the first time, `nodeChanged`
   * when this node's own object is another.
   */
  constructor(nodeName: string, changed: () => void, nodeChanged: () => void = () => undefined) {
    this.#nodeName = nodeName
    this.#changed = changed
    this.#nodeChanged = nodeChanged
    this.services = this.#collection('services', this.#services, (_old, _new, name) => this.#dirty.add(name))
    this.endpointSlices = this.#collection('endpointSlices', this.#slices, (before, after) => {
      this.#index(before, after)
      if ((after ?? before)?.service === API_SERVER) this.markExposed()
    })
    this.nodes = this.#collection('nodes', this.#nodes, (before, after, name) => {
      if (name !== this.#nodeName || JSON.stringify(before) === JSON.stringify(after)) return
      if (before?.zone !== after?.zone) this.markAll()
      else this.markExposed()
      this.#nodeChanged()
    })
  }

  /** Every resource has been listed once. Before that, absence means nothing. */
  get synced(): boolean {
    return this.#listed.size === 3
  }

  get node(): Node | undefined {
    return this.#nodes.get(this.#nodeName)
  }

  get serviceCount(): number {
    return this.#services.size
  }

  service(name: ServiceName): Service | undefined {
    return this.#services.get(name)
  }

  slicesOf(name: ServiceName): Iterable<EndpointSlice> {
    return this.#slicesByService.get(name)?.values() ?? []
  }

  /** Marks every Service as changed: something that all depend on has. */
  markAll(): void {
    for (const name of this.#services.keys()) this.#dirty.add(name)
    this.#changed()
  }

  /** Marks every Service that is reached from outside: something about the node's or its peers' addresses has changed. */
  markExposed(): void {
    for (const [name, service] of this.#services) if (isExposed(service)) this.#dirty.add(name)
    this.#changed()
  }

  /** Addresses of the API servers. */
  apiServers(): Address[] {
    return [...this.slicesOf(API_SERVER)].flatMap(({ endpoints }) => endpoints.map(({ address }) => address))
  }

  /** Takes the Services that have changed, the essential ones first. */
  takeDirty(): ServiceName[] {
    const isEssential = (name: ServiceName): boolean => this.#services.get(name)?.essential === true
    const names = [...this.#dirty]
    this.#dirty.clear()
    return [...names.filter(isEssential), ...names.filter((name) => !isEssential(name))]
  }

  #index(before: EndpointSlice | undefined, after: EndpointSlice | undefined): void {
    if (before !== undefined) {
      const slices = this.#slicesByService.get(before.service)
      slices?.delete(before.name)
      if (slices?.size === 0) this.#slicesByService.delete(before.service)
      this.#dirty.add(before.service)
    }
    if (after !== undefined) {
      const slices = this.#slicesByService.get(after.service) ?? new Map<string, EndpointSlice>()
      this.#slicesByService.set(after.service, slices.set(after.name, after))
      this.#dirty.add(after.service)
    }
  }

  #collection<Fact>(
    resource: string,
    facts: Map<string, Fact>,
    changed: (before: Fact | undefined, after: Fact | undefined, name: string) => void,
  ): Collection<Fact> {
    const set = (name: string, after: Fact | undefined): void => {
      const before = facts.get(name)
      if (after === undefined) facts.delete(name)
      else facts.set(name, after)
      if (before !== undefined || after !== undefined) changed(before, after, name)
    }
    const put = (object: Parsed<Fact>): void => {
      if (object.unusable !== true) set(object.name, object.fact)
    }
    return {
      put: (object) => {
        put(object)
        this.#changed()
      },
      remove: (name) => {
        set(name, undefined)
        this.#changed()
      },
      replace: (objects) => {
        const gone = new Set(facts.keys())
        for (const object of objects) {
          gone.delete(object.name)
          put(object)
        }
        for (const name of gone) set(name, undefined)
        this.#listed.add(resource)
        this.#changed()
      },
    }
  }
}

function isExposed({ ports, externalIps, loadBalancerIps }: Service): boolean {
  return externalIps.length > 0 || loadBalancerIps.length > 0 || ports.some(({ nodePort }) => nodePort > 0)
}
