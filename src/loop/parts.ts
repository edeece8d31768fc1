/** What the loop is made of, put together. */
import type { Logger } from 'pino'
import type { Kernel } from '../kernel/kernel.ts'
import type { Address } from '../model/address.ts'
import { Ledger } from '../model/claims/ledger.ts'
import type { KernelTables } from '../model/kernel-object.ts'
import type { Metrics } from '../serve/metrics.ts'
import type { Journal } from '../view/journal.ts'
import type { Bell } from '../waiting/doorbell.ts'
import { Applier } from './applier.ts'
import { Auditor } from './audit/auditor.ts'
import { Audits } from './audit/audits.ts'
import { Drainer } from './drainer.ts'
import { Intake, type IntakeOptions } from './intake/intake.ts'
import type { ListsOptions } from './intake/lists.ts'
import { Mapper, type MapperOptions } from './intake/mapper.ts'
import { Queue } from './queue.ts'
import type { Reporter } from './reporter.ts'
import { Round, type RoundOptions } from './round.ts'
import { Watchdog } from './watchdog.ts'

export interface ProxyOptions
  extends
    Omit<MapperOptions, 'ledger' | 'queue' | 'reporter'>,
    Omit<ListsOptions, 'mapper'>,
    Pick<IntakeOptions, 'minSyncPeriodMs' | 'onSettled'>,
    Pick<RoundOptions, 'isExcluded' | 'onAddressesRefused'> {
  readonly kernel: Kernel
  /** Rung by whatever changes facts or mapping. */
  readonly doorbell: Bell
  readonly log: Logger
  readonly metrics: Metrics
  readonly reporter: Reporter
  /** Of what the kernel refuses and the audit puts right, where somebody reads it. */
  readonly journal?: Journal | undefined
  /** Addresses without which nothing can be listed: what is ours on them goes, unless it is a cluster IP. */
  readonly addressesToFree: () => ReadonlySet<Address>
  /** Called after the first sync and after every audit: how many virtual and real servers are ours. */
  readonly onServersCounted: (servers: number) => void
  readonly auditIntervalMs: () => number
  /** How long connections to an endpoint that is gone may last. */
  readonly drainDeadlineMs: number
  /** Monotonic, in ms. */
  readonly now: () => number
  /** Time of processors that this process has used, in ms. */
  readonly cpuMs: () => number
}

export interface Parts {
  readonly options: ProxyOptions
  readonly ledger: Ledger
  readonly queue: Queue
  readonly auditor: Auditor
  readonly audits: Audits
  readonly mapper: Mapper
  readonly intake: Intake
  readonly applier: Applier
  readonly drainer: Drainer
  readonly round: Round
  readonly watchdog: Watchdog
}

/** `tables` are what the kernel has just shown, where it has. */
export function openParts(options: ProxyOptions, tables?: KernelTables): Parts {
  const ledger = new Ledger()
  const queue = new Queue(options.now)
  const watchdog = new Watchdog(options)
  const auditor = new Auditor(options.kernel, tables)
  const { known } = auditor
  const audits = new Audits({ ...options, auditor, ledger, queue, watchdog })
  const mapper = new Mapper({ ...options, ledger, queue })
  const intake = new Intake({ ...options, mapper, watchdog })
  const applier = new Applier({ ...options, auditor, audits, queue, ledger })
  const drainer = new Drainer({ ...options, known, ledger, applier, watchdog })
  const round = new Round({ ...options, ledger, queue, auditor, applier, drainer, watchdog })
  return { options, ledger, queue, auditor, audits, mapper, intake, applier, drainer, round, watchdog }
}
