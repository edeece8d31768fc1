/** Who names which addresses: Services as their cluster IP or an external one, and slices as an endpoint's. */
import type { Address } from './address.ts'
import type { EndpointSlice, Service, ServiceName } from './facts.ts'
import type { Publisher } from './refusal.ts'

/** Services by an address that they have: mostly one, so a list, which takes little memory. */
type ByAddress = Map<Address, readonly ServiceName[]>

function add(map: ByAddress, address: Address, name: ServiceName): void {
  map.set(address, [...(map.get(address) ?? []), name])
}

function remove(map: ByAddress, address: Address, name: ServiceName): void {
  const others = (map.get(address) ?? []).filter((other) => other !== name)
  if (others.length > 0) map.set(address, others)
  else map.delete(address)
}

export class AddressIndex {
  readonly #slices: ReadonlyMap<string, EndpointSlice>
  readonly #clusterIps: ByAddress = new Map()
  /** By external IPs and those of load balancers. */
  readonly #external: ByAddress = new Map()
  /** The oldest slice at an external address, of those that have been asked for. */
  readonly #publishers = new Map<Address, Publisher | undefined>()

  /** `slices` are all there are, by their names: they are looked through when a new external address is asked for. */
  constructor(slices: ReadonlyMap<string, EndpointSlice>) {
    this.#slices = slices
  }

  /** External addresses of all Services. */
  get external(): Iterable<Address> {
    return this.#external.keys()
  }

  isExternal(address: Address): boolean {
    return this.#external.has(address)
  }

  /** A Service that has the address as its cluster IP. */
  clusterIpOwner(address: Address): ServiceName | undefined {
    return this.#clusterIps.get(address)?.[0]
  }

  /** Services that name it as an external address. */
  namedBy(address: Address): readonly ServiceName[] {
    return this.#external.get(address) ?? []
  }

  /** A Service has changed. Returns the others that name what is, or was, its cluster IP. */
  noteService(before: Service | undefined, after: Service | undefined): Set<ServiceName> {
    const name = (after ?? before)!.name
    for (const address of before?.clusterIps ?? []) remove(this.#clusterIps, address, name)
    for (const address of after?.clusterIps ?? []) add(this.#clusterIps, address, name)
    for (const address of externalOf(before)) remove(this.#external, address, name)
    for (const address of externalOf(after)) add(this.#external, address, name)
    // Changes of slices at an address that nobody names are not followed.
    for (const address of externalOf(before)) if (!this.isExternal(address)) this.#publishers.delete(address)
    const clusterIps = [...(before?.clusterIps ?? []), ...(after?.clusterIps ?? [])]
    return new Set(clusterIps.flatMap((address) => this.namedBy(address)))
  }

  /** A slice has changed. Returns the Services that name one of its endpoints' addresses as an external one. */
  noteSlice(before: EndpointSlice | undefined, after: EndpointSlice | undefined): Set<ServiceName> {
    const affected = new Set<ServiceName>()
    if (this.#external.size === 0) return affected
    for (const { address } of [...(before?.endpoints ?? []), ...(after?.endpoints ?? [])]) {
      if (!this.#external.has(address)) continue
      this.#publishers.delete(address)
      for (const name of this.namedBy(address)) affected.add(name)
    }
    return affected
  }

  /** The oldest slice that publishes an endpoint at an external address. */
  publisher(address: Address): Publisher | undefined {
    if (!this.#publishers.has(address)) this.#findPublishers()
    return this.#publishers.get(address)
  }

  /** The Services of all endpoints at these addresses. */
  servedAt(addresses: ReadonlySet<Address>): Set<ServiceName> {
    const names = new Set<ServiceName>()
    for (const { service, endpoints } of this.#slices.values())
      if (endpoints.some(({ address }) => addresses.has(address))) names.add(service)
    return names
  }

  /** Of all external addresses that are not known yet, in one go. */
  #findPublishers(): void {
    const unknown = new Set([...this.#external.keys()].filter((address) => !this.#publishers.has(address)))
    for (const address of unknown) this.#publishers.set(address, undefined)
    for (const { name, createdAt, endpoints } of this.#slices.values()) {
      for (const { address } of endpoints) {
        if (!unknown.has(address)) continue
        const known = this.#publishers.get(address)
        if (known === undefined || createdAt < known.createdAt)
          this.#publishers.set(address, { name, createdAt })
      }
    }
  }
}

function externalOf(service: Service | undefined): Address[] {
  return service === undefined ? [] : [...service.externalIps, ...service.loadBalancerIps]
}
