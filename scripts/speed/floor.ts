/**
 * The floor: the messages that bring a load into an empty kernel, recorded as the program's own loop makes them, and
 * sent again by the addon, already encoded.
 */
import { pino } from 'pino'
import { Doorbell } from '../../src/waiting/doorbell.ts'
import type { Kernel } from '../../src/kernel/kernel.ts'
import { LinuxKernel } from '../../src/kernel/linux-kernel.ts'
import type { Family } from '../../src/model/address.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { parseEndpointSlice, parseService } from '../../src/model/facts/parse-facts.ts'
import { loadAddon, type Socket } from '../../src/netlink/socket.ts'
import { Proxy } from '../../src/loop/proxy.ts'
import { Reporter } from '../../src/loop/reporter.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import { mapping } from '../../test/support/mapping.ts'
import { Load, type Size } from './load.ts'

const FAMILIES: ReadonlySet<Family> = new Set<Family>(['IPv4', 'IPv6'])

interface Recorded {
  readonly protocol: number
  readonly requests: Buffer
}

/** The addon, which once told so only records. */
function recorder(addon: Socket, recorded: Recorded[]): { socket: Socket; record: () => void } {
  const protocols = new Map<unknown, number>()
  let isRecording = false
  const socket: Socket = {
    ...addon,
    open: (protocol, bytes) => {
      const opened = addon.open(protocol, bytes)
      protocols.set(opened, protocol)
      return opened
    },
    exchange: (opened, requests, timeoutMs) => {
      if (!isRecording) return addon.exchange(opened, requests, timeoutMs)
      recorded.push({ protocol: protocols.get(opened)!, requests: Buffer.from(requests) })
      return Promise.resolve({ replies: Buffer.alloc(0), errno: 0, step: '', sent: 0 })
    },
  }
  return {
    socket,
    record: () => {
      isRecording = true
    },
  }
}

/** The program's loop, until the kernel is as it should be. */
async function bring(size: Size, kernel: Kernel): Promise<void> {
  const doorbell = new Doorbell()
  const cluster = new Cluster('node-1', () => {
    doorbell.ring()
  })
  const load = new Load(size)
  cluster.services.replace([...load.services()].map(parseService))
  cluster.endpointSlices.replace([...load.slices()].map(parseEndpointSlice))
  cluster.nodes.replace([])
  cluster.serviceCidrs.replace([])
  const log = pino({ level: 'error' }, pino.destination(2))
  const metrics = new Metrics({ defaults: false })
  const abort = new AbortController()
  const proxy = new Proxy({
    ...{ cluster, kernel, doorbell, log, metrics },
    reporter: new Reporter({ log, metrics, recordEvent: () => undefined }),
    onNodeListed: () => Promise.resolve(),
    onSettled: () => {
      abort.abort()
    },
    hasLookedAround: () => true,
    addressesToFree: () => new Set(),
    mapping: () => mapping({ vipBinding: size.binding ?? 'address' }),
    isExcluded: () => false,
    onServiceMapped: () => undefined,
    onServersCounted: () => undefined,
    onAddressesRefused: () => undefined,
    auditIntervalMs: () => Infinity,
    minSyncPeriodMs: () => 0,
    drainDeadlineMs: 900_000,
    now: () => performance.now(),
    cpuMs: () => 0,
  })
  await proxy.run(abort.signal)
}

/** In the order and the batches in which they are sent. */
async function record(size: Size): Promise<Recorded[]> {
  const recorded: Recorded[] = []
  const { socket, record: start } = recorder(loadAddon(), recorded)
  const kernel = await LinuxKernel.open({ addon: socket, families: FAMILIES })
  await kernel.readTables()
  start()
  await bring(size, {
    readTables: () => Promise.resolve({ virtualServers: [], addresses: new Map(), setMembers: new Set() }),
    readRealServers: () => Promise.resolve(new Map()),
    execute: (operations) => kernel.execute(operations),
    close: () => undefined,
  })
  return recorded
}

/** How long the kernel takes for a load, in ms. */
export async function measureFloor(size: Size): Promise<number> {
  const recorded = await record(size)
  const addon = loadAddon()
  const protocols = new Set(recorded.map(({ protocol }) => protocol))
  const sockets = new Map([...protocols].map((protocol) => [protocol, addon.open(protocol, 4 << 20)]))
  const started = performance.now()
  for (const { protocol, requests } of recorded) {
    const { errno } = await addon.exchange(sockets.get(protocol)!, requests, 60_000)
    if (errno !== 0) throw new Error(`the floor failed: errno ${errno}`)
  }
  return performance.now() - started
}
