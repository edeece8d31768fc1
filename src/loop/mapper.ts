/** Facts to claims: which Services have changed, what they want of the kernel, and which objects that may change. */
import { buildClaims, localLacks, type MappingOptions, refusalsOf } from '../model/claims.ts'
import type { Cluster } from '../model/cluster.ts'
import type { ServiceName } from '../model/facts.ts'
import type { ObjectKey } from '../model/kernel-object.ts'
import type { Ledger } from '../model/ledger.ts'
import { mapInTurns } from '../netlink/turns.ts'
import type { Reporter } from './reporter.ts'

/** Services mapped in one go: nothing else gets its turn meanwhile. */
const SERVICES_PER_SLICE = 50
/** The same, while lists are read: their next pages are asked for in between. */
const FORESEEN_PER_SLICE = 10

export interface MapperOptions {
  readonly cluster: Cluster
  /** Gets what is wanted of the kernel. */
  readonly ledger: Ledger
  readonly reporter: Pick<Reporter, 'refusals' | 'lacks'>
  /** Asked anew whenever facts have changed: so may the scheduler while we run. */
  readonly mapping: () => MappingOptions
  /** Called for every Service that was mapped anew, or is gone. */
  readonly mapped: (name: ServiceName) => void
  /** Called for every object that may have to be changed. */
  readonly touched: (key: ObjectKey) => void
}

export class Mapper {
  readonly #options: MapperOptions
  /** Services that have changed, and have not been turned into claims yet. */
  readonly #unmapped = new Set<ServiceName>()

  constructor(options: MapperOptions) {
    this.#options = options
  }

  /** Takes the Services that have changed; false when all are mapped. */
  takeChanges(): boolean {
    this.#takeDirty()
    return this.#unmapped.size > 0
  }

  /** Maps what is known of lists that are not whole: claims that may change. Returns the Services. */
  async foresee(): Promise<readonly ServiceName[]> {
    const { cluster } = this.#options
    const isKnown = (name: ServiceName): boolean =>
      cluster.service(name) !== undefined && cluster.hasSlices(name)
    const names = this.#takeDirty().filter(isKnown)
    await this.#mapInTurns(names, FORESEEN_PER_SLICE)
    return names
  }

  /** Maps every Service that was taken. */
  async mapTaken(): Promise<void> {
    await this.#mapInTurns([...this.#unmapped], SERVICES_PER_SLICE)
  }

  /** The objects of all Services, each mapped as its objects are asked for: the oldest ones, which win conflicts, first. */
  *mapAll(): Generator<ObjectKey> {
    const { cluster, ledger, mapping } = this.#options
    const options = mapping()
    const names = [...new Set([...ledger.owners(), ...this.#unmapped])]
    names.sort((a, b) => cluster.byAge(a, b))
    for (const name of names) yield* this.#unmapped.has(name) ? this.#map(name, options) : ledger.keysOf(name)
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

  /** Returns the objects that may have to be changed. */
  #map(name: ServiceName, options: MappingOptions): Iterable<ObjectKey> {
    const { cluster, ledger, mapped, reporter, touched } = this.#options
    this.#unmapped.delete(name)
    const service = cluster.service(name)
    const slices = cluster.slicesOf(name)
    const claims = service === undefined ? [] : buildClaims(service, slices, options)
    const keys = ledger.replace(name, claims)
    for (const key of keys) touched(key)
    reporter.refusals(name, service === undefined ? [] : refusalsOf(service, options))
    reporter.lacks(name, service === undefined ? [] : localLacks(service, slices, options))
    mapped(name)
    return keys
  }
}
