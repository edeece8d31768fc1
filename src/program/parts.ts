/** The parts of the running program, each as it is opened. */
import type { Logger } from 'pino'
import type { Config } from '../config/config.ts'
import { type Faults, reportAddressFaults } from './faults.ts'
import { keepHeapSmall, keepHeapSteady } from './heap.ts'
import { roundSeconds, tendEstimators } from '../kernel/ipvs/estimators.ts'
import type { LinuxKernel } from '../kernel/linux-kernel.ts'
import { followNodeAddresses } from '../kernel/link/node-addresses.ts'
import { countProcessors } from '../kernel/host/processors.ts'
import { formatSysctl } from '../kernel/host/sysctl.ts'
import { readLinksOnce } from '../kernel/link/routes.ts'
import { Lookout } from './lookout.ts'
import type { Doorbell } from '../waiting/doorbell.ts'
import { Proxy, type ProxyOptions } from '../loop/proxy.ts'
import type { Reporter } from '../loop/reporter.ts'
import { addressesOf, type MappingInput, mappingOptions, ruleOptions } from './mapping.ts'
import { explainMissingNode, type NodeNaming } from './missing-node.ts'
import { type Address, type Family, familyOf } from '../model/address.ts'
import { contains } from '../model/cidr.ts'
import { localEndpoints } from '../model/claims/local-endpoints.ts'
import type { Cluster, Trigger } from '../model/facts/cluster.ts'
import type { ExternalPolicy } from '../model/claims/external-policy.ts'
import type { ServiceName } from '../model/facts/facts.ts'
import type { KernelTables } from '../model/kernel-object.ts'
import { isNodePortWildcard } from '../model/claims/node-ports.ts'
import { setName } from '../model/sets.ts'
import type { Multicast, Socket } from '../netlink/socket.ts'
import type { Origin } from './origin.ts'
import { RuleKeeper } from './rules.ts'
import type { SchedulerChoice } from './scheduler.ts'
import { HealthNodePorts } from '../serve/health-node-ports.ts'
import type { ProxyHealth } from '../serve/health.ts'
import { healthRoutes, metricsRoutes, type Routes, serve } from '../serve/http.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Happening } from '../source/events.ts'

/** What every part of the running program needs. */
export interface Program {
  readonly addon: Socket & Multicast
  readonly log: Logger
  readonly signal: AbortSignal
  readonly kernel: LinuxKernel
  /** The kernel waits for it before it binds addresses. */
  readonly rules: PromiseWithResolvers<unknown>
  /** Looks after bridges: the first one may come with the first Pod. */
  readonly bridges: () => Promise<void>
  readonly cluster: Cluster
  readonly doorbell: Doorbell
  /** Rung when the rules may have to be others. */
  readonly rulesBell: Doorbell
  readonly metrics: Metrics
  readonly reporter: Reporter
  readonly health: ProxyHealth
  readonly faults: Faults
  readonly scheduler: SchedulerChoice
  readonly origin: Origin
  /** Who else has external addresses. */
  readonly lookout: Lookout
  readonly nodeName: string
  readonly naming: NodeNaming
  readonly families: ReadonlySet<Family>
  /** Ends the program with this error. */
  readonly fail: (error: Error) => void
  /** What the kernel has shown at the start; undefined when it has been used. */
  tables: KernelTables | undefined
  /** Replaced when the file changes. */
  config: Config
  /** The configuration as it is published. */
  document: object
  /** Which external addresses namespaces may have; undefined: all. Replaced when its file changes. */
  policy: ExternalPolicy | undefined
  /** What was said of it when the Nodes were listed, where this one was not among them. */
  missingNode?: string | undefined
  /** Of all interfaces but kube-ipvs0; replaced when one changes. */
  nodeAddresses: readonly Address[]
}

/** Says something about this node as an Event. */
export function recordNodeEvent(
  { origin, nodeName }: Pick<Program, 'origin' | 'nodeName'>,
  happening: Omit<Happening, 'regarding' | 'type'> & Partial<Pick<Happening, 'type'>>,
): void {
  origin.recordEvent({ type: 'Normal', ...happening, regarding: { kind: 'Node', name: nodeName } })
}

export async function openProxy(
  program: Program,
  { onServiceMapped }: Pick<ProxyOptions, 'onServiceMapped'>,
): Promise<Proxy> {
  const { kernel, scheduler } = program
  const { tcp } = await kernel.ipvs.readTimeouts()
  const { tables } = program
  program.tables = undefined
  const watch = watchEstimators(program)
  const options: ProxyOptions = {
    ...program,
    onNodeListed: () => {
      void explainMissingNode(program).then((text) => {
        program.missingNode = text
      })
      return scheduler.want(wantedScheduler(program))
    },
    onSettled: (triggers) => {
      settle(program, triggers)
    },
    onServersCounted: (servers) => {
      keepHeapSmall()
      keepHeapSteady()
      watch(servers)
      void program.bridges()
      program.faults.setsRead()
    },
    ...guard(program),
    onAddressesRefused: (addresses) => {
      const { health, cluster } = program
      const isClusterIp = (address: Address): boolean =>
        cluster.addresses.clusterIpOwner(address) !== undefined
      reportAddressFaults(health, addresses, isClusterIp)
    },
    mapping: () => mappingOptions({ ...program, ...addressBook(program), scheduler: scheduler.current }),
    isExcluded: (address) => program.config.excludeCidrs.some((cidr) => contains(cidr, address)),
    onServiceMapped,
    auditIntervalMs: () => program.config.syncPeriodMs,
    minSyncPeriodMs: () => program.config.minSyncPeriodMs,
    // A connection to a Pod that is gone may last as long as one that is idle.
    drainDeadlineMs: tcp * 1000,
    now: () => performance.now(),
    cpuMs,
  }
  return new Proxy(options, tables)
}

/** Who has which addresses, as it is known now. */
export function addressBook({
  lookout,
  origin,
}: Pick<Program, 'lookout' | 'origin'>): Pick<MappingInput, 'surroundings' | 'apiAddresses'> {
  return { surroundings: lookout.current, apiAddresses: origin.apiAddresses() }
}

const NONE: ReadonlySet<Address> = new Set()

/** What keeps the node on the network: nothing is served before it is known whose addresses these are. */
export function guard({
  lookout,
  origin,
  kernel,
}: Pick<Program, 'lookout' | 'origin' | 'kernel'>): Pick<
  ProxyOptions,
  'hasLookedAround' | 'addressesToFree'
> {
  // What a cluster IP is, its set says: without it nothing is safe to unbind.
  const isSure = (address: Address): boolean =>
    !kernel.setFaults.has(setName('KUBE-CLUSTER-IP', familyOf(address))) &&
    address !== process.env.KUBERNETES_SERVICE_HOST
  return {
    hasLookedAround: () => lookout.isDone,
    addressesToFree: () => (origin.isLost() ? new Set([...origin.apiAddresses()].filter(isSure)) : NONE),
  }
}

/** Opens what looks for other owners of external addresses, and lets it run. */
export function openLookout(
  addon: Socket,
  origin: Origin,
  { cluster, log, signal }: Pick<Program, 'cluster' | 'log' | 'signal'>,
): Lookout {
  const peers = origin.followPeers({
    isWanted: () => cluster.externalAddresses().size > 0,
    changed: () => {
      lookout.lookAgain()
    },
  })
  const lookout = new Lookout({ cluster, peers, log, signal, readLinks: () => readLinksOnce(addon) })
  void lookout.run()
  // Some may have been named already.
  lookout.lookAgain()
  return lookout
}

/** Time of processors that this process has used, with all its threads, in ms. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1_000
}

/** Keeps the kernel's statistics from costing more than they are worth. */
function watchEstimators({ log, metrics }: Program): (servers: number) => void {
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

/** Why load balancers should leave this node, as far as its Node object tells; that there is none, once it was looked for. */
export function nodeProblem(cluster: Cluster, program: Program | undefined): string | undefined {
  if (cluster.node === undefined) return program?.missingNode
  return cluster.node.leaving ? 'This node is about to be deleted' : undefined
}

/** What this node's annotation asks for, or else the configuration. */
export function wantedScheduler({ cluster, config }: Pick<Program, 'cluster' | 'config'>): string {
  return cluster.node?.scheduler ?? config.scheduler
}

/** The kernel is as it should be: how long it took since the endpoints changed in the cluster. */
function settle({ health, metrics }: Program, triggers: readonly Trigger[]): void {
  health.updated()
  metrics.checkedOut()
  for (const { family, at } of triggers) metrics.programmed(family, Math.max(0, Date.now() - at) / 1000)
}

/** Writes the rules before anything is served, and keeps them. Throws when the signal aborts before they are there. */
export async function keepRules(program: Program): Promise<void> {
  const { families, kernel, log, signal, metrics, rulesBell: bell } = program
  const ensure = async (family: Family): Promise<boolean> =>
    (await kernel.filter.ensure(family, ruleOptions(program, family))) === 'written'
  const keeper = new RuleKeeper({
    families,
    ensure,
    failed: (family) => {
      metrics.restoreFailed(family)
    },
    looked: program.faults.rulesLooked,
    intervalMs: () => program.config.syncPeriodMs,
    bell,
    log,
    signal,
  })
  await keeper.ensure()
  signal.throwIfAborted()
  void keeper.keep()
}

/** The addresses on which the health-check node ports of a family listen. */
function healthAddresses(program: Program, family: Family): readonly string[] {
  const { cluster, config, nodeAddresses } = program
  if (isNodePortWildcard(config.nodePortAddresses, family)) return [family === 'IPv4' ? '0.0.0.0' : '::']
  const { nodePortAddresses } = addressesOf(config, cluster.node, nodeAddresses)
  return nodePortAddresses.filter((address) => familyOf(address) === family)
}

export function openHealthNodePorts(program: Program): HealthNodePorts {
  const { health, log, origin } = program
  return new HealthNodePorts({
    addresses: (family) => healthAddresses(program, family),
    isHealthy: () => health.healthy,
    faults: () => health.lastingFaults,
    failed: (service, reason) => {
      const [namespace, name] = service.split('/') as [string, string]
      origin.recordEvent({
        type: 'Warning',
        reason: 'FailedToStartServiceHealthcheck',
        action: 'Listen',
        regarding: { kind: 'Service', name, namespace },
        note: reason,
      })
    },
    log,
  })
}

/** Tells the health-check node port of a Service what it is to say. */
export function updateHealth(program: Program, health: HealthNodePorts, name: ServiceName): void {
  const { cluster } = program
  const service = cluster.service(name)
  const port = service?.healthCheckNodePort ?? 0
  if (service === undefined || port === 0) health.update(name, undefined)
  else health.update(name, { port, localEndpoints: localEndpoints(service, cluster.slicesOf(name), program) })
}

/** Follows the addresses of the node's interfaces. */
export async function followAddresses(program: Program, changed: () => void): Promise<void> {
  const { addon, log, signal } = program
  const replace = (addresses: readonly Address[]): void => {
    program.nodeAddresses = addresses
    void program.bridges()
    changed()
  }
  await followNodeAddresses({ addon, log, signal, changed: replace })
}

/** Serves health and metrics. With bindAddressHardFail, an address that is taken ends the program. */
export function serveHttp(program: Program): void {
  const { config, health, metrics, log, signal, fail } = program
  const open = (address: string, routes: Routes, reason: string): void => {
    const failed = (cause: Error): void => {
      recordNodeEvent(program, { type: 'Warning', reason, action: 'StartKubeProxy', note: cause.message })
      fail(new Error(`Cannot listen on ${address}, and bindAddressHardFail is set`, { cause }))
    }
    serve(address, routes, { log, signal, ...(config.bindAddressHardFail && { failed }) })
  }
  open(config.healthzBindAddress, healthRoutes(health, metrics), 'FailedToStartProxierHealthcheck')
  const routes = metricsRoutes({ metrics, document: () => program.document })
  open(config.metricsBindAddress, routes, 'FailedToStartMetricServer')
}
