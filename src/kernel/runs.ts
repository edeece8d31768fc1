/** Operations cut into runs: what goes over one wire, in one exchange. */
import type { Operation } from '../model/operation.ts'
import type { Refusals } from '../netlink/error.ts'
import { explainFailure } from './explain.ts'

export type Wire = 'ipvs' | 'address' | 'set' | 'flow'

/** Operations are sent in batches of this size, so that no reply is waited for longer than need be. */
const BATCH_OPERATIONS = 5_000

function wireOf(operation: Operation): Wire {
  if (operation.kind === 'deleteFlows') return 'flow'
  if ('address' in operation) return 'address'
  return 'member' in operation ? 'set' : 'ipvs'
}

function beginsToBind(operations: readonly Operation[], place: number): boolean {
  return operations[place]!.kind === 'bindAddress' && operations[place - 1]!.kind !== 'bindAddress'
}

/** Consecutive operations on the same wire, at most a batch each. A run that binds addresses begins with one. */
function* runsOf(operations: readonly Operation[]): Generator<readonly [Wire, readonly Operation[]]> {
  for (let start = 0, end: number; start < operations.length; start = end) {
    const wire = wireOf(operations[start]!)
    for (end = start + 1; end < operations.length && end - start < BATCH_OPERATIONS; end++) {
      if (wireOf(operations[end]!) !== wire || beginsToBind(operations, end)) break
    }
    yield [wire, operations.slice(start, end)]
  }
}

/**
 * Executes operations run by run, in order, each by `executeRun`, and explains what was refused. Addresses are bound when
 * `rulesReady` has resolved; what it rejects with, and what `executeRun` throws, is thrown.
 */
export async function executeInRuns(
  operations: readonly Operation[],
  executeRun: (wire: Wire, run: readonly Operation[]) => Promise<Refusals>,
  rulesReady?: Promise<unknown>,
): Promise<Refusals> {
  const refusals = new Map<number, Error>()
  let start = 0
  for (const [wire, run] of runsOf(operations)) {
    if (run[0]!.kind === 'bindAddress') await rulesReady
    for (const [i, error] of await executeRun(wire, run))
      refusals.set(start + i, explainFailure(run[i]!, error))
    start += run.length
  }
  return refusals
}
