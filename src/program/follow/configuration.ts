/** Follows the configuration file: what can be is applied in place, and the rest starts the program anew. */
import type { Logger } from 'pino'
import type { Config, LoadedConfig } from '../../config/config.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import type { Bell } from '../../waiting/doorbell.ts'
import type { Current } from '../current.ts'
import type { Life } from '../life.ts'
import { checkOrigin, type OriginChoice } from '../origin.ts'
import type { RecordNodeEvent } from '../report/node-events.ts'
import { type SchedulerChoice, wantedScheduler } from '../choices/scheduler.ts'
import { watchFile } from './watch-file.ts'

/** The file that the configuration came from, what it said, and how it is read. */
export interface ConfigFile {
  readonly path: string
  readonly text: string
  /** Throws ConfigError. */
  readonly load: (text: string) => LoadedConfig
}

/** Fields that are read once, at the start: with others, the program starts anew. */
const READ_ONCE = [
  'kubeconfig',
  'hostnameOverride',
  'healthzBindAddress',
  'metricsBindAddress',
  'bindAddressHardFail',
] as const

/** The fields that differ and are read once, at the start. */
export function fieldsForRestart(before: Config, after: Config): readonly string[] {
  return READ_ONCE.filter((field) => after[field] !== before[field])
}

/** What a new configuration is applied to. */
export interface Reconfigured {
  readonly current: Current
  readonly cluster: Pick<Cluster, 'markExposed' | 'node'>
  readonly rulesBell: Pick<Bell, 'ring'>
  readonly scheduler: Pick<SchedulerChoice, 'want' | 'current'>
  readonly setUpNode: (config: Config) => Promise<void>
  /** Listens where the new configuration wants health to be asked for. */
  readonly readdress: () => void
  readonly life: Pick<Life, 'restart' | 'signal'>
  readonly log: Logger
}

/** Applies a new configuration in place, or has the program start anew. */
export async function reconfigure(parts: Reconfigured, { config, document }: LoadedConfig): Promise<void> {
  const { current, cluster, rulesBell, scheduler, setUpNode, readdress, life, log } = parts
  const fields = fieldsForRestart(current.config, config)
  if (fields.length > 0) {
    log.info({ fields }, 'starting anew with the new configuration')
    life.restart()
    return
  }
  current.config = config
  current.document = document
  cluster.markExposed()
  rulesBell.ring()
  await setUpNode(config)
  await scheduler.want(wantedScheduler(cluster, config))
  log.info({ scheduler: scheduler.current }, 'applied the new configuration')
  readdress()
}

export interface FollowedConfig extends Reconfigured {
  readonly choice: OriginChoice
  /** Called with every new configuration, before it is applied. */
  readonly reportConfig: (loaded: LoadedConfig) => void
  readonly recordNodeEvent: RecordNodeEvent
}

/** Until the program ends. What cannot be used leaves everything as it is, and is told. */
export function followConfig({ path, text, load }: ConfigFile, parts: FollowedConfig): void {
  const { choice, reportConfig, recordNodeEvent, life, log } = parts
  watchFile({
    ...{ file: path, initial: text, log, signal: life.signal },
    onText: async (changed) => {
      const loaded = load(changed)
      // What cannot be opened is refused before anything is given up for it.
      checkOrigin({ ...choice, kubeconfig: loaded.config.kubeconfig })
      reportConfig(loaded)
      await reconfigure(parts, loaded)
    },
    onRefusal: (reason) => {
      recordRefusal(recordNodeEvent, reason)
    },
  })
}

export function recordRefusal(recordNodeEvent: RecordNodeEvent, reason: string): void {
  const note = `The new configuration cannot be used, the old one stays: ${reason}`
  recordNodeEvent({ type: 'Warning', reason: 'ConfigurationRefused', action: 'ReadConfiguration', note })
}
