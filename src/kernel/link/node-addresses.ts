/** The node's own addresses: read once, then followed as interfaces come, change and go. */
import type { Logger } from 'pino'
import { backoffMs } from '../../waiting/backoff.ts'
import { sleep } from '../../waiting/sleep.ts'
import type { Address } from '../../model/address.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { type DecodeError, isInterrupted, NetlinkError } from '../../netlink/error.ts'
import { type Message, readMessages } from '../../netlink/message.ts'
import type { Multicast, Socket } from '../../netlink/socket.ts'
import { decodeAddressHeader, decodeAddressMessage, encodeAddressDump } from './address-codec.ts'
import { findInterface, INTERFACE_NAME } from './dummy-interface.ts'
import { NETLINK_ROUTE } from './rtnetlink.ts'

/** RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR. */
const GROUPS = [5, 9]
const ALL_INTERFACES = 0

const READ_ATTEMPTS = 5
/** Addresses come and go in company; what happens within this time is read at once. */
const QUIET_MS = 50
const FIRST_BACKOFF_MS = 100
const LONGEST_BACKOFF_MS = 30_000

/** Some 5,000 notifications. */
const RECEIVE_BYTES = 4 * 1024 * 1024

const CANNOT_LISTEN = 'Cannot listen for address changes of the node'
/** A reading is interrupted while thousands of addresses are added to kube-ipvs0; so many in a row are another matter. */
const PATIENCE = 8

const CANNOT_READ = 'Cannot read the addresses of the node'

/** What one reading has shown. */
export interface NodeAddresses {
  /** Each once, sorted; without those of kube-ipvs0, and without IPv6 link-local ones. */
  readonly addresses: readonly Address[]
  /** The index of kube-ipvs0; undefined when it does not exist. */
  readonly dummyIndex: number | undefined
}

function ownAddresses(messages: readonly Message[], dummyIndex: number | undefined): Address[] {
  const addresses = new Set<Address>()
  for (const message of messages) {
    const { interfaceIndex, isLinkLocal } = decodeAddressHeader(message)
    if (isLinkLocal || interfaceIndex === dummyIndex) continue
    const address = decodeAddressMessage(message, interfaceIndex)
    if (address !== undefined) addresses.add(address)
  }
  return [...addresses].sort()
}

/**
 * Reads the addresses of all interfaces, up or down, of this network namespace over rtnetlink. kube-ipvs0 is looked
 * up before and after, so that one that is made anew meanwhile does not lend its addresses to the node (indexes are
 * not used twice). Throws NetlinkError, or an Error when kube-ipvs0 does not come to rest.
 */
export async function readNodeAddresses(connection: NetlinkConnection): Promise<NodeAddresses> {
  let dummyIndex = await findInterface()
  for (let attempt = 1; attempt <= READ_ATTEMPTS; attempt++) {
    const messages = await connection.read((batch) => encodeAddressDump(batch, ALL_INTERFACES), CANNOT_READ)
    const indexAfter = await findInterface()
    if (indexAfter === dummyIndex) return { addresses: ownAddresses(messages, dummyIndex), dummyIndex }
    dummyIndex = indexAfter
  }
  throw new Error(`${CANNOT_READ}: ${INTERFACE_NAME} is made anew all the time, find out who deletes it`)
}

interface Monitor {
  close(): void
}

/**
 * Has `heard` called for every address that is added to or removed from an interface, and `lost` with an error, such
 * as ENOBUFS when they came faster than they were read. It goes on listening after an error.
 *
 * The package `netlink` 0.3.0 cannot do this: it ends the process at an overflow, as its handler of poll errors makes a
 * string of a null pointer.
 */
function openMonitor(
  addon: Multicast,
  heard: (message: Message) => void,
  lost: (error: Error) => void,
): Monitor {
  const listen = (messages: Buffer, errno: number): void => {
    if (errno !== 0) lost(new NetlinkError(CANNOT_LISTEN, errno))
    try {
      for (const message of readMessages(messages)) heard(message)
    } catch (error) {
      lost(error as DecodeError)
    }
  }
  try {
    const listener = addon.listen(NETLINK_ROUTE, GROUPS, RECEIVE_BYTES, listen)
    return { close: () => addon.stop(listener) }
  } catch (cause) {
    throw new Error(CANNOT_LISTEN, { cause })
  }
}

export interface FollowOptions {
  readonly addon: Socket & Multicast
  /** Called with the first addresses, and with every later list that differs from the one before. */
  readonly onChange: (addresses: readonly Address[]) => void
  readonly log: Logger
  /** Ends it. */
  readonly signal: AbortSignal
}

class Follower {
  readonly #options: FollowOptions
  readonly #connection: NetlinkConnection
  #monitor: Monitor | undefined
  #known: NodeAddresses | undefined
  #reported: string | undefined
  /** Something has happened since the last reading began. */
  #isStale = false
  /** Notifications were lost: the monitor is to be opened anew. */
  #isDeaf = false
  /** The last reading failed, which has been said. */
  #isBlind = false
  /** In a row, of reading and listening. */
  #failures = 0
  #wake: () => void = () => undefined

  constructor(options: FollowOptions) {
    this.#options = options
    this.#connection = new NetlinkConnection(options.addon, NETLINK_ROUTE)
  }

  /** Listens before it reads: no change falls in between. Throws when it can do neither. */
  async read(): Promise<void> {
    if (this.#isDeaf) this.#closeMonitor()
    this.#isDeaf = this.#isStale = false
    this.#monitor ??= openMonitor(
      this.#options.addon,
      (message) => this.#hear(message),
      (error) => this.#lose(error),
    )
    this.#known = await readNodeAddresses(this.#connection)
  }

  /** Hands on what is known, where that is new. */
  report(): void {
    const { addresses } = this.#known!
    const text = addresses.join()
    if (text === this.#reported || this.#options.signal.aborted) return
    this.#reported = text
    this.#options.onChange(addresses)
  }

  /** Until the signal aborts. Errors are logged, and what is known stays. */
  async run(): Promise<void> {
    const { signal } = this.#options
    signal.addEventListener('abort', () => this.#wake())
    while (!signal.aborted) {
      await this.#untilStale()
      const retryMs =
        this.#failures === 0 ? 0 : backoffMs(this.#failures, FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS)
      await sleep(QUIET_MS + retryMs, signal)
      await this.#tryToRead()
      this.report()
    }
    this.close()
  }

  close(): void {
    this.#closeMonitor()
    this.#connection.close()
  }

  async #tryToRead(): Promise<void> {
    const { log, signal } = this.#options
    if (signal.aborted) return
    const wasDeaf = this.#isDeaf
    try {
      await this.read()
      if (this.#isBlind) log.info('read the addresses of the node again')
      this.#isBlind = false
      // A monitor that goes deaf over and over is opened less and less often.
      if (!wasDeaf && !this.#isDeaf) this.#failures = 0
    } catch (err) {
      this.#failures++
      this.#isStale = true
      if (this.#isBlind || (isInterrupted(err) && this.#failures < PATIENCE)) {
        log.debug({ err }, 'could not read the addresses of the node')
        return
      }
      this.#isBlind = true
      log.warn({ err }, 'cannot read the addresses of the node: the old ones stay, retrying')
    }
  }

  /** The program itself fills kube-ipvs0, thousands of addresses at a time: those cost a look at the header only. */
  #hear(message: Message): void {
    const { interfaceIndex, isLinkLocal } = decodeAddressHeader(message)
    if (!isLinkLocal && interfaceIndex !== this.#known?.dummyIndex) this.#expire()
  }

  #lose(err: Error): void {
    if (this.#isDeaf) return
    this.#options.log.debug({ err }, 'lost notifications of address changes: reading the addresses anew')
    this.#isDeaf = true
    this.#failures++
    this.#expire()
  }

  #expire(): void {
    this.#isStale = true
    this.#wake()
  }

  async #untilStale(): Promise<void> {
    if (this.#isStale || this.#options.signal.aborted) return
    await new Promise<void>((resolve) => {
      this.#wake = resolve
    })
  }

  #closeMonitor(): void {
    this.#monitor?.close()
    this.#monitor = undefined
  }
}

/**
 * Reads the addresses, hands them to `onChange`, and resolves; from then on `onChange` hears of every change, until
 * the signal aborts. Throws when the first reading fails. Later errors, and notifications that were lost, lead to
 * another reading with backoff: what was read last stays until then.
 */
export async function followNodeAddresses(options: FollowOptions): Promise<void> {
  const follower = new Follower(options)
  try {
    await follower.read()
  } catch (error) {
    follower.close()
    throw error
  }
  follower.report()
  void follower.run()
}
