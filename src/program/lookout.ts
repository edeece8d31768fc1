/** Looks for whoever else has the external addresses of Services: before these are served, and from time to time. */
import type { Logger } from 'pino'
import type { Address } from '../model/address.ts'
import { type Cidr, formatCidr } from '../model/cidr.ts'
import type { Cluster } from '../model/facts/cluster.ts'
import { ALONE, type Links, type Surroundings, surroundingsOf } from '../model/claims/surroundings.ts'
import type { Alarm } from '../waiting/alarm.ts'
import type { PeerNodes } from '../source/peer-nodes.ts'

/** Services come in company: those of so long are looked for at once. */
const QUIET_MS = 20
/** How old a look may be, while there is something to look for. */
const INTERVAL_MS = 30_000
/** Sooner, while something that is named has not been looked for. */
const RETRY_MS = 1_000
/** What the API server, or the kernel, does not say for so long is done without: else nothing would be served. */
const PATIENCE_MS = 30_000

export interface LookoutOptions {
  readonly cluster: Pick<Cluster, 'externalAddresses' | 'markNaming' | 'markExposed' | 'node'>
  /** Throws an Error. */
  readonly readLinks: () => Promise<Links>
  readonly peers: PeerNodes
  /** Rung when there is something to look for. */
  readonly alarm: Alarm
  readonly log: Logger
  readonly signal: AbortSignal
  /** Monotonic. */
  readonly now?: () => number
}

const NO_LINKS: Links = { gateways: new Map(), neighbours: new Map(), routes: [] }
const NO_PEERS: ReadonlySet<Address> = new Set()

export class Lookout {
  readonly #options: LookoutOptions
  readonly #now: () => number
  #links = NO_LINKS
  #current: Surroundings = { ...ALONE, isSeen: () => false }
  #neededSince: number | undefined
  /** The kernel has been read once. */
  #hasRead = false
  /** The last reading failed, which has been said. */
  #isBlind = false

  constructor(options: LookoutOptions) {
    this.#options = options
    this.#now = options.now ?? ((): number => performance.now())
  }

  get current(): Surroundings {
    return this.#current
  }

  /** Every external address has been looked for. */
  get isDone(): boolean {
    return [...this.#options.cluster.externalAddresses()].every((address) => this.#current.isSeen(address))
  }

  /** There may be something new: another external address, or other nodes. */
  lookAgain(): void {
    const { peers, alarm } = this.#options
    peers.consider()
    alarm.ring()
  }

  /** Until the signal aborts. Never throws. */
  async run(): Promise<void> {
    const { alarm, signal } = this.#options
    for (;;) {
      await alarm.wait(QUIET_MS, this.#pauseMs, signal)
      if (signal.aborted) return
      await this.look()
    }
  }

  get #pauseMs(): number {
    if (this.#options.cluster.externalAddresses().size === 0) return Infinity
    return this.isDone ? INTERVAL_MS : RETRY_MS
  }

  /** One look, at all that is named now. */
  async look(): Promise<void> {
    const { cluster, peers } = this.#options
    const external = cluster.externalAddresses()
    if (external.size === 0) return
    this.#neededSince ??= this.#now()
    await this.#readLinks()
    const known = peers.addresses()
    const isLate = this.#now() - this.#neededSince >= PATIENCE_MS
    const isKnown = (this.#hasRead && known !== undefined) || isLate
    const before = this.#current
    this.#current = surroundingsOf(
      this.#links,
      known ?? NO_PEERS,
      cluster.node?.podCidrs ?? [],
      (address) => isKnown && external.has(address),
    )
    this.#tell(before, external)
  }

  /** Has the Services mapped anew of which something is known now, or is another than before. */
  #tell(before: Surroundings, external: ReadonlySet<Address>): void {
    const { cluster } = this.#options
    const others = [...external].filter((address) => !isSame(address, before, this.#current))
    if (textOf(before.podCidrs) !== textOf(this.#current.podCidrs)) cluster.markExposed()
    else if (others.length > 0) cluster.markNaming(others)
  }

  /** What cannot be read is as it was. */
  async #readLinks(): Promise<void> {
    const { readLinks, log } = this.#options
    try {
      this.#links = await readLinks()
      this.#hasRead = true
      if (this.#isBlind) log.info('read the routes and neighbours of the node again')
      this.#isBlind = false
    } catch (err) {
      const level = this.#isBlind ? 'debug' : 'warn'
      log[level]({ err }, 'cannot read the routes and neighbours of the node: those known before count')
      this.#isBlind = true
    }
  }
}

function textOf(cidrs: readonly Cidr[]): string {
  return cidrs.map(formatCidr).join()
}

function isSame(address: Address, before: Surroundings, after: Surroundings): boolean {
  return (
    before.isSeen(address) === after.isSeen(address) &&
    before.peers.has(address) === after.peers.has(address) &&
    before.gateways.get(address) === after.gateways.get(address) &&
    before.neighbours.get(address) === after.neighbours.get(address)
  )
}
