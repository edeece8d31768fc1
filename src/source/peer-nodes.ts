/**
 * The addresses of the other Nodes, which no external IP of a Service may be: asked for where one is served, and rarely.
 * They are not watched: the status of each Node changes every few minutes, 15 kB that each node of the cluster would get.
 */
import type { Logger } from 'pino'
import type { Address } from '../model/address.ts'
import { type Alarm, openAlarm } from '../waiting/alarm.ts'
import { type ApiClient, ApiError, isExpired } from './api-client.ts'
import { listPages } from './list.ts'
import type { ReadPage } from './pages/page.ts'
import { remedyOf, retryAfterMs } from './retry.ts'
import { isSameSet } from './same-set.ts'

const NODES = '/api/v1/nodes'
/** A continue token is good for five minutes: whoever needs longer begins again, but not for ever. */
const ATTEMPTS = 3

/**
 * From one look to the next, and up to half as long again. Each node looks at all nodes: with an interval that grows as
 * they do, a cluster of any size asks for one list in 6 s, or less.
 */
const LEAST_INTERVAL_MS = 600_000
const INTERVAL_MS_PER_NODE = 6_000
const FIRST_BACKOFF_MS = 1_000
/** A list of thousands of Nodes that fails in the middle is not for nothing. */
const LONGEST_BACKOFF_MS = 600_000

/** What one look has shown. */
export interface NodeList {
  /** InternalIP and ExternalIP of every Node but this one, of both families. */
  readonly addresses: ReadonlySet<Address>
  /** How many Nodes there are, with this one. */
  readonly nodes: number
}

export interface NodeListOptions {
  readonly api: Pick<ApiClient, 'get'>
  readonly readPage: ReadPage
  /** Of this node, whose addresses are its own. */
  readonly nodeName: string
  readonly signal: AbortSignal
}

/**
 * Lists all Nodes in pages, and keeps their addresses only. One that cannot be read has none. Throws as listPages does,
 * also when its pages have expired (410) a few times.
 *
 * Not as a Table (`as=Table`), which is a fiftieth of it: that has the first address of each type only.
 */
export async function listNodeAddresses(options: NodeListOptions): Promise<NodeList> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await listOnce(options)
    } catch (error) {
      if (!isExpired(error) || attempt === ATTEMPTS) throw error
    }
  }
}

async function listOnce({ readPage, nodeName, ...common }: NodeListOptions): Promise<NodeList> {
  const addresses = new Set<Address>()
  let nodes = 0
  const pages = listPages({
    ...common,
    path: NODES,
    selectors: {},
    readPage: (body) => readPage('nodes', body),
  })
  for await (const { head, facts } of pages) {
    nodes += head.objects
    for (const { name, fact } of await facts)
      if (name !== nodeName) for (const address of fact?.addresses ?? []) addresses.add(address)
  }
  return { addresses, nodes }
}

/** Unknown until the API server has answered once. */
export type PeerAddresses = ReadonlySet<Address> | undefined

export interface PeerNodesOptions {
  /** As listNodeAddresses. */
  readonly list: () => Promise<NodeList>
  /** Somebody needs to know. */
  readonly isWanted: () => boolean
  /** Called with the first answer, and with every later set that differs from the one before. */
  readonly onChange: (addresses: ReadonlySet<Address>) => void
  readonly log: Logger
  /** Ends it. */
  readonly signal: AbortSignal
  /** From 0 to 1; for jitter. */
  readonly random?: () => number
  readonly alarm?: Alarm
}

export interface PeerNodes {
  /** To be called when `isWanted` may say something else. Cheap: it looks only if there was none yet, or not for long. */
  consider(): void
  readonly addresses: () => PeerAddresses
}

class Follower implements PeerNodes {
  readonly #options: PeerNodesOptions
  readonly #alarm: Alarm
  readonly #random: () => number
  #known: PeerAddresses
  /** In a row. */
  #failures = 0
  /** We may not look, which has been said. */
  #isForbidden = false

  constructor(options: PeerNodesOptions) {
    this.#options = options
    this.#alarm = options.alarm ?? openAlarm()
    this.#random = options.random ?? Math.random
  }

  consider(): void {
    this.#alarm.ring()
  }

  readonly addresses = (): PeerAddresses => this.#known

  /** Until the signal aborts. Never throws. */
  async run(): Promise<void> {
    const { isWanted, signal } = this.#options
    for (;;) {
      if (signal.aborted) return
      if (isWanted()) {
        const ms = (await this.#look()) * (1 + this.#random() / 2)
        await this.#alarm.wait(ms, ms, signal)
      } else await this.#alarm.wait(0, Infinity, signal)
    }
  }

  /** In how many ms to look again. */
  async #look(): Promise<number> {
    const { list, log } = this.#options
    try {
      const { addresses, nodes } = await list()
      if (this.#failures > 0 || this.#isForbidden) log.info('listed the Nodes again')
      this.#failures = 0
      this.#isForbidden = false
      this.#learn(addresses)
      return Math.max(LEAST_INTERVAL_MS, INTERVAL_MS_PER_NODE * nodes)
    } catch (error) {
      return error instanceof ApiError && error.status === 403 ? this.#doWithout(error) : this.#fail(error)
    }
  }

  #learn(addresses: ReadonlySet<Address>): void {
    if (this.#options.signal.aborted) return
    if (this.#known !== undefined && isSameSet(this.#known, addresses)) return
    this.#known = addresses
    this.#options.onChange(addresses)
  }

  /** That we may not know is an answer, too: none, unless there was a better one before. */
  #doWithout(err: ApiError): number {
    const remedy = remedyOf(err, 'list on nodes')
    const level = this.#isForbidden ? 'debug' : 'warn'
    this.#options.log[level](
      { err, remedy },
      'may not list the Nodes: an external IP may take the address of one',
    )
    this.#isForbidden = true
    this.#failures = 0
    this.#learn(this.#known ?? new Set())
    return LEAST_INTERVAL_MS
  }

  #fail(err: unknown): number {
    const { log, signal } = this.#options
    if (!signal.aborted)
      log[this.#failures === 0 ? 'warn' : 'debug'](
        { err, remedy: remedyOf(err, 'list on nodes') },
        'cannot list the Nodes: an external IP may take the address of one, retrying',
      )
    return retryAfterMs(err, this.#failures++, FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS)
  }
}

/** Looks when it is wanted, and again rarely as long as it is, until the signal aborts. What is known stays. */
export function followPeerNodes(options: PeerNodesOptions): PeerNodes {
  const follower = new Follower(options)
  void follower.run()
  return follower
}
