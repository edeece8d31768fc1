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
  noteService(before: Service | undefined, after: Service | undefined): Set<ServiceName> {
    const name = (after ?? before)!.name
    const clusterIps = [...(before?.clusterIps ?? []), ...(after?.clusterIps ?? [])]
    const [left, named] = [externalOf(before), externalOf(after)]
    for (const address of before?.clusterIps ?? []) remove(this.#clusterIps, address, name)
    for (const address of after?.clusterIps ?? []) add(this.#clusterIps, address, name)
    for (const address of left) remove(this.#external, address, name)
    for (const address of named) add(this.#external, address, name)
    for (const address of [...(before?.clusterIps ?? []), ...left]) this.#count('services', address, -1)
    for (const address of [...(after?.clusterIps ?? []), ...named]) this.#count('services', address, 1)
    // Changes of slices at an address that nobody names are not followed.
    for (const address of left) if (!this.isExternal(address)) this.#publishers.delete(address)
    return new Set(this.#external.size === 0 ? [] : clusterIps.flatMap((address) => this.namedBy(address)))
  }

  /** A slice has changed. Returns the Services that name one of its endpoints' addresses as an external one. */
  noteSlice(before: EndpointSlice | undefined, after: EndpointSlice | undefined): Set<ServiceName> {
    const affected = new Set<ServiceName>()
    if (hasSameAddresses(before, after)) return affected
    const note = ({ name, createdAt, endpoints }: EndpointSlice, isThere: boolean): void => {
      for (const { address } of endpoints) {
        this.#count('endpoints', address, isThere ? 1 : -1)
        if (!this.#external.has(address)) continue
        const publishers = this.#publishers.get(address)
        if (isThere) publishers?.set(name, createdAt)
        else publishers?.delete(name)
        for (const service of this.namedBy(address)) affected.add(service)
      }
    }
    if (before !== undefined) note(before, false)
    if (after !== undefined) note(after, true)
    return affected
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

  #count(of: 'endpoints' | 'services', address: Address, by: 1 | -1): void {
    const { endpoints, services } = this.#beginnings
    const beginning = beginningOf(address)
    const [own, other] = of === 'endpoints' ? [endpoints, services] : [services, endpoints]
    const before = own.get(beginning) ?? 0
    if (before + by > 0) own.set(beginning, before + by)
    else own.delete(beginning)
    if ((before === 0 || before + by === 0) && other.has(beginning)) this.#common += by
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
