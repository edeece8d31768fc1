/** What kube-proxy sets beside IPVS: how much the connection tracking holds and for how long, and who dies first. */
import { readFileSync, writeFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import type { ConntrackSettings } from '../../model/conntrack-settings.ts'
import type { Sysctl } from './sysctl.ts'

/** nf_conntrack_max is never scaled beyond this (kube-proxy 1.36). */
const MOST_CONNECTIONS = 1_048_576
const HASH_SIZE = '/sys/module/nf_conntrack/parameters/hashsize'
const OOM_SCORE = '/proc/self/oom_score_adj'
/** kubelet's for Pods that a node cannot do without (pkg/kubelet/qos/policy.go): only -998 and below come later. */
const SPARED = -997

/** Connections to make room for; 0 leaves what the kernel has. */
export function conntrackMax({ maxPerCore, min }: ConntrackSettings, cpus: number): number {
  if (maxPerCore === 0) return 0
  const scaled = maxPerCore * cpus
  return scaled > MOST_CONNECTIONS ? MOST_CONNECTIONS : Math.max(scaled, min)
}

/** The sysctls of the connection tracking that are configured. */
export function conntrackSysctls(settings: ConntrackSettings, cpus: number): Sysctl[] {
  const values: readonly (readonly [string, number])[] = [
    ['max', conntrackMax(settings, cpus)],
    ['tcp_timeout_established', settings.tcpEstablishedTimeoutSeconds],
    ['tcp_timeout_close_wait', settings.tcpCloseWaitTimeoutSeconds],
    ['tcp_be_liberal', settings.tcpBeLiberal ? 1 : 0],
    ['udp_timeout', settings.udpTimeoutSeconds],
    ['udp_timeout_stream', settings.udpStreamTimeoutSeconds],
  ]
  return values
    .filter(([, value]) => value > 0)
    .map(([name, value]) => ({ path: `net/netfilter/nf_conntrack_${name}`, value: String(value) }))
}

/** Makes the hash table large enough for `max` connections, four to a bucket. Throws an Error with what it is for. */
export async function ensureHashSize(max: number, file = HASH_SIZE): Promise<void> {
  const wanted = Math.floor(max / 4)
  try {
    if (Number(readFileSync(file, 'utf8')) < wanted) await writeFile(file, String(wanted))
  } catch (cause) {
    throw new Error(`Cannot make the hash table of the connection tracking larger (${file}: ${wanted})`, {
      cause,
    })
  }
}

/**
 * How soon the kernel ends this process when memory is short: -1000 never, 1000 first. Throws an Error that names the file
 * and the capability.
 */
export function ensureOomScore(score: number, file = OOM_SCORE): void {
  try {
    if (Number(readFileSync(file, 'utf8')) !== score) writeFileSync(file, String(score))
  } catch (cause) {
    throw new Error(`Cannot set ${file} to ${score}: it takes the capability SYS_RESOURCE`, { cause })
  }
}

/** The kernel ends this process among the last, whoever has seen to that. */
export function isSpared(file = OOM_SCORE): boolean {
  return Number(readFileSync(file, 'utf8')) <= SPARED
}
