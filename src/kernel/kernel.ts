/** The kernel as the proxy sees it: tables to read and operations to execute. */
import type { KernelTables } from '../model/kernel-object.ts'
import type { Operation } from '../model/operation.ts'
import type { ObservedRealServer, VirtualServerId, VirtualServerKey } from '../model/virtual-server.ts'
import type { Refusals } from '../netlink/error.ts'

export interface Kernel {
  /** Throws when it cannot read all of it: a list that may be partial is not a list. It may go on beside `execute`. */
  readTables(): Promise<KernelTables>
  /** An empty list for a virtual server that does not exist. Throws as `readTables`. */
  readRealServers(
    ids: readonly VirtualServerId[],
  ): Promise<ReadonlyMap<VirtualServerKey, readonly ObservedRealServer[]>>
  /**
   * Executes operations in the order given, each on its own: one that fails does not stop the next. Throws when it
   * cannot say what became of them.
   */
  execute(operations: readonly Operation[]): Promise<Refusals>
  close(): void
}
