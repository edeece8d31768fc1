/** The loop, given what it asks of this program. */
import type { Logger } from 'pino'
import { countProcessors } from '../kernel/host/processors.ts'
import { formatSysctl } from '../kernel/host/sysctl.ts'
import { roundSeconds, tendEstimators } from '../kernel/ipvs/estimators.ts'
import type { LinuxKernel } from '../kernel/linux-kernel.ts'
import type { ProxyOptions } from '../loop/parts.ts'
import { Proxy } from '../loop/proxy.ts'
import { Reporter } from '../loop/reporter.ts'
import { type Address, type Family, familyOf } from '../model/address.ts'
import type { Binding } from '../model/binding.ts'
import { contains } from '../model/cidr.ts'
import type { KernelTables } from '../model/kernel-object.ts'
import { setName } from '../model/sets.ts'
import type { ProxyHealth } from '../serve/health.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Current } from './current.ts'
import type { FollowedFacts } from './facts.ts'
import { keepHeapSmall, keepHeapSteady } from './heap.ts'
import type { Lookout } from './lookout.ts'
import { type MappingInput, mappingOptions } from './mapping.ts'
import { explainMissingNode, type NodeNaming } from './missing-node.ts'
import type { Origin } from './origin.ts'
import { type FaultJudge, reportAddressFaults } from './report/faults.ts'
import { reportSettled } from './report/health.ts'
import type { Status } from './status/status.ts'
import { type SchedulerChoice, wantedScheduler } from './choices/scheduler.ts'
import { type BindingChoice, wantedBinding } from './choices/vip-binding.ts'

export interface ProxyInput extends Pick<ProxyOptions, 'onServiceMapped'> {
  readonly facts: FollowedFacts
  readonly kernel: LinuxKernel
  readonly naming: NodeNaming
  readonly families: ReadonlySet<Family>
  readonly current: Current
  readonly scheduler: SchedulerChoice
  readonly binding: BindingChoice
  /** Of --vip-binding. */
  readonly vipBinding: Binding
  readonly metrics: Metrics
  readonly health: ProxyHealth
  readonly faults: FaultJudge
  /** Where the status page is asked for. */
  readonly status: Pick<Status, 'journal' | 'history'> | undefined
  readonly tendBridges: () => Promise<void>
  readonly log: Logger
  readonly signal: AbortSignal
}

/** `tables` are what the kernel has just shown: they are large, and nothing here keeps them. */
export async function openProxy(input: ProxyInput, tables: KernelTables): Promise<Proxy> {
  const { facts, kernel, naming, families, current, scheduler, binding, metrics, health, status, log } = input
  const { cluster, doorbell, origin } = facts
  const options: ProxyOptions = {
    ...{ cluster, doorbell, kernel, metrics, log },
    onServiceMapped: input.onServiceMapped,
    reporter: new Reporter({ log, metrics, recordEvent: origin.recordEvent, journal: status?.journal }),
    journal: status?.journal,
    onNodeListed: () => noteNode(input),
    onSettled: (triggers) => {
      for (const seconds of reportSettled(health, metrics, triggers)) status?.history.programmed(seconds)
    },
    onServersCounted: onServersCounted(input),
    ...guard({ ...facts, kernel }),
    onAddressesRefused: (addresses) => {
      const isClusterIp = (address: Address): boolean =>
        cluster.addresses.clusterIpOwner(address) !== undefined
      reportAddressFaults(health, addresses, isClusterIp)
    },
    mapping: () =>
      mappingOptions({
        ...{ cluster, families, nodeName: naming.name },
        ...{ scheduler: scheduler.current, vipBinding: binding.current },
        ...current,
        ...addressBook(facts),
      }),
    ...(await schedule(kernel, current)),
  }
  return new Proxy(options, tables)
}

/** The Nodes have been listed: what this one asks for counts, and that it is not among them is said. */
async function noteNode(input: ProxyInput): Promise<void> {
  const { facts, naming, current, scheduler, binding, vipBinding, log, signal } = input
  const { cluster, origin } = facts
  void explainMissingNode({ naming, cluster, origin, log, signal }).then((text) => {
    current.missingNode = text
  })
  await scheduler.want(wantedScheduler(cluster, current.config))
  await binding.want(wantedBinding(cluster, vipBinding))
}

/** Called now and then, when the loop is at rest. */
function onServersCounted({
  faults,
  tendBridges,
  log,
  metrics,
}: ProxyInput): ProxyOptions['onServersCounted'] {
  const watch = watchEstimators(log, metrics)
  return (servers) => {
    keepHeapSmall()
    keepHeapSteady()
    watch(servers)
    void tendBridges()
    faults.onSetsRead()
  }
}

/** When the loop does what, and where it deletes nothing. */
async function schedule(
  { ipvs }: LinuxKernel,
  current: Pick<Current, 'config'>,
): Promise<
  Pick<
    ProxyOptions,
    'isExcluded' | 'auditIntervalMs' | 'minSyncPeriodMs' | 'drainDeadlineMs' | 'now' | 'cpuMs'
  >
> {
  const { tcp } = await ipvs.readTimeouts()
  return {
    isExcluded: (address) => current.config.excludeCidrs.some((cidr) => contains(cidr, address)),
    auditIntervalMs: () => current.config.syncPeriodMs,
    minSyncPeriodMs: () => current.config.minSyncPeriodMs,
    // A connection to a Pod that is gone may last as long as one that is idle.
    drainDeadlineMs: tcp * 1000,
    now: () => performance.now(),
    cpuMs,
  }
}

/** Who has which addresses, as it is known now. */
export function addressBook({
  lookout,
  origin,
}: Pick<FollowedFacts, 'lookout' | 'origin'>): Pick<MappingInput, 'surroundings' | 'apiAddresses'> {
  return { surroundings: lookout.current, apiAddresses: origin.apiAddresses() }
}

const NONE: ReadonlySet<Address> = new Set()

export interface GuardInput {
  readonly lookout: Pick<Lookout, 'isDone'>
  readonly origin: Pick<Origin, 'isLost' | 'apiAddresses'>
  readonly kernel: Pick<LinuxKernel, 'setFaults'>
}

/** What keeps the node on the network: nothing is served before it is known whose addresses these are. */
export function guard({
  lookout,
  origin,
  kernel,
}: GuardInput): Pick<ProxyOptions, 'hasLookedAround' | 'addressesToFree'> {
  // What a cluster IP is, its set says: without it nothing is safe to unbind.
  const isSure = (address: Address): boolean =>
    !kernel.setFaults.has(setName('KUBE-CLUSTER-IP', familyOf(address))) &&
    address !== process.env.KUBERNETES_SERVICE_HOST
  return {
    hasLookedAround: () => lookout.isDone,
    addressesToFree: () => (origin.isLost() ? new Set([...origin.apiAddresses()].filter(isSure)) : NONE),
  }
}

/** Time of processors that this process has used, with all its threads, in ms. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** Keeps the kernel's statistics from costing more than they are worth. */
function watchEstimators(log: Logger, metrics: Metrics): (servers: number) => void {
  const processors = countProcessors()
  const tend = tendEstimators({
    processors,
    chosen: ({ sysctl, reason }) => {
      log.warn(
        { reason, ...(sysctl && { command: formatSysctl(sysctl) }) },
        "the kernel's statistics of IPVS",
      )
    },
  })
  return (servers) => {
    metrics.setEstimation(roundSeconds(servers, processors))
    tend(servers).catch((err: unknown) => {
      log.error({ err }, "cannot make the kernel's statistics cheaper: packets may be held up")
    })
  }
}
