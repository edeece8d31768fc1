/** Facts to claims: which Services have changed, what they want of the kernel, and which objects that may change. */
import type { Address } from '../../model/address.ts'
import type { Claim, MappingOptions } from '../../model/claims/claim.ts'
import { buildClaims, refusalsOf } from '../../model/claims/claims.ts'
import { localLacks } from '../../model/claims/local-endpoints.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import { isExposed, type ServiceName } from '../../model/facts/facts.ts'
import { type Checked, checkEndpoints } from '../../model/claims/endpoints.ts'
import type { KernelObject } from '../../model/kernel-object.ts'
import { drainByHand } from '../../model/claims/hand-drains.ts'
import type { Ledger } from '../../model/claims/ledger.ts'
import { mapInTurns } from '../../waiting/turns.ts'
import type { Queue } from '../queue.ts'
import type { Reporter } from '../reporter.ts'

/** Services mapped in one go: nothing else gets its turn meanwhile. */
const SERVICES_PER_SLICE = 50
/** The same, while lists are read: their next pages are asked for in between. */
const FORESEEN_PER_SLICE = 10

export interface MapperOptions {
  readonly cluster: Cluster
  /** Gets what is wanted of the kernel. */
  readonly ledger: Ledger
  readonly reporter: Pick<Reporter, 'refusals' | 'refusedEndpoints' | 'lacks'>
  /** Asked anew whenever facts have changed: so may the scheduler while we run. */
  readonly mapping: () => MappingOptions
  /** Gets every object that may have to be changed. */
  readonly queue: Pick<Queue, 'add'>
  /** Called for every Service that was mapped anew, or is gone. */
  readonly onServiceMapped: (name: ServiceName) => void
}

export class Mapper {
  readonly #options: MapperOptions
  /** Services that have changed, and have not been turned into claims yet. */
  readonly #unmapped = new Set<ServiceName>()

  /** Addresses that have become virtual ones of this node, or are none any more: endpoints may not have them. */
  readonly #turned = new Set<Address>()

  constructor(options: MapperOptions) {
    this.#options = options
  }

  /** Takes the Services that have changed; false when all are mapped. */
  takeChanges(): boolean {
    this.#markServedAt()
    this.#takeDirty()
    return this.#unmapped.size > 0
  }

  /** Maps what is known of lists that are not whole: claims that may change. */
  async foresee(): Promise<void> {
    const { cluster } = this.#options
    const isKnown = (name: ServiceName): boolean =>
      cluster.service(name) !== undefined && cluster.hasSlices(name)
    const names = this.#takeDirty().filter(isKnown)
    await this.#mapInTurns(names, FORESEEN_PER_SLICE)
  }

  /** Maps every Service that was taken, and then those whose endpoints turn out to be virtual IPs, or none any more. */
  async mapTaken(): Promise<void> {
    await this.#mapInTurns([...this.#unmapped], SERVICES_PER_SLICE)
    if (this.#turned.size > 0 && this.takeChanges())
      await this.#mapInTurns([...this.#unmapped], SERVICES_PER_SLICE)
  }

  /** Maps the Services that may want what another one has, by whatever right: before any of them is planned. */
  async mapExposed(): Promise<void> {
    const { cluster } = this.#options
    const isContender = (name: ServiceName): boolean => {
      const service = cluster.service(name)
      return service !== undefined && isExposed(service)
    }
    await this.#mapInTurns([...this.#unmapped].filter(isContender), SERVICES_PER_SLICE)
  }

  /**
   * The objects of all Services. Those that are not exposed are mapped as their objects are asked for: the oldest ones, which
   * win conflicts among them, first.
   */
  *mapAll(): Generator<KernelObject> {
    const { cluster, ledger, mapping } = this.#options
    const options = mapping()
    for (const name of cluster.byAge(new Set([...ledger.owners(), ...this.#unmapped])))
      yield* this.#unmapped.has(name) ? this.#map(name, options) : ledger.claimsOf(name)
  }

  /** What has an endpoint at an address that is a virtual one now, or was one, is to be mapped anew. */
  #markServedAt(): void {
    const { cluster } = this.#options
    if (this.#turned.size === 0 || !cluster.synced) return
    cluster.markServedAt(this.#turned)
    this.#turned.clear()
  }

  #takeDirty(): readonly ServiceName[] {
    const names = this.#options.cluster.takeDirty()
    for (const name of names) this.#unmapped.add(name)
    return names
  }

  async #mapInTurns(names: readonly ServiceName[], perTurn: number): Promise<void> {
    const options = this.#options.mapping()
    await mapInTurns(names, (name) => this.#map(name, options), perTurn)
  }

  /** The slices of a Service without endpoints that are not served, and why these are not. */
  check(name: ServiceName, options: MappingOptions): Checked {
    const slices = drainByHand(this.#options.cluster.slicesOf(name), options.drains)
    return checkEndpoints(slices, (address) => this.#isVirtual(address, options))
  }

  /** Returns the objects that may have to be changed. */
  #map(name: ServiceName, options: MappingOptions): Iterable<KernelObject> {
    const { cluster, onServiceMapped, reporter, queue } = this.#options
    this.#unmapped.delete(name)
    const service = cluster.service(name)
    const { slices, refusals } = this.check(name, options)
    const claims = service === undefined ? [] : buildClaims(service, slices, options)
    const objects = this.#claim(name, claims)
    for (const object of objects) queue.add(object)
    reporter.refusedEndpoints(name, service === undefined ? [] : refusals)
    reporter.refusals(name, service === undefined ? [] : refusalsOf(service, options))
    reporter.lacks(name, service === undefined ? [] : localLacks(service, slices, options))
    onServiceMapped(name)
    return objects
  }

  /** A cluster IP, or an external address that some Service is served at. */
  #isVirtual(address: Address, { neighbourhood }: MappingOptions): boolean {
    const { cluster, ledger } = this.#options
    if (!cluster.addresses.isMixed) return false
    return neighbourhood.clusterIpOwner(address) !== undefined || ledger.isClaimed(address)
  }

  /** Returns the objects that may have to be changed, and remembers addresses that somebody claims now, or nobody any more. */
  #claim(name: ServiceName, claims: readonly Claim[]): readonly KernelObject[] {
    const { ledger } = this.#options
    const before = addressesIn(ledger.claimsOf(name))
    const objects = ledger.replace(name, claims)
    const after = addressesIn(claims)
    if (before.length === after.length && before.every((address, i) => address === after[i])) return objects
    const known = new Set(before)
    for (const address of before) if (!ledger.isClaimed(address)) this.#turned.add(address)
    for (const address of after) if (!known.has(address)) this.#turned.add(address)
    return objects
  }
}

/** Addresses that are claimed: what makes one ours is itself. */
function addressesIn(claims: readonly Claim[]): Address[] {
  return claims.flatMap((claim) => (claim.kind === 'address' ? [claim.key] : []))
}
