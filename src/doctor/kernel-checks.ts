/** What the kernel itself answers: IPVS, schedulers, the interface, sets and rules. Only the scheduler is tried, and taken back. */
import type { Config } from '../config/config.ts'
import { kubeProxyTables, tableDeletion } from '../kernel/filter/kube-proxy-tables.ts'
import { hasScheduler } from '../kernel/ipvs/schedulers.ts'
import { LinuxKernel } from '../kernel/linux-kernel.ts'
import type { Family } from '../model/address.ts'
import { schedulerOf } from '../model/schedulers.ts'
import type { Socket } from '../netlink/socket.ts'
import { ruleOptions } from '../program/mapping.ts'
import { type Check, finding, type Finding } from './check.ts'

export interface KernelChecksOptions {
  readonly addon: Socket
  readonly config: Config
  readonly families: ReadonlySet<Family>
}

/** The kernel, once it has been read. */
interface Shown {
  readonly kernel: LinuxKernel
}

function checkParts({ kernel }: Shown): Finding[] {
  const [first, ...more] = kernel.creations.map((command) => command.split(' ').slice(0, 4).join(' '))
  if (first === undefined) return []
  const others = more.length === 0 ? '' : `, and ${more.length} more`
  return [finding(`missing: ${first}${others}`, 'kube-ipvs makes it: see that it runs')]
}

function checkSets({ kernel }: Shown): Finding[] {
  return [...kernel.setFaults.values()].map(({ message }) => finding(message, 'as it says'))
}

async function checkScheduler({ kernel }: Shown, { scheduler }: Config): Promise<Finding[]> {
  if (await hasScheduler(kernel.ipvs, scheduler)) return []
  const { module } = schedulerOf(scheduler)
  return [
    finding(
      `the kernel has no scheduler ${scheduler}: rr serves in its place`,
      `modprobe ${module}`,
      'docs/operations.md#switch-the-scheduler',
    ),
  ]
}

/** The rules follow the configuration, and in some of its modes the Node object, which is not asked for here. */
function followsNode({ detectLocalMode, nodePortAddresses }: Config): boolean {
  return detectLocalMode === 'NodeCIDR' || nodePortAddresses.includes('primary')
}

async function checkRules({ kernel }: Shown, { config, families }: KernelChecksOptions): Promise<Finding[]> {
  if (followsNode(config)) return []
  const cluster = { node: undefined }
  const commands = await Promise.all(
    [...families].map((family) => kernel.filter.preview(family, ruleOptions({ config, cluster }, family))),
  )
  const missing = commands.flat()
  if (missing.length === 0) return []
  const more = missing.length > 1 ? `, and ${missing.length - 1} more` : ''
  return [
    finding(
      `rules are missing or were changed: ${missing[0]!}${more}`,
      'kube-ipvs repairs them at an audit: see that it runs, and "kube-ipvs diff" for all of them',
    ),
  ]
}

async function checkKubeProxyTables(addon: Socket): Promise<Finding[]> {
  const families = await kubeProxyTables(addon)
  return families.map((family) =>
    finding(
      `kube-proxy's nftables mode has left its ${family} table: it answers for Services`,
      tableDeletion(family),
    ),
  )
}

export interface KernelChecks {
  readonly checks: readonly Check[]
  /** What has not been opened by now is left to the end of the process. */
  readonly close: () => void
}

export function kernelChecks(options: KernelChecksOptions): KernelChecks {
  const { addon, config, families } = options
  let found: LinuxKernel | undefined
  const open = async (): Promise<Shown> => {
    const kernel = (found = await LinuxKernel.open({ addon, families, readOnly: true }))
    await kernel.readTables()
    return { kernel }
  }
  // That it does not open is the finding of one check.
  const shown = open()
  const opened = shown.catch(() => undefined)
  const ifOpen =
    (look: (shown: Shown) => readonly Finding[] | Promise<readonly Finding[]>) =>
    async (): Promise<readonly Finding[]> => {
      const one = await opened
      return one === undefined ? [] : look(one)
    }
  return {
    checks: [
      { category: 'kernel', run: async () => checkParts(await shown) },
      { category: 'ipset', run: ifOpen(checkSets) },
      { category: 'schedulers', run: ifOpen((one) => checkScheduler(one, config)) },
      { category: 'iptables', run: ifOpen((one) => checkRules(one, options)) },
      { category: 'conflicts', run: () => checkKubeProxyTables(addon) },
    ],
    close: () => {
      found?.close()
    },
  }
}
