/** The HTTP endpoints that kube-proxy has: health on one address, metrics on another. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Logger } from 'pino'
import { withoutBrackets } from '../model/address.ts'
import { createBoundedServer } from './bounded-server.ts'
import type { HealthReport, ProxyHealth } from './health.ts'
import type { Metrics } from './metrics.ts'

const BIND_RETRY_MS = 5_000
export const PLAIN = 'text/plain; charset=utf-8'

export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
  /** What follows, where it is long: written a part at a time, as it comes. */
  readonly more?: Iterable<string> | AsyncIterable<string>
  readonly headers?: Headers
}

type Headers = Readonly<Record<string, string>>

/** Answers by path; any other path is 404. Only what changes something asks for the method. */
export type Routes = Readonly<
  Record<string, (query: URLSearchParams, method: string) => Answer | Promise<Answer>>
>

const NOT_FOUND: Answer = { status: 404, type: PLAIN, body: '404 page not found\n' }
const BAD_REQUEST: Answer = { status: 400, type: PLAIN, body: '400 bad request\n' }

/** Some paths are for browsers, which ask on behalf of pages of others, too. */
export interface Fence {
  readonly covers: (path: string) => boolean
  /** The answer to a request that is not let in. */
  readonly refuse: (request: IncomingMessage) => Answer | undefined
  /** Of every answer at these paths. */
  readonly headers: Headers
}

/** Anybody may send anything, such as `GET //`, which is no path of a URL. */
async function answerOf(routes: Routes, request: IncomingMessage, fence?: Fence): Promise<Answer> {
  const { url = '/', method = 'GET' } = request
  if (!URL.canParse(url, 'http://localhost')) return BAD_REQUEST
  const { pathname, searchParams } = new URL(url, 'http://localhost')
  const isFenced = fence?.covers(pathname) === true
  const route = Object.hasOwn(routes, pathname) ? routes[pathname] : undefined
  const refusal = isFenced ? fence.refuse(request) : undefined
  const given = refusal ?? (await route?.(searchParams, method)) ?? NOT_FOUND
  return isFenced ? { ...given, headers: { ...fence.headers, ...given.headers } } : given
}

async function* parts(first: string, more: NonNullable<Answer['more']>): AsyncGenerator<string> {
  yield first
  for await (const part of more) yield part
}

/** Never throws: nobody would catch it, and the program would end. */
export async function answer(
  routes: Routes,
  request: IncomingMessage,
  response: ServerResponse,
  log: Logger,
  fence?: Fence,
): Promise<void> {
  try {
    const { status, type, body, more, headers } = await answerOf(routes, request, fence)
    const all = { 'Content-Type': type, 'X-Content-Type-Options': 'nosniff', ...headers }
    response.writeHead(status, all)
    if (more === undefined) response.end(body)
    else await pipeline(Readable.from(parts(body, more)), response)
  } catch (err) {
    // Who asked has gone: nobody has to hear it.
    if ((err as NodeJS.ErrnoException).code === 'ERR_STREAM_PREMATURE_CLOSE') return
    log.error({ err, url: request.url }, 'cannot answer a request')
    response.destroy()
  }
}

/** Splits `ip:port` or `[ip]:port`. */
function split(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':')
  return { host: withoutBrackets(address.slice(0, colon)), port: Number(address.slice(colon + 1)) }
}

export interface ServeOptions {
  readonly log: Logger
  readonly signal: AbortSignal
  readonly fence?: Fence | undefined
  /** Called when the address cannot be had, which is then not tried again (bindAddressHardFail). */
  readonly onFailure?: (error: Error) => void
}

/** Serves until the signal aborts; an empty address is not served. One that is taken is tried again every 5 s. */
export function serve(
  address: string,
  routes: Routes,
  { log, signal, fence, onFailure }: ServeOptions,
): Server | undefined {
  if (address === '' || signal.aborted) return undefined
  const server = createBoundedServer(
    (request, response) => void answer(routes, request, response, log, fence),
  )
  const { host, port } = split(address)
  let isTold = false
  // The wildcard of either family means every address of both, as in Go.
  const listen = (): Server => server.listen(host === '0.0.0.0' ? { port } : { host, port })
  server.on('listening', () => {
    if (isTold) log.info({ address }, 'listening at last')
    isTold = false
  })
  server.on('error', (err) => {
    if (onFailure !== undefined) {
      onFailure(err)
      return
    }
    if (!isTold) log.error({ err, address }, 'cannot listen: retrying')
    isTold = true
    setTimeout(() => signal.aborted || listen(), BIND_RETRY_MS).unref()
  })
  signal.addEventListener('abort', () => {
    server.close()
    server.closeAllConnections()
  })
  return listen()
}

/** /healthz and /livez, as load balancers and kubelet ask for them. */
export function healthRoutes(health: ProxyHealth, metrics: Metrics): Routes {
  const reported = ({ isOk, body }: HealthReport, count: (code: number) => void): Answer => {
    const status = isOk ? 200 : 503
    count(status)
    return { status, type: 'application/json', body: JSON.stringify(body) }
  }
  return {
    '/healthz': () =>
      reported(health.readiness(), (code) => {
        metrics.healthChecked('healthz', code)
      }),
    '/livez': () =>
      reported(health.liveness(), (code) => {
        metrics.healthChecked('livez', code)
      }),
  }
}

/** The health of the process itself has one check, which always passes (k8s.io/apiserver/pkg/server/healthz). */
function ping(query: URLSearchParams): Answer {
  const line = query.getAll('exclude').includes('ping') ? '[+]ping excluded: ok' : '[+]ping ok'
  const body = query.has('verbose') ? `${line}\nhealthz check passed\n` : 'ok'
  return { status: 200, type: PLAIN, body }
}

export interface MetricsRoutesOptions {
  readonly metrics: Metrics
  /** Those of Services, as text, where they are asked for. Read with each scrape. */
  readonly serviceMetrics?: (() => Promise<string>) | undefined
  /** The configuration in its external form. */
  readonly document: () => object
}

type Scraped = Pick<Metrics['registry'], 'contentType' | 'metrics'>

/** /metrics, /metrics/slis, /healthz of the process itself, /proxyMode and /configz. */
export function metricsRoutes({ metrics, serviceMetrics, document }: MetricsRoutesOptions): Routes {
  const { registry, slis } = metrics
  const page = async (scraped: Scraped): Promise<Answer> => ({
    status: 200,
    type: scraped.contentType,
    body: await scraped.metrics(),
  })
  return {
    // The text about Services is long, and one for all who ask: it is not copied.
    '/metrics': async () => {
      const [own, ofServices] = await Promise.all([page(registry), serviceMetrics?.()])
      return ofServices === undefined ? own : { ...own, more: [ofServices] }
    },
    '/metrics/slis': () => page(slis),
    '/healthz': ping,
    '/healthz/ping': () => ping(new URLSearchParams()),
    '/proxyMode': () => ({ status: 200, type: PLAIN, body: 'ipvs' }),
    '/configz': () => ({
      status: 200,
      type: 'application/json',
      body: JSON.stringify({ 'kubeproxy.config.k8s.io': document() }),
    }),
  }
}
