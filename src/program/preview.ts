/** What a start would change on this node, as commands that can be run. Nothing is changed. */
import type { Logger } from 'pino'
import type { Config } from '../config/config.ts'
import { findBridgeFault, readBridging } from '../kernel/host/bridges.ts'
import { supportedFamilies } from '../kernel/host/families.ts'
import type { Filter } from '../kernel/filter/filter.ts'
import type { LinuxKernel } from '../kernel/linux-kernel.ts'
import { kubeProxyTables, tableDeletion } from '../kernel/filter/kube-proxy-tables.ts'
import { followNodeAddresses } from '../kernel/link/node-addresses.ts'
import { differingSysctls, formatSysctl } from '../kernel/host/sysctl.ts'
import { dryRun, type DryRunOptions } from '../loop/dry-run.ts'
import { Reporter } from '../loop/reporter.ts'
import { type FollowedFacts, openFacts } from './facts.ts'
import { type Life, openLife } from './life.ts'
import { type MappingInput, mappingOptions, ruleOptions } from './mapping.ts'
import type { HandDrains } from '../model/claims/hand-drains.ts'
import type { Address, Family } from '../model/address.ts'
import { contains } from '../model/cidr.ts'
import { formatCommand } from '../model/ipvsadm.ts'
import { explainMissingNode } from './missing-node.ts'
import { loadAddon } from '../netlink/socket.ts'
import { bridgeRemedy, openKernel, type IpvsTimeouts, timeoutsToWrite, wantedSysctls } from './node-setup.ts'
import { checkOrigin } from './origin.ts'
import type { ProgramOptions } from './program.ts'
import { addressBook } from './proxy.ts'
import { wantedScheduler } from './choices/scheduler.ts'
import { wantedBinding } from './choices/vip-binding.ts'
import { Metrics } from '../serve/metrics.ts'

/** The settings of the kernel that differ. */
async function settingCommands(kernel: LinuxKernel, config: Config): Promise<string[]> {
  const sysctls = await differingSysctls(wantedSysctls(config))
  const timeouts = timeoutsToWrite(config, await kernel.ipvs.readTimeouts())
  return [...sysctls.map(formatSysctl), ...(timeouts === undefined ? [] : [formatTimeouts(timeouts)])]
}

function formatTimeouts({ tcp, tcpFin, udp }: IpvsTimeouts): string {
  return `ipvsadm --set ${tcp} ${tcpFin} ${udp}`
}

/** Services between Pods on one bridge take a module. What somebody has switched off stays as it is. */
function bridgeCommands(families: ReadonlySet<Family>): string[] {
  const fault = findBridgeFault(readBridging(), families)
  return fault === undefined || fault.sysctls !== undefined ? [] : [bridgeRemedy(fault).command]
}

/** The rules, as they will be when all sets are there. */
async function ruleCommands(
  filter: Filter,
  families: ReadonlySet<Family>,
  input: Parameters<typeof ruleOptions>[0],
): Promise<string[]> {
  const commands = await Promise.all(
    [...families].map((family) => filter.preview(family, ruleOptions(input, family))),
  )
  return commands.flat()
}

interface DryParts {
  readonly facts: FollowedFacts
  readonly metrics: Metrics
  readonly kernel: LinuxKernel
  readonly node: Pick<MappingInput, 'families' | 'nodeAddresses' | 'drains'>
}

/** The scheduler is taken at its word: looking for it would change the kernel. */
function dryRunOptions(
  { naming, log, policy, vipBinding, loaded: { config } }: ProgramOptions,
  { facts, metrics, kernel, node }: DryParts,
  signal: AbortSignal,
): DryRunOptions {
  const { cluster, doorbell, origin, lookout } = facts
  return {
    ...{ cluster, doorbell, kernel, log },
    reporter: new Reporter({ log, metrics, recordEvent: () => undefined }),
    hasLookedAround: () => lookout.isDone,
    onNodeListed: () => explainMissingNode({ naming, cluster, origin, log, signal }),
    mapping: () =>
      mappingOptions({
        ...{ ...node, config, cluster, nodeName: naming.name, policy: policy?.policy },
        ...addressBook(facts),
        scheduler: wantedScheduler(cluster, config),
        vipBinding: wantedBinding(cluster, vipBinding),
      }),
    isExcluded: (address) => config.excludeCidrs.some((cidr) => contains(cidr, address)),
  }
}

/** Everything that a start would do. */
export interface Preview {
  /** Commands, in their order. */
  readonly commands: readonly string[]
  /** Virtual servers of somebody else, and their addresses: they would stay. */
  readonly foreign: readonly string[]
  /** What Services want and somebody else has: a sentence each. */
  readonly blocked: readonly string[]
  /** So many objects, or manifests, could not be used, which the log has told: what they want is unknown. */
  readonly problems: number
}

/** A log that counts the errors it tells. */
function countErrors(log: Logger): { readonly log: Logger; readonly count: () => number } {
  let count = 0
  const counting = log.child({})
  const tell = counting.error.bind(counting)
  counting.error = (...told: Parameters<typeof tell>) => {
    count++
    tell(...told)
  }
  return { log: counting, count: () => count }
}

/** A start knows of none. */
const NO_DRAINS: HandDrains = new Set()

/** Throws an Error with a remedy when it cannot be found out. */
export async function preview(options: ProgramOptions, drains = NO_DRAINS): Promise<Preview> {
  const life = openLife(options.signal)
  try {
    return await previewUntil(life, options, drains)
  } finally {
    await life.end()
  }
}

async function previewUntil(life: Life, options: ProgramOptions, drains: HandDrains): Promise<Preview> {
  const { naming, choice, log, signal, loaded } = options
  const { config } = loaded
  const addon = loadAddon()
  const families = await supportedFamilies()
  checkOrigin(choice)
  const kernel = await openKernel({ addon, families, readOnly: true, signal: life.signal }, log)
  life.atEnd(() => {
    kernel.close()
  })
  const metrics = new Metrics({ defaults: false })
  const counted = countErrors(log)
  const facts = openFacts({ nodeName: naming.name, choice, addon, metrics, life, log: counted.log })
  const node = { families, drains, nodeAddresses: [] as readonly Address[] }
  const onChange = (addresses: readonly Address[]): void => {
    node.nodeAddresses = addresses
  }
  await followNodeAddresses({ addon, log, signal: life.signal, onChange })
  const wanted = dryRunOptions(options, { facts, metrics, kernel, node }, life.signal)
  const followed = facts.origin.follow(facts.cluster, life.signal)
  const found = await Promise.race([dryRun(wanted, life.signal), followed])
  // What is missing in an unfinished list would be deleted.
  if (signal.aborted || found === undefined) throw new Error('Stopped before the plan was complete')
  const commands = [
    ...(await settingCommands(kernel, config)),
    ...bridgeCommands(families),
    ...kernel.creations,
    ...(await kubeProxyTables(addon)).map(tableDeletion),
    ...(await ruleCommands(kernel.filter, families, { config, cluster: facts.cluster })),
    ...found.operations.map(formatCommand),
  ]
  const { foreign, blocked } = found
  return { commands, foreign: [...foreign], blocked, problems: counted.count() }
}
