/** The kernel of a node that serves: opened, prepared, and read for the first time. */
import type { Logger } from 'pino'
import { removeKubeProxyTables } from '../kernel/filter/kube-proxy-tables.ts'
import type { LinuxKernel } from '../kernel/linux-kernel.ts'
import type { Family } from '../model/address.ts'
import type { KernelTables } from '../model/kernel-object.ts'
import type { Socket } from '../netlink/socket.ts'
import type { Metrics } from '../serve/metrics.ts'
import { awaitedLater } from '../waiting/promises.ts'
import type { Current } from './current.ts'
import type { Life } from './life.ts'
import { openBridges, openKernel, setUpNode } from './node-setup.ts'

export interface ServingKernel {
  readonly kernel: LinuxKernel
  /** Looks after bridges: the first one may come with the first Pod. */
  readonly tendBridges: () => Promise<void>
  /** What the kernel has shown. Large: not to be kept. */
  readonly tables: KernelTables
}

export interface ServingKernelOptions {
  readonly addon: Socket
  readonly families: ReadonlySet<Family>
  readonly current: Pick<Current, 'config'>
  readonly metrics: Pick<Metrics, 'flowsDeleted'>
  /** Before it has resolved, no address is bound. */
  readonly rulesReady: Promise<unknown>
  readonly life: Life
  readonly log: Logger
}

/** Throws an Error with a remedy when the kernel cannot serve. */
export async function openServingKernel(options: ServingKernelOptions): Promise<ServingKernel> {
  const { addon, families, current, metrics, rulesReady, life, log } = options
  const flowsDeleted = metrics.flowsDeleted.bind(metrics)
  const kernel = await openKernel({ addon, families, signal: life.signal, flowsDeleted, rulesReady }, log)
  life.atEnd(() => {
    kernel.close()
  })
  // Before the kernel is read: it runs programs, which take a while.
  kernel.filter.prepare()
  const tendBridges = openBridges(families, log)
  // Not awaited at once: why the kernel refuses us is said best by the tables.
  const prepared = awaitedLater(
    Promise.all([setUpNode(kernel, current.config, log), removeNftablesMode(addon, log), tendBridges()]),
  )
  const tables = await kernel.readTables()
  await prepared
  if (!families.has('IPv6')) log.warn('IPv6 is not available on this node: IPv6 cluster IPs are not served')
  return { kernel, tendBridges, tables }
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
