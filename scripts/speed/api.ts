/** The API server's side, a process of its own: it serves a load over TLS, and changes it when it is told to. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { ApiServer } from '../../test/support/api-server.ts'
import { node } from '../../test/support/builders.ts'
import { Random } from '../../test/support/random.ts'
import { clusterIp, Load, podIp, type Size } from './load.ts'

/** Of the wall clock, as the monitor of the wire has it, with fractions of a ms. */
const clock = (): number => performance.timeOrigin + performance.now()

const BOOKMARK_MS = 60_000
const REST_MS = 3_000
/** About as long as the program asks for. */
const PAGE_LIMITS = { services: 500, endpointslices: 150 }

/** An endpoint that has become ready, or not: when it was sent, and which weight its real server is to get. */
export interface Change {
  readonly at: number
  readonly virtualServer: string
  readonly realServer: string
  readonly weight: 0 | 1
}

type Order =
  | { readonly do: 'start'; readonly size: Size }
  | { readonly do: 'change'; readonly service: number }
  | { readonly do: 'churn'; readonly perSecond: number; readonly seconds: number }
  | { readonly do: 'roll'; readonly endpoints: number }
  | { readonly do: 'swap'; readonly services: number }
  | { readonly do: 'state' }
  | { readonly do: 'prepare' }

class Served {
  readonly #server: ApiServer
  readonly #load: Load
  readonly #random = new Random(1)
  readonly #unready = new Map<number, Set<number>>()
  #next = 0

  constructor(server: ApiServer, load: Load) {
    this.#server = server
    this.#load = load
  }

  /**
   * Encodes all lists, and waits until what that has left behind is collected: that a client reads them costs this
   * machine nothing that it would not cost a node.
   */
  async prepare(): Promise<void> {
    this.#server.prepare(PAGE_LIMITS)
    await sleep(REST_MS)
  }

  /** One endpoint of a Service becomes unready, or ready again if it was not. */
  change(service: number): Change {
    const { size } = this.#load
    const j = this.#random.int(size.endpoints)
    const unready = this.#unready.get(service) ?? new Set()
    this.#unready.set(service, unready)
    const weight = unready.delete(j) ? 1 : 0
    if (weight === 0) unready.add(j)
    const at = clock()
    this.#server.put('endpointslices', this.#load.slice(service, unready))
    return {
      at,
      virtualServer: `${clusterIp(service)}:80`,
      realServer: `${podIp(size, service, j)}:8080`,
      weight,
    }
  }

  /** So many changes a second, of Services by chance. */
  async churn(perSecond: number, seconds: number): Promise<Change[]> {
    const changes: Change[] = []
    const started = performance.now()
    for (let i = 0; i < perSecond * seconds; i++) {
      const ahead = started + (i * 1000) / perSecond - performance.now()
      if (ahead > 0) await sleep(ahead)
      changes.push(this.change(this.#random.int(this.#load.size.services)))
    }
    return changes
  }

  /** All endpoints of one Service make way for others, a twentieth at a time. Returns when it began. */
  async roll(endpoints: number): Promise<{ at: number }> {
    const ips = (first: number): string[] =>
      Array.from({ length: endpoints }, (_, j) => `12.${first}.${(j >> 8) & 255}.${j & 255}`)
    const [old, fresh] = [ips(0), ips(1)]
    const put = (addresses: readonly string[]): void => {
      for (let start = 0; start < endpoints; start += 100)
        this.#server.put(
          'endpointslices',
          this.#load.extraSlice(0, `roll-${start}-`, addresses.slice(start, start + 100)),
        )
    }
    put(old)
    await sleep(5_000)
    const at = clock()
    const step = endpoints / 20
    for (let done = step; done <= endpoints; done += step) {
      put([...fresh.slice(0, done), ...old.slice(done)])
      await sleep(200)
    }
    return { at }
  }

  /** Deletes Services, and creates as many, at once. Returns when it began. */
  swap(services: number): { at: number } {
    const at = clock()
    const { size } = this.#load
    for (let i = 0; i < services; i++) {
      const [gone, created] = [size.services - 1 - i, size.services + this.#next++]
      for (const [resource, object] of [
        ['services', this.#load.service(gone)],
        ['endpointslices', this.#load.slice(gone)],
      ] as const) {
        const { namespace, name } = object.metadata as { namespace: string; name: string }
        this.#server.delete(resource, `${namespace}/${name}`)
      }
      this.#server.put('services', this.#load.service(created))
      this.#server.put('endpointslices', this.#load.slice(created))
    }
    return { at }
  }

  /** What the kernel is to hold: each ready endpoint of each Service, as `ipvsadm -S -n` says it, sorted. */
  state(): string[] {
    const ips = new Map<string, string>()
    for (const { metadata, spec } of this.#server.objects('services') as unknown as ServiceObject[])
      ips.set(`${metadata.namespace}/${metadata.name}`, spec.clusterIP)
    const lines = [...ips.values()].map((ip) => `-A -t ${ip}:80 -s rr`)
    for (const { metadata, endpoints } of this.#server.objects(
      'endpointslices',
    ) as unknown as SliceObject[]) {
      const ip = ips.get(`${metadata.namespace}/${metadata.labels['kubernetes.io/service-name']}`)
      if (ip === undefined) continue
      for (const { addresses, conditions } of endpoints)
        if (conditions.ready) lines.push(`-a -t ${ip}:80 -r ${addresses[0]}:8080 -m -w 1`)
    }
    return lines.sort()
  }
}

interface ServiceObject {
  readonly metadata: { readonly namespace: string; readonly name: string }
  readonly spec: { readonly clusterIP: string }
}

interface SliceObject {
  readonly metadata: ServiceObject['metadata'] & { readonly labels: Record<string, string> }
  readonly endpoints: readonly {
    readonly addresses: readonly string[]
    readonly conditions: { readonly ready: boolean }
  }[]
}

/** Runs in the process of its own: carries out orders, and answers each. */
export function serve(): void {
  let served: Served
  const carryOut = async (order: Order): Promise<unknown> => {
    switch (order.do) {
      case 'start': {
        const server = await ApiServer.start()
        const load = new Load(order.size)
        server.load('services', [...load.services()] as never)
        server.load('endpointslices', [...load.slices()] as never)
        server.load('nodes', [node()] as never)
        served = new Served(server, load)
        await served.prepare()
        // As a real one does: a watch that hears nothing is taken for dead.
        setInterval(() => server.bookmark(), BOOKMARK_MS)
        return server.kubeconfig()
      }
      case 'change':
        return served.change(order.service)
      case 'churn':
        return served.churn(order.perSecond, order.seconds)
      case 'roll':
        return served.roll(order.endpoints)
      case 'swap':
        return served.swap(order.services)
      case 'state':
        return served.state()
      case 'prepare':
        await served.prepare()
        return true
    }
  }
  process.on('message', (order: Order) => {
    void carryOut(order).then((answer) => process.send!({ answer }))
  })
}

/** The handle on that process. */
export class Api {
  readonly #process: ChildProcess

  constructor() {
    this.#process = fork(process.argv[1]!, ['api'], { execArgv: ['--max-old-space-size=3000'] })
  }

  async order<Answer>(order: Order): Promise<Answer> {
    this.#process.send(order)
    const [{ answer }] = (await once(this.#process, 'message')) as [{ answer: Answer }]
    return answer
  }

  stop(): void {
    this.#process.kill('SIGKILL')
  }
}
