/** The kernel's connection tracking over ctnetlink: flows that must not go where they went are forgotten. */
import { FAMILIES, type Family, familyOf, isSame } from '../../model/address.ts'
import { type Protocol, PROTOCOL_NUMBERS } from '../../model/virtual-server.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { isNotFound, NetlinkError } from '../../netlink/error.ts'
import type { Message } from '../../netlink/message.ts'
import type { Socket } from '../../netlink/socket.ts'
import {
  decodeFlow,
  encodeFlowDelete,
  encodeFlowDump,
  type Flow,
  flowMatcher,
  type FlowTarget,
} from './conntrack-codec.ts'
import { NETLINK_NETFILTER } from '../netfilter.ts'
import { decodeTrackedFlow, type TrackedFlow } from './tracked-flow.ts'

export type { FlowTarget } from './conntrack-codec.ts'

/** nfnetlink's answers when a subsystem is not there. */
const MISSING: readonly string[] = ['EINVAL', 'EOPNOTSUPP']

function explainMissing(error: unknown): Error {
  if (!(error instanceof NetlinkError) || !MISSING.includes(error.code)) return error as Error
  const remedy = 'load it with "modprobe nf_conntrack_netlink" (CONFIG_NF_CT_NETLINK), on the host'
  return new Error(`Cannot read the tracked flows: the kernel seems to have no ctnetlink: ${remedy}`, {
    cause: error,
  })
}

/** Told of each look at the flows of a family: how long it took, and how many were deleted. */
export type FlowsDeleted = (family: Family, seconds: number, deleted: number) => void

export class Conntrack {
  readonly connection: NetlinkConnection
  readonly #deleted: FlowsDeleted

  /** Throws NetlinkError when the kernel has no nfnetlink. */
  constructor(addon: Socket, deleted: FlowsDeleted = () => undefined) {
    this.connection = new NetlinkConnection(addon, NETLINK_NETFILTER)
    this.#deleted = deleted
  }

  /**
   * Deletes the targets' flows and returns how many there were; the next datagram of each sender starts a new flow.
   * Throws NetlinkError, or an Error with a remedy when the kernel has no ctnetlink.
   */
  async deleteUdpFlows(targets: readonly FlowTarget[]): Promise<number> {
    let count = 0
    for (const family of FAMILIES) {
      const ofFamily = targets.filter(({ address }) => familyOf(address) === family)
      if (ofFamily.length === 0) continue
      const started = performance.now()
      const flows = await this.#read(family, ofFamily)
      await this.#delete(family, flows)
      this.#deleted(family, (performance.now() - started) / 1000, flows.length)
      count += flows.length
    }
    return count
  }

  /** The flows of clients to a destination, as they are tracked now. Throws as `deleteUdpFlows`. */
  async readFlows(protocol: Protocol, target: FlowTarget): Promise<TrackedFlow[]> {
    const number = PROTOCOL_NUMBERS[protocol]
    const messages = await this.#dump(familyOf(target.address), [target], number)
    return messages.flatMap((message) => {
      const flow = decodeTrackedFlow(message)
      return flow?.protocol === number && isSame(flow.original.destination, target) ? [flow] : []
    })
  }

  close(): void {
    this.connection.close()
  }

  async #read(family: Family, targets: readonly FlowTarget[]): Promise<readonly Flow[]> {
    const messages = await this.#dump(family, targets, PROTOCOL_NUMBERS.UDP)
    const isStale = flowMatcher(targets)
    const flows: Flow[] = []
    for (const message of messages) {
      const flow = decodeFlow(message)
      if (flow !== undefined && isStale(flow)) flows.push(flow)
    }
    return flows
  }

  async #dump(family: Family, targets: readonly FlowTarget[], protocol: number): Promise<readonly Message[]> {
    return this.connection
      .read((batch) => {
        encodeFlowDump(batch, family, targets, protocol)
      }, 'Cannot read the tracked flows')
      .catch((error: unknown) => {
        throw explainMissing(error)
      })
  }

  /** A flow that has ended meanwhile is as good as deleted. */
  async #delete(family: Family, flows: readonly Flow[]): Promise<void> {
    const batch = this.connection.batch()
    for (const flow of flows) encodeFlowDelete(batch, family, flow)
    const { refusals } = await this.connection.exchange(batch, 'Cannot delete UDP flows')
    for (const error of refusals.values()) if (!isNotFound(error)) throw error
  }
}
