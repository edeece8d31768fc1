/** The running program: its parts, opened one after the other, until it ends or has to start anew. */
import type { Logger } from 'pino'
import packageJson from '../../package.json' with { type: 'json' }
import type { Config, LoadedConfig } from '../config/config.ts'
import type { ServiceMetricsChoice } from '../config/service-metrics.ts'
import { supportedFamilies } from '../kernel/host/families.ts'
import type { Binding } from '../model/binding.ts'
import type { Proxy } from '../loop/proxy.ts'
import { loadAddon } from '../netlink/socket.ts'
import { serveLocally } from '../serve/local-socket.ts'
import { Metrics } from '../serve/metrics.ts'
import { Doorbell } from '../waiting/doorbell.ts'
import { awaitedLater } from '../waiting/promises.ts'
import { initially } from './current.ts'
import { openFacts } from './facts.ts'
import { type ConfigFile, followConfig, type FollowedConfig } from './follow/configuration.ts'
import { followPolicy, type PolicyFile, type PolicyUsers } from './follow/external-policy.ts'
import { followAddresses } from './follow/node-addresses.ts'
import { openServingKernel } from './kernel.ts'
import { type Ending, type Life, openLife } from './life.ts'
import type { NodeNaming } from './missing-node.ts'
import { chooseConnReuseLater, setUpNode } from './node-setup.ts'
import type { OriginChoice } from './origin.ts'
import { openProxy } from './proxy.ts'
import { openFaultJudge } from './report/faults.ts'
import { openHealthNodePorts } from './report/health-node-ports.ts'
import { openHealth, reportChanges } from './report/health.ts'
import { serveHttp } from './report/http.ts'
import { inspectionRoutes } from './report/inspection.ts'
import { nodeEvents } from './report/node-events.ts'
import { openServiceMetrics } from './report/service-metrics.ts'
import { keepRules } from './rules.ts'
import { drainRoutes } from './choices/drains.ts'
import { openStatus } from './status/status.ts'
import { openScheduler } from './choices/scheduler.ts'
import { openVipBinding } from './choices/vip-binding.ts'

export interface ProgramOptions {
  readonly loaded: LoadedConfig
  /** Changes are picked up. */
  readonly configFile: ConfigFile | undefined
  /** What stands beside it of external addresses. Changes are picked up. */
  readonly policy: PolicyFile | undefined
  readonly naming: NodeNaming
  readonly choice: OriginChoice
  /** Of --vip-binding; the Node's annotation wins. */
  readonly vipBinding: Binding
  /** Which Services have metrics of their own; undefined: none. */
  readonly serviceMetrics: ServiceMetricsChoice | undefined
  /** Where commands ask the running program; empty: nowhere. */
  readonly localSocket: string
  /** Of --status-page. */
  readonly statusPage: boolean
  /** Called with every new configuration, before it is applied. */
  readonly reportConfig: (loaded: LoadedConfig) => void
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Opens everything, and runs until the signal aborts. Throws an Error with a remedy when it cannot. */
export async function run(options: ProgramOptions): Promise<Ending> {
  const life = openLife(options.signal)
  try {
    await runLoop(await open(options, life), life)
    return life.ending
  } finally {
    await life.end()
  }
}

/** Runs the loop until it, or what it needs, ends. Nothing that it uses is closed before it has ended. */
export async function runLoop({ proxy, followed }: Opened, life: Life): Promise<void> {
  const running = awaitedLater(proxy.run(life.signal))
  life.atEnd(async () => {
    await Promise.allSettled([running])
  })
  await Promise.race([running, followed, life.failure])
}

interface Opened {
  readonly proxy: Pick<Proxy, 'run'>
  /** Rejects when the facts cannot be followed. */
  readonly followed: Promise<void>
}

/** Everything in order: the facts, the kernel, the rules, then what Services want. */
async function open(options: ProgramOptions, life: Life): Promise<Opened> {
  const { loaded, naming, choice, vipBinding, localSocket, statusPage, log } = options
  const { signal } = life
  const { name: nodeName } = naming
  const families = await supportedFamilies()
  const addon = loadAddon()
  const metrics = new Metrics({ families })
  const current = initially(loaded, options.policy?.policy)

  const facts = openFacts({ nodeName, choice, addon, metrics, life, log })
  const { cluster, origin } = facts
  const { recordEvent, hasNodes } = origin
  const recordNodeEvent = nodeEvents(recordEvent, nodeName)
  const rulesBell = new Doorbell()
  const health = openHealth({ families, cluster, hasNodes, current, metrics })
  reportChanges(cluster, { health, metrics, rulesBell })
  // They are on their way while the kernel is opened.
  const followed = awaitedLater(origin.follow(cluster, signal))

  const common = { families, current, cluster, metrics, life, log, signal }
  const rules = Promise.withResolvers<unknown>()
  const rulesReady = awaitedLater(rules.promise)
  const { kernel, tendBridges, tables } = await openServingKernel({ ...common, addon, rulesReady })
  const switched = { ...common, kernel, tables, vipBinding, recordNodeEvent }
  const scheduler = await openScheduler(switched)
  const binding = await openVipBinding(switched)

  const faults = openFaultJudge({ ...common, health, kernel, rulesBell, recordEvent })
  const { filter } = kernel
  rules.resolve(keepRules({ ...common, filter, onLook: faults.judge, bell: rulesBell }))
  const ports = openHealthNodePorts({ ...common, nodeName, health, recordEvent })
  const { readdress, update: onServiceMapped } = ports
  const status = statusPage ? openStatus({ ...common, nodeName }) : undefined
  const [proxy] = await Promise.all([
    openProxy(
      {
        ...{ ...common, facts, kernel, naming, scheduler, binding, vipBinding },
        ...{ health, faults, status, tendBridges, onServiceMapped },
      },
      tables,
    ),
    followAddresses({ ...common, addon, tendBridges, readdress }),
  ])

  const { inspection } = proxy
  const services = { inspection, ipvs: kernel.ipvs, log, now: () => performance.now() }
  const serviceMetrics = openServiceMetrics(options.serviceMetrics, services)
  const page = status?.page({ inspection, readCounters: () => kernel.ipvs.readCounters(), health, current })
  serveHttp({ ...common, health, page, serviceMetrics, recordNodeEvent })
  const answers = { ...inspectionRoutes({ inspection, current }), ...drainRoutes({ ...common, inspection }) }
  await serveLocally(localSocket, answers, common)
  const setUp = (config: Config): Promise<void> => setUpNode(kernel, config, log)
  followFiles(options, { ...common, rulesBell, scheduler, recordNodeEvent, readdress, setUpNode: setUp })
  log.info({ version: packageJson.version, nodeName, node: process.version }, 'kube-ipvs has started')
  recordNodeEvent({ reason: 'Starting', action: 'StartKubeProxy', note: '' })
  void chooseConnReuseLater(log, signal)
  return { proxy, followed }
}

function followFiles(
  { configFile, policy, choice, reportConfig }: ProgramOptions,
  parts: Omit<FollowedConfig, 'choice' | 'reportConfig'> & PolicyUsers,
): void {
  if (configFile !== undefined) followConfig(configFile, { ...parts, choice, reportConfig })
  if (policy !== undefined) followPolicy(policy, parts)
}
