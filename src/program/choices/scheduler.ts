/** The scheduler in use: the one that is wanted if the kernel has it, else the one before. */
import type { Logger } from 'pino'
import { schedulerOf } from '../../model/schedulers.ts'
import type { Config } from '../../config/config.ts'
import { hasScheduler } from '../../kernel/ipvs/schedulers.ts'
import type { LinuxKernel } from '../../kernel/linux-kernel.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import type { KernelTables } from '../../model/kernel-object.ts'
import type { Metrics } from '../../serve/metrics.ts'
import { Choice } from './choice.ts'
import type { Current } from '../current.ts'
import type { Life } from '../life.ts'
import type { RecordNodeEvent } from '../report/node-events.ts'

export type SchedulerChoice = Choice<string>

/** What this node's annotation asks for, or else the configuration. */
export function wantedScheduler(
  { node }: Pick<Cluster, 'node'>,
  { scheduler }: Pick<Config, 'scheduler'>,
): string {
  return node?.scheduler ?? scheduler
}

/** What the kernel has now: what our virtual servers have, or, where there are none, the configured one or rr. */
export async function schedulerInUse(
  { virtualServers, addresses }: KernelTables,
  configured: string,
  isAvailable: (scheduler: string) => Promise<boolean>,
): Promise<string> {
  const known = virtualServers.find(({ id }) => addresses.has(id.address))?.settings.scheduler
  if (known !== undefined) return known
  return (await isAvailable(configured).catch(() => false)) ? configured : 'rr'
}

export interface SchedulerInput {
  readonly kernel: Pick<LinuxKernel, 'ipvs'>
  readonly tables: KernelTables
  readonly cluster: Pick<Cluster, 'node' | 'listen' | 'markAll'>
  readonly current: Pick<Current, 'config'>
  readonly metrics: Pick<Metrics, 'setScheduler'>
  readonly recordNodeEvent: RecordNodeEvent
  readonly life: Pick<Life, 'atEnd'>
  readonly log: Logger
}

/** Switches every Service to another scheduler when the configuration or this node asks for it, and says so. */
export async function openScheduler(input: SchedulerInput): Promise<SchedulerChoice> {
  const { kernel, tables, cluster, current, metrics, recordNodeEvent, life, log } = input
  const isAvailable = (name: string): Promise<boolean> => hasScheduler(kernel.ipvs, name)
  const choice = new Choice({
    ...{ what: 'scheduler', field: 'scheduler' },
    initial: await schedulerInUse(tables, current.config.scheduler, isAvailable),
    isAvailable,
    remedyFor: (name) => `load it with "modprobe ${schedulerOf(name).module}"`,
    onSwitch: (name) => {
      const note = `The scheduler is now ${name}`
      recordNodeEvent({ reason: 'SchedulerChanged', action: 'SwitchScheduler', note })
      metrics.setScheduler(name)
      cluster.markAll()
    },
    onRefusal: (note) => {
      const reason = 'SchedulerUnavailable'
      recordNodeEvent({ type: 'Warning', reason, action: 'SwitchScheduler', note })
    },
    log,
  })
  metrics.setScheduler(choice.current)
  // What the node says before it is listed counts when it is.
  cluster.listen({ onNodeChange: () => void choice.want(wantedScheduler(cluster, current.config)) })
  life.atEnd(() => {
    choice.stop()
  })
  return choice
}
