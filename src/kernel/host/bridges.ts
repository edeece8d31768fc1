/**
 * Pods on one Linux bridge reach each other without the rest of the network stack. So the answer of an endpoint to a Pod
 * on the same bridge comes from the endpoint's own address, not the Service's, and is of no use: unless br_netfilter
 * hands bridged packets to netfilter, where IPVS puts the address right.
 */
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Family } from '../../model/address.ts'
import { readSysctl, type Sysctl } from './sysctl.ts'

export const BRIDGE_MODULE = 'br_netfilter'

const SWITCHES: Readonly<Record<Family, string>> = { IPv4: 'iptables', IPv6: 'ip6tables' }

/** A bridge that has ports. */
export interface Bridge {
  readonly name: string
  /** The families for which it has a switch of its own, which is on. */
  readonly own: ReadonlySet<Family>
}

export interface Bridging {
  readonly bridges: readonly Bridge[]
  /** The switches of all bridges, by family; undefined where br_netfilter is not there. */
  readonly netfilter: Readonly<Partial<Record<Family, string>>> | undefined
}

/** Why Services fail between Pods of these bridges. */
export interface BridgeFault {
  readonly bridges: readonly string[]
  /** Undefined: the module is missing. Else somebody has switched these off. */
  readonly sysctls: readonly Sysctl[] | undefined
}

/** Undefined where nothing is in the way. */
export function findBridgeFault(
  { bridges, netfilter }: Bridging,
  families: ReadonlySet<Family>,
): BridgeFault | undefined {
  const names = bridges.map(({ name }) => name).sort()
  if (names.length === 0) return undefined
  if (netfilter === undefined) return { bridges: names, sysctls: undefined }
  const off = [...families].filter((family) => netfilter[family] === '0')
  const isDeaf = ({ own }: Bridge): boolean => off.some((family) => !own.has(family))
  const deaf = bridges.filter(isDeaf).map(({ name }) => name)
  const sysctls = off.map((family) => ({ path: switchPath(family), value: '1' }))
  return deaf.length === 0 ? undefined : { bridges: deaf.sort(), sysctls }
}

function switchPath(family: Family): string {
  return `net/bridge/bridge-nf-call-${SWITCHES[family]}`
}

/** What the kernel has of this network namespace. `root` is for tests. */
export function readBridging(root = '/'): Bridging {
  const sysctls = join(root, 'proc/sys')
  const values = (['IPv4', 'IPv6'] as const).map((family) => [
    family,
    readSysctl(switchPath(family), sysctls),
  ])
  const netfilter = existsSync(join(sysctls, 'net/bridge'))
    ? (Object.fromEntries(values) as object)
    : undefined
  return { bridges: readBridges(join(root, 'sys/class/net')), netfilter }
}

function readBridges(folder: string): Bridge[] {
  return list(folder)
    .filter((name) => existsSync(join(folder, name, 'brif')) && list(join(folder, name, 'brif')).length > 0)
    .map((name) => {
      const isOn = (family: Family): boolean =>
        readSysctl(`bridge/nf_call_${SWITCHES[family]}`, join(folder, name)) === '1'
      return { name, own: new Set((['IPv4', 'IPv6'] as const).filter(isOn)) }
    })
}

/** An interface may go while it is looked at. */
function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

export interface BridgesOptions {
  readonly families: ReadonlySet<Family>
  /** Loads a module of the kernel; rejects where it may not, or there is none. */
  readonly load: (module: string) => Promise<void>
  /** Told of what it has loaded, and for which bridges. */
  readonly onLoaded: (bridges: readonly string[]) => void
  /** Told once of what it cannot help. */
  readonly onFault: (fault: BridgeFault) => void
  readonly read?: () => Bridging
}

/**
 * Looks after bridges as they come: call it now and then. It loads what is missing, once for each time that it goes
 * missing, and leaves switches as somebody has set them.
 */
export function tendBridges(options: BridgesOptions): () => Promise<void> {
  const { families, load, onLoaded, onFault, read = readBridging } = options
  /** What it could not help when it last looked. */
  let known = ''
  const loadFor = async ({ bridges }: BridgeFault): Promise<BridgeFault | undefined> => {
    await load(BRIDGE_MODULE).catch(() => undefined)
    const fault = findBridgeFault(read(), families)
    if (!isMissing(fault)) onLoaded(bridges)
    return fault
  }
  const look = async (): Promise<void> => {
    const found = findBridgeFault(read(), families)
    if (keyOf(found) === known) return
    const fault = isMissing(found) ? await loadFor(found) : found
    known = keyOf(fault)
    if (fault !== undefined) onFault(fault)
  }
  let looking: Promise<void> | undefined
  return () =>
    (looking ??= look().finally(() => {
      looking = undefined
    }))
}

/** It is the module that is missing. */
function isMissing(fault: BridgeFault | undefined): fault is BridgeFault {
  return fault !== undefined && fault.sysctls === undefined
}

/** Another bridge is no other fault. */
function keyOf(fault: BridgeFault | undefined): string {
  return fault === undefined ? '' : (fault.sysctls?.map(({ path }) => path).join() ?? BRIDGE_MODULE)
}
