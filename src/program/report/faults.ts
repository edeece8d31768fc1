/**
 * Judges what traffic depends on: what is missing is told to health, and source ranges that do not hold are told by the
 * names of the Services that have them.
 */
import type { Logger } from 'pino'
import type { Bell } from '../../waiting/doorbell.ts'
import { type Address, type Family, familyOf } from '../../model/address.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import { type Service, type ServiceName, splitServiceName } from '../../model/facts/facts.ts'
import { setName, setsOf } from '../../model/sets.ts'
import type { ProxyHealth } from '../../serve/health.ts'
import type { RecordEvent } from '../../source/events.ts'

/** The sets that source ranges are asked from, and what it means that one of them is missing. */
const RANGE_SETS = [
  ['KUBE-LOAD-BALANCER-FW', 'everybody gets through'],
  ['KUBE-LOAD-BALANCER-SOURCE-CIDR', 'nobody gets through'],
  ['KUBE-LOAD-BALANCER-SOURCE-IP', 'the node itself does not get through'],
] as const
/** Names in one line of the log, or of a body. */
const MAX_NAMES = 10

export interface FaultJudgeOptions {
  readonly families: Iterable<Family>
  readonly health: Pick<ProxyHealth, 'faults'>
  readonly kernel: { readonly setFaults: ReadonlyMap<string, Error> }
  readonly cluster: Pick<Cluster, 'hasClusterIps' | 'restrictedServices'>
  /** Rung when the rules have to be looked at, as the sets that they ask are others. */
  readonly rulesBell: Pick<Bell, 'ring'>
  readonly recordEvent: RecordEvent
  readonly log: Logger
}

export interface FaultJudge {
  /** Called after each look at the rules, with what is wrong with those of each family. */
  readonly judge: (complaints: ReadonlyMap<Family, string>) => void
  /** Called after each reading of the sets. */
  readonly onSetsRead: () => void
}

/**
 * A family counts while Services have cluster IPs in it: where the cluster has one family, nobody needs the rules of the
 * other.
 */
export function openFaultJudge(options: FaultJudgeOptions): FaultJudge {
  const { families, health, kernel, cluster, rulesBell } = options
  /** Services of a family that have been told of. */
  const told = new Map<Family, readonly ServiceName[]>()
  let judged = 0
  const judgeRanges = (family: Family, complaint: string | undefined): string | undefined => {
    const reason = rangeFault(family, complaint, kernel.setFaults)
    const names = reason === undefined ? [] : restricted(cluster.restrictedServices(), family)
    tell(options, family, { reason, names, told: told.get(family) ?? [] })
    told.set(family, names)
    if (names.length === 0) return undefined
    return `Source ranges of ${listed(names)} are not enforced for ${family}: ${reason}`
  }
  const judge = (complaints: ReadonlyMap<Family, string>): void => {
    const { setFaults } = kernel
    judged = setFaults.size
    const served = [...families].filter((family) => cluster.hasClusterIps(family))
    const sets = new Set(served.flatMap(setsOf).map(({ name }) => name))
    const open = [...families].map((family) => [family, judgeRanges(family, complaints.get(family))] as const)
    const those = (texts: Iterable<readonly [Family, string | undefined]>): Map<string, string> =>
      new Map(
        [...texts].flatMap(([family, text]) =>
          text !== undefined && served.includes(family) ? [[family, text]] : [],
        ),
      )
    health.faults('rules', those(complaints))
    health.faults('sets', messagesOf([...setFaults].filter(([name]) => sets.has(name))))
    health.faults('sourceRanges', those(open))
  }
  const onSetsRead = (): void => {
    if (kernel.setFaults.size + judged > 0) rulesBell.ring()
  }
  return { judge, onSetsRead }
}

function messagesOf(errors: readonly (readonly [string, Error])[]): Map<string, string> {
  return new Map(errors.map(([name, { message }]) => [name, message]))
}

/** Why source ranges of a family are not enforced as they say; undefined when they are. */
function rangeFault(
  family: Family,
  complaint: string | undefined,
  setFaults: ReadonlyMap<string, Error>,
): string | undefined {
  if (complaint !== undefined) return `everybody may get through: ${complaint}`
  const [found] = RANGE_SETS.flatMap(([base, effect]) => {
    const fault = setFaults.get(setName(base, family))
    return fault === undefined ? [] : [`${effect}: ${fault.message}`]
  })
  return found
}

/** Those that have an address of a load balancer, and ranges, in the family. A network of everything restricts nobody. */
function restricted(services: readonly Service[], family: Family): ServiceName[] {
  const isRestricted = ({ sourceRanges, loadBalancerIps }: Service): boolean => {
    const ranges = sourceRanges.filter((range) => range.family === family)
    const isAsked = ranges.length > 0 && ranges.every(({ prefix }) => prefix > 0)
    return isAsked && loadBalancerIps.some((address) => familyOf(address) === family)
  }
  return services.filter(isRestricted).map(({ name }) => name)
}

interface Telling {
  readonly reason: string | undefined
  readonly names: readonly ServiceName[]
  readonly told: readonly ServiceName[]
}

/** Names Services once while it lasts, and says once that it is over. */
function tell(
  { log, recordEvent }: FaultJudgeOptions,
  family: Family,
  { reason, names, told }: Telling,
): void {
  if (reason === undefined && told.length > 0) log.info({ family }, 'source ranges are enforced again')
  const known = new Set(told)
  const fresh = names.filter((name) => !known.has(name))
  if (fresh.length === 0) return
  log.error({ family, services: listed(fresh), reason }, 'source ranges are not enforced')
  for (const service of fresh) {
    recordEvent({
      type: 'Warning',
      reason: 'SourceRangesNotEnforced',
      action: 'WriteRules',
      regarding: { kind: 'Service', ...splitServiceName(service) },
      note: `loadBalancerSourceRanges are not enforced for ${family}: ${reason}`,
    })
  }
}

function listed(names: readonly string[]): string {
  const more = names.length - MAX_NAMES
  return names.slice(0, MAX_NAMES).join(', ') + (more > 0 ? ` and ${more} more` : '')
}

/**
 * Tells health which cluster IPs the kernel refuses to bind, with its reasons; all others are bound. External addresses
 * do not count: whoever may write one must not take nodes off.
 */
export function reportAddressFaults(
  health: Pick<ProxyHealth, 'faults'>,
  failing: ReadonlyMap<Address, string>,
  isClusterIp: (address: Address) => boolean,
): void {
  const counting = [...failing].filter(([address]) => isClusterIp(address))
  health.faults('addresses', new Map(counting.map(([address, reason]) => [address, `${address}: ${reason}`])))
}
