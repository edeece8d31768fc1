/** `kube-ipvs plan`: what a start would change on this node, as commands that can be run. Nothing is changed. */
import type { Config } from '../config/config.ts'
import { findBridgeFault, readBridging } from '../kernel/host/bridges.ts'
import { supportedFamilies } from '../kernel/host/families.ts'
import type { Filter } from '../kernel/filter/filter.ts'
import type { LinuxKernel } from '../kernel/linux-kernel.ts'
import { kubeProxyTables, tableDeletion } from '../kernel/filter/kube-proxy-tables.ts'
import { followNodeAddresses } from '../kernel/link/node-addresses.ts'
import { differingSysctls, formatSysctl } from '../kernel/host/sysctl.ts'
import { Doorbell } from '../waiting/doorbell.ts'
import { dryRun, type DryRunOptions } from '../loop/dry-run.ts'
import { Reporter } from '../loop/reporter.ts'
import type { Lookout } from '../program/lookout.ts'
import { type MappingInput, mappingOptions, ruleOptions } from '../program/mapping.ts'
import type { Address, Family } from '../model/address.ts'
import { contains } from '../model/cidr.ts'
import { Cluster } from '../model/facts/cluster.ts'
import { formatCommand } from '../model/ipvsadm.ts'
import type { Operation } from '../model/operation.ts'
import { explainMissingNode } from '../program/missing-node.ts'
import { loadAddon } from '../netlink/socket.ts'
import { bridgeRemedy, openKernel, wantedSysctls, wantedTimeouts } from '../program/node-setup.ts'
import { checkOrigin, type Origin, openOrigin } from '../program/origin.ts'
import { addressBook, openLookout, wantedScheduler } from '../program/parts.ts'
import type { ProgramOptions } from '../program/program.ts'
import { Metrics } from '../serve/metrics.ts'

/** What `kube-ipvs plan` prints: the commands, and a last line that says how many there are, as a comment of the shell. */
export function formatPlan(commands: readonly string[]): string {
  const changes = commands.length === 1 ? '1 change' : `${commands.length} changes`
  const verdict = commands.length === 0 ? 'no change: the kernel is as it should be' : changes
  return [...commands, `# ${verdict}`].map((line) => `${line}\n`).join('')
}

/** The settings of the kernel that differ. */
async function settingCommands(kernel: LinuxKernel, config: Config): Promise<string[]> {
  const sysctls = await differingSysctls(wantedSysctls(config))
  const { tcp, tcpFin, udp } = wantedTimeouts(config)
  const now = await kernel.ipvs.readTimeouts()
  const differs = [
    [tcp, now.tcp],
    [tcpFin, now.tcpFin],
    [udp, now.udp],
  ].some(([wanted, current]) => wanted! > 0 && wanted !== current)
  return [...sysctls.map(formatSysctl), ...(differs ? [`ipvsadm --set ${tcp} ${tcpFin} ${udp}`] : [])]
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

/** What the facts come from, and who else has the addresses in them. */
interface Facts {
  readonly origin: Origin
  readonly cluster: Cluster
  readonly doorbell: Doorbell
  readonly lookout: Lookout
  readonly metrics: Metrics
}

function openFacts(
  { naming, choice, log }: ProgramOptions,
  addon: Parameters<typeof openLookout>[0],
  signal: AbortSignal,
): Facts {
  const metrics = new Metrics({ defaults: false })
  const doorbell = new Doorbell()
  const ring = (): void => {
    doorbell.ring()
  }
  const apiMoved = (): void => {
    cluster.markExposed()
  }
  const nodeName = naming.name
  const origin = openOrigin(choice, { nodeName, metrics, log, signal, apiMoved, apiLost: ring })
  const externalNamed = (): void => {
    lookout.lookAgain()
  }
  const cluster = new Cluster(nodeName, ring, { externalNamed, nodeChanged: externalNamed })
  const lookout = openLookout(addon, origin, { cluster, log, signal })
  return { origin, cluster, doorbell, lookout, metrics }
}

/** The scheduler is taken at its word: looking for it would change the kernel. */
function dryRunOptions(
  { naming, log, policy, loaded: { config } }: ProgramOptions,
  facts: Facts,
  kernel: LinuxKernel,
  node: Pick<MappingInput, 'families'> & { nodeAddresses: readonly Address[] },
  signal: AbortSignal,
): DryRunOptions {
  const { cluster, origin, metrics, lookout, doorbell } = facts
  return {
    ...{ cluster, doorbell, kernel, log },
    reporter: new Reporter({ log, metrics, recordEvent: () => undefined }),
    hasLookedAround: () => lookout.isDone,
    onNodeListed: () => explainMissingNode({ naming, cluster, origin, log, signal }),
    mapping: () =>
      mappingOptions({
        ...{ ...node, config, cluster, nodeName: naming.name, policy: policy?.policy },
        ...addressBook(facts),
        scheduler: wantedScheduler({ cluster, config }),
      }),
    isExcluded: (address) => config.excludeCidrs.some((cidr) => contains(cidr, address)),
  }
}

/** Everything that a start would do, in its order. Throws an Error with a remedy when it cannot be found out. */
export async function preview(options: ProgramOptions): Promise<string[]> {
  const { choice, log, signal, loaded } = options
  const { config } = loaded
  const addon = loadAddon()
  const families = await supportedFamilies()
  const ended = new AbortController()
  const until = AbortSignal.any([signal, ended.signal])
  checkOrigin(choice)
  const kernel = await openKernel({ addon, families, readOnly: true, signal }, log)
  const facts = openFacts(options, addon, until)
  const node = { families, nodeAddresses: [] as readonly Address[] }
  const changed = (addresses: readonly Address[]): void => {
    node.nodeAddresses = addresses
  }
  try {
    await followNodeAddresses({ addon, log, signal: until, changed })
    const followed = facts.origin.follow(facts.cluster, until)
    const operations = await Promise.race([
      dryRun(dryRunOptions(options, facts, kernel, node, until), until),
      followed.then((): Operation[] => []),
    ])
    // What is missing in an unfinished list would be deleted.
    if (signal.aborted) throw new Error('Stopped before the plan was complete')
    return [
      ...(await settingCommands(kernel, config)),
      ...bridgeCommands(families),
      ...kernel.creations,
      ...(await kubeProxyTables(addon)).map(tableDeletion),
      ...(await ruleCommands(kernel.filter, families, { config, cluster: facts.cluster })),
      ...operations.map(formatCommand),
    ]
  } finally {
    ended.abort()
    kernel.close()
  }
}
