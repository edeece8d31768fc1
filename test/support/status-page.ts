/** The status page as the program serves it, on the loop and a fake kernel. */
import { once } from 'node:events'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { bundlePage } from '../../scripts/bundle-page.ts'
import { Catalog, type CountedRates } from '../../src/program/status/catalog.ts'
import { fileRoutes, type Files } from '../../src/program/status/files.ts'
import { statusRoutes } from '../../src/program/status/routes.ts'
import type { ProxyHealth } from '../../src/serve/health.ts'
import { type Answer, type Routes, serve } from '../../src/serve/http.ts'
import { statusFence } from '../../src/serve/status-fence.ts'
import type { Rates, Sample } from '../../src/view/documents.ts'
import { RecentJournal } from '../../src/view/journal.ts'
import { FakeKernel } from './fake-kernel.ts'
import { recordingLog } from './log.ts'
import { Story } from './story.ts'

const STILL: Rates = { connections: 0, inPackets: 0, outPackets: 0, inBytes: 0, outBytes: 0 }
const HEALTHY = { isOk: true, reasons: [], body: {} }

let built: Promise<Files> | undefined

export class StatusPage {
  readonly kernel: FakeKernel
  readonly story: Story
  readonly journal: RecentJournal
  readonly samples: Sample[] = []
  /** What the kernel counts, by virtual server. */
  readonly rates = new Map<string, Partial<Rates>>()
  health: ReturnType<ProxyHealth['readiness']> = HEALTHY
  isEstimating = true
  /** How often the counters have been read, and by which clock, in ms. */
  readings = 0
  now = (): number => performance.now()
  #routes: Routes = {}
  #abort = new AbortController()
  #port = 0

  constructor(kernel = new FakeKernel(), clock = Date.now) {
    this.kernel = kernel
    this.journal = new RecentJournal(clock)
    this.story = new Story(kernel, { journal: this.journal })
    const { story, journal, samples } = this
    const { inspection } = story.proxy
    const catalog = new Catalog({ inspection, readCounters: () => this.#read(), now: () => this.now() })
    const health = { readiness: () => this.health }
    const { metrics } = story
    this.#routes = statusRoutes({
      ...{ inspection, catalog, history: { samples }, journal, health },
      ...{ metrics, current: story.current, isEstimating: () => this.isEstimating, now: () => this.now() },
    })
  }

  /** An answer without the way over HTTP. */
  async ask(path: string, query: Readonly<Record<string, string>> = {}): Promise<Answer> {
    return this.#routes[`/status/v1/${path}`]!(new URLSearchParams(query), 'GET')
  }

  /** The port stays the same when it is served again. */
  async serve(): Promise<string> {
    this.#abort = new AbortController()
    built ??= bundlePage().then(({ files }) => files)
    const routes = { ...fileRoutes(await built), ...this.#routes }
    const { signal } = this.#abort
    const options = { log: recordingLog().log, signal, fence: statusFence('node-1') }
    const server: Server = serve(`127.0.0.1:${this.#port}`, routes, options)!
    await once(server, 'listening')
    this.#port = (server.address() as AddressInfo).port
    return `http://127.0.0.1:${this.#port}/status/`
  }

  goAway(): void {
    this.#abort.abort()
  }

  async close(): Promise<void> {
    this.goAway()
    await this.story.stop()
  }

  #read(): Promise<CountedRates[]> {
    this.readings++
    const counted = [...this.kernel.state.virtualServers.values()].map(({ id }) => ({
      id,
      stats: { perSecond: { ...STILL, ...this.rates.get(id.key) } },
    }))
    return Promise.resolve(counted)
  }
}
