/** `--cleanup`: removes everything that is ours from this node, and nothing else. */
import { existsSync } from 'node:fs'
import type { Logger } from 'pino'
import type { Config } from '../config/config.ts'
import { deleteInterface } from '../kernel/link/dummy-interface.ts'
import { deleteLocalRoutes } from '../kernel/link/local-routes.ts'
import { removeFilter } from '../kernel/filter/open-filter.ts'
import { LinuxKernel } from '../kernel/linux-kernel.ts'
import { removeKubeProxyTables } from '../kernel/filter/kube-proxy-tables.ts'
import { type Address, FAMILIES } from '../model/address.ts'
import { contains } from '../model/cidr.ts'
import { emptyKernelState, objectsOf } from '../model/kernel-object.ts'
import { loadAddon, type Socket } from '../netlink/socket.ts'
import { adoptTables } from '../plan/audit.ts'
import { planChanges } from '../plan/plan.ts'
import type { Command, CommandContext } from './command.ts'
import { readConfig } from './configuration.ts'

/** There while the module ip_vs is loaded: asking for IPVS would load it. */
const IPVS = '/proc/net/ip_vs'

export interface CleanupOptions {
  readonly addon: Socket
  readonly config: Config
  readonly log: Logger
}

/** Our virtual servers and addresses, as long as what says that they are ours is there; then the interface. */
async function removeVirtualServers({ addon, config, log }: CleanupOptions): Promise<void> {
  if (!existsSync(IPVS)) return
  const reader = await LinuxKernel.open({ addon, families: new Set(FAMILIES), readOnly: true })
  const kernel = await LinuxKernel.open({ addon, families: new Set(FAMILIES) })
  try {
    const known = emptyKernelState()
    const tables = await reader.readTables()
    const foreign = adoptTables(tables, known)
    const isExcluded = (address: Address): boolean =>
      config.excludeCidrs.some((cidr) => contains(cidr, address))
    const virtualServers = [...objectsOf(known)].filter(({ kind }) => kind === 'virtualServer')
    const plan = planChanges(virtualServers, {
      wanted: () => undefined,
      ...{ known, foreign, isExcluded },
    })
    const errors = [...(await kernel.execute(plan)).values()]
    if (errors.length > 0) throw new AggregateError(errors, 'Cannot delete all virtual servers')
    log.info({ operations: plan.length, foreign: foreign.size }, 'removed virtual servers')
  } finally {
    reader.close()
    kernel.close()
  }
}

/** Attempts every part, whatever becomes of the others. Throws an AggregateError with all that went wrong. */
export async function cleanUp(options: CleanupOptions): Promise<void> {
  const parts: readonly (() => Promise<unknown>)[] = [
    () => removeVirtualServers(options),
    () => deleteLocalRoutes(options.addon),
    deleteInterface,
    () => removeKubeProxyTables(options.addon),
    () => removeRulesAndSets(options),
  ]
  await attemptAll(parts)
  options.log.info('removed everything that was ours')
}

/** Throws an AggregateError with all that went wrong. */
async function removeRulesAndSets({ addon }: CleanupOptions): Promise<void> {
  const failures = await removeFilter({ addon, families: new Set(FAMILIES) })
  if (failures.length > 0) throw new AggregateError(failures, 'Cannot remove all rules and sets')
}

/** Throws an AggregateError with all that went wrong. */
export async function attemptAll(parts: readonly (() => Promise<unknown>)[]): Promise<void> {
  const failures: unknown[] = []
  for (const part of parts) await part().catch((error: unknown) => failures.push(error))
  if (failures.length > 0) throw new AggregateError(failures, 'Cannot clean up everything')
}

/** Of the configuration it takes what is never deleted, and nothing that could be broken beside it. `clean` is for tests. */
export async function runCleanup(context: CommandContext, clean = cleanUp): Promise<'stopped'> {
  const { loaded } = await readConfig(context)
  await clean({ addon: loadAddon(), config: loaded.config, log: context.log })
  return 'stopped'
}

export const CLEANUP: Command = {
  name: 'cleanup',
  description: 'remove everything that is ours from this node, and exit',
  flag: { name: 'cleanup', kind: 'flag' },
  run: (context) => runCleanup(context),
}
