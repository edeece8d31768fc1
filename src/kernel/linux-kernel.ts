/** The real kernel: IPVS, kube-ipvs0 and the sets, each over its own netlink connection. */
import type { Address, Family } from '../model/address.ts'
import { addBinding, type Binding, type Bound } from '../model/binding.ts'
import type { KernelTables } from '../model/kernel-object.ts'
import type { Operation } from '../model/operation.ts'
import type { ObservedRealServer, VirtualServerId, VirtualServerKey } from '../model/virtual-server.ts'
import { NetlinkConnection } from '../netlink/connection.ts'
import type { Refusals } from '../netlink/error.ts'
import type { MessageWriter } from '../netlink/message.ts'
import type { Socket } from '../netlink/socket.ts'
import { together } from '../waiting/promises.ts'
import { encodeAddress } from './link/address-codec.ts'
import { Conntrack, type FlowsDeleted, type FlowTarget } from './flows/conntrack.ts'
import {
  DummyInterface,
  ensureInterface,
  findInterface,
  INTERFACE_CREATION,
  INTERFACE_NAME,
  isInterfaceGone,
} from './link/dummy-interface.ts'
import { encodeLocalRoute } from './link/local-route-codec.ts'
import { probeLocalRoutes, readLocalRoutes } from './link/local-routes.ts'
import type { Filter, FilterOptions, MemberChange } from './filter/filter.ts'
import { openFilter } from './filter/open-filter.ts'
import { explainMissingIpvs, Ipvs } from './ipvs/ipvs.ts'
import { encodeRealServer } from './ipvs/real-server-codec.ts'
import { encodeVirtualServer } from './ipvs/virtual-server-codec.ts'
import type { Kernel } from './kernel.ts'
import { executeInRuns, type Wire } from './runs.ts'
import { NETLINK_ROUTE } from './link/rtnetlink.ts'

export interface LinuxKernelOptions extends FilterOptions {
  /**
   * Until it resolves, `execute` binds no address: traffic would meet Services before the rules that masquerade and
   * restrict it. What it rejects with is thrown there.
   */
  readonly rulesReady?: Promise<unknown>
  /** Only reads: creates neither the interface nor sets, and refuses to execute. */
  readonly readOnly?: boolean
  /** Told of tracked flows that have been deleted. */
  readonly flowsDeleted?: FlowsDeleted
}

export class LinuxKernel implements Kernel {
  readonly ipvs: Ipvs
  readonly filter: Filter
  readonly #conntrack: Conntrack
  /** For the routes of virtual IPs, which are there without the interface, too. */
  readonly #routes: NetlinkConnection
  readonly #addon: Socket
  readonly #readOnly: boolean
  readonly #rulesReady: Promise<unknown> | undefined
  #dummy: DummyInterface | undefined

  private constructor(ipvs: Ipvs, options: LinuxKernelOptions) {
    const { addon, flowsDeleted } = options
    this.ipvs = ipvs
    this.filter = openFilter(options)
    this.#conntrack = new Conntrack(addon, flowsDeleted)
    this.#routes = new NetlinkConnection(addon, NETLINK_ROUTE)
    this.#addon = addon
    this.#readOnly = options.readOnly === true
    this.#rulesReady = options.rulesReady
  }

  /** Throws an Error with a remedy when the kernel has no IPVS or refuses us. */
  static async open(options: LinuxKernelOptions): Promise<LinuxKernel> {
    try {
      const ipvs = await Ipvs.open(options.addon)
      return new LinuxKernel(ipvs, options)
    } catch (error) {
      throw explainMissingIpvs(error)
    }
  }

  /** Commands that make the interface and the sets, where they are missing. Current after `readTables`. */
  get creations(): string[] {
    return [...(this.#dummy === undefined ? [INTERFACE_CREATION] : []), ...this.filter.creations]
  }

  /** Why some sets cannot be used. Current after `readTables`. */
  get setFaults(): ReadonlyMap<string, Error> {
    return this.filter.faults
  }

  async readTables(): Promise<KernelTables> {
    const [virtualServers, addresses, routes, setMembers] = await together([
      this.ipvs.readVirtualServers().catch((error: unknown) => {
        throw explainMissingIpvs(error)
      }),
      this.#readAddresses(),
      readLocalRoutes(this.#routes),
      this.filter.read(),
    ])
    return { virtualServers, addresses: boundAs(addresses, routes), setMembers }
  }

  async readRealServers(
    ids: readonly VirtualServerId[],
  ): Promise<ReadonlyMap<VirtualServerKey, readonly ObservedRealServer[]>> {
    return this.ipvs.readRealServers(ids)
  }

  async execute(operations: readonly Operation[]): Promise<Refusals> {
    if (this.#readOnly) throw new Error('Cannot change the kernel: it was opened to read only')
    return executeInRuns(operations, (wire, run) => this.#executeRun(wire, run), this.#rulesReady)
  }

  /** Throws NetlinkError when the kernel takes no virtual IPs as routes. */
  async probeRoutes(families: Iterable<Family>): Promise<void> {
    await probeLocalRoutes(this.#routes, families)
  }

  close(): void {
    this.ipvs.close()
    this.filter.close()
    this.#conntrack.close()
    this.#routes.close()
    this.#dummy?.close()
  }

  async #executeRun(wire: Wire, run: readonly Operation[]): Promise<Refusals> {
    if (wire === 'set') return this.filter.execute(run.map(memberChange))
    if (wire === 'flow') return this.#deleteFlows(run)
    const connection = this.#connection(wire)
    const batch = connection.batch()
    for (const operation of run) this.#encode(batch, operation)
    const { refusals } = await connection.exchange(batch, 'Cannot change the kernel')
    // Somebody has deleted the interface: the next reading makes it anew.
    if (wire === 'address' && [...refusals.values()].some(isInterfaceGone)) this.#dummy = undefined
    return refusals
  }

  /** All in one reading of the table: that it fails fails them all, which is no reason to doubt anything else. */
  async #deleteFlows(run: readonly Operation[]): Promise<Refusals> {
    try {
      await this.#conntrack.deleteUdpFlows(run.map(flowTarget))
      return new Map()
    } catch (error) {
      return new Map(run.map((_, i) => [i, error as Error]))
    }
  }

  #connection(wire: 'ipvs' | 'address'): NetlinkConnection {
    if (wire === 'ipvs') return this.ipvs.connection
    if (this.#dummy === undefined) throw new Error(`Cannot bind addresses: there is no ${INTERFACE_NAME}`)
    return this.#dummy.connection
  }

  /** Exactly one message for each operation: the answers are matched by place. */
  #encode(batch: MessageWriter, operation: Operation): void {
    switch (operation.kind) {
      case 'createVirtualServer':
        encodeVirtualServer(batch, this.ipvs.genlFamilyId, 'NEW', operation.of, operation.settings)
        return
      case 'updateVirtualServer':
        encodeVirtualServer(batch, this.ipvs.genlFamilyId, 'SET', operation.of, operation.settings)
        return
      case 'deleteVirtualServer':
        encodeVirtualServer(batch, this.ipvs.genlFamilyId, 'DEL', operation.of)
        return
      case 'createRealServer':
        encodeRealServer(batch, this.ipvs.genlFamilyId, 'NEW', operation.of, operation.realServer)
        return
      case 'updateRealServer':
        encodeRealServer(batch, this.ipvs.genlFamilyId, 'SET', operation.of, operation.realServer)
        return
      case 'deleteRealServer':
        encodeRealServer(batch, this.ipvs.genlFamilyId, 'DEL', operation.of, operation.realServer)
        return
      case 'bindAddress':
        this.#encodeBinding(batch, 'NEW', operation)
        return
      case 'unbindAddress':
        this.#encodeBinding(batch, 'DEL', operation)
        return
      case 'addSetMember':
      case 'deleteSetMember':
      case 'deleteFlows':
        throw new Error(`${operation.kind} has a wire of its own`)
    }
  }

  #encodeBinding(
    batch: MessageWriter,
    verb: 'NEW' | 'DEL',
    { address, binding }: { readonly address: Address; readonly binding: Binding },
  ): void {
    if (binding === 'address') encodeAddress(batch, verb, address, this.#dummy!.index)
    else encodeLocalRoute(batch, verb, address)
  }

  /** The addresses of our interface, which is created where it is missing. */
  async #readAddresses(): Promise<Set<Address>> {
    try {
      return (await this.#dummy?.readAddresses()) ?? (await this.#openInterface())
    } catch (error) {
      if (!isInterfaceGone(error)) throw error
      return this.#openInterface()
    }
  }

  async #openInterface(): Promise<Set<Address>> {
    this.#dummy?.close()
    const index = this.#readOnly ? await findInterface() : await ensureInterface()
    this.#dummy = index === undefined ? undefined : new DummyInterface(this.#addon, index)
    return (await this.#dummy?.readAddresses()) ?? new Set()
  }
}

function boundAs(addresses: Iterable<Address>, routes: Iterable<Address>): Map<Address, Bound> {
  const bound = new Map<Address, Bound>()
  for (const address of addresses) addBinding(bound, address, 'address')
  for (const address of routes) addBinding(bound, address, 'route')
  return bound
}

function memberChange(operation: Operation): MemberChange {
  if (!('member' in operation)) throw new Error(`${operation.kind} is about no set`)
  return { verb: operation.kind === 'addSetMember' ? 'ADD' : 'DEL', member: operation.member }
}

function flowTarget(operation: Operation): FlowTarget {
  if (operation.kind !== 'deleteFlows') throw new Error(`${operation.kind} is about no flows`)
  const { of, to } = operation
  return { address: of.address, port: of.port, ...(to !== undefined && { realServer: to }) }
}
