/** What we believe is in the kernel, and how that is found out: all at once at the start, later in slices. */
import type { Kernel } from './kernel/kernel.ts'
import {
  emptyKernelState,
  type KernelState,
  type KernelTables,
  type ObjectKey,
} from './model/kernel-object.ts'
import type { VirtualServerKey } from './model/virtual-server.ts'
import { correctRealServers, correctTables, type Difference } from './plan/audit.ts'

/** Virtual servers read in one slice, before anything else gets its turn. */
const SLICE = 200

export class Auditor {
  readonly known: KernelState = emptyKernelState()
  readonly #kernel: Kernel
  #foreign: ReadonlySet<ObjectKey> = new Set()
  #remaining: VirtualServerKey[] | undefined

  constructor(kernel: Kernel) {
    this.#kernel = kernel
  }

  /** Virtual servers of somebody else, and their addresses. */
  get foreign(): ReadonlySet<ObjectKey> {
    return this.#foreign
  }

  /** An audit has begun and not ended. */
  get underWay(): boolean {
    return this.#remaining !== undefined
  }

  /** Reads all of the kernel and believes it. Throws, and believes nothing new of what it could not read. */
  async readAll(): Promise<void> {
    this.#remaining = undefined
    this.#foreign = correctTables(await this.#kernel.readTables(), this.known).foreign
    await this.#compareRealServers([...this.known.virtualServers.keys()])
  }

  /** Every object that we believe to be in the kernel, in the order in which objects are made. */
  keys(): ObjectKey[] {
    const { virtualServers, addresses, setMembers } = this.known
    return [...setMembers, ...virtualServers.keys(), ...addresses]
  }

  /** Reads the next slice and compares it at once, so that no change of ours comes between. */
  async step(): Promise<Difference[]> {
    const differences = this.#remaining === undefined ? await this.#compareTables() : []
    const slice = this.#remaining!.splice(0, SLICE)
    differences.push(...(await this.#compareRealServers(slice)))
    if (this.#remaining!.length === 0) this.#remaining = undefined
    return differences
  }

  async #compareTables(): Promise<Difference[]> {
    const before = new Set(this.known.virtualServers.keys())
    const { differences, foreign } = correctTables(await this.#readTables(), this.known)
    this.#foreign = foreign
    const now = [...this.known.virtualServers.keys()]
    // A virtual server that has appeared is ours now: its real servers have to be known before it is planned.
    await this.#compareRealServers(now.filter((key) => !before.has(key)))
    this.#remaining = now
    return differences
  }

  /**
   * What is missing is looked for once more: while IPVS dumps our virtual servers it counts those of all network
   * namespaces, so a change in another one may hide one of ours (net/netfilter/ipvs/ip_vs_ctl.c, Linux 6.1).
   */
  async #readTables(): Promise<KernelTables> {
    const first = await this.#kernel.readTables()
    const found = new Set(first.virtualServers.map(({ id }) => id.key))
    if ([...this.known.virtualServers.keys()].every((key) => found.has(key))) return first
    const second = await this.#kernel.readTables()
    const foundNow = new Set(second.virtualServers.map(({ id }) => id.key))
    const hidden = first.virtualServers.filter(({ id }) => !foundNow.has(id.key))
    return { ...second, virtualServers: [...second.virtualServers, ...hidden] }
  }

  async #compareRealServers(keys: readonly VirtualServerKey[]): Promise<Difference[]> {
    const ids = keys.flatMap((key) => this.known.virtualServers.get(key)?.id ?? [])
    const observed = await this.#kernel.readRealServers(ids)
    return ids.flatMap((id) => correctRealServers(id, observed.get(id.key) ?? [], this.known))
  }
}
