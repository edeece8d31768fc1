/** Executes a plan: carries on after a failure, but does not attempt what depends on it. */
import type { Address } from '../model/address.ts'
import type { Operation } from '../model/operation.ts'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import { isAlreadyExists, isNotFound, type Refusals } from '../netlink/error.ts'
import { netlinkErrorOf } from './explain.ts'
import type { Kernel } from './kernel.ts'

/** Of an operation that was not attempted, or in vain: what it depends on has failed, which is the cause. */
export class SkippedError extends Error {
  override readonly name = 'SkippedError'
}

export function isSkipped(error: unknown): boolean {
  return error instanceof SkippedError
}

/** It is as it should be: what was to be deleted is not there, or a route, which only we make, is there. */
export function isAsWanted(operation: Operation, error: Error): boolean {
  const { kind } = operation
  const cause = netlinkErrorOf(error)
  if (kind === 'bindAddress') return operation.binding === 'route' && isAlreadyExists(cause)
  return (kind.startsWith('delete') || kind === 'unbindAddress') && isNotFound(cause)
}

/** What is not there, each with the error of what depends on it. */
interface Missing {
  /** Virtual servers that could not be created, and their addresses. */
  readonly virtualServers: Map<VirtualServerKey | Address, SkippedError>
  /** Addresses that were not bound. */
  readonly bindings: Map<Address, SkippedError>
}

/**
 * No real servers for a virtual server that could not be created, and no address for it either; and an address that was not
 * bound in another way stays bound as it is.
 */
function whySkipped(operation: Operation, { virtualServers, bindings }: Missing): SkippedError | undefined {
  if (operation.kind === 'createRealServer') return virtualServers.get(operation.of.key)
  if (operation.kind === 'bindAddress') return virtualServers.get(operation.address)
  return operation.kind === 'unbindAddress' ? bindings.get(operation.address) : undefined
}

/** Where a plan is cut: what follows may depend on what is before it. */
function partsOf(operations: readonly Operation[]): (readonly [number, number])[] {
  const firstBind = operations.findIndex(({ kind }) => kind === 'bindAddress')
  const firstUnbind = operations.findIndex(({ kind }) => kind === 'unbindAddress')
  const cuts = firstBind < 0 ? [] : [firstBind, ...(firstUnbind > firstBind ? [firstUnbind] : [])]
  return [0, ...cuts].map((start, i) => [start, cuts[i] ?? operations.length])
}

/**
 * Executes a plan in its order; what depends on a virtual server that could not be created is refused with a SkippedError.
 * Throws when the kernel cannot say what became of the operations.
 */
export async function applyPlan(kernel: Kernel, operations: readonly Operation[]): Promise<Refusals> {
  const missing: Missing = { virtualServers: new Map(), bindings: new Map() }
  const refusals = new Map<number, Error>()
  for (const [start, end] of partsOf(operations)) {
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
  const isAllThere = missing.virtualServers.size + missing.bindings.size === 0
  const places: number[] = []
  for (let place = start; place < end; place++) {
    const operation = operations[place]!
    const skipped = isAllThere ? undefined : whySkipped(operation, missing)
    if (skipped === undefined) places.push(place)
    else {
      noteMissing(operation, skipped, missing)
      refusals.set(place, skipped)
    }
  }
  return places
}

/** The reason of a refusal: of what was attempted in vain, that which it depends on. */
function judge(operation: Operation, error: Error, missing: Missing): Error {
  const reason = whySkipped(operation, missing) ?? error
  if (!isAsWanted(operation, error)) noteMissing(operation, error, missing)
  return reason
}

function noteMissing(operation: Operation, cause: Error, { virtualServers, bindings }: Missing): void {
  if (operation.kind === 'createVirtualServer') {
    const { key, address } = operation.of
    const skipped = new SkippedError(`It depends on virtual server ${key}`, { cause })
    virtualServers.set(key, skipped).set(address, skipped)
  } else if (operation.kind === 'bindAddress') {
    const { address } = operation
    bindings.set(address, new SkippedError(`It depends on another binding of ${address}`, { cause }))
  }
}
