/** Whether the proxy does its work, in kube-proxy's terms (pkg/proxy/healthcheck/proxy_health.go, 1.36). */
import type { Family } from '../model/address.ts'

/** Go's zero time: never. */
const ZERO_TIME = '0001-01-01T00:00:00Z'
/** What is mended within this time costs a node no traffic. */
const FAULT_AFTER_MS = 60_000
/** A body is read by people: so many reasons of a kind, and how many more. */
const MAX_REASONS = 10

/** Of what traffic depends on: rules, sets, addresses of cluster IPs, and whether source ranges are enforced. */
export type FaultKind = 'rules' | 'sets' | 'addresses' | 'sourceRanges'

/** Something that traffic depends on, and that is missing. */
interface HealthFault {
  readonly reason: string
  /** In ms since the epoch. */
  readonly since: number
}

export interface ProxyHealthOptions {
  /** That the node serves. We sync them together, so they all have the same times. */
  readonly families: Iterable<Family>
  /** The node is known and not about to be deleted. */
  readonly isNodeEligible: () => boolean
  /** Why it is not, where that is known. */
  readonly nodeProblem?: () => string | undefined
  /** A change that waits for so long is one too many, in ms. */
  readonly staleAfterMs: () => number
  /** What traffic depends on may be missing for so long, in ms; a minute unless given. */
  readonly faultAfterMs?: number
  /** Called with how many faults there are, whenever some have been told. */
  readonly onFaults?: (count: number) => void
  readonly now: () => Date
}

/** What /healthz and /livez say. */
export interface HealthReport {
  readonly isOk: boolean
  /** What is wrong, as far as it is known. */
  readonly reasons: readonly string[]
  readonly body: object
}

export class ProxyHealth {
  readonly #options: ProxyHealthOptions
  #updatedAt: Date | undefined
  /** When the first change came that has not been brought into the kernel. */
  #queuedAt: Date | undefined
  readonly #faults = new Map<FaultKind, ReadonlyMap<string, HealthFault>>()

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

  /** All that is missing of a kind now: reasons, by what is missing. What is not among them is there again. */
  faults(kind: FaultKind, reasons: ReadonlyMap<string, string>): void {
    const before = this.#faults.get(kind)
    const now = this.#options.now().getTime()
    const faults = [...reasons].map(([name, reason]): [string, HealthFault] => [
      name,
      { reason, since: before?.get(name)?.since ?? now },
    ])
    this.#faults.set(kind, new Map(faults))
    this.#options.onFaults?.([...this.#faults.values()].reduce((sum, { size }) => sum + size, 0))
  }

  /** What has been missing for so long that the node is not healthy. */
  get lastingFaults(): string[] {
    const { now, faultAfterMs = FAULT_AFTER_MS } = this.#options
    const before = now().getTime() - faultAfterMs
    return this.#reasons(({ since }) => since <= before)
  }

  /** Other than kube-proxy, not before the first sync, nor while something is missing. */
  get healthy(): boolean {
    const { now, staleAfterMs } = this.#options
    if (this.#updatedAt === undefined || this.lastingFaults.length > 0) return false
    return this.#queuedAt === undefined || now().getTime() - this.#queuedAt.getTime() < staleAfterMs()
  }

  /** /livez: whether this process should go on. */
  liveness(): HealthReport {
    return this.#report(this.healthy, {}, [])
  }

  /** /healthz: whether load balancers should send to this node. */
  readiness(): HealthReport {
    const nodeEligible = this.#options.isNodeEligible()
    const problem = nodeEligible ? undefined : this.#options.nodeProblem?.()
    const problems = problem === undefined ? [] : [problem]
    return this.#report(this.healthy && nodeEligible, { nodeEligible }, problems)
  }

  #reasons(counts: (fault: HealthFault) => boolean): string[] {
    return [...this.#faults].flatMap(([kind, faults]) => {
      const reasons = [...new Set([...faults.values()].filter(counts).map(({ reason }) => reason))]
      const more = reasons.length - MAX_REASONS
      return more > 0 ? [...reasons.slice(0, MAX_REASONS), `and ${more} more of ${kind}`] : reasons
    })
  }

  #report(isOk: boolean, parts: object, problems: readonly string[]): HealthReport {
    const currentTime = formatTime(this.#options.now())
    const lastUpdated = this.#updatedAt === undefined ? ZERO_TIME : formatTime(this.#updatedAt)
    const { healthy } = this
    const families = [...this.#options.families].map((family) => [family, { lastUpdated, healthy }])
    const status = this.#updatedAt === undefined ? {} : { status: Object.fromEntries(families) as object }
    const reasons = [...problems, ...this.#reasons(() => true)]
    const ours = reasons.length === 0 ? {} : { reasons }
    return {
      isOk,
      reasons,
      body: {
        ...{ lastUpdated: isOk ? currentTime : lastUpdated, currentTime, ...parts, healthy, ...status },
        ...ours,
      },
    }
  }
}

/** RFC3339Nano: no trailing zeros in the fraction. */
function formatTime(time: Date): string {
  return time.toISOString().replace(/\.?0+Z$/, 'Z')
}
