/** Who names which addresses: Services as their cluster IP or an external one, and slices as an endpoint's. */
import { type Address, familyOf, ipv4Number } from '../address.ts'
import type { EndpointSlice, Service, ServiceName } from './facts.ts'

/** A slice that publishes an endpoint. */
export interface Publisher {
  readonly name: string
  /** In ms since the epoch. */
  readonly createdAt: number
}

/** Services by an address that they have: mostly one, so a list, which takes little memory. */
type ByAddress = Map<Address, readonly ServiceName[]>

function add(map: ByAddress, address: Address, name: ServiceName): void {
  const others = map.get(address)
  map.set(address, others === undefined ? [name] : [...others, name])
}

function remove(map: ByAddress, address: Address, name: ServiceName): void {
  const others = (map.get(address) ?? []).filter((other) => other !== name)
  if (others.length > 0) map.set(address, others)
  else map.delete(address)
}

/** All of an address but its last part: about as many endpoints share it as are in a network of 256. */
type Beginning = string | number

const NONE: readonly ServiceName[] = []

export class AddressIndex {
  readonly #slices: ReadonlyMap<string, EndpointSlice>
  readonly #clusterIps: ByAddress = new Map()
  /** By external IPs and those of load balancers. */
  readonly #external: ByAddress = new Map()
  /** Slices at an external address by their names, with their ages: of those that have been asked for. */
  readonly #publishers = new Map<Address, Map<string, number>>()
  /** How many endpoints, and how many addresses of Services, begin in this way. */
  readonly #beginnings = { endpoints: new Map<Beginning, number>(), services: new Map<Beginning, number>() }
  /** How many beginnings are in both. */
  #common = 0

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

  /** Some endpoint is close to an address of a Service. Else none is at one, and nobody has to look at each. */
  get isMixed(): boolean {
    return this.#common > 0
  }

  /** A Service that has the address as its cluster IP. */
  clusterIpOwner(address: Address): ServiceName | undefined {
    return this.#clusterIps.get(address)?.[0]
  }

  /** All cluster IPs, each with every Service that has it. */
  *clusterIps(): Generator<readonly [ServiceName, Address]> {
    for (const [address, owners] of this.#clusterIps) for (const owner of owners) yield [owner, address]
  }

  /** Services that name it as an external address. */
  namedBy(address: Address): readonly ServiceName[] {
    return this.#external.get(address) ?? []
  }

  /** A Service has changed. Returns the others that name what is, or was, its cluster IP. */
  noteService(before: Service | undefined, after: Service | undefined): Iterable<ServiceName> {
    if (before !== undefined) this.#noteAddresses(before, -1)
    if (after !== undefined) this.#noteAddresses(after, 1)
    // Changes of slices at an address that nobody names are not followed.
    for (const address of externalOf(before)) if (!this.isExternal(address)) this.#publishers.delete(address)
    if (this.#external.size === 0) return NONE
    return [before, after].flatMap((one) => one?.clusterIps ?? []).flatMap((address) => this.namedBy(address))
  }

  /** A slice has changed. Returns the Services that name one of its endpoints' addresses as an external one. */
  noteSlice(before: EndpointSlice | undefined, after: EndpointSlice | undefined): Iterable<ServiceName> {
    if (hasSameAddresses(before, after)) return NONE
    const left = before === undefined ? NONE : this.#noteEndpoints(before, -1)
    const named = after === undefined ? NONE : this.#noteEndpoints(after, 1)
    return left.length === 0 ? named : [...left, ...named]
  }

  /** The oldest slice that publishes an endpoint at an external address. */
  publisher(address: Address): Publisher | undefined {
    if (!this.#publishers.has(address)) this.#findPublishers()
    let oldest: Publisher | undefined
    for (const [name, createdAt] of this.#publishers.get(address) ?? [])
      if (oldest === undefined || createdAt < oldest.createdAt) oldest = { name, createdAt }
    return oldest
  }

  /** The Services of all endpoints at these addresses. */
  servedAt(addresses: ReadonlySet<Address>): Set<ServiceName> {
    const names = new Set<ServiceName>()
    const possible = new Set(
      [...addresses].filter((address) => this.#beginnings.endpoints.has(beginningOf(address))),
    )
    if (possible.size === 0) return names
    for (const { service, endpoints } of this.#slices.values())
      if (endpoints.some(({ address }) => possible.has(address))) names.add(service)
    return names
  }

  #noteAddresses(service: Service, by: 1 | -1): void {
    const change = by === 1 ? add : remove
    for (const address of service.clusterIps) {
      change(this.#clusterIps, address, service.name)
      this.#count('services', address, by)
    }
    for (const address of externalOf(service)) {
      change(this.#external, address, service.name)
      this.#count('services', address, by)
    }
  }

  /** Returns the Services that name one of the addresses as an external one. */
  #noteEndpoints({ name, createdAt, endpoints }: EndpointSlice, by: 1 | -1): readonly ServiceName[] {
    const affected: ServiceName[] = []
    for (const { address } of endpoints) {
      if (!this.#count('endpoints', address, by) || !this.#external.has(address)) continue
      const publishers = this.#publishers.get(address)
      if (by === 1) publishers?.set(name, createdAt)
      else publishers?.delete(name)
      affected.push(...this.namedBy(address))
    }
    return affected
  }

  /** Returns whether addresses of the other kind begin in the same way. */
  #count(of: 'endpoints' | 'services', address: Address, by: 1 | -1): boolean {
    const { endpoints, services } = this.#beginnings
    const [own, other] = of === 'endpoints' ? [endpoints, services] : [services, endpoints]
    const beginning = beginningOf(address)
    const before = own.get(beginning) ?? 0
    if (before + by > 0) own.set(beginning, before + by)
    else own.delete(beginning)
    const isClose = other.has(beginning)
    if (isClose && (before === 0 || before + by === 0)) this.#common += by
    return isClose
  }

  /** Of all external addresses that are not known yet, in one go. */
  #findPublishers(): void {
    const unknown = [...this.#external.keys()].filter((address) => !this.#publishers.has(address))
    for (const address of unknown) this.#publishers.set(address, new Map())
    const fresh = new Set(unknown)
    for (const { name, createdAt, endpoints } of this.#slices.values())
      for (const { address } of endpoints)
        if (fresh.has(address)) this.#publishers.get(address)!.set(name, createdAt)
  }
}

/** Most changes of a slice are of its endpoints' conditions. */
function hasSameAddresses(before: EndpointSlice | undefined, after: EndpointSlice | undefined): boolean {
  if (before?.endpoints.length !== after?.endpoints.length || before?.createdAt !== after?.createdAt)
    return false
  return before?.endpoints.every(({ address }, i) => address === after?.endpoints[i]?.address) === true
}

/** A number takes no memory of its own. */
function beginningOf(address: Address): Beginning {
  return familyOf(address) === 'IPv4' ? ipv4Number(address) >>> 8 : address.slice(0, address.lastIndexOf(':'))
}

function externalOf(service: Service | undefined): readonly Address[] {
  if (service === undefined || service.loadBalancerIps.length === 0) return service?.externalIps ?? []
  return [...service.externalIps, ...service.loadBalancerIps]
}
