/** What the host's own settings say: sysctls, modules, capabilities, bridges. Nothing is changed. */
import { existsSync } from 'node:fs'
import type { Config } from '../config/config.ts'
import { findBridgeFault, readBridging } from '../kernel/host/bridges.ts'
import { hasCapability } from '../kernel/host/capabilities.ts'
import { formatSysctl, readSysctl, type Sysctl } from '../kernel/host/sysctl.ts'
import type { Family } from '../model/address.ts'
import { bridgeRemedy, wantedSysctls } from '../program/node-setup.ts'
import { type Check, finding, type Finding } from './check.ts'

export interface HostChecksOptions {
  readonly config: Config
  readonly families: ReadonlySet<Family>
}

/** What goes wrong where a setting has another value. */
const CONSEQUENCES: Readonly<Record<string, string>> = {
  'net/ipv4/vs/conntrack': 'replies of masqueraded connections get lost',
  'net/ipv4/vs/expire_nodest_conn': 'connections to a Pod that is gone hang',
  'net/ipv4/vs/expire_quiescent_template': 'clients with session affinity stay with a Pod that drains',
  'net/ipv4/ip_forward': 'packets to Pods of other nodes are dropped',
  'net/ipv4/conf/all/arp_ignore': 'this node answers ARP for virtual IPs (strictARP)',
  'net/ipv4/conf/all/arp_announce': 'this node announces virtual IPs in ARP (strictARP)',
  'net/ipv6/conf/all/forwarding': 'IPv6 packets to Pods of other nodes are dropped',
}

/** Connections are refused when the table is full. */
const FULL = 0.9

function isLess({ path, value }: Sysctl, now: string): boolean {
  // More room is as good.
  return path.endsWith('nf_conntrack_max') ? Number(now) < Number(value) : now !== value
}

function checkSysctl(sysctl: Sysctl): Finding[] {
  const { path, value } = sysctl
  const now = readSysctl(path)
  if (now === undefined || !isLess(sysctl, now)) return []
  const consequence = CONSEQUENCES[path] ?? 'the configuration asks for another value'
  return [
    finding(`${path.replaceAll('/', '.')} is ${now}, not ${value}: ${consequence}`, formatSysctl(sysctl)),
  ]
}

function checkConntrackRoom(): Finding[] {
  const [count, max] = ['count', 'max'].map((name) =>
    Number(readSysctl(`net/netfilter/nf_conntrack_${name}`)),
  )
  if (!(count! >= max! * FULL)) return []
  const remedy = 'raise conntrack.min or conntrack.maxPerCore in the configuration'
  return [
    finding(`connection tracking is full: ${count} of ${max} entries, new connections are dropped`, remedy),
  ]
}

/** That of IPv6 is the network plug-in's to set: it is looked at where Pods have IPv6 addresses. */
function checkIpv6Forwarding({ clusterCidrs }: Config): Finding[] {
  if (!clusterCidrs.some(({ family }) => family === 'IPv6')) return []
  const found = checkSysctl({ path: 'net/ipv6/conf/all/forwarding', value: '1' })
  const more = ' (first accept_ra=2 on interfaces that have their routes from router advertisements)'
  return found.map((one) => ({ ...one, remedy: one.remedy + more }))
}

function checkSysctls({ config }: HostChecksOptions): Finding[] {
  return [
    ...wantedSysctls(config).flatMap(checkSysctl),
    ...checkIpv6Forwarding(config),
    ...checkConntrackRoom(),
  ]
}

/** By what is there only while a module is loaded, or built in. */
const MODULES: readonly (readonly [string, string, string])[] = [
  ['ip_vs', '/proc/net/ip_vs', 'there are no virtual servers'],
  [
    'nf_conntrack',
    '/proc/sys/net/netfilter/nf_conntrack_max',
    'nothing is masqueraded, and no reply finds its way',
  ],
]

function checkModules(): Finding[] {
  return MODULES.filter(([, file]) => !existsSync(file)).map(([module, , consequence]) =>
    finding(`module ${module} is not loaded: ${consequence}`, `modprobe ${module}`),
  )
}

function checkCapabilities(): Finding[] {
  return (['NET_ADMIN', 'NET_RAW'] as const)
    .filter((name) => !hasCapability(name))
    .map((name) =>
      finding(
        `this process does not have the capability ${name}`,
        'run as root, or add it to securityContext.capabilities.add',
        'docs/operations.md#in-a-daemonset-with-fewer-privileges',
      ),
    )
}

function checkBridges({ families }: HostChecksOptions): Finding[] {
  const fault = findBridgeFault(readBridging(), families)
  if (fault === undefined) return []
  const { command } = bridgeRemedy(fault)
  const what =
    fault.sysctls === undefined
      ? `br_netfilter is not loaded, and Pods are on ${fault.bridges.join(', ')}`
      : `bridged packets pass IPVS by on ${fault.bridges.join(', ')}`
  return [
    finding(
      `${what}: a Pod gets no answer from a Service on its own bridge`,
      command,
      'docs/operations.md#pods-on-a-bridge',
    ),
  ]
}

export function hostChecks(options: HostChecksOptions): Check[] {
  return [
    { category: 'sysctls', run: () => Promise.resolve(checkSysctls(options)) },
    { category: 'modules', run: () => Promise.resolve(checkModules()) },
    { category: 'capabilities', run: () => Promise.resolve(checkCapabilities()) },
    { category: 'bridges', run: () => Promise.resolve(checkBridges(options)) },
  ]
}
