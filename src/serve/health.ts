/** Whether the proxy does its work, in kube-proxy's terms (pkg/proxy/healthcheck/proxy_health.go, 1.36). */
import type { Family } from '../model/address.ts'

/** Go's zero time: never. */
const NEVER = '0001-01-01T00:00:00Z'

export interface ProxyHealthOptions {
  /** That the node serves. We sync them together, so they all have the same times. */
  readonly families: Iterable<Family>
  /** The node is known and not about to be deleted. */
  readonly isNodeEligible: () => boolean
  /** A change that waits for so long is one too many, in ms. */
  readonly staleAfterMs: () => number
  readonly now: () => Date
}

/** What /healthz and /livez say. */
export interface HealthReport {
  readonly isOk: boolean
  readonly body: object
}

export class ProxyHealth {
  readonly #options: ProxyHealthOptions
  #updatedAt: Date | undefined
  /** When the first change came that has not been brought into the kernel. */
  #queuedAt: Date | undefined

  constructor(options: ProxyHealthOptions) {
    this.#options = options
  }

  /** Something has changed that the kernel does not know yet. */
  queued(): void {
    this.#queuedAt ??= this.#options.now()
  }

  /** The kernel is as it should be. */
  updated(): void {
    this.#updatedAt = this.#options.now()
    this.#queuedAt = undefined
  }

  /** Other than kube-proxy, not before the first sync. */
  get healthy(): boolean {
    const { now, staleAfterMs } = this.#options
    if (this.#updatedAt === undefined) return false
    return this.#queuedAt === undefined || now().getTime() - this.#queuedAt.getTime() < staleAfterMs()
  }

  /** /livez: whether this process should go on. */
  liveness(): HealthReport {
    return this.#report(this.healthy, {})
  }

  /** /healthz: whether load balancers should send to this node. */
  readiness(): HealthReport {
    const nodeEligible = this.#options.isNodeEligible()
    return this.#report(this.healthy && nodeEligible, { nodeEligible })
  }

  #report(isOk: boolean, parts: object): HealthReport {
    const currentTime = formatTime(this.#options.now())
    const lastUpdated = this.#updatedAt === undefined ? NEVER : formatTime(this.#updatedAt)
    const { healthy } = this
    const families = [...this.#options.families].map((family) => [family, { lastUpdated, healthy }])
    const status = this.#updatedAt === undefined ? {} : { status: Object.fromEntries(families) as object }
    return {
      isOk,
      body: { lastUpdated: isOk ? currentTime : lastUpdated, currentTime, ...parts, healthy, ...status },
    }
  }
}

/** RFC3339Nano: no trailing zeros in the fraction. */
function formatTime(time: Date): string {
  return time.toISOString().replace(/\.?0+Z$/, 'Z')
}
