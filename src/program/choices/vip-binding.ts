/** How virtual IPs are bound: as addresses of kube-ipvs0, or as routes on lo. */
import type { Logger } from 'pino'
import type { LinuxKernel } from '../../kernel/linux-kernel.ts'
import type { Family } from '../../model/address.ts'
import { type Binding, isBoundAs } from '../../model/binding.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import type { KernelTables } from '../../model/kernel-object.ts'
import type { Metrics } from '../../serve/metrics.ts'
import { Choice } from './choice.ts'
import type { Life } from '../life.ts'
import type { RecordNodeEvent } from '../report/node-events.ts'

export type BindingChoice = Choice<Binding>

const REMEDY =
  'lo has to be up ("ip link set lo up") and to have IPv6 (net.ipv6.conf.lo.disable_ipv6), and the kernel to take local routes'

/** What this node's annotation asks for, or else the flag. */
export function wantedBinding({ node }: Pick<Cluster, 'node'>, flag: Binding): Binding {
  return node?.vipBinding ?? flag
}

/**
 * How most virtual IPs are bound now; where none is, as the flag wants it. Before this node's annotation is known, nothing
 * is bound in another way than it was.
 */
export async function bindingInUse(
  { addresses }: Pick<KernelTables, 'addresses'>,
  flag: Binding,
  isAvailable: (binding: Binding) => Promise<boolean>,
): Promise<Binding> {
  const bound = [...addresses.values()]
  if (bound.length === 0) return (await isAvailable(flag).catch(() => false)) ? flag : 'address'
  const routes = bound.filter((one) => isBoundAs('route', one)).length
  return routes * 2 > bound.length ? 'route' : 'address'
}

export interface BindingInput {
  readonly kernel: Pick<LinuxKernel, 'probeRoutes'>
  readonly tables: Pick<KernelTables, 'addresses'>
  readonly families: ReadonlySet<Family>
  readonly cluster: Pick<Cluster, 'node' | 'listen' | 'markAll'>
  /** Of --vip-binding. */
  readonly vipBinding: Binding
  readonly metrics: Pick<Metrics, 'setVipBinding'>
  readonly recordNodeEvent: RecordNodeEvent
  readonly life: Pick<Life, 'atEnd'>
  readonly log: Logger
}

/** Binds all virtual IPs in another way when this node asks for it, make before break, and says so. */
export async function openVipBinding(input: BindingInput): Promise<BindingChoice> {
  const { kernel, tables, families, cluster, vipBinding, metrics, recordNodeEvent, life, log } = input
  const action = 'SwitchVipBinding'
  const isAvailable = async (binding: Binding): Promise<boolean> => {
    if (binding === 'route') await kernel.probeRoutes(families)
    return true
  }
  const choice = new Choice({
    ...{ what: 'VIP binding', field: 'vipBinding' },
    initial: await bindingInUse(tables, vipBinding, isAvailable),
    isAvailable,
    remedyFor: () => REMEDY,
    onSwitch: (binding) => {
      const note = `Virtual IPs are now bound as ${binding === 'route' ? 'routes' : 'addresses'}`
      recordNodeEvent({ reason: 'VipBindingChanged', action, note })
      metrics.setVipBinding(binding)
      cluster.markAll()
    },
    onRefusal: (note) => {
      recordNodeEvent({ type: 'Warning', reason: 'VipBindingUnavailable', action, note })
    },
    log,
  })
  metrics.setVipBinding(choice.current)
  // What the node says before it is listed counts when it is.
  cluster.listen({ onNodeChange: () => void choice.want(wantedBinding(cluster, vipBinding)) })
  life.atEnd(() => {
    choice.stop()
  })
  return choice
}
