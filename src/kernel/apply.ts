/** Executes a plan: carries on after a failure, but does not attempt what depends on it. */
import type { Address } from '../model/address.ts'
import type { Operation } from '../model/operation.ts'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import type { Kernel } from './kernel.ts'

/** What became of one operation. */
export interface Outcome {
  readonly operation: Operation
  /** Absent when it succeeded. */
  readonly error?: Error
  /** Not attempted, or bound to fail: an operation it depends on has failed. */
  readonly skipped?: boolean
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
export async function applyPlan(kernel: Kernel, operations: readonly Operation[]): Promise<Outcome[]> {
  const failures: Failures = { virtualServers: new Set(), addresses: new Set() }
  const outcomes: Outcome[] = []
  const firstBind = operations.findIndex(({ kind }) => kind === 'bindAddress')
  const split = firstBind < 0 ? operations.length : firstBind
  for (const part of [operations.slice(0, split), operations.slice(split)]) {
    const skipped = part.filter((operation) => dependsOn(operation, failures))
    const attempted =
      skipped.length === 0 ? part : part.filter((operation) => !dependsOn(operation, failures))
    const results = await kernel.execute(attempted)
    for (const [i, operation] of attempted.entries()) outcomes.push(judge(operation, results[i], failures))
    for (const operation of skipped) outcomes.push({ operation, skipped: true })
  }
  return outcomes
}

function judge(operation: Operation, error: Error | undefined, failures: Failures): Outcome {
  if (error === undefined) return { operation }
  if (dependsOn(operation, failures)) return { operation, skipped: true }
  if (operation.kind === 'createVirtualServer') {
    failures.virtualServers.add(operation.of.key)
    failures.addresses.add(operation.of.address)
  }
  return { operation, error }
}
