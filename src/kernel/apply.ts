/** Executes a plan: carries on after a failure, but does not attempt what depends on it. */
import type { Address } from '../model/address.ts'
import type { Operation } from '../model/operation.ts'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import type { Kernel } from './kernel.ts'

/** By the place of an operation: why it did not succeed. */
export type Refusals = ReadonlyMap<number, Error>

class SkippedError extends Error {
  override readonly name = 'SkippedError'
}

export function isSkipped(error: Error): boolean {
  return error instanceof SkippedError
}

/** What failed so far, and what depends on it. */
interface Failures {
  readonly virtualServers: Set<VirtualServerKey>
  readonly addresses: Set<Address>
}

/** No real servers for a virtual server that could not be created, and no address for it either. */
function dependsOn(operation: Operation, { virtualServers, addresses }: Failures): boolean {
  if (operation.kind === 'createRealServer') return virtualServers.has(operation.of.key)
  return operation.kind === 'bindAddress' && addresses.has(operation.address)
}

/** Throws when the kernel cannot say what became of the operations. */
export async function applyPlan(kernel: Kernel, operations: readonly Operation[]): Promise<Refusals> {
  const failures: Failures = { virtualServers: new Set(), addresses: new Set() }
  const refusals = new Map<number, Error>()
  const firstBind = operations.findIndex(({ kind }) => kind === 'bindAddress')
  const split = firstBind < 0 ? operations.length : firstBind
  for (const [start, end] of [
    [0, split],
    [split, operations.length],
  ] as const) {
    const places = Array.from({ length: end - start }, (_, i) => start + i)
    const attempted = places.filter((i) => !dependsOn(operations[i]!, failures))
    for (const i of places)
      if (dependsOn(operations[i]!, failures)) refusals.set(i, new SkippedError('skipped'))
    const results = await kernel.execute(attempted.map((i) => operations[i]!))
    for (const [i, error] of results.entries())
      if (error !== undefined) judge(attempted[i]!, operations[attempted[i]!]!, error, failures, refusals)
  }
  return refusals
}

function judge(
  place: number,
  operation: Operation,
  error: Error,
  failures: Failures,
  refusals: Map<number, Error>,
): void {
  refusals.set(place, dependsOn(operation, failures) ? new SkippedError('skipped') : error)
  if (operation.kind === 'createVirtualServer') {
    failures.virtualServers.add(operation.of.key)
    failures.addresses.add(operation.of.address)
  }
}
