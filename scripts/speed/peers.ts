/**
 * What it costs to list the Nodes of a large cluster for their addresses, over TLS, compressed, in pages. The API
 * server's side is a process of its own, and has its pages ready: the time is the client's. Bundled, and started as
 * src/start.ts is:
 *   node scripts/bundle.ts scripts/speed/peers.ts src/source/pages/page-thread.ts
 *   MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 node --max-semi-space-size=8 .cache/bundles/peers.cjs [NODES]
 */
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { keepHeapSmall } from '../../src/program/heap.ts'
import { type ApiClient, loadKubeConfig, openApiClient } from '../../src/source/api-client.ts'
import { openPageReader } from '../../src/source/pages/page-reader.ts'
import { listNodeAddresses } from '../../src/source/peer-nodes.ts'
import { ApiServer } from '../../test/support/api-server.ts'
import { Random } from '../../test/support/random.ts'

const NODES = 5_000
const LOOKS = 3
/** The thread that has read a list ends after 2 s; V8 keeps its memory for some 10 s more. */
const REST_MS = 20_000
const SAMPLE_MS = 10
const MIB = 1024 * 1024
/** About as many as the program asks for. */
const PAGE_LIMIT = 35

const IMAGES = 400
/** kubelet publishes up to 50 (nodeStatusMaxImages). */
const IMAGES_PER_NODE = 50
const TIME = '2026-01-01T00:00:00Z'

type Json = Record<string, unknown>

function hexOf(random: Random, digits: number): string {
  return Array.from({ length: digits }, () => random.int(16).toString(16)).join('')
}

function imageOf(random: Random, i: number): Json {
  const repository = `registry.example.org/platform/team-${i % 20}/service-${i}`
  const names = [`${repository}@sha256:${hexOf(random, 64)}`, `${repository}:v1.${i % 30}.${i % 7}`]
  return { names, sizeBytes: 10_000_000 + random.int(500_000_000) }
}

const CONDITIONS = ['NetworkUnavailable', 'MemoryPressure', 'DiskPressure', 'PIDPressure', 'Ready']

/** As kubelet and the controllers leave them behind. */
function managedFields(): Json[] {
  const condition = { '.': {}, 'f:lastHeartbeatTime': {}, 'f:reason': {}, 'f:message': {}, 'f:status': {} }
  const conditions = CONDITIONS.map((type) => [`k:{"type":"${type}"}`, condition])
  const status = {
    'f:addresses': {},
    'f:allocatable': {},
    'f:capacity': {},
    'f:images': {},
    'f:nodeInfo': {},
  }
  const labels = { 'f:topology.kubernetes.io/zone': {}, 'f:kubernetes.io/hostname': {} }
  const fields: readonly (readonly [string, Json])[] = [
    ['kubelet', { 'f:metadata': { 'f:annotations': { '.': {} }, 'f:labels': labels } }],
    ['kube-controller-manager', { 'f:spec': { 'f:podCIDR': {}, 'f:podCIDRs': { '.': {} } } }],
    ['kubelet', { 'f:status': { ...status, 'f:conditions': Object.fromEntries(conditions) as Json } }],
  ]
  return fields.map(([manager, fieldsV1]) => {
    return { manager, operation: 'Update', apiVersion: 'v1', time: TIME, fieldsType: 'FieldsV1', fieldsV1 }
  })
}

function nodeOf(i: number, images: readonly Json[], random: Random): Json {
  const name = `node-${i}.example.org`
  const [high, low] = [i >> 8, i & 255]
  const podCidrs = [`10.${high}.${low}.0/24`, `fd00:${i.toString(16)}::/64`]
  const zone = `region-1${'abc'[i % 3]!}`
  const machine = hexOf(random, 32)
  const nodeInfo = { machineID: machine, systemUUID: machine, bootID: hexOf(random, 32) }
  return {
    metadata: {
      name,
      uid: hexOf(random, 32),
      resourceVersion: String(1_000 + i),
      creationTimestamp: TIME,
      labels: { 'kubernetes.io/hostname': name, 'topology.kubernetes.io/zone': zone },
      annotations: { 'csi.volume.kubernetes.io/nodeid': `{"csi.example.org":"${hexOf(random, 17)}"}` },
      managedFields: managedFields(),
    },
    spec: { podCIDR: podCidrs[0], podCIDRs: podCidrs, providerID: `cloud:///${zone}/${hexOf(random, 17)}` },
    status: {
      addresses: [
        { type: 'InternalIP', address: `172.16.${high}.${low}` },
        { type: 'InternalIP', address: `2001:db8::${i.toString(16)}` },
        { type: 'ExternalIP', address: `203.0.${high}.${low}` },
        { type: 'Hostname', address: name },
      ],
      capacity: { cpu: '64', memory: '263843816Ki', pods: '110', 'ephemeral-storage': '209702892Ki' },
      allocatable: { cpu: '63770m', memory: '260791272Ki', pods: '110', 'ephemeral-storage': '192188443124' },
      conditions: CONDITIONS.map((type) => {
        const times = { lastHeartbeatTime: TIME, lastTransitionTime: TIME }
        return {
          type,
          status: 'False',
          ...times,
          reason: `KubeletHas${type}`,
          message: `kubelet has ${type}`,
        }
      }),
      nodeInfo: { ...nodeInfo, kernelVersion: '6.1.0-35-amd64', kubeletVersion: 'v1.36.0' },
      daemonEndpoints: { kubeletEndpoint: { Port: 10_250 } },
      images: random.shuffle(images).slice(0, IMAGES_PER_NODE),
    },
  }
}

/** Tells its kubeconfig, and serves until it is ended. */
async function serve(nodes: number): Promise<void> {
  const random = new Random(1)
  const images = Array.from({ length: IMAGES }, (_, i) => imageOf(random, i))
  const server = await ApiServer.start()
  const objects = Array.from({ length: nodes }, (_, i) => nodeOf(i, images, random))
  server.load('nodes', objects as never)
  server.prepare({ nodes: PAGE_LIMIT })
  const kib = JSON.stringify(objects).length / nodes / 1024
  process.send!({ kubeconfig: server.kubeconfig(), kib })
}

/** Counts what comes from the wire, with what TLS adds. */
class Wire {
  readonly #seen = new Map<Socket, number>()
  pages = 0

  observe(api: ApiClient): Pick<ApiClient, 'get'> {
    return {
      get: async (...request) => {
        this.pages++
        const response = await api.get(...request)
        // A TLS socket counts what is on the wire.
        if (!this.#seen.has(response.socket)) this.#seen.set(response.socket, 0)
        return response
      },
    }
  }

  /** Since it was asked last. */
  bytes(): number {
    let sum = 0
    for (const [socket, before] of this.#seen) {
      sum += socket.bytesRead - before
      this.#seen.set(socket, socket.bytesRead)
    }
    return sum
  }
}

const rss = (): number => process.memoryUsage.rss() / MIB

/** Lists once, and prints what it took. */
async function look(list: () => ReturnType<typeof listNodeAddresses>, wire: Wire): Promise<void> {
  const [before, cpu, started, pages] = [rss(), process.cpuUsage(), performance.now(), wire.pages]
  let [peak, longest, last] = [0, 0, started]
  const sampler = setInterval(() => {
    peak = Math.max(peak, rss())
    longest = Math.max(longest, performance.now() - last - SAMPLE_MS)
    last = performance.now()
  }, SAMPLE_MS)
  const { addresses, nodes } = await list()
  const seconds = (performance.now() - started) / 1_000
  const { user, system } = process.cpuUsage(cpu)
  clearInterval(sampler)
  await sleep(REST_MS)
  console.log(
    `${addresses.size} addresses of ${nodes} nodes, ${wire.pages - pages} pages: ${seconds.toFixed(2)} s, ` +
      `${((user + system) / 1e6).toFixed(2)} s of processor, ${(wire.bytes() / MIB).toFixed(1)} MiB on the wire, ` +
      `held up ${longest.toFixed(0)} ms at most; ` +
      `RSS ${before.toFixed(0)} MiB before, ${peak.toFixed(0)} at most, ${rss().toFixed(0)} after`,
  )
}

async function measure(nodes: number): Promise<void> {
  const server = fork(process.argv[1]!, ['serve', String(nodes)])
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
  const end = new AbortController()
  try {
    const [told] = (await once(server, 'message')) as [{ kubeconfig: string; kib: number }]
    const file = join(folder, 'kubeconfig')
    writeFileSync(file, told.kubeconfig)
    console.log(`${nodes} Nodes of ${told.kib.toFixed(1)} KiB, ${process.version}`)
    const wire = new Wire()
    const api = wire.observe(openApiClient(() => loadKubeConfig(file)))
    const readPage = openPageReader(end.signal, keepHeapSmall)
    const list = (): ReturnType<typeof listNodeAddresses> =>
      listNodeAddresses({ api, readPage, nodeName: 'node-0.example.org', signal: end.signal })
    for (let i = 0; i < LOOKS; i++) await look(list, wire)
  } finally {
    end.abort()
    server.kill()
    rmSync(folder, { recursive: true })
  }
}

const [what = String(NODES), size] = process.argv.slice(2)
if (what === 'serve') void serve(Number(size))
else void measure(Number(what)).then(() => process.exit())
