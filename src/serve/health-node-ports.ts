/** The health-check node ports of Services, where load balancers ask whether this node has endpoints. */
import type { ServerResponse } from 'node:http'
import type { Logger } from 'pino'
import type { Family } from '../model/address.ts'
import { type ServiceName, splitServiceName } from '../model/facts/facts.ts'
import { backoffMs } from '../waiting/backoff.ts'
import { createBoundedServer } from './bounded-server.ts'

const FIRST_RETRY_MS = 1_000
const LONGEST_RETRY_MS = 60_000

/** What a Service's health-check node port says. */
export interface ServiceHealth {
  readonly port: number
  /** For each family that the Service has: how many addresses of ready endpoints are on this node. */
  readonly localEndpoints: ReadonlyMap<Family, number>
}

export interface HealthNodePortsOptions {
  /** The addresses to listen on: those of the node that take node ports, or the one that stands for all. */
  readonly addresses: (family: Family) => readonly string[]
  /** Whether the proxy does its work: no node answers 200 without. */
  readonly isHealthy: () => boolean
  /** What has been missing for so long that the proxy does not. */
  readonly faults: () => readonly string[]
  /** Called when the port of a Service cannot be opened, once until it can. */
  readonly onFailure: (service: ServiceName, reason: string) => void
  readonly log: Logger
}

interface ListenerOptions {
  readonly service: ServiceName
  readonly port: number
  readonly family: Family
  readonly address: string
  readonly answer: (response: ServerResponse) => void
  readonly onFailure: HealthNodePortsOptions['onFailure']
  readonly log: Logger
}

interface Listener {
  /** Tries again now, if it waits to. */
  readonly wake: () => void
  readonly close: () => void
}

interface Entry {
  health: ServiceHealth
  /** By address. */
  readonly listeners: Map<string, Listener>
}

/** 1 s, doubling to 1 minute; `attempt` counts from 1. */
export function retryMs(attempt: number): number {
  return backoffMs(attempt, FIRST_RETRY_MS, LONGEST_RETRY_MS)
}

/** Listens until it is closed. What cannot be opened is logged once and tried again. */
function openListener(options: ListenerOptions): Listener {
  const { service, port, family, address, answer, onFailure, log } = options
  const server = createBoundedServer((_request, response) => answer(response))
  let failures = 0
  let timer: NodeJS.Timeout | undefined
  const listen = (): void => {
    timer = undefined
    server.listen({ port, host: address, ipv6Only: family === 'IPv6' })
  }
  server.on('listening', () => {
    if (failures > 0) log.info({ service, port, address }, 'listening for health checks at last')
    failures = 0
  })
  server.on('error', (err) => {
    server.close()
    if (failures === 0) {
      log.error({ err, service, port, address }, 'cannot listen for health checks: retrying')
      onFailure(service, err.message)
    }
    failures++
    timer = setTimeout(listen, retryMs(failures)).unref()
  })
  listen()
  const stopWaiting = (): boolean => {
    const wasWaiting = timer !== undefined
    clearTimeout(timer)
    timer = undefined
    return wasWaiting
  }
  return {
    wake: () => {
      if (stopWaiting()) listen()
    },
    close: () => {
      stopWaiting()
      server.removeAllListeners('error').on('error', () => undefined)
      server.close()
      server.closeAllConnections()
    },
  }
}

/** kube-proxy's answer, byte for byte; the reasons only where kube-proxy knows none. */
function answerHealth(
  response: ServerResponse,
  service: ServiceName,
  { count, healthy, faults }: { count: number; healthy: boolean; faults: readonly string[] },
): void {
  const body = {
    ...{ service: splitServiceName(service), localEndpoints: count, serviceProxyHealthy: healthy },
    ...(faults.length > 0 && { reasons: faults }),
  }
  const headers = {
    'Content-Type': 'application/json',
    'X-Content-Type-Options': 'nosniff',
    'X-Load-Balancing-Endpoint-Weight': count,
  }
  response.writeHead(count > 0 && healthy ? 200 : 503, headers).end(JSON.stringify(body, undefined, '\t'))
}

/** The listeners of all Services. Of two Services with one port, the first has it until it gives it up. */
export class HealthNodePorts {
  readonly #options: HealthNodePortsOptions
  readonly #entries = new Map<ServiceName, Entry>()

  constructor(options: HealthNodePortsOptions) {
    this.#options = options
  }

  /** Opens, moves, closes and updates the listeners of one Service; undefined: it has none any more. */
  update(service: ServiceName, health: ServiceHealth | undefined): void {
    const before = this.#entries.get(service)
    if (before !== undefined && before.health.port !== health?.port) this.#remove(service, before)
    if (health === undefined) return
    const entry = this.#entries.get(service) ?? { health, listeners: new Map<string, Listener>() }
    entry.health = health
    this.#entries.set(service, entry)
    this.#listen(service, entry)
  }

  /** Listens anew where the node's addresses have changed. */
  readdress(): void {
    for (const [service, entry] of this.#entries) this.#listen(service, entry)
  }

  /** Closes everything, with the connections. */
  close(): void {
    for (const [service, entry] of this.#entries) this.#remove(service, entry)
  }

  #remove(service: ServiceName, { health, listeners }: Entry): void {
    this.#entries.delete(service)
    for (const listener of listeners.values()) listener.close()
    this.#wake(health.port)
  }

  /** Closes the listeners that are not wanted any more, and opens those that are missing. */
  #listen(service: ServiceName, { health, listeners }: Entry): void {
    const wanted = this.#wanted(health)
    const surplus = [...listeners].filter(([address]) => !wanted.has(address))
    for (const [address, listener] of surplus) {
      listener.close()
      listeners.delete(address)
    }
    if (surplus.length > 0) this.#wake(health.port)
    for (const [address, family] of wanted) {
      if (!listeners.has(address)) listeners.set(address, this.#open(service, health.port, family, address))
    }
  }

  #wanted({ localEndpoints }: ServiceHealth): Map<string, Family> {
    const families = [...localEndpoints.keys()]
    return new Map(
      families.flatMap((family) =>
        this.#options.addresses(family).map((address): [string, Family] => [address, family]),
      ),
    )
  }

  #open(service: ServiceName, port: number, family: Family, address: string): Listener {
    const { isHealthy, faults, onFailure, log } = this.#options
    const answer = (response: ServerResponse): void => {
      const count = this.#entries.get(service)?.health.localEndpoints.get(family) ?? 0
      answerHealth(response, service, { count, healthy: isHealthy(), faults: faults() })
    }
    return openListener({ service, port, family, address, answer, onFailure, log })
  }

  /** The port may be free now for whoever waits for it. */
  #wake(port: number): void {
    for (const { health, listeners } of this.#entries.values()) {
      if (health.port === port) for (const { wake } of listeners.values()) wake()
    }
  }
}
