/** From JSON objects to encoded messages, as the program does it, without a kernel: what bench:host measures. */
import { crc32 } from 'node:zlib'
import { encodeMember } from '../../src/kernel/filter/iptables/ipset-codec.ts'
import { encodeRealServer } from '../../src/kernel/ipvs/real-server-codec.ts'
import { encodeVirtualServer } from '../../src/kernel/ipvs/virtual-server-codec.ts'
import { encodeAddress } from '../../src/kernel/link/address-codec.ts'
import { buildClaims } from '../../src/model/claims/claims.ts'
import { checkEndpoints } from '../../src/model/claims/endpoints.ts'
import { Ledger } from '../../src/model/claims/ledger.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { PARSERS } from '../../src/model/facts/parse-facts.ts'
import { emptyKernelState, type KernelObject } from '../../src/model/kernel-object.ts'
import { type Operation, project } from '../../src/model/operation.ts'
import { setsOf, splitSetMember } from '../../src/model/sets.ts'
import { NetlinkConnection } from '../../src/netlink/connection.ts'
import type { MessageWriter } from '../../src/netlink/message.ts'
import type { Socket } from '../../src/netlink/socket.ts'
import { Plan } from '../../src/plan/plan.ts'
import { mapping, NOBODY } from '../../test/support/mapping.ts'

/** V8's JSON.parse; objects to facts; facts to claims; claims to operations; operations to bytes; what is known then. */
export const PHASES = ['json', 'parse', 'map', 'plan', 'encode', 'believe'] as const
export type Phase = (typeof PHASES)[number]

/** As in the program (src/loop), Services are mapped in turns, and operations sent in batches. */
const SERVICES_PER_TURN = 200
const OPERATIONS_PER_BATCH = 2_000
const GENL_FAMILY_ID = 30
const INTERFACE_INDEX = 7
const SETS = new Map(setsOf('IPv4').map((spec) => [spec.name, spec]))

interface List {
  readonly kind: string
  readonly items: readonly unknown[]
}

/** By this name in a profile. */
function parseJson(text: string): List {
  return JSON.parse(text) as List
}

/** How long each phase took, in ms: by the clock, and of all processors. */
export class Stopwatch {
  readonly wall: Record<Phase, number> = { json: 0, parse: 0, map: 0, plan: 0, encode: 0, believe: 0 }
  readonly cpu: Record<Phase, number> = { ...this.wall }
  /** False: nothing is timed. For work so short that reading the clocks would count. */
  isRunning = true

  time<Result>(phase: Phase, act: () => Result): Result {
    if (!this.isRunning) return act()
    const cpu = process.cpuUsage()
    const started = performance.now()
    const result = act()
    this.wall[phase] += performance.now() - started
    const { user, system } = process.cpuUsage(cpu)
    this.cpu[phase] += (user + system) / 1000
    return result
  }
}

/** In place of a kernel: accepts every message, and counts. */
export class Sink {
  messages = 0
  bytes = 0
  /** CRC-32 of all bytes: the same for the same messages. */
  sum = 0
  readonly #connection: NetlinkConnection

  constructor() {
    const socket: Socket = {
      open: () => ({}) as ReturnType<Socket['open']>,
      exchange: (_, requests) => {
        this.bytes += requests.length
        this.sum = crc32(requests, this.sum)
        return Promise.resolve({ replies: Buffer.alloc(0), errno: 0, step: '', sent: 0 })
      },
      close: () => undefined,
    }
    this.#connection = new NetlinkConnection(socket, 0)
  }

  batch(): MessageWriter {
    return this.#connection.batch()
  }

  async send(batch: MessageWriter): Promise<void> {
    this.messages += batch.count
    await this.#connection.exchange(batch, 'Cannot take messages')
  }
}

function verbOf({ kind }: Operation): 'NEW' | 'SET' | 'DEL' {
  if (kind.startsWith('create') || kind === 'bindAddress') return 'NEW'
  return kind.startsWith('update') ? 'SET' : 'DEL'
}

/** One message, as LinuxKernel encodes it. Nothing for deleteFlows, which begins with a look at what there is. */
function encode(batch: MessageWriter, operation: Operation): void {
  if ('member' in operation) {
    const { set, element } = splitSetMember(operation.member)
    encodeMember(batch, operation.kind === 'addSetMember' ? 'ADD' : 'DEL', SETS.get(set)!, element)
  } else if ('address' in operation) {
    encodeAddress(batch, verbOf(operation) === 'NEW' ? 'NEW' : 'DEL', operation.address, INTERFACE_INDEX)
  } else if ('realServer' in operation) {
    encodeRealServer(batch, GENL_FAMILY_ID, verbOf(operation), operation.of, operation.realServer)
  } else if (operation.kind !== 'deleteFlows') {
    const settings = 'settings' in operation ? operation.settings : undefined
    encodeVirtualServer(batch, GENL_FAMILY_ID, verbOf(operation), operation.of, settings)
  }
}

/** The program's own work, without what is around it: neither kernel nor API server. */
export class Host {
  readonly watch = new Stopwatch()
  readonly sink = new Sink()
  readonly known = emptyKernelState()
  readonly #cluster = new Cluster('node-1', () => undefined)
  readonly #ledger = new Ledger()
  readonly #options = mapping({
    neighbourhood: {
      ...NOBODY,
      clusterIpOwner: (address) => this.#cluster.addresses.clusterIpOwner(address),
      publisher: (address) => this.#cluster.addresses.publisher(address),
    },
  })

  /** A start. `pages` are those of the lists of Services and EndpointSlices, as the API server sends them. */
  async start(pages: AsyncIterable<string> | Iterable<string>): Promise<void> {
    await this.#list(pages)
    await this.#reconcile()
  }

  /** One event of a watch: an EndpointSlice has changed. */
  async change(slice: unknown): Promise<void> {
    this.watch.time('parse', () => {
      this.#cluster.endpointSlices.put(PARSERS.endpointSlices(slice))
    })
    await this.#reconcile()
  }

  async #list(pages: AsyncIterable<string> | Iterable<string>): Promise<void> {
    const services: ReturnType<typeof PARSERS.services>[] = []
    const slices: ReturnType<typeof PARSERS.endpointSlices>[] = []
    for await (const page of pages) {
      const list = this.watch.time('json', () => parseJson(page))
      this.watch.time('parse', () => {
        if (list.kind === 'ServiceList') for (const item of list.items) services.push(PARSERS.services(item))
        else for (const item of list.items) slices.push(PARSERS.endpointSlices(item))
      })
    }
    this.watch.time('parse', () => {
      this.#cluster.services.replace(services)
      this.#cluster.endpointSlices.replace(slices)
    })
  }

  /** Sends what has changed, in batches: the oldest Services first. */
  async #reconcile(): Promise<void> {
    const names = this.watch.time('map', () => this.#cluster.byAge(this.#cluster.takeDirty()))
    let plan = new Plan()
    for (let i = 0; i < names.length; i += SERVICES_PER_TURN) {
      const turn = names.slice(i, i + SERVICES_PER_TURN)
      const objects = this.watch.time('map', () => turn.flatMap((name) => [...this.#map(name)]))
      this.watch.time('plan', () => this.#plan(plan, objects))
      if (plan.length < OPERATIONS_PER_BATCH) continue
      await this.#execute(plan)
      plan = new Plan()
    }
    await this.#execute(plan)
  }

  #map(name: string): Iterable<KernelObject> {
    const { addresses } = this.#cluster
    const { slices } = checkEndpoints(
      this.#cluster.slicesOf(name),
      (address) =>
        addresses.isMixed &&
        (addresses.clusterIpOwner(address) !== undefined || this.#ledger.isClaimed(address)),
    )
    const service = this.#cluster.service(name)
    return this.#ledger.replace(
      name,
      service === undefined ? [] : buildClaims(service, slices, this.#options),
    )
  }

  #plan(plan: Plan, objects: Iterable<KernelObject>): void {
    plan.add(objects, {
      wanted: (key) => this.#ledger.wanted(key),
      known: this.known,
      foreign: new Set(),
      isExcluded: () => false,
    })
  }

  async #execute(plan: Plan): Promise<void> {
    const operations = this.watch.time('plan', () => plan.operations())
    const batch = this.watch.time('encode', () => {
      const batch = this.sink.batch()
      for (const operation of operations) encode(batch, operation)
      return batch
    })
    await this.sink.send(batch)
    this.watch.time('believe', () => {
      for (const operation of operations) project(this.known, operation)
    })
  }
}
