/** The running program: its parts put together, until it ends or has to start anew. */
import type { Logger } from 'pino'
import packageJson from '../../package.json' with { type: 'json' }
import type { LoadedConfig } from '../config/config.ts'
import { openFaults } from './faults.ts'
import { type PolicyFile, policyOf, readPolicyText } from './external-policy.ts'
import { supportedFamilies } from '../kernel/host/families.ts'
import type { LinuxKernel } from '../kernel/linux-kernel.ts'
import { removeKubeProxyTables } from '../kernel/filter/kube-proxy-tables.ts'
import { hasScheduler } from '../kernel/ipvs/schedulers.ts'
import { Doorbell } from '../waiting/doorbell.ts'
import { Reporter } from '../loop/reporter.ts'
import type { Family } from '../model/address.ts'
import { Cluster, type ClusterHooks } from '../model/facts/cluster.ts'
import type { NodeNaming } from './missing-node.ts'
import type { ServiceName } from '../model/facts/facts.ts'
import type { KernelTables } from '../model/kernel-object.ts'
import { loadAddon, type Socket } from '../netlink/socket.ts'
import { chooseConnReuseLater, openBridges, openKernel, setUpNode } from './node-setup.ts'
import { checkOrigin, openOrigin, type OriginChoice } from './origin.ts'
import {
  followAddresses,
  keepRules,
  nodeProblem,
  openHealthNodePorts,
  openLookout,
  openProxy,
  type Program,
  recordNodeEvent,
  serveHttp,
  updateHealth,
  wantedScheduler,
} from './parts.ts'
import { awaitedLater } from '../waiting/promises.ts'
import { watchConfig } from './reload.ts'
import { SchedulerChoice } from './scheduler.ts'
import { ProxyHealth } from '../serve/health.ts'
import { Metrics } from '../serve/metrics.ts'

/** The file that the configuration came from, what it said, and how it is read. */
export interface ConfigFile {
  readonly path: string
  readonly text: string
  /** Throws ConfigError. */
  readonly load: (text: string) => LoadedConfig
}

export interface ProgramOptions {
  readonly loaded: LoadedConfig
  /** Changes are picked up. */
  readonly configFile: ConfigFile | undefined
  /** What stands beside it of external addresses. Changes are picked up. */
  readonly policy: PolicyFile | undefined
  readonly naming: NodeNaming
  readonly choice: OriginChoice
  /** Called with every new configuration, before it is applied. */
  readonly configured: (loaded: LoadedConfig) => void
  readonly log: Logger
  readonly signal: AbortSignal
}

/** How the program ended: by the signal, or because a new configuration takes another start. */
export type Ending = 'stopped' | 'restart'

/** What the kernel has now: what our virtual servers have, or, where there are none, the configured one or rr. */
async function schedulerInUse(
  { ipvs }: LinuxKernel,
  { virtualServers, addresses }: KernelTables,
  configured: string,
): Promise<string> {
  const known = virtualServers.find(({ id }) => addresses.has(id.address))?.settings.scheduler
  if (known !== undefined) return known
  return (await hasScheduler(ipvs, configured).catch(() => false)) ? configured : 'rr'
}

/** Switches every Service to another scheduler, and says so. */
async function openScheduler(
  kernel: LinuxKernel,
  tables: KernelTables,
  log: Logger,
  configured: string,
  program: () => Program,
): Promise<SchedulerChoice> {
  return new SchedulerChoice({
    initial: await schedulerInUse(kernel, tables, configured),
    isAvailable: (name) => hasScheduler(kernel.ipvs, name),
    changed: (name) => {
      const note = `The scheduler is now ${name}`
      recordNodeEvent(program(), { reason: 'SchedulerChanged', action: 'SwitchScheduler', note })
      program().metrics.setScheduler(name)
      program().cluster.markAll()
    },
    refused: (note) => {
      const type = 'Warning'
      recordNodeEvent(program(), { type, reason: 'SchedulerUnavailable', action: 'SwitchScheduler', note })
    },
    log,
  })
}

/** What follows facts, and is there before the kernel is open. */
type Followers = Pick<Program, 'doorbell' | 'rulesBell' | 'metrics' | 'health'>

/** The facts, wired to everything that follows them. */
function openCluster(
  nodeName: string,
  { doorbell, rulesBell, metrics, health }: Followers,
  hooks: Required<Pick<ClusterHooks, 'nodeChanged' | 'externalNamed'>>,
): Cluster {
  const changed = (): void => {
    doorbell.ring()
    health.queued()
    metrics.queued()
  }
  return new Cluster(nodeName, changed, {
    ...hooks,
    nodeChanged: () => {
      rulesBell.ring()
      hooks.nodeChanged()
    },
    serviceChanged: () => {
      metrics.serviceChanged()
    },
    endpointsChanged: () => {
      metrics.endpointsChanged()
    },
    since: Date.now(),
  })
}

/** The parts that facts need; they are on their way while the kernel is opened. */
type FactParts = Followers & Pick<Program, 'addon' | 'origin' | 'cluster' | 'lookout' | 'families'>

/** Throws an Error when there is nowhere to have facts from. */
function openFacts(
  { loaded, naming: { name: nodeName }, choice, log }: ProgramOptions,
  families: ReadonlySet<Family>,
  signal: AbortSignal,
  program: () => Program | undefined,
): FactParts {
  const metrics = new Metrics({ families })
  const doorbell = new Doorbell()
  const origin = openOrigin(choice, {
    ...{ nodeName, metrics, log, signal },
    apiMoved: () => {
      cluster.markExposed()
    },
    apiLost: () => {
      doorbell.ring()
    },
  })
  const health = new ProxyHealth({
    families,
    isNodeEligible: () => (cluster.node === undefined ? !origin.hasNodes : !cluster.node.leaving),
    nodeProblem: () => nodeProblem(cluster, program()),
    staleAfterMs: () => 2 * (program()?.config ?? loaded.config).syncPeriodMs,
    faulted: metrics.setFaults.bind(metrics),
    now: () => new Date(),
  })
  const followers: Followers = { doorbell, rulesBell: new Doorbell(), metrics, health }
  const cluster = openCluster(nodeName, followers, {
    externalNamed: () => {
      lookout.lookAgain()
    },
    nodeChanged: () => {
      lookout.lookAgain()
      const open = program()
      // What it says sooner counts when the node is listed.
      if (open !== undefined) void open.scheduler.want(wantedScheduler(open))
    },
  })
  const addon = loadAddon()
  const lookout = openLookout(addon, origin, { cluster, log, signal })
  return { ...followers, addon, origin, cluster, lookout, families }
}

/** What kube-proxy has left in mode nftables would go on translating. */
async function removeNftablesMode(addon: Socket, log: Logger): Promise<void> {
  await removeKubeProxyTables(addon).then(
    (families) => {
      if (families.length > 0) log.info({ families }, "removed the tables of kube-proxy's nftables mode")
    },
    (err: unknown) => {
      log.error({ err }, "kube-proxy's nftables mode has left its table: it may answer for Services")
    },
  )
}

/** Opens all parts. Throws an Error with a remedy when one cannot be. */
async function openProgram(
  { loaded: { config, document }, naming, log, policy }: ProgramOptions,
  facts: FactParts,
  signal: AbortSignal,
  fail: (error: Error) => void,
): Promise<Program> {
  const { addon, metrics, families } = facts
  const rules = Promise.withResolvers<unknown>()
  const rulesReady = awaitedLater(rules.promise)
  const flowsDeleted = metrics.flowsDeleted.bind(metrics)
  const kernel = await openKernel({ addon, families, signal, flowsDeleted, rulesReady }, log)
  // Before the kernel is read: it runs programs, which take a while.
  kernel.filter.prepare()
  const bridges = openBridges(families, log)
  // Not awaited at once: why the kernel refuses us is said best by the tables.
  const prepared = awaitedLater(
    Promise.all([setUpNode(kernel, config, log), removeNftablesMode(addon, log), bridges()]),
  )
  const tables = await kernel.readTables()
  await prepared
  const it = (): Program => program
  const program: Program = {
    ...facts,
    ...{ kernel, rules, bridges, tables, naming, log, signal, fail, config, document },
    nodeName: naming.name,
    faults: openFaults({ ...facts, kernel, log, recordEvent: facts.origin.recordEvent }),
    reporter: new Reporter({ log, metrics, recordEvent: facts.origin.recordEvent }),
    scheduler: await openScheduler(kernel, tables, log, config.scheduler, it),
    policy: policy?.policy,
    nodeAddresses: [],
  }
  if (!families.has('IPv6')) log.warn('IPv6 is not available on this node: IPv6 cluster IPs are not served')
  metrics.setScheduler(program.scheduler.current)
  return program
}

// --- The configuration ----------------------------------------------------------------------------------

/** Fields that are read once, at the start: with others, the program starts anew. */
const READ_ONCE = [
  'kubeconfig',
  'hostnameOverride',
  'healthzBindAddress',
  'metricsBindAddress',
  'bindAddressHardFail',
] as const

/** Applies a new configuration in place; false when it takes a restart. */
async function reconfigure(program: Program, { config, document }: LoadedConfig): Promise<boolean> {
  const { log, kernel, cluster, rulesBell, scheduler, config: before } = program
  const fields = READ_ONCE.filter((field) => config[field] !== before[field])
  if (fields.length > 0) {
    log.info({ fields }, 'starting anew with the new configuration')
    return false
  }
  program.config = config
  program.document = document
  cluster.markExposed()
  rulesBell.ring()
  await setUpNode(kernel, config, log)
  await scheduler.want(wantedScheduler(program))
  log.info({ scheduler: scheduler.current }, 'applied the new configuration')
  return true
}

/** Follows the configuration file; calls `restart` for a configuration that cannot be applied in place. */
function followConfig(
  program: Program,
  { path, text, load }: ConfigFile,
  { choice, configured }: Pick<ProgramOptions, 'choice' | 'configured'>,
  hooks: { readonly applied: () => void; readonly restart: () => void },
): void {
  watchConfig({
    ...program,
    file: path,
    initial: text,
    changed: async (changed) => {
      const loaded = load(changed)
      // What cannot be opened is refused before anything is given up for it.
      checkOrigin({ ...choice, kubeconfig: loaded.config.kubeconfig })
      configured(loaded)
      if (await reconfigure(program, loaded)) hooks.applied()
      else hooks.restart()
    },
    refused: (reason) => {
      recordRefusal(program, reason)
    },
  })
}

function recordRefusal(program: Program, reason: string): void {
  const note = `The new configuration cannot be used, the old one stays: ${reason}`
  const action = 'ReadConfiguration'
  recordNodeEvent(program, { type: 'Warning', reason: 'ConfigurationRefused', action, note })
}

/** What restricted everybody is gone: nobody should learn of it by what happens then. */
function tellListGone(program: Program, file: string): void {
  const note = `There is no ${file} any more: every namespace may have any external address`
  program.log.warn(note)
  recordNodeEvent(program, {
    type: 'Warning',
    reason: 'ExternalAddressPolicyGone',
    action: 'ReadConfiguration',
    note,
  })
}

/** Follows the list of external addresses that namespaces may have, beside the configuration. */
function followPolicy(program: Program, { file, text: initial }: PolicyFile): void {
  const { cluster, log } = program
  watchConfig({
    ...program,
    ...{ file, initial, read: readPolicyText },
    changed: (text) => {
      program.policy = policyOf(file, text)
      if (program.policy === undefined) tellListGone(program, file)
      else log.info({ file, namespaces: program.policy.size }, 'applied the list of external addresses')
      cluster.markExposed()
      return Promise.resolve()
    },
    refused: (reason) => {
      recordRefusal(program, reason)
    },
  })
}

// --- The run --------------------------------------------------------------------------------------------

/** Everything in order: the kernel, the rules, then what Services want. Returns when the signal aborts. */
async function serveServices(program: Program, options: ProgramOptions, restart: () => void): Promise<void> {
  const { log, signal, cluster, nodeName, scheduler } = program
  program.rules.resolve(keepRules(program))
  const healthNodePorts = openHealthNodePorts(program)
  const readdressed = (): void => {
    cluster.markExposed()
    healthNodePorts.readdress()
  }
  const mapped = (name: ServiceName): void => {
    updateHealth(program, healthNodePorts, name)
  }
  const [proxy] = await Promise.all([
    openProxy(program, { onServiceMapped: mapped }),
    followAddresses(program, readdressed),
  ])
  serveHttp(program)
  const applied = (): void => {
    healthNodePorts.readdress()
  }
  const { configFile, policy } = options
  if (configFile !== undefined) followConfig(program, configFile, options, { applied, restart })
  if (policy !== undefined) followPolicy(program, policy)
  log.info({ version: packageJson.version, nodeName, node: process.version }, 'kube-ipvs has started')
  recordNodeEvent(program, { reason: 'Starting', action: 'StartKubeProxy', note: '' })
  void chooseConnReuseLater(log, signal)
  await proxy.run(signal)
  scheduler.stop()
  healthNodePorts.close()
}

/** Opens everything, and runs until the signal aborts. Throws an Error with a remedy when it cannot. */
export async function run(options: ProgramOptions): Promise<Ending> {
  let ending: Ending = 'stopped'
  const failure = Promise.withResolvers<never>()
  // Not AbortSignal.any: the loop listens to it anew whenever it waits, and each time it would cost.
  const ended = new AbortController()
  const end = (): void => {
    ended.abort()
  }
  if (options.signal.aborted) end()
  options.signal.addEventListener('abort', end)
  const restart = (): void => {
    ending = 'restart'
    end()
  }
  let program: Program | undefined
  try {
    const facts = openFacts(options, await supportedFamilies(), ended.signal, () => program)
    const followed = awaitedLater(facts.origin.follow(facts.cluster, ended.signal))
    program = await openProgram(options, facts, ended.signal, failure.reject)
    await Promise.race([serveServices(program, options, restart), followed, failure.promise])
    return ending
  } finally {
    end()
    program?.kernel.close()
  }
}
