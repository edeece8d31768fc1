/** The schedulers of Linux, and what is particular about each. Any other name is left to the kernel to judge. */
import { IN_SERVICE, type RealServerSettings, SCHEDULER_FLAG_1, SCHEDULER_FLAG_2 } from './virtual-server.ts'

export interface Scheduler {
  /** SCHEDULER_FLAG_* that every virtual server has under it. */
  readonly flags: number
  /** What ipvsadm calls these flags (`-b`), the lowest first. */
  readonly flagNames: readonly string[]
  /** A real server that takes new connections. */
  readonly inService: RealServerSettings
  /** A real server of weight 0 gets no new connections, and keeps those it has. */
  readonly drains: boolean
  /** The module that brings it. */
  readonly module: string
  /** The module holds something for each network namespace: it has to be loaded before IPVS asks for it. */
  readonly isPerNamespace: boolean
}

function plain(name: string): Scheduler {
  return {
    flags: 0,
    flagNames: ['flag-1', 'flag-2', 'flag-3'],
    inService: IN_SERVICE,
    drains: true,
    module: `ip_vs_${name}`,
    isPerNamespace: false,
  }
}

const SCHEDULERS: Readonly<Record<string, Scheduler>> = {
  rr: plain('rr'),
  wrr: plain('wrr'),
  lc: plain('lc'),
  wlc: plain('wlc'),
  lblc: { ...plain('lblc'), isPerNamespace: true },
  lblcr: { ...plain('lblcr'), isPerNamespace: true },
  // With its fall-back flag: without it, clients whose real server drains are refused (kubernetes #121590).
  sh: {
    ...plain('sh'),
    flags: SCHEDULER_FLAG_1,
    flagNames: ['sh-fallback', 'sh-port', 'flag-3'],
  },
  // It goes on choosing a real server of weight 0, only to refuse its clients.
  dh: { ...plain('dh'), drains: false },
  sed: plain('sed'),
  nq: plain('nq'),
  // The fall-back flag, as for sh; and the port flag, as kube-proxy sets it: the source port counts.
  mh: {
    ...plain('mh'),
    flags: SCHEDULER_FLAG_1 | SCHEDULER_FLAG_2,
    flagNames: ['mh-fallback', 'mh-port', 'flag-3'],
  },
  fo: plain('fo'),
  // Its weight is a limit of connections: as high as it goes, so that nobody is refused.
  ovf: { ...plain('ovf'), inService: { ...IN_SERVICE, weight: 65_535 } },
}

/** Names of all that Linux has. */
export const SCHEDULER_NAMES: readonly string[] = Object.keys(SCHEDULERS)

/** What is known of a scheduler; one that Linux does not have is as plain as rr. */
export function schedulerOf(name: string): Scheduler {
  return Object.hasOwn(SCHEDULERS, name) ? SCHEDULERS[name]! : plain(name)
}
