/** Which schedulers the kernel has: asked by use, which also loads their modules. */
import { existsSync } from 'node:fs'
import { parseAddress } from '../../model/address.ts'
import { SCHEDULER_NAMES, schedulerOf } from '../../model/schedulers.ts'
import { fullPrefix, virtualServerId, type VirtualServerId } from '../../model/virtual-server.ts'
import { isNotFound } from '../../netlink/error.ts'
import type { Ipvs } from './ipvs.ts'
import { encodeVirtualServer } from './virtual-server-codec.ts'
import { loadModule } from '../host/modules.ts'

/** TEST-NET-2 (RFC 5737): no Service has this address. kube-proxy probes with it, too. */
const PROBE_ADDRESS = parseAddress('198.51.100.0')!
const FIRST_PROBE_PORT = 20_000

/**
 * Loads a module that holds something for each network namespace, where it can be loaded. If IPVS loaded it, neither
 * might ever end: IPVS holds its mutex while it loads a scheduler; loading such a module waits until no namespace is
 * being taken down; and taking one down waits for that mutex (register_pernet_subsys in ip_vs_lblc.c, cleanup_net in
 * net_namespace.c).
 */
async function loadBefore(scheduler: string): Promise<void> {
  const { module, isPerNamespace } = schedulerOf(scheduler)
  if (!isPerNamespace || existsSync(`/sys/module/${module}`)) return
  await loadModule(module).catch(() => undefined)
}

/** Loads what only a privileged process can: without it, IPVS loads them itself, and may wait for ever. */
export async function loadNamespaceSchedulers(): Promise<void> {
  for (const scheduler of SCHEDULER_NAMES) await loadBefore(scheduler)
}

async function freeProbe(ipvs: Ipvs): Promise<VirtualServerId> {
  const taken = new Set((await ipvs.readVirtualServers()).map(({ id }) => id.key))
  for (let port = FIRST_PROBE_PORT; ; port++) {
    const id = virtualServerId(PROBE_ADDRESS, port, 'TCP')
    if (!taken.has(id.key)) return id
  }
}

/**
 * Creates and deletes a virtual server with the scheduler, in one datagram: it leaves nothing behind even
 * when the process is killed. Throws NetlinkError for any other refusal than "no such scheduler".
 */
export async function hasScheduler(ipvs: Ipvs, scheduler: string): Promise<boolean> {
  await loadBefore(scheduler)
  const id = await freeProbe(ipvs)
  const settings = { scheduler, flags: 0, persistenceSeconds: 0, persistencePrefix: fullPrefix(id.address) }
  const batch = ipvs.connection.batch()
  encodeVirtualServer(batch, ipvs.genlFamilyId, 'NEW', id, settings)
  encodeVirtualServer(batch, ipvs.genlFamilyId, 'DEL', id)
  const { refusals } = await ipvs.connection.exchange(batch, `Cannot probe the scheduler "${scheduler}"`)
  const error = refusals.get(0)
  if (error !== undefined && !isNotFound(error)) throw error
  return error === undefined
}
