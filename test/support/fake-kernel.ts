/**
 * A kernel in memory, as strict as the real one: the contract tests run on both. It starts from, and
 * prints itself as, the text of the tools.
 */
import { constants } from 'node:os'
import { explainFailure } from '../../src/kernel/explain.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { formatVirtualServers } from '../../src/model/ipvsadm.ts'
import { emptyKernelState, type KernelState, type KernelTables } from '../../src/model/kernel-object.ts'
import { type Operation, project } from '../../src/model/operation.ts'
import { portMember, setMember } from '../../src/model/sets.ts'
import type {
  Connections,
  ObservedRealServer,
  RealServerKey,
  VirtualServerId,
  VirtualServerKey,
} from '../../src/model/virtual-server.ts'
import { NetlinkError, type Refusals } from '../../src/netlink/error.ts'
import { isBoundAs } from '../../src/model/binding.ts'
import { parseIpvsadm } from './ipvsadm-text.ts'

const IDLE: Connections = { active: 0, inactive: 0, persistent: 0 }

type Errno = keyof typeof constants.errno

export class FakeKernel implements Kernel {
  readonly state: KernelState
  /** Schedulers that can be loaded. */
  readonly schedulers = new Set(['rr', 'wrr', 'lc', 'wlc', 'sh', 'mh', 'dh', 'ovf'])
  /** Everything executed with success, in order. */
  readonly executed: Operation[] = []
  /** Called before each operation: an errno refuses it. */
  refuse: (operation: Operation) => Errno | undefined = () => undefined
  /** Called before each call of a method: what it throws, the method throws. */
  beforeCall: (method: 'readTables' | 'readRealServers' | 'execute') => void = () => undefined
  /** Until it resolves, no address is bound. */
  rulesReady: Promise<unknown> = Promise.resolve()
  readonly #connections = new Map<string, Connections>()

  /** `text` is ipvsadm's; addresses and set members are those of every address in it, unless given. */
  constructor(text = '', addresses?: readonly string[]) {
    this.state = { ...emptyKernelState(), virtualServers: parseIpvsadm(text) }
    const own = addresses ?? [...this.state.virtualServers.values()].map(({ id }) => id.address)
    for (const address of own) {
      project(this.state, { kind: 'bindAddress', address: address as never, binding: 'address' })
      const set = address.includes(':') ? 'KUBE-6-IPVS-IPS' : 'KUBE-IPVS-IPS'
      project(this.state, { kind: 'addSetMember', member: setMember(set, address) })
    }
  }

  /** The same, as cluster IPs are left: with the members of their set. */
  static withClusterIps(text: string): FakeKernel {
    const kernel = new FakeKernel(text)
    for (const { id } of kernel.state.virtualServers.values()) {
      const member = portMember('KUBE-CLUSTER-IP', id.address, id.protocol, id.port)
      project(kernel.state, { kind: 'addSetMember', member })
    }
    return kernel
  }

  /** As `ipvsadm -S -n`, sorted. */
  toString(): string {
    return formatVirtualServers(this.state).join('\n')
  }

  setConnections(of: string, realServer: string, connections: Partial<Connections>): void {
    this.#connections.set(`${of} ${realServer}`, { ...IDLE, ...connections })
  }

  connectionsOf(of: VirtualServerKey, realServer: RealServerKey): Connections {
    return this.#connections.get(`${of} ${realServer}`) ?? IDLE
  }

  readTables(): Promise<KernelTables> {
    return this.#call('readTables', () => ({
      virtualServers: [...this.state.virtualServers.values()].map(({ id, settings }) => ({ id, settings })),
      addresses: new Map(this.state.addresses),
      setMembers: new Set(this.state.setMembers),
    }))
  }

  readRealServers(ids: readonly VirtualServerId[]): Promise<Map<VirtualServerKey, ObservedRealServer[]>> {
    const observe = ({ key }: VirtualServerId): ObservedRealServer[] =>
      [...(this.state.virtualServers.get(key)?.realServers.values() ?? [])].map((realServer) => ({
        ...realServer,
        connections: this.connectionsOf(key, realServer.key),
      }))
    return this.#call('readRealServers', () => new Map(ids.map((id) => [id.key, observe(id)])))
  }

  execute(operations: readonly Operation[]): Promise<Refusals> {
    return this.#call('execute', async () => {
      const refusals = new Map<number, Error>()
      const firstBind = operations.findIndex(({ kind }) => kind === 'bindAddress')
      for (const [place, operation] of operations.entries()) {
        if (place === firstBind) await this.rulesReady
        const error = this.#execute(operation)
        if (error !== undefined) refusals.set(place, error)
      }
      return refusals
    })
  }

  close(): void {
    // Nothing is open.
  }

  async #call<Result>(
    method: 'readTables' | 'readRealServers' | 'execute',
    act: () => Result | Promise<Result>,
  ): Promise<Result> {
    await Promise.resolve()
    this.beforeCall(method)
    return act()
  }

  #execute(operation: Operation): Error | undefined {
    const code = this.refuse(operation) ?? this.#check(operation)
    if (code !== undefined)
      return explainFailure(operation, new NetlinkError('Cannot', constants.errno[code]))
    project(this.state, operation)
    this.executed.push(operation)
    if (operation.kind === 'createRealServer') {
      this.#connections.delete(`${operation.of.key} ${operation.realServer.key}`)
    }
    return undefined
  }

  /** The errnos of net/netfilter/ipvs/ip_vs_ctl.c and net/core/rtnetlink.c (Linux 6.1). */
  #check(operation: Operation): Errno | undefined {
    const { virtualServers, addresses } = this.state
    const virtualServer = 'of' in operation ? virtualServers.get(operation.of.key) : undefined
    const isBound = ({ address, binding }: Extract<Operation, { address: unknown }>): boolean =>
      isBoundAs(binding, addresses.get(address))
    switch (operation.kind) {
      case 'createVirtualServer':
        if (virtualServer !== undefined) return 'EEXIST'
        return this.schedulers.has(operation.settings.scheduler) ? undefined : 'ENOENT'
      case 'updateVirtualServer':
        if (virtualServer === undefined) return 'ESRCH'
        return this.schedulers.has(operation.settings.scheduler) ? undefined : 'ENOENT'
      case 'deleteVirtualServer':
        return virtualServer === undefined ? 'ESRCH' : undefined
      case 'createRealServer':
        if (virtualServer === undefined) return 'ESRCH'
        return virtualServer.realServers.has(operation.realServer.key) ? 'EEXIST' : undefined
      case 'updateRealServer':
      case 'deleteRealServer':
        if (virtualServer === undefined) return 'ESRCH'
        return virtualServer.realServers.has(operation.realServer.key) ? undefined : 'ENOENT'
      case 'bindAddress':
        return isBound(operation) ? 'EEXIST' : undefined
      case 'unbindAddress':
        if (isBound(operation)) return undefined
        return operation.binding === 'address' ? 'EADDRNOTAVAIL' : 'ESRCH'
      case 'addSetMember':
      case 'deleteSetMember':
      case 'deleteFlows':
        return undefined
    }
  }
}
