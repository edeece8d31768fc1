/** Health and metrics over HTTP, where the configuration wants them. */
import type { Logger } from 'pino'
import type { ProxyHealth } from '../../serve/health.ts'
import {
  healthRoutes,
  metricsRoutes,
  type MetricsRoutesOptions,
  type Routes,
  serve,
} from '../../serve/http.ts'
import type { Metrics } from '../../serve/metrics.ts'
import type { Current } from '../current.ts'
import type { Page } from '../status/status.ts'
import type { Life } from '../life.ts'
import type { RecordNodeEvent } from './node-events.ts'

export interface HttpInput {
  readonly current: Pick<Current, 'config' | 'document'>
  readonly health: ProxyHealth
  readonly metrics: Metrics
  readonly serviceMetrics?: MetricsRoutesOptions['serviceMetrics']
  /** Where the status page is asked for. */
  readonly page?: Page | undefined
  readonly recordNodeEvent: RecordNodeEvent
  readonly life: Pick<Life, 'signal' | 'fail'>
  readonly log: Logger
}

/** With bindAddressHardFail, an address that is taken ends the program. */
export function serveHttp(input: HttpInput): void {
  const { current, health, metrics, page, serviceMetrics, recordNodeEvent, life, log } = input
  const { config } = current
  const open = (address: string, routes: Routes, reason: string): void => {
    const onFailure = (cause: Error): void => {
      recordNodeEvent({ type: 'Warning', reason, action: 'StartKubeProxy', note: cause.message })
      life.fail(new Error(`Cannot listen on ${address}, and bindAddressHardFail is set`, { cause }))
    }
    const fence = page?.fence
    serve(address, routes, {
      ...{ log, signal: life.signal, fence },
      ...(config.bindAddressHardFail && { onFailure }),
    })
  }
  open(config.healthzBindAddress, healthRoutes(health, metrics), 'FailedToStartProxierHealthcheck')
  const own = metricsRoutes({ metrics, serviceMetrics, document: () => current.document })
  const routes = { ...own, ...page?.routes }
  open(config.metricsBindAddress, routes, 'FailedToStartMetricServer')
}
