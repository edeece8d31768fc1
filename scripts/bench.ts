/**
 * Speed on a real kernel, as ratios against a floor that is measured in the same run:
 *   cold     the program's own loop brings N Services x 10 endpoints into an empty kernel
 *   floor    the addon sends the very same messages, already encoded, to an empty kernel
 *   latency  from the moment at which an API server sends a watch event until the kernel has the change
 * Each measurement has a process and a network namespace of its own.
 */
import { execFileSync, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pino } from 'pino'
import { Doorbell } from '../src/doorbell.ts'
import type { Kernel } from '../src/kernel/kernel.ts'
import { LinuxKernel } from '../src/kernel/linux-kernel.ts'
import type { Family } from '../src/model/address.ts'
import { Cluster } from '../src/model/cluster.ts'
import { parseEndpointSlice, parseService } from '../src/model/parse-facts.ts'
import { loadAddon, type Socket } from '../src/netlink/socket.ts'
import { Proxy } from '../src/proxy.ts'
import { Reporter } from '../src/reporter.ts'
import { Metrics } from '../src/serve/metrics.ts'
import { loadKubeConfig, openApiClient } from '../src/source/api-client.ts'
import { followApiServer } from '../src/source/api-source.ts'
import { ApiServer } from '../test/support/api-server.ts'
import { endpoint, node, service, slice } from '../test/support/builders.ts'

const ENDPOINTS = 10
const CHANGES = 40

const log = pino({ level: 'error' }, pino.destination(2))
const now = (): number => performance.now()
/** Comparable between processes, in ms. */
const clock = (): number => Number(process.hrtime.bigint()) / 1e6

function octets(number: number, first: number): string {
  return `${first + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`
}

function* services(count: number): Generator<object> {
  for (let i = 0; i < count; i++) yield service({ name: `s${i}`, clusterIP: `10.${octets(i + 256, 96)}` })
}

function sliceOf(i: number, ready = ENDPOINTS): object {
  const endpoints = Array.from({ length: ENDPOINTS }, (_, j) =>
    endpoint(`10.${octets(i * ENDPOINTS + j, 128)}`, j < ready ? {} : { conditions: { ready: false } }),
  )
  return slice({ service: `s${i}`, endpoints })
}

function* slices(count: number): Generator<object> {
  for (let i = 0; i < count; i++) yield sliceOf(i)
}

interface Running {
  readonly proxy: Proxy
  readonly cluster: Cluster
  readonly stop: () => Promise<void>
}

const FAMILIES: ReadonlySet<Family> = new Set<Family>(['IPv4', 'IPv6'])

/** The program's loop on a kernel, without audits. */
function runProxy(kernel: Kernel, follow: (cluster: Cluster, signal: AbortSignal) => void): Running {
  const abort = new AbortController()
  const doorbell = new Doorbell()
  const cluster = new Cluster('node-1', () => {
    doorbell.ring()
  })
  const metrics = new Metrics({ defaults: false })
  const proxy = new Proxy({
    cluster,
    kernel,
    doorbell,
    log,
    metrics,
    reporter: new Reporter({ log, metrics, recordEvent: () => undefined }),
    listed: () => Promise.resolve(),
    settled: () => undefined,
    mapping: () => ({
      nodeName: 'node-1',
      zone: undefined,
      scheduler: 'rr',
      families: FAMILIES,
      nodePortAddresses: [],
      interfaceAddresses: new Set(),
      neighbourhood: { nodeIps: [], podCidrs: [], apiServers: [] },
      allowExternalIps: true,
    }),
    isExcluded: () => false,
    mapped: () => undefined,
    auditIntervalMs: () => Infinity,
    minSyncPeriodMs: () => 0,
    drainDeadlineMs: 900_000,
    now,
  })
  follow(cluster, abort.signal)
  const running = proxy.run(abort.signal)
  return {
    proxy,
    cluster,
    stop: async () => {
      abort.abort()
      await running
    },
  }
}

async function synced({ proxy }: Running): Promise<void> {
  while (!proxy.synced) await new Promise((resolve) => setTimeout(resolve, 5))
}

function fill(cluster: Cluster, count: number): void {
  cluster.services.replace([...services(count)].map(parseService))
  cluster.endpointSlices.replace([...slices(count)].map(parseEndpointSlice))
  cluster.nodes.replace([])
}

async function measureCold(count: number): Promise<object> {
  const kernel = await LinuxKernel.open({ addon: loadAddon(), families: FAMILIES })
  const cluster = new Cluster('node-1', () => undefined)
  fill(cluster, count)
  const started = now()
  const running = runProxy(kernel, (own) => {
    fill(own, count)
  })
  const filled = now()
  await synced(running)
  const ms = now() - filled
  await running.stop()
  return { ms, fillMs: filled - started }
}

/** What the kernel is sent for an empty start, encoded: in the order and the batches in which it is sent. */
async function record(count: number): Promise<{ protocol: number; requests: Buffer; messages: number }[]> {
  const addon = loadAddon()
  const protocols = new Map<unknown, number>()
  const recorded: { protocol: number; requests: Buffer; messages: number }[] = []
  let recording = false
  const recorder: Socket = {
    ...addon,
    open: (protocol, bytes) => {
      const socket = addon.open(protocol, bytes)
      protocols.set(socket, protocol)
      return socket
    },
    exchange: (socket, requests, timeoutMs) => {
      if (!recording) return addon.exchange(socket, requests, timeoutMs)
      recorded.push({ protocol: protocols.get(socket)!, requests: Buffer.from(requests), messages: 0 })
      return Promise.resolve({ replies: Buffer.alloc(0), errno: 0, step: '', sent: 0 })
    },
  }
  const kernel = await LinuxKernel.open({ addon: recorder, families: FAMILIES })
  await kernel.readTables()
  recording = true
  const blind: Kernel = {
    readTables: () => Promise.resolve({ virtualServers: [], addresses: new Set(), setMembers: new Set() }),
    readRealServers: () => Promise.resolve(new Map()),
    execute: (operations) => kernel.execute(operations),
    close: () => undefined,
  }
  const running = runProxy(blind, (cluster) => {
    fill(cluster, count)
  })
  await synced(running)
  await running.stop()
  return recorded
}

async function measureFloor(count: number): Promise<object> {
  const recorded = await record(count)
  const addon = loadAddon()
  const sockets = new Map(
    [...new Set(recorded.map(({ protocol }) => protocol))].map((protocol) => [
      protocol,
      addon.open(protocol, 4 << 20),
    ]),
  )
  const started = now()
  for (const { protocol, requests } of recorded) {
    const { errno } = await addon.exchange(sockets.get(protocol)!, requests, 60_000)
    if (errno !== 0) throw new Error(`the floor failed: errno ${errno}`)
  }
  return { ms: now() - started }
}

/** The API server's side of the latency: a process of its own that sends changes when it is told to. */
async function serveApi(count: number): Promise<void> {
  const server = await ApiServer.start()
  server.load('services', [...services(count)] as never)
  server.load('endpointslices', [...slices(count)] as never)
  server.load('nodes', [node()] as never)
  process.on('message', ({ i, ready }: { i: number; ready: number }) => {
    const at = clock()
    server.put('endpointslices', sliceOf(i, ready))
    process.send!({ at })
  })
  process.send!({ kubeconfig: server.kubeconfig() })
}

async function measureLatency(count: number): Promise<object> {
  const api = fork(process.argv[1]!, ['api', String(count)])
  const [{ kubeconfig }] = (await once(api, 'message')) as [{ kubeconfig: string }]
  const file = join(tmpdir(), `kubeconfig-${process.pid}`)
  writeFileSync(file, kubeconfig)
  const linux = await LinuxKernel.open({ addon: loadAddon(), families: FAMILIES })
  let changed: (at: number) => void = () => undefined
  const kernel: Kernel = {
    readTables: () => linux.readTables(),
    readRealServers: (ids) => linux.readRealServers(ids),
    execute: async (operations) => {
      const result = await linux.execute(operations)
      changed(clock())
      return result
    },
    close: () => undefined,
  }
  const client = openApiClient(() => loadKubeConfig(file))
  const running = runProxy(kernel, (cluster, signal) => {
    void followApiServer({ api: client, cluster, nodeName: 'node-1', log, signal })
  })
  await synced(running)
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  const latencies: number[] = []
  for (let i = 0; i < CHANGES; i++) {
    const arrived = new Promise<number>((resolve) => (changed = resolve))
    // Unready and ready again, on a Service of its own each time.
    api.send({
      i: Math.floor(i / 2) * Math.floor(count / CHANGES),
      ready: i % 2 === 0 ? ENDPOINTS - 1 : ENDPOINTS,
    })
    const [{ at }] = (await once(api, 'message')) as [{ at: number }]
    latencies.push((await arrived) - at)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  api.kill()
  await running.stop()
  latencies.sort((a, b) => a - b)
  return { median: latencies[CHANGES / 2], p90: latencies[Math.floor(CHANGES * 0.9)], max: latencies.at(-1) }
}

const MEASUREMENTS: Readonly<Record<string, (count: number) => Promise<object>>> = {
  cold: measureCold,
  floor: measureFloor,
  latency: measureLatency,
}

/** Runs one measurement in a fresh namespace. */
async function measure(what: string, count: number): Promise<Record<string, number>> {
  const namespace = `bench-${process.pid}`
  execFileSync('ip', ['netns', 'add', namespace])
  execFileSync('ip', ['-n', namespace, 'link', 'set', 'lo', 'up'])
  const args = ['netns', 'exec', namespace, process.execPath, process.argv[1]!, what, String(count)]
  const child = spawn('ip', args, { stdio: ['ignore', 'pipe', 'inherit'] })
  let result = ''
  createInterface({ input: child.stdout }).on('line', (line) => (result = line))
  await once(child, 'close')
  execFileSync('ip', ['netns', 'del', namespace])
  return JSON.parse(result) as Record<string, number>
}

const ms = (value: number): string => `${value.toFixed(value < 100 ? 1 : 0)} ms`

async function main(sizes: readonly number[]): Promise<void> {
  console.log('| Services x endpoints | floor | from cold | ratio | one endpoint: median | 90 % | slowest |')
  console.log('|---|---|---|---|---|---|---|')
  for (const count of sizes) {
    const floor = await measure('floor', count)
    const cold = await measure('cold', count)
    const { median, p90, max } = await measure('latency', count)
    const ratio = (cold.ms! / floor.ms!).toFixed(2)
    console.log(
      `| ${count} x ${ENDPOINTS} | ${ms(floor.ms!)} | ${ms(cold.ms!)} | ${ratio} | ${ms(median!)} | ${ms(p90!)} | ${ms(max!)} |`,
    )
  }
}

const [what = '', count = ''] = process.argv.slice(2)
if (what === 'api') void serveApi(Number(count))
else if (what in MEASUREMENTS) {
  void MEASUREMENTS[what]!(Number(count)).then((result) => {
    console.log(JSON.stringify(result))
    process.exit(0)
  })
} else void main(what === '' ? [1_000, 10_000] : [Number(what)])
