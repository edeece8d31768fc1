/** Who does not get a virtual server, and why. */
import { isForeign } from '../plan/plan.ts'
import type { Ledger } from '../model/claims/ledger.ts'
import { addressOf, type KernelObject, type ObjectKey } from '../model/kernel-object.ts'
import type { Reporter } from './reporter.ts'

export interface ConflictsOptions {
  readonly ledger: Ledger
  /** Virtual servers of somebody else, and their addresses. */
  readonly foreign: ReadonlySet<ObjectKey>
  readonly reporter: Pick<Reporter, 'conflicts'>
}

/** Says who loses over each of these objects that is a virtual server; that nobody does any more, too. */
export function reportConflicts(
  objects: readonly KernelObject[],
  { ledger, foreign, reporter }: ConflictsOptions,
): void {
  for (const object of objects) {
    if (object.kind !== 'virtualServer') continue
    const claim = ledger.wanted(object.key)
    const isTaken = claim !== undefined && isForeign(claim, foreign)
    const reason = `somebody else has virtual servers on ${addressOf(object)}`
    const conflicts = isTaken ? [{ loser: claim.owner, reason }] : ledger.conflicts(object.key)
    reporter.conflicts(object.key, conflicts)
  }
}
