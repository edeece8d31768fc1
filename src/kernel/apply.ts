/** Executes a plan: carries on after a failure, but does not attempt what depends on it. */
import type { Address } from '../model/address.ts'
import type { Operation } from '../model/operation.ts'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import type { Kernel } from './kernel.ts'

/** The operations that did not succeed, each with its error, or `skipped`: another one, which it depends on, has failed. */
export type Refusals = ReadonlyMap<Operation, Error | 'skipped'>

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

/**
 * Throws when the kernel cannot say what became of the operations. No address is bound before `ruled` resolves; what it
 * throws is thrown.
 */
export async function applyPlan(
  kernel: Kernel,
  operations: readonly Operation[],
  ruled: Promise<unknown>,
): Promise<Refusals> {
  const failures: Failures = { virtualServers: new Set(), addresses: new Set() }
  const refusals = new Map<Operation, Error | 'skipped'>()
  const firstBind = operations.findIndex(({ kind }) => kind === 'bindAddress')
  const split = firstBind < 0 ? operations.length : firstBind
  for (const part of [operations.slice(0, split), operations.slice(split)]) {
    if (part[0]?.kind === 'bindAddress') await ruled
    const attempted = refusals.size === 0 ? part : part.filter((operation) => !dependsOn(operation, failures))
    if (attempted.length < part.length)
      for (const operation of part) if (dependsOn(operation, failures)) refusals.set(operation, 'skipped')
    const results = await kernel.execute(attempted)
    for (const [i, error] of results.entries())
      if (error !== undefined) judge(attempted[i]!, error, failures, refusals)
  }
  return refusals
}

function judge(
  operation: Operation,
  error: Error,
  failures: Failures,
  refusals: Map<Operation, Error | 'skipped'>,
): void {
  refusals.set(operation, dependsOn(operation, failures) ? 'skipped' : error)
  if (operation.kind === 'createVirtualServer') {
    failures.virtualServers.add(operation.of.key)
    failures.addresses.add(operation.of.address)
  }
}
