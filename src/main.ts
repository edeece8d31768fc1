#!/usr/bin/env node
/** The command line: opens the parts, runs until a signal, decides the exit code. */
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { promisify } from 'node:util'
import { Command } from 'commander'
import { type Logger, pino } from 'pino'
import packageJson from '../package.json' with { type: 'json' }
import { type Config, defaultConfig, type LoadedConfig, parseConfig } from './config/config.ts'
import { Doorbell } from './doorbell.ts'
import { supportedFamilies } from './kernel/families.ts'
import { LinuxKernel } from './kernel/linux-kernel.ts'
import { hasScheduler } from './kernel/schedulers.ts'
import { ensureSysctl, SERVING_SYSCTLS } from './kernel/sysctl.ts'
import type { Family } from './model/address.ts'
import { Cluster } from './model/cluster.ts'
import { formatOperation } from './model/ipvsadm.ts'
import { loadAddon } from './netlink/socket.ts'
import { Proxy } from './proxy.ts'
import { watchConfig } from './reload.ts'
import { SchedulerChoice } from './scheduler.ts'
import { healthRoutes, metricsRoutes, serve } from './serve/http.ts'
import { Metrics } from './serve/metrics.ts'
import { loadKubeConfig, openApiClient } from './source/api-client.ts'
import { followApiServer } from './source/api-source.ts'
import { followManifests } from './source/manifests.ts'

interface Flags {
  readonly config?: string
  readonly manifests?: string
  readonly dryRun?: boolean
  readonly hostnameOverride?: string
  readonly v: string
}

function parseFlags(argv: readonly string[]): Flags {
  return new Command('kube-ipvs')
    .description('The IPVS service proxy for Kubernetes')
    .option('--config <file>', 'KubeProxyConfiguration; changes are picked up')
    .option(
      '--manifests <directory>',
      'YAML or JSON manifests instead of an API server; changes are picked up',
    )
    .option('--dry-run', 'print what would change, as ipvsadm -S -n does, and change nothing')
    .option('--hostname-override <name>', "this node's name, instead of the host's")
    .option('-v, --v <level>', 'verbosity: 4 for every change, 6 for everything', '0')
    .version(packageJson.version)
    .allowExcessArguments(false)
    .parse(argv)
    .opts<Flags>()
}

/** kube-proxy's verbosity in pino's levels. */
function openLog({ v, dryRun }: Flags): Logger {
  const verbosity = Number(v)
  const level = verbosity >= 6 ? 'trace' : verbosity >= 4 ? 'debug' : dryRun === true ? 'warn' : 'info'
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  )
}

interface ConfigFile extends LoadedConfig {
  readonly text: string
}

async function readConfig(file: string | undefined): Promise<ConfigFile> {
  if (file === undefined) return { config: defaultConfig(), warnings: [], text: '' }
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new Error(`Cannot read configuration ${file}: ${(cause as Error).message}`, { cause })
  })
  return { ...parseConfig(file, text), text }
}

/** Opens the kernel; where IPVS is missing, asks the host once to load it, as kube-proxy does. */
async function openKernel(log: Logger, readOnly: boolean): Promise<LinuxKernel> {
  const options = { addon: loadAddon(), readOnly }
  try {
    return await LinuxKernel.open(options)
  } catch (err) {
    if (readOnly) throw err
    log.debug({ err }, 'loading ip_vs')
    await promisify(execFile)('modprobe', ['-a', 'ip_vs']).catch((error: unknown) => {
      log.debug({ err: error }, 'cannot load ip_vs')
    })
    return LinuxKernel.open(options)
  }
}

async function prepareKernel(kernel: LinuxKernel, config: Config, log: Logger): Promise<void> {
  for (const sysctl of SERVING_SYSCTLS) {
    await ensureSysctl(sysctl).catch((err: unknown) =>
      log.error({ err }, 'cannot prepare the kernel: serving goes on'),
    )
  }
  await applyTimeouts(kernel, config)
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

/** Follows the facts until the signal aborts. */
type Source = (cluster: Cluster, signal: AbortSignal) => Promise<void>

/** Throws at once when there is nothing to follow, before the kernel is touched. */
function openSource({ manifests }: Flags, { kubeconfig }: Config, nodeName: string, log: Logger): Source {
  if (manifests !== undefined) {
    return (cluster, signal) => followManifests({ directory: manifests, cluster, log, signal })
  }
  const api = openApiClient(() => loadKubeConfig(kubeconfig))
  return (cluster, signal) => followApiServer({ api, cluster, nodeName, log, signal })
}

/** What stays as it is when the configured scheduler is missing: what our virtual servers have, or rr. */
async function schedulerInUse(kernel: LinuxKernel): Promise<string> {
  const { virtualServers, addresses } = await kernel.readTables()
  return virtualServers.find(({ id }) => addresses.has(id.address))?.settings.scheduler ?? 'rr'
}

/** What every part of the running program needs. */
interface Program {
  readonly flags: Flags
  readonly log: Logger
  readonly signal: AbortSignal
  readonly kernel: LinuxKernel
  readonly cluster: Cluster
  readonly doorbell: Doorbell
  readonly metrics: Metrics
  readonly nodeName: string
  readonly families: ReadonlySet<Family>
  /** Replaced when the file changes. */
  config: Config
}

async function openProxy(program: Program, scheduler: () => string): Promise<Proxy> {
  const { cluster, nodeName, families, kernel } = program
  const { tcp } = await kernel.ipvs.readTimeouts()
  return new Proxy({
    ...program,
    mapping: () => ({ nodeName, zone: cluster.node?.zone, scheduler: scheduler(), families }),
    auditIntervalMs: () => program.config.syncPeriodMs,
    minSyncPeriodMs: () => program.config.minSyncPeriodMs,
    // A connection to a Pod that is gone may last as long as one that is idle.
    drainDeadlineMs: tcp * 1000,
    now: () => performance.now(),
  })
}

/** Prints what would change. The configured scheduler is taken at its word. */
async function dryRun(program: Program, followed: Promise<void>): Promise<void> {
  const proxy = await openProxy(program, () => program.config.scheduler)
  const operations = await Promise.race([proxy.dryRun(program.signal), followed.then(() => [])])
  process.stdout.write(operations.map((operation) => `${formatOperation(operation)}\n`).join(''))
}

/** Fields that are read once, at the start. */
const READ_ONCE = ['kubeconfig', 'hostnameOverride', 'healthzBindAddress', 'metricsBindAddress'] as const

/** Applies a new configuration in place, and says what of it needs a restart. */
async function reload(
  program: Program,
  scheduler: SchedulerChoice,
  { config, warnings }: LoadedConfig,
): Promise<void> {
  const { log, kernel, config: before } = program
  for (const warning of warnings) log.warn(warning)
  const fields = READ_ONCE.filter((field) => config[field] !== before[field])
  if (fields.length > 0) log.warn({ fields }, 'restart kube-ipvs to apply all of the new configuration')
  program.config = config
  await applyTimeouts(kernel, config)
  await scheduler.want(config.scheduler)
}

async function run(program: Program, followed: Promise<void>, configText: string): Promise<void> {
  const { log, signal, kernel, cluster, metrics, nodeName, flags } = program
  const scheduler = new SchedulerChoice({
    initial: await schedulerInUse(kernel),
    isAvailable: (name) => hasScheduler(kernel.ipvs, name),
    changed: () => {
      cluster.markAll()
    },
    log,
  })
  await prepareKernel(kernel, program.config, log)
  await scheduler.want(program.config.scheduler)
  const proxy = await openProxy(program, () => scheduler.current)
  const health = healthRoutes(
    () => proxy.synced,
    () => new Date(),
  )
  serve(program.config.healthzBindAddress, health, log, signal)
  serve(program.config.metricsBindAddress, metricsRoutes(metrics), log, signal)
  const changed = (loaded: LoadedConfig): Promise<void> => reload(program, scheduler, loaded)
  if (flags.config !== undefined) watchConfig(flags.config, configText, changed, { log, signal })
  log.info({ version: packageJson.version, nodeName, node: process.version }, 'kube-ipvs has started')
  await Promise.race([proxy.run(signal), followed])
  scheduler.stop()
}

/** Reads the configuration, opens everything, and runs what the flags ask for. */
async function start(flags: Flags, log: Logger, signal: AbortSignal): Promise<void> {
  const { config, warnings, text } = await readConfig(flags.config)
  for (const warning of warnings) log.warn(warning)
  const nodeName = (flags.hostnameOverride ?? (config.hostnameOverride || hostname())).trim().toLowerCase()
  const source = openSource(flags, config, nodeName, log)
  const kernel = await openKernel(log, flags.dryRun === true)
  const families = await supportedFamilies()
  if (!families.has('IPv6')) log.warn('IPv6 is not available on this node: IPv6 cluster IPs are not served')
  const doorbell = new Doorbell()
  const cluster = new Cluster(nodeName, () => {
    doorbell.ring()
  })
  const metrics = new Metrics()
  const program = { flags, log, signal, kernel, cluster, doorbell, metrics, nodeName, families, config }
  const followed = source(cluster, signal)
  try {
    await (flags.dryRun === true ? dryRun(program, followed) : run(program, followed, text))
  } finally {
    kernel.close()
  }
}

/** The messages of an error and of what caused it. */
function reasons(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)]
  return [error.message, ...(error.cause === undefined ? [] : reasons(error.cause))]
}

async function main(argv: readonly string[]): Promise<void> {
  const flags = parseFlags(argv)
  const log = openLog(flags)
  const abort = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      log.info({ signal: name }, 'stopping: the kernel stays as it is')
      abort.abort()
    })
  }
  try {
    await start(flags, log, abort.signal)
  } catch (error) {
    const [message, ...because] = reasons(error)
    log.fatal({ because }, message)
    process.exitCode = 1
  } finally {
    abort.abort()
  }
}

void main(process.argv)
