/** Executes a plan: carries on after a failure, but does not attempt what depends on it. */
import type { Address } from '../model/address.ts'
import type { Operation } from '../model/operation.ts'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import { isNotFound, type Refusals } from '../netlink/error.ts'
import { netlinkErrorOf } from './explain.ts'
import type { Kernel } from './kernel.ts'

/** Of an operation that was not attempted, or in vain: what it depends on has failed, which is the cause. */
export class SkippedError extends Error {
  override readonly name = 'SkippedError'
}

export function isSkipped(error: unknown): boolean {
  return error instanceof SkippedError
}

/** What was to be deleted is not there: as it should be. */
export function isGone({ kind }: Operation, error: Error): boolean {
  return (kind.startsWith('delete') || kind === 'unbindAddress') && isNotFound(netlinkErrorOf(error))
}

/** Virtual servers that could not be created, and their addresses, each with the error of what depends on it. */
type Missing = Map<VirtualServerKey | Address, SkippedError>

/** No real servers for a virtual server that could not be created, and no address for it either. */
function whySkipped(operation: Operation, missing: Missing): SkippedError | undefined {
  if (operation.kind === 'createRealServer') return missing.get(operation.of.key)
  return operation.kind === 'bindAddress' ? missing.get(operation.address) : undefined
}

/**
 * Executes a plan in its order; what depends on a virtual server that could not be created is refused with a SkippedError.
 * Throws when the kernel cannot say what became of the operations.
 */
export async function applyPlan(kernel: Kernel, operations: readonly Operation[]): Promise<Refusals> {
  const missing: Missing = new Map()
  const refusals = new Map<number, Error>()
  const firstBind = operations.findIndex(({ kind }) => kind === 'bindAddress')
  const split = firstBind < 0 ? operations.length : firstBind
  for (const [start, end] of [
    [0, split],
    [split, operations.length],
  ] as const) {
    const attempted = attemptable(operations, start, end, missing, refusals)
    const refused = await kernel.execute(attempted.map((place) => operations[place]!))
    for (const [i, error] of refused) {
      const place = attempted[i]!
      refusals.set(place, judge(operations[place]!, error, missing))
    }
  }
  return refusals
}

/** The places of the operations that do not depend on what is missing; the others are refused. */
function attemptable(
  operations: readonly Operation[],
  start: number,
  end: number,
  missing: Missing,
  refusals: Map<number, Error>,
): number[] {
  const places: number[] = []
  for (let place = start; place < end; place++) {
    const skipped = missing.size === 0 ? undefined : whySkipped(operations[place]!, missing)
    if (skipped === undefined) places.push(place)
    else refusals.set(place, skipped)
  }
  return places
}

/** The reason of a refusal: of what was attempted in vain, that which it depends on. */
function judge(operation: Operation, error: Error, missing: Missing): Error {
  if (operation.kind === 'createVirtualServer') {
    const { key, address } = operation.of
    const skipped = new SkippedError(`It depends on virtual server ${key}`, { cause: error })
    missing.set(key, skipped).set(address, skipped)
  }
  return whySkipped(operation, missing) ?? error
}
