/** The scheduler in use: the one that is wanted if the kernel has it, else the one before. */
import type { Logger } from 'pino'
import { schedulerOf } from '../model/schedulers.ts'
import type { Config } from '../config/config.ts'
import { hasScheduler } from '../kernel/ipvs/schedulers.ts'
import type { LinuxKernel } from '../kernel/linux-kernel.ts'
import type { Cluster } from '../model/facts/cluster.ts'
import type { KernelTables } from '../model/kernel-object.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Current } from './current.ts'
import type { Life } from './life.ts'
import type { RecordNodeEvent } from './report/node-events.ts'

const RETRY_MS = 60_000

export interface SchedulerChoiceOptions {
  /** In use until another proves available. */
  readonly initial: string
  /** Whether the kernel has a scheduler. */
  readonly isAvailable: (scheduler: string) => Promise<boolean>
  /** Called when `current` has changed. */
  readonly onSwitch: (scheduler: string) => void
  /** Called once for each scheduler that is wanted and not available, with the remedy. */
  readonly onRefusal: (reason: string) => void
  readonly log: Logger
}

export class SchedulerChoice {
  readonly #options: SchedulerChoiceOptions
  #current: string
  #wanted: string
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(options: SchedulerChoiceOptions) {
    this.#options = options
    this.#current = options.initial
    this.#wanted = options.initial
  }

  get current(): string {
    return this.#current
  }

  /** Switches when the kernel has the scheduler; else says so once and looks again every minute. */
  want(scheduler: string): Promise<void> {
    this.#running = this.#running.then(() => this.#want(scheduler))
    return this.#running
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  async #want(scheduler: string): Promise<void> {
    if (scheduler === this.#wanted) return
    const { log, onRefusal } = this.#options
    this.stop()
    this.#wanted = scheduler
    if (await this.#switch()) return
    const remedy = `load it with "modprobe ${schedulerOf(scheduler).module}"`
    log.error({ scheduler, inUse: this.#current, remedy }, `the scheduler "${scheduler}" is not available`)
    onRefusal(`The scheduler "${scheduler}" is not available, ${this.#current} stays: ${remedy}`)
    // It may begin after `stop`: then it must not keep the process alive.
    this.#timer = setInterval(() => void this.#switch(), RETRY_MS).unref()
  }

  async #switch(): Promise<boolean> {
    const { isAvailable, onSwitch, log } = this.#options
    const wanted = this.#wanted
    if (wanted !== this.#current) {
      const available = await isAvailable(wanted).catch((err: unknown) => {
        log.warn({ err, scheduler: wanted }, 'cannot tell whether the kernel has the scheduler')
        return false
      })
      if (!available || wanted !== this.#wanted) return false
      log.info({ scheduler: wanted, before: this.#current }, 'switching the scheduler')
      this.#current = wanted
      onSwitch(wanted)
    }
    this.stop()
    return true
  }
}

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
  const choice = new SchedulerChoice({
    initial: await schedulerInUse(tables, current.config.scheduler, isAvailable),
    isAvailable,
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
