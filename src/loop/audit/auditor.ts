/** What we believe is in the kernel, and how that is found out: all at once at the start, later in slices. */
import { addBinding, BINDINGS, isBoundAs } from '../../model/binding.ts'
import { awaitedLater } from '../../waiting/promises.ts'
import type { Kernel } from '../../kernel/kernel.ts'
import {
  emptyKernelState,
  type KernelState,
  type KernelTables,
  type KernelObject,
  objectsOf,
  type ObjectKey,
} from '../../model/kernel-object.ts'
import type { VirtualServerId, VirtualServerKey } from '../../model/virtual-server.ts'
import {
  adoptRealServers,
  adoptTables,
  compareTables,
  correctRealServers,
  type Difference,
  type Findings,
} from '../../plan/audit.ts'

/** Virtual servers whose real servers are read, and objects that are compared, before anything else gets its turn. */
const VIRTUAL_SERVERS_PER_STEP = 100
const OBJECTS_PER_STEP = 1_000

/** Where an audit stands: the tables are on their way, are being compared, or it is the real servers' turn. */
type Phase =
  | { readonly name: 'reading' }
  | { readonly name: 'failed'; readonly error: unknown }
  | { readonly name: 'comparing'; readonly comparison: Iterator<void>; readonly findings: Findings }
  | { readonly name: 'realServers'; readonly remaining: VirtualServerKey[] }

export class Auditor {
  readonly known: KernelState = emptyKernelState()
  readonly #kernel: Kernel
  #tables: KernelTables | undefined
  #foreign: ReadonlySet<ObjectKey> = new Set()
  /** Undefined: there is no audit. */
  #phase: Phase | undefined
  /** What we have changed since the tables began to be read. */
  readonly #changed = new Set<ObjectKey>()

  /** `tables` are what the kernel has just shown, where it has: they need not be read again. */
  constructor(kernel: Kernel, tables?: KernelTables) {
    this.#kernel = kernel
    this.#tables = tables
  }

  /** Virtual servers of somebody else, and their addresses. */
  get foreign(): ReadonlySet<ObjectKey> {
    return this.#foreign
  }

  /** How many virtual and real servers we know. */
  get servers(): number {
    let count = 0
    for (const { realServers } of this.known.virtualServers.values()) count += 1 + realServers.size
    return count
  }

  /** An audit has begun and not ended. */
  get underWay(): boolean {
    return this.#phase !== undefined
  }

  /** There is something for `step` to do. */
  get isReady(): boolean {
    return this.#phase !== undefined && this.#phase.name !== 'reading'
  }

  /** Reads all of the kernel and believes it. Throws, and believes nothing new of what it could not read. */
  async readAll(): Promise<void> {
    this.#phase = undefined
    const tables = this.#tables ?? (await this.#kernel.readTables())
    this.#tables = undefined
    this.#foreign = adoptTables(tables, this.known, this.#foreign)
    const ids = [...this.known.virtualServers.values()].map(({ id }) => id)
    for (let next = this.#readNext(ids); next !== undefined;) {
      const observed = await next
      // The next ones are on their way while these are believed.
      next = this.#readNext(ids)
      for (const [key, realServers] of observed) adoptRealServers(key, realServers, this.known)
    }
  }

  #readNext(ids: VirtualServerId[]): ReturnType<Kernel['readRealServers']> | undefined {
    if (ids.length === 0) return undefined
    return awaitedLater(this.#kernel.readRealServers(ids.splice(0, VIRTUAL_SERVERS_PER_STEP)))
  }

  /** A Service wants this virtual server, and it was nobody else's: so we look after it, and it is ours. */
  prove(key: VirtualServerKey): void {
    const known = this.known.virtualServers.get(key)
    if (known?.isProven === false) this.known.virtualServers.set(key, { ...known, isProven: true })
  }

  /** Every object that we believe to be in the kernel, in the order in which objects are made. */
  objects(): Generator<KernelObject> {
    return objectsOf(this.known)
  }

  /** Begins an audit: the tables are read while changes go on. Calls `read` when there is something for `step` to do. */
  begin(read: () => void): void {
    const reading: Phase = { name: 'reading' }
    this.#phase = reading
    this.#changed.clear()
    const next = (phase: Phase): void => {
      // All may have been read since.
      if (this.#phase !== reading) return
      this.#phase = phase
      read()
    }
    this.#readTables().then(
      (tables) => {
        const findings: Findings = { differences: [], foreign: new Set() }
        const comparison = compareTables(tables, this.known, this.#changed, findings, this.#foreign)
        next({ name: 'comparing', comparison, findings })
      },
      (error: unknown) => {
        next({ name: 'failed', error })
      },
    )
  }

  /** We have changed an object: what has been read of it means nothing. */
  noteChange(key: ObjectKey): void {
    if (this.#phase?.name === 'reading' || this.#phase?.name === 'comparing') this.#changed.add(key)
  }

  /** Goes on with the audit for a while, and returns what is not as it was left. Throws what `begin` could not. */
  async step(): Promise<Difference[]> {
    const phase = this.#phase
    switch (phase?.name) {
      case 'failed':
        this.#phase = undefined
        throw phase.error
      case 'comparing':
        return this.#compare(phase.comparison, phase.findings)
      case 'realServers':
        return this.#auditRealServers(phase.remaining)
      case 'reading':
      case undefined:
        return []
    }
  }

  async #compare(comparison: Iterator<void>, { differences, foreign }: Findings): Promise<Difference[]> {
    for (let i = 0; i < OBJECTS_PER_STEP; i++) {
      if (comparison.next().done !== true) continue
      this.#foreign = foreign
      this.#phase = { name: 'realServers', remaining: [...this.known.virtualServers.keys()] }
      // A virtual server that has appeared is ours now: its real servers have to be known before it is planned.
      const appeared = differences.flatMap(({ object }) =>
        object.kind === 'virtualServer' ? [object.key] : [],
      )
      return [...differences, ...(await this.#compareRealServers(appeared))]
    }
    return []
  }

  /** Reads the next real servers and compares them at once, so that no change of ours comes between. */
  async #auditRealServers(remaining: VirtualServerKey[]): Promise<Difference[]> {
    const differences = await this.#compareRealServers(remaining.splice(0, VIRTUAL_SERVERS_PER_STEP))
    if (remaining.length === 0) this.#phase = undefined
    return differences
  }

  /**
   * What is missing is looked for once more. While IPVS dumps our virtual servers it counts those of all network
   * namespaces, so a change in another one may hide one of ours (net/netfilter/ipvs/ip_vs_ctl.c, Linux 6.1); and a dump of
   * IPv6 routes that is interrupted by a change passes over as many as it has shown (fib6_dump_table, net/ipv6/ip6_fib.c).
   */
  async #readTables(): Promise<KernelTables> {
    const first = await this.#kernel.readTables()
    return this.#isMissingAny(first) ? unionOf(first, await this.#kernel.readTables()) : first
  }

  #isMissingAny({ virtualServers, addresses }: KernelTables): boolean {
    const found = new Set(virtualServers.map(({ id }) => id.key))
    if ([...this.known.virtualServers.keys()].some((key) => !found.has(key))) return true
    return [...this.known.addresses].some(([address, bound]) => addresses.get(address) !== bound)
  }

  async #compareRealServers(keys: readonly VirtualServerKey[]): Promise<Difference[]> {
    const ids = keys.flatMap((key) => this.known.virtualServers.get(key)?.id ?? [])
    const observed = await this.#kernel.readRealServers(ids)
    return ids.flatMap((id) => correctRealServers(id, observed.get(id.key) ?? [], this.known))
  }
}

/** What either reading shows of virtual servers and virtual IPs. */
function unionOf(first: KernelTables, second: KernelTables): KernelTables {
  const found = new Set(second.virtualServers.map(({ id }) => id.key))
  const hidden = first.virtualServers.filter(({ id }) => !found.has(id.key))
  const addresses = new Map(second.addresses)
  for (const [address, bound] of first.addresses)
    for (const binding of BINDINGS) if (isBoundAs(binding, bound)) addBinding(addresses, address, binding)
  return { ...second, addresses, virtualServers: [...second.virtualServers, ...hidden] }
}
