/** The settings of the kernel that serving depends on. */
import { readFileSync, writeFileSync } from 'node:fs'
import { access, constants } from 'node:fs/promises'
import { join } from 'node:path'

/** A sysctl by its path under /proc/sys. */
export interface Sysctl {
  readonly path: string
  readonly value: string
}

/** kube-proxy's, by the same order: packets of connections are tracked, and those to a real server that is gone end. */
export const SERVING_SYSCTLS: readonly Sysctl[] = [
  { path: 'net/ipv4/vs/conntrack', value: '1' },
  { path: 'net/ipv4/vs/expire_nodest_conn', value: '1' },
  { path: 'net/ipv4/vs/expire_quiescent_template', value: '1' },
  { path: 'net/ipv4/ip_forward', value: '1' },
]

/** ipvs.strictARP: nobody is told of addresses that are on another interface than the one he asks on. */
export const STRICT_ARP_SYSCTLS: readonly Sysctl[] = [
  { path: 'net/ipv4/conf/all/arp_ignore', value: '1' },
  { path: 'net/ipv4/conf/all/arp_announce', value: '2' },
]

/** What becomes of a connection whose source port was used a moment ago (see conn-reuse.ts). */
export function connReuseSysctl(mode: 0 | 1): Sysctl {
  return { path: 'net/ipv4/vs/conn_reuse_mode', value: String(mode) }
}

/** Those that have another value, and can be changed. */
export async function differingSysctls(sysctls: readonly Sysctl[], root = '/proc/sys'): Promise<Sysctl[]> {
  const differing = sysctls.map(async (sysctl) => {
    if (readSysctl(sysctl.path, root) === sysctl.value) return []
    return access(join(root, sysctl.path), constants.W_OK).then(
      () => [sysctl],
      () => [],
    )
  })
  return (await Promise.all(differing)).flat()
}

/** `sysctl -w net.ipv4.ip_forward=1` */
export function formatSysctl({ path, value }: Sysctl): string {
  return `sysctl -w ${path.replaceAll('/', '.')}=${value}`
}

/** Its value; undefined when the kernel does not have it, or does not show it. */
export function readSysctl(path: string, root = '/proc/sys'): string | undefined {
  try {
    return readFileSync(join(root, path), 'utf8').trim()
  } catch {
    return undefined
  }
}

/**
 * Writes the setting unless it has that value. Returns whether it had to. Throws an Error naming the sysctl. It is done at
 * once, as there is no disk behind it: on a thread, it would take a turn of the loop for each open, read, write and close.
 */
export function ensureSysctl({ path, value }: Sysctl, root = '/proc/sys'): boolean {
  try {
    if (readSysctl(path, root) === value) return false
    writeFileSync(join(root, path), value)
    return true
  } catch (cause) {
    throw new Error(`Cannot set sysctl ${path.replaceAll('/', '.')} to ${value}`, { cause })
  }
}
