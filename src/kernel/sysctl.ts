/** The settings of the kernel that serving depends on. */
import { access, constants, readFile, writeFile } from 'node:fs/promises'
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
    const file = join(root, sysctl.path)
    const current = await readFile(file, 'utf8').catch(() => undefined)
    if (current?.trim() === sysctl.value) return []
    return access(file, constants.W_OK).then(
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

/** Writes the setting unless it has that value. Returns whether it had to. Throws an Error naming the sysctl. */
export async function ensureSysctl({ path, value }: Sysctl, root = '/proc/sys'): Promise<boolean> {
  const file = join(root, path)
  try {
    const current = await readFile(file, 'utf8').catch(() => undefined)
    if (current?.trim() === value) return false
    await writeFile(file, value)
    return true
  } catch (cause) {
    throw new Error(`Cannot set sysctl ${path.replaceAll('/', '.')} to ${value}`, { cause })
  }
}
