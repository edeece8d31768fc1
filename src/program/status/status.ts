/** The status page, put together: only where --status-page asks for it. */
import { readConnectionTotal } from '../../kernel/ipvs/totals.ts'
import { isEstimating } from '../../kernel/ipvs/estimators.ts'
import type { Inspection } from '../../loop/inspection.ts'
import type { ProxyHealth } from '../../serve/health.ts'
import type { Fence, Routes } from '../../serve/http.ts'
import type { Metrics } from '../../serve/metrics.ts'
import { statusFence } from '../../serve/status-fence.ts'
import { type Journal, RecentJournal } from '../../view/journal.ts'
import type { Current } from '../current.ts'
import { Catalog, type CatalogOptions } from './catalog.ts'
import { type Files, fileRoutes, readFiles } from './files.ts'
import { History, INTERVAL_MS } from './history.ts'
import { statusRoutes } from './routes.ts'

export interface StatusOptions {
  readonly nodeName: string
  readonly metrics: Pick<Metrics, 'registry'>
  readonly signal: AbortSignal
  /** Read from beside the bundle, unless given. */
  readonly files?: Files
}

/** What there is to see once the program serves. */
export interface Seen {
  readonly inspection: Inspection
  readonly readCounters: CatalogOptions['readCounters']
  readonly health: Pick<ProxyHealth, 'readiness'>
  readonly current: Pick<Current, 'drains'>
}

export interface Page {
  readonly routes: Routes
  readonly fence: Fence
}

/** Remembers, from the start, what cannot be read later. */
export interface Status {
  readonly journal: Journal
  readonly history: Pick<History, 'programmed'>
  readonly page: (seen: Seen) => Page
}

export function openStatus({ nodeName, metrics, signal, files = readFiles() }: StatusOptions): Status {
  const { registry } = metrics
  const journal = new RecentJournal(Date.now)
  const history = new History({ registry, readConnectionTotal, now: Date.now })
  void history.sample()
  const timer = setInterval(() => void history.sample(), INTERVAL_MS).unref()
  signal.addEventListener('abort', () => {
    clearInterval(timer)
  })
  const page = ({ inspection, readCounters, health, current }: Seen): Page => {
    const now = (): number => performance.now()
    const catalog = new Catalog({ inspection, readCounters, now })
    const routes = statusRoutes({
      ...{ inspection, catalog, history, journal, health },
      metrics,
      current,
      isEstimating,
      now,
    })
    return { routes: { ...fileRoutes(files), ...routes }, fence: statusFence(nodeName) }
  }
  return { journal, history, page }
}
