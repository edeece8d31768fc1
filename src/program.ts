/** The running program: what its parts are, and how they are put together. */
import { execFile } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import type { Logger } from 'pino'
import packageJson from '../package.json' with { type: 'json' }
import type { Config, LoadedConfig } from './config/config.ts'
import { Doorbell } from './doorbell.ts'
import { probeConnReuse } from './kernel/conn-reuse.ts'
import { supportedFamilies } from './kernel/families.ts'
import { Iptables } from './kernel/iptables.ts'
import { LinuxKernel } from './kernel/linux-kernel.ts'
import { followNodeAddresses } from './kernel/node-addresses.ts'
import { hasScheduler } from './kernel/schedulers.ts'
import {
  connReuseSysctl,
  ensureSysctl,
  SERVING_SYSCTLS,
  STRICT_ARP_SYSCTLS,
  type Sysctl,
} from './kernel/sysctl.ts'
import { mappingOptions, ruleOptions } from './mapping.ts'
import { type Address, type Family, familyOf } from './model/address.ts'
import { contains } from './model/cidr.ts'
import { localEndpoints } from './model/claims.ts'
import { Cluster } from './model/cluster.ts'
import type { ServiceName } from './model/facts.ts'
import { formatOperation } from './model/ipvsadm.ts'
import { isNodePortWildcard, nodePortAddresses } from './model/node-ports.ts'
import { loadAddon, type Multicast, type Socket } from './netlink/socket.ts'
import { Proxy } from './proxy.ts'
import { watchConfig } from './reload.ts'
import { RuleKeeper } from './rules.ts'
import { SchedulerChoice } from './scheduler.ts'
import { HealthNodePorts } from './serve/health-node-ports.ts'
import { healthRoutes, metricsRoutes, serve } from './serve/http.ts'
import { Metrics } from './serve/metrics.ts'

/** Follows the facts until the signal aborts. */
export type Source = (cluster: Cluster, signal: AbortSignal) => Promise<void>

/** What every part of the running program needs. */
interface Program {
  readonly addon: Socket & Multicast
  readonly log: Logger
  readonly signal: AbortSignal
  readonly kernel: LinuxKernel
  readonly cluster: Cluster
  readonly doorbell: Doorbell
  /** Rung when the rules may have to be others. */
  readonly rulesBell: Doorbell
  readonly metrics: Metrics
  readonly nodeName: string
  readonly families: ReadonlySet<Family>
  /** Replaced when the file changes. */
  config: Config
  /** Of all interfaces but kube-ipvs0; replaced when one changes. */
  nodeAddresses: readonly Address[]
}

/** The file that the configuration came from, and what it said. */
interface ConfigFile {
  readonly path: string
  readonly text: string
}

export interface ProgramOptions {
  readonly config: Config
  /** Changes are picked up. */
  readonly configFile: ConfigFile | undefined
  readonly nodeName: string
  readonly source: Source
  /** Prints what would change instead of changing it. */
  readonly dryRun: boolean
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Opens the kernel; where IPVS is missing, asks the host once to load it, as kube-proxy does. */
async function openKernel(
  options: { readonly addon: Socket; readonly families: ReadonlySet<Family>; readonly readOnly: boolean },
  log: Logger,
): Promise<LinuxKernel> {
  try {
    return await LinuxKernel.open(options)
  } catch (err) {
    if (options.readOnly) throw err
    log.debug({ err }, 'loading ip_vs')
    await promisify(execFile)('modprobe', ['-a', 'ip_vs']).catch((error: unknown) => {
      log.debug({ err: error }, 'cannot load ip_vs')
    })
    return LinuxKernel.open(options)
  }
}

async function ensureSysctls(sysctls: readonly Sysctl[], log: Logger): Promise<void> {
  for (const sysctl of sysctls) {
    await ensureSysctl(sysctl).catch((err: unknown) =>
      log.error({ err }, 'cannot prepare the kernel: serving goes on'),
    )
  }
}

async function prepareKernel({ kernel, config, log }: Program): Promise<void> {
  await ensureSysctls([...SERVING_SYSCTLS, ...(config.strictArp ? STRICT_ARP_SYSCTLS : [])], log)
  await applyTimeouts(kernel, config)
}

/** How long after the start the kernel is probed: it takes seconds of work, and nothing waits for it. */
const PROBE_AFTER_MS = 15_000

async function chooseConnReuse({ log, signal }: Program): Promise<void> {
  await sleep(PROBE_AFTER_MS, undefined, { signal, ref: false }).catch(() => undefined)
  const { mode, reason } = await probeConnReuse(process.argv[1]!, signal)
  if (signal.aborted) return
  log.info({ mode, reason }, 'what becomes of reused source ports')
  if (mode !== undefined) await ensureSysctls([connReuseSysctl(mode)], log)
}

/** Writes the IPVS timeouts that are configured and differ. */
async function applyTimeouts({ ipvs }: LinuxKernel, config: Config): Promise<void> {
  const { tcpTimeoutSeconds: tcp, tcpFinTimeoutSeconds: tcpFin, udpTimeoutSeconds: udp } = config
  const now = await ipvs.readTimeouts()
  const differs = (wanted: number, current: number): boolean => wanted > 0 && wanted !== current
  if (differs(tcp, now.tcp) || differs(tcpFin, now.tcpFin) || differs(udp, now.udp)) {
    await ipvs.writeTimeouts({ tcp, tcpFin, udp })
  }
}

/** What stays as it is when the configured scheduler is missing: what our virtual servers have, or rr. */
async function schedulerInUse(kernel: LinuxKernel): Promise<string> {
  const { virtualServers, addresses } = await kernel.readTables()
  return virtualServers.find(({ id }) => addresses.has(id.address))?.settings.scheduler ?? 'rr'
}

async function openProxy(
  program: Program,
  scheduler: () => string,
  mapped: (name: ServiceName) => void = () => undefined,
): Promise<Proxy> {
  const { tcp } = await program.kernel.ipvs.readTimeouts()
  return new Proxy({
    ...program,
    mapping: () => mappingOptions({ ...program, scheduler: scheduler() }),
    isExcluded: (address) => program.config.excludeCidrs.some((cidr) => contains(cidr, address)),
    mapped,
    auditIntervalMs: () => program.config.syncPeriodMs,
    minSyncPeriodMs: () => program.config.minSyncPeriodMs,
    // A connection to a Pod that is gone may last as long as one that is idle.
    drainDeadlineMs: tcp * 1000,
    now: () => performance.now(),
  })
}

/** Prints what would change. The configured scheduler is taken at its word. */
async function printChanges(program: Program, followed: Promise<void>): Promise<void> {
  await followAddresses(program, () => undefined)
  const proxy = await openProxy(program, () => program.config.scheduler)
  const operations = await Promise.race([proxy.dryRun(program.signal), followed.then(() => [])])
  process.stdout.write(operations.map((operation) => `${formatOperation(operation)}\n`).join(''))
}

/** Fields that are read once, at the start. */
const READ_ONCE = [
  'kubeconfig',
  'hostnameOverride',
  'healthzBindAddress',
  'metricsBindAddress',
  'strictArp',
] as const

/** Applies a new configuration in place, and says what of it needs a restart. */
async function reload(
  program: Program,
  scheduler: SchedulerChoice,
  { config, warnings }: LoadedConfig,
): Promise<void> {
  const { log, kernel, cluster, rulesBell, config: before } = program
  for (const warning of warnings) log.warn(warning)
  const fields = READ_ONCE.filter((field) => config[field] !== before[field])
  if (fields.length > 0) log.warn({ fields }, 'restart kube-ipvs to apply all of the new configuration')
  program.config = config
  cluster.markExposed()
  rulesBell.ring()
  await applyTimeouts(kernel, config)
  await scheduler.want(config.scheduler)
}

/** Writes the rules before anything is served, and keeps them. */
async function keepRules(program: Program): Promise<void> {
  const { families, kernel, log, signal, rulesBell: bell } = program
  const tables = Iptables.ofFamilies(families)
  const ensure = async (family: Family): Promise<boolean> => {
    const options = { ...ruleOptions(program, family), sets: kernel.sets }
    return (await tables.get(family)!.ensure(options)) === 'written'
  }
  const keeper = new RuleKeeper({
    families,
    ensure,
    intervalMs: () => program.config.syncPeriodMs,
    bell,
    log,
  })
  await keeper.ensure()
  void keeper.keep(signal)
}

/** The addresses on which the health-check node ports of a family listen. */
function healthAddresses({ config, nodeAddresses, cluster }: Program, family: Family): readonly string[] {
  if (isNodePortWildcard(config.nodePortAddresses, family)) return [family === 'IPv4' ? '0.0.0.0' : '::']
  return nodePortAddresses(config.nodePortAddresses, nodeAddresses, cluster.node?.addresses ?? []).filter(
    (address) => familyOf(address) === family,
  )
}

/** Tells the health-check node port of a Service what it is to say. */
function updateHealth({ cluster, ...place }: Program, health: HealthNodePorts, name: ServiceName): void {
  const service = cluster.service(name)
  const port = service?.healthCheckNodePort ?? 0
  if (service === undefined || port === 0) health.update(name, undefined)
  else health.update(name, { port, localEndpoints: localEndpoints(service, cluster.slicesOf(name), place) })
}

/** Follows the addresses of the node's interfaces. */
async function followAddresses(program: Program, changed: () => void): Promise<void> {
  const { addon, log, signal } = program
  const replace = (addresses: readonly Address[]): void => {
    program.nodeAddresses = addresses
    changed()
  }
  await followNodeAddresses({ addon, log, signal, changed: replace })
}

/** Switches to the configured scheduler if the kernel has it. */
async function chooseScheduler(
  { kernel, cluster, config, log }: Program,
  initial: string,
): Promise<SchedulerChoice> {
  const scheduler = new SchedulerChoice({
    initial,
    isAvailable: (name) => hasScheduler(kernel.ipvs, name),
    changed: () => {
      cluster.markAll()
    },
    log,
  })
  await scheduler.want(config.scheduler)
  return scheduler
}

/** Everything in order: the kernel, the rules, then what Services want. */
async function serveServices(program: Program, followed: Promise<void>, file?: ConfigFile): Promise<void> {
  const { log, signal, cluster, metrics, nodeName } = program
  const inUse = await schedulerInUse(program.kernel)
  await prepareKernel(program)
  const scheduler = await chooseScheduler(program, inUse)
  const ruled = keepRules(program)
  const isHealthy = (): boolean => proxy.synced
  const addresses = (family: Family): readonly string[] => healthAddresses(program, family)
  const health = new HealthNodePorts({ addresses, isHealthy, log })
  const mapped = (name: ServiceName): void => {
    updateHealth(program, health, name)
  }
  const proxy: Proxy = await openProxy(program, () => scheduler.current, mapped)
  await followAddresses(program, () => {
    cluster.markExposed()
    health.readdress()
  })
  serve(
    program.config.healthzBindAddress,
    healthRoutes(isHealthy, () => new Date()),
    log,
    signal,
  )
  serve(program.config.metricsBindAddress, metricsRoutes(metrics), log, signal)
  const changed = async (loaded: LoadedConfig): Promise<void> => {
    await reload(program, scheduler, loaded)
    health.readdress()
  }
  if (file !== undefined) watchConfig(file.path, file.text, changed, { log, signal })
  log.info({ version: packageJson.version, nodeName, node: process.version }, 'kube-ipvs has started')
  await ruled
  void chooseConnReuse(program)
  await Promise.race([proxy.run(signal), followed])
  scheduler.stop()
  health.close()
}

/** Opens everything, and runs until the signal aborts. Throws an Error with a remedy when it cannot. */
export async function run({ source, dryRun, configFile, ...options }: ProgramOptions): Promise<void> {
  const { nodeName, log, signal } = options
  const addon = loadAddon()
  const families = await supportedFamilies()
  const kernel = await openKernel({ addon, families, readOnly: dryRun }, log)
  if (!families.has('IPv6')) log.warn('IPv6 is not available on this node: IPv6 cluster IPs are not served')
  const doorbell = new Doorbell()
  const rulesBell = new Doorbell()
  const cluster = new Cluster(
    nodeName,
    () => {
      doorbell.ring()
    },
    () => {
      rulesBell.ring()
    },
  )
  const parts = { addon, kernel, cluster, doorbell, rulesBell, metrics: new Metrics(), families }
  const program: Program = { ...options, ...parts, nodeAddresses: [] }
  const followed = source(cluster, signal)
  try {
    await (dryRun ? printChanges(program, followed) : serveServices(program, followed, configFile))
  } finally {
    kernel.close()
  }
}
