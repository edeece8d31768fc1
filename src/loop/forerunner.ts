/**
 * Serves Services while the rest of them is still listed. Only what cannot be wrong for long, and takes nothing away from
 * anybody: a Service that alone can have its addresses, and of which the kernel has nothing yet.
 */
import type { Address } from '../model/address.ts'
import type { Cluster } from '../model/cluster.ts'
import { isExposed, type ServiceName } from '../model/facts.ts'
import { type KernelState, kindOf, type ObjectKey } from '../model/kernel-object.ts'
import type { Ledger } from '../model/ledger.ts'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import type { Pipeline } from './pipeline.ts'

/** Batches that are not full cost more than they bring: after one run, more is waited for. */
const PAUSE_MS = 1_000

export interface ForerunnerOptions {
  readonly cluster: Cluster
  readonly ledger: Ledger
  /** What is in the kernel, once it has been read. */
  readonly known: KernelState
  readonly pipeline: Pick<Pipeline, 'run'>
  /** Monotonic. */
  readonly now: () => number
}

export class Forerunner {
  readonly #options: ForerunnerOptions
  #isKernelRead = false
  /** Services that have been mapped, and not been looked at since. */
  readonly #ready = new Set<ServiceName>()
  /** Services of which something has been made. */
  readonly #made = new Set<ServiceName>()
  #external: ReadonlySet<Address> | undefined
  #notBefore = 0
  /** Pending: on its way into the kernel. Rejected: the kernel did not answer as it should. */
  #running: Promise<void> | undefined

  constructor(options: ForerunnerOptions) {
    this.#options = options
  }

  /** What is in the kernel is known. */
  kernelRead(): void {
    this.#isKernelRead = true
    this.#run()
  }

  /** These Services have been mapped anew. */
  mapped(names: readonly ServiceName[]): void {
    for (const name of names) this.#ready.add(name)
    this.#run()
  }

  /** Waits for what is on its way. Throws when the kernel could not say what became of it. */
  async end(): Promise<void> {
    await this.#running
  }

  #run(): void {
    const { cluster, pipeline, now } = this.#options
    if (!this.#isKernelRead || !cluster.isListed('services') || cluster.synced) return
    if (this.#running !== undefined || now() < this.#notBefore) return
    // The slices of a Service lie together in a list, or nearly: of the latest page's, the next one may have more.
    const names = [...this.#ready].filter((name) => !cluster.isOnLatestPage(name))
    if (names.length === 0) return
    names.sort((a, b) => cluster.byAge(a, b))
    this.#notBefore = now() + PAUSE_MS
    this.#running = pipeline.run(this.#take(names), Infinity).then(() => {
      this.#running = undefined
    })
    // Until it is awaited: what it throws is thrown there.
    this.#running.catch(() => undefined)
  }

  *#take(names: readonly ServiceName[]): Generator<ObjectKey> {
    for (const name of names) {
      this.#ready.delete(name)
      const keys = this.#options.ledger.keysOf(name)
      if (!this.#made.has(name) && !(this.#isAlone(name) && this.#isNew(keys))) continue
      this.#made.add(name)
      yield* keys
    }
  }

  /** A cluster IP is given to one Service, but an older one may have it as an external IP. */
  #isAlone(name: ServiceName): boolean {
    const { cluster } = this.#options
    const external = (this.#external ??= cluster.externalAddresses())
    const service = cluster.service(name)
    if (service === undefined || isExposed(service)) return false
    return !service.clusterIps.some((address) => external.has(address))
  }

  /** What is there already may hold more than is known of it so far. */
  #isNew(keys: readonly ObjectKey[]): boolean {
    const { virtualServers } = this.#options.known
    return !keys.some((key) => kindOf(key) === 'virtualServer' && virtualServers.has(key as VirtualServerKey))
  }
}
