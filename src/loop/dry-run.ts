/** What a start would change now. */
import type { Kernel } from '../kernel/kernel.ts'
import type { Address } from '../model/address.ts'
import { Ledger } from '../model/claims/ledger.ts'
import type { Operation } from '../model/operation.ts'
import { planChanges } from '../plan/plan.ts'
import { Auditor } from './audit/auditor.ts'
import { reportConflicts } from './conflicts.ts'
import { awaitLists, type ListsOptions } from './intake/lists.ts'
import { Mapper, type MapperOptions } from './intake/mapper.ts'
import { Queue } from './queue.ts'
import type { Reporter } from './reporter.ts'

export interface DryRunOptions
  extends
    Omit<MapperOptions, 'ledger' | 'queue' | 'reporter' | 'onServiceMapped'>,
    Omit<ListsOptions, 'mapper'> {
  readonly kernel: Kernel
  readonly reporter: Reporter
  readonly isExcluded: (address: Address) => boolean
}

/** The operations in their order; nothing is changed, and what only drains is left out. Throws when it cannot read the kernel. */
export async function dryRun(options: DryRunOptions, signal: AbortSignal): Promise<Operation[]> {
  const { kernel, isExcluded, reporter } = options
  const ledger = new Ledger()
  // Nothing is tried again, so it needs no clock.
  const queue = new Queue(() => 0)
  const mapper = new Mapper({ ...options, ledger, queue, onServiceMapped: () => undefined })
  await awaitLists({ ...options, mapper }, signal)
  if (mapper.takeChanges()) await mapper.mapTaken()
  const auditor = new Auditor(kernel)
  await auditor.readAll()
  for (const object of auditor.objects()) queue.add(object)
  const objects = queue.ready((key) => ledger.wanted(key) !== undefined)
  const { known, foreign } = auditor
  reportConflicts(objects, { ledger, foreign, reporter })
  return planChanges(objects, { wanted: (key) => ledger.wanted(key), known, foreign, isExcluded })
}
