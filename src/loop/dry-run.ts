/** What a start would change now. */
import type { Kernel } from '../kernel/kernel.ts'
import type { Address } from '../model/address.ts'
import type { Claim } from '../model/claims/claim.ts'
import { Ledger } from '../model/claims/ledger.ts'
import type { ObjectKey } from '../model/kernel-object.ts'
import type { Operation } from '../model/operation.ts'
import { isForeign, planChanges } from '../plan/plan.ts'
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

/** What a start would do, and what it would leave alone. */
export interface DryRun {
  /** In their order; what only drains is left out. */
  readonly operations: readonly Operation[]
  /** Virtual servers of somebody else, and their addresses. */
  readonly foreign: ReadonlySet<ObjectKey>
  /** What Services want and somebody else has: a sentence each. */
  readonly blocked: readonly string[]
}

/** Nothing is changed. Throws when it cannot read the kernel. */
export async function dryRun(options: DryRunOptions, signal: AbortSignal): Promise<DryRun> {
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
  const wanted = (key: ObjectKey): Claim | undefined => ledger.wanted(key)
  const blocked = objects.flatMap(({ kind, key }) => {
    const claim = kind === 'virtualServer' ? wanted(key) : undefined
    return claim !== undefined && isForeign(claim, foreign)
      ? [`${key} of ${claim.owner} is not served: somebody else has virtual servers on its address`]
      : []
  })
  return { operations: planChanges(objects, { wanted, known, foreign, isExcluded }), foreign, blocked }
}
