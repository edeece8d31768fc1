/** The HTTP endpoints that kube-proxy has: health on one address, metrics on another. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Logger } from 'pino'
import type { Metrics } from './metrics.ts'

const BIND_RETRY_MS = 5_000

export interface Answer {
  readonly status: number
  readonly type: string
  readonly body: string
}

/** Answers by path; any other is 404. */
export type Routes = Readonly<Record<string, () => Answer | Promise<Answer>>>

async function answer(routes: Routes, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = new URL(request.url ?? '/', 'http://localhost').pathname
  const route = Object.hasOwn(routes, path) ? routes[path] : undefined
  const { status, type, body } = (await route?.()) ?? { status: 404, type: 'text/plain', body: 'not found\n' }
  response.writeHead(status, { 'Content-Type': type, 'X-Content-Type-Options': 'nosniff' }).end(body)
}

/** Splits `ip:port` or `[ip]:port`. */
function split(address: string): { readonly host: string; readonly port: number } {
  const colon = address.lastIndexOf(':')
  return { host: address.slice(0, colon).replace(/^\[|\]$/g, ''), port: Number(address.slice(colon + 1)) }
}

/** Serves until the signal aborts. An address that is taken is logged and tried again every 5 s. */
export function serve(address: string, routes: Routes, log: Logger, signal: AbortSignal): Server {
  const server = createServer((request, response) => void answer(routes, request, response))
  const { host, port } = split(address)
  // "0.0.0.0" means every address of both families, as in Go.
  const listen = (): Server => server.listen(host === '0.0.0.0' ? { port } : { host, port })
  server.on('error', (err) => {
    log.error({ err, address }, 'cannot listen: retrying')
    setTimeout(() => signal.aborted || listen(), BIND_RETRY_MS).unref()
  })
  signal.addEventListener('abort', () => {
    server.close()
    server.closeAllConnections()
  })
  return listen()
}

/** /healthz and /livez: 200 once the first sync is through. */
export function healthRoutes(isHealthy: () => boolean, now: () => Date): Routes {
  const health = (): Answer => ({
    status: isHealthy() ? 200 : 503,
    type: 'application/json',
    body: JSON.stringify({ currentTime: now().toISOString(), healthy: isHealthy() }),
  })
  return { '/healthz': health, '/livez': health }
}

/** /metrics, /healthz of the process itself, and /proxyMode. */
export function metricsRoutes({ registry }: Metrics): Routes {
  return {
    '/metrics': async () => ({ status: 200, type: registry.contentType, body: await registry.metrics() }),
    '/healthz': () => ({ status: 200, type: 'text/plain; charset=utf-8', body: 'ok' }),
    '/proxyMode': () => ({ status: 200, type: 'text/plain; charset=utf-8', body: 'ipvs' }),
  }
}
