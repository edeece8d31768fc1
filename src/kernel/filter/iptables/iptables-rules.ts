/** The rules of kube-proxy in iptables. They ask sets, so they are the same whatever Services there are. */
import type { Family } from '../../../model/address.ts'
import { type SetBase, setName } from '../../../model/sets.ts'
import type { LocalTraffic, RuleOptions } from '../filter.ts'
import type { TableName } from './iptables-save.ts'

export interface RenderOptions extends RuleOptions {
  readonly family: Family
  /** Lets the kernel choose the source port of masqueraded traffic at random (iptables 1.6.2 and later). */
  readonly randomFully: boolean
  /** Names of sets that exist: rules that need another are left out. */
  readonly sets: ReadonlySet<string>
}

/** A rule in a chain that is not ours. */
export interface Jump {
  readonly chain: string
  readonly rule: string
  readonly target: string
  /** Where in its chain it is put when it is missing. Where it is there, anywhere, it stays. */
  readonly place: 'top' | 'end'
}

/** What is ours in a table. Rules are as `iptables-save` prints them, without `-A CHAIN`. */
export interface Table {
  readonly chains: ReadonlyMap<string, readonly string[]>
  /** In the order in which they are put into their chains. */
  readonly jumps: readonly Jump[]
}

export type Rules = Readonly<Record<TableName, Table>>

const COMMENTS = {
  'KUBE-LOOP-BACK': 'Kubernetes endpoints dst ip:port, source ip for solving hairpin purpose',
  'KUBE-CLUSTER-IP': 'Kubernetes service cluster ip + port for masquerade purpose',
  'KUBE-EXTERNAL-IP': 'Kubernetes service external ip + port for masquerade and filter purpose',
  'KUBE-EXTERNAL-IP-LOCAL': 'Kubernetes service external ip + port with externalTrafficPolicy=local',
  'KUBE-LOAD-BALANCER': 'Kubernetes service lb portal',
  'KUBE-LOAD-BALANCER-FW': 'Kubernetes service load balancer ip + port for load balancer with sourceRange',
  'KUBE-LOAD-BALANCER-LOCAL': 'Kubernetes service load balancer ip + port with externalTrafficPolicy=local',
  'KUBE-LOAD-BALANCER-SOURCE-IP':
    'Kubernetes service load balancer ip + port + source IP for packet filter purpose',
  'KUBE-LOAD-BALANCER-SOURCE-CIDR':
    'Kubernetes service load balancer ip + port + source cidr for packet filter purpose',
  'KUBE-NODE-PORT-TCP': 'Kubernetes nodeport TCP port for masquerade purpose',
  'KUBE-NODE-PORT-LOCAL-TCP': 'Kubernetes nodeport TCP port with externalTrafficPolicy=local',
  'KUBE-NODE-PORT-UDP': 'Kubernetes nodeport UDP port for masquerade purpose',
  'KUBE-NODE-PORT-LOCAL-UDP': 'Kubernetes nodeport UDP port with externalTrafficPolicy=local',
  'KUBE-NODE-PORT-SCTP-HASH': "Kubernetes nodeport SCTP port for masquerade purpose with type 'hash ip:port'",
  'KUBE-NODE-PORT-LOCAL-SCTP-HASH':
    "Kubernetes nodeport SCTP port with externalTrafficPolicy=local with type 'hash ip:port'",
  'KUBE-HEALTH-CHECK-NODE-PORT': 'Kubernetes health check node port',
} as const satisfies Partial<Record<SetBase, string>>

/** Which addresses and ports of the packet the set is asked for. */
type Directions = 'dst' | 'dst,dst' | 'src,dst' | 'dst,dst,src'

/** All that stands in a family's tables. */
export function renderRules(options: RenderOptions): Rules {
  return {
    nat: { chains: existing(natChains(options), options.sets), jumps: JUMPS.nat },
    filter: { chains: existing(filterChains(options), options.sets), jumps: JUMPS.filter },
    mangle: { chains: existing(mangleChains(options), options.sets), jumps: JUMPS.mangle },
  }
}

type Chains = Readonly<Record<string, readonly string[]>>

/** Without the rules that ask sets that do not exist: one of them would make the whole table fail. */
function existing(chains: Chains, sets: ReadonlySet<string>): Map<string, string[]> {
  const isExisting = (rule: string): boolean => setsOfRule(rule).every((set) => sets.has(set))
  return new Map(Object.entries(chains).map(([chain, rules]) => [chain, rules.filter(isExisting)]))
}

/** Names of the sets that a rule asks. */
export function setsOfRule(rule: string): string[] {
  return [...rule.matchAll(/--match-set (\S+)/g)].map((match) => match[1]!)
}

function comment(text: string): string {
  return `-m comment --comment "${text.replaceAll("'", "\\'")}"`
}

function inSet(family: Family, base: SetBase, directions: Directions): string {
  return `-m set --match-set ${setName(base, family)} ${directions}`
}

/** The same with the set's comment. */
function explained(family: Family, base: keyof typeof COMMENTS, directions: Directions): string {
  return `${comment(COMMENTS[base])} ${inSet(family, base, directions)}`
}

// --- nat ------------------------------------------------------------------------------------------------

function natChains({ family, randomFully, ...options }: RenderOptions): Chains {
  const bit = markBit(options.masqueradeBit)
  const masquerade = randomFully ? 'MASQUERADE --random-fully' : 'MASQUERADE'
  return {
    'KUBE-SERVICES': serviceRules({ family, randomFully, ...options }),
    'KUBE-POSTROUTING': [
      `${explained(family, 'KUBE-LOOP-BACK', 'dst,dst,src')} -j MASQUERADE`,
      `-m mark ! --mark ${bit}/${bit} -j RETURN`,
      `-j MARK --set-xmark ${bit}/0x0`,
      `${comment('kubernetes service traffic requiring SNAT')} -j ${masquerade}`,
    ],
    'KUBE-NODE-PORT': nodePortRules(family),
    'KUBE-LOAD-BALANCER': [
      `${explained(family, 'KUBE-LOAD-BALANCER-LOCAL', 'dst,dst')} -j RETURN`,
      '-j KUBE-MARK-MASQ',
    ],
    'KUBE-MARK-MASQ': [`-j MARK --set-xmark ${bit}/${bit}`],
  }
}

/** As `iptables-save` prints a mark: bit 14 is 0x4000. */
function markBit(bit: number): string {
  return `0x${(2 ** bit).toString(16)}`
}

/**
 * Who is masqueraded on the way to which Service. The sets of node ports know ports only, and every virtual address is
 * a local one: what is for a Service's address never comes as far as they are asked, or a node port of somebody else
 * would cost it the client's address (#132068, #89869). kube-proxy asks them first.
 */
function serviceRules(options: RenderOptions): string[] {
  const { family } = options
  return [
    `-s ${family === 'IPv4' ? '127.0.0.0/8' : '::1/128'} -j RETURN`,
    `${explained(family, 'KUBE-LOAD-BALANCER', 'dst,dst')} -j KUBE-LOAD-BALANCER`,
    clusterIpRule(options),
    `${explained(family, 'KUBE-EXTERNAL-IP', 'dst,dst')} -j KUBE-MARK-MASQ`,
    externalIpRule(family, 'KUBE-EXTERNAL-IP'),
    externalIpRule(family, 'KUBE-EXTERNAL-IP-LOCAL'),
    `${inSet(family, 'KUBE-CLUSTER-IP', 'dst,dst')} -j ACCEPT`,
    `${inSet(family, 'KUBE-LOAD-BALANCER', 'dst,dst')} -j ACCEPT`,
    ...nodePortJumps(options),
  ]
}

/** An address without node ports may have something else at the same port: a Pod's hostPort, a foreign virtual server. */
function nodePortJumps({ nodePorts }: RenderOptions): string[] {
  const jump = '-m addrtype --dst-type LOCAL -j KUBE-NODE-PORT'
  return nodePorts?.map((network) => `-d ${network} ${jump}`) ?? [jump]
}

function clusterIpRule({ family, masqueradeAll, local }: RenderOptions): string {
  const isAny = masqueradeAll || local === undefined
  const directions = masqueradeAll || local !== undefined ? 'dst,dst' : 'src,dst'
  const rule = `${explained(family, 'KUBE-CLUSTER-IP', directions)} -j KUBE-MARK-MASQ`
  return isAny ? rule : `! ${fromPods(local)} ${rule}`
}

function fromPods(local: LocalTraffic): string {
  switch (local.kind) {
    case 'cidr':
      return `-s ${local.cidr}`
    case 'interface':
      return `-i ${local.name}`
    case 'interfacePrefix':
      return `-i ${local.prefix}+`
  }
}

/**
 * Traffic to external IPs is not for the rules after these. kube-proxy has another rule before it, with a match
 * (physdev) that loads br_netfilter and so sends bridged packets through iptables on the whole node. It adds nothing:
 * these addresses are always local ones.
 */
function externalIpRule(family: Family, base: 'KUBE-EXTERNAL-IP' | 'KUBE-EXTERNAL-IP-LOCAL'): string {
  return `${explained(family, base, 'dst,dst')} -m addrtype --dst-type LOCAL -j ACCEPT`
}

function nodePortRules(family: Family): string[] {
  const bitmaps = (['TCP', 'UDP'] as const).flatMap((protocol) => [
    `-p ${protocol.toLowerCase()} ${explained(family, `KUBE-NODE-PORT-LOCAL-${protocol}`, 'dst')} -j RETURN`,
    `-p ${protocol.toLowerCase()} ${explained(family, `KUBE-NODE-PORT-${protocol}`, 'dst')} -j KUBE-MARK-MASQ`,
  ])
  return [
    ...bitmaps,
    `-p sctp ${explained(family, 'KUBE-NODE-PORT-LOCAL-SCTP-HASH', 'dst,dst')} -j RETURN`,
    `-p sctp ${explained(family, 'KUBE-NODE-PORT-SCTP-HASH', 'dst,dst')} -j KUBE-MARK-MASQ`,
  ]
}

// --- filter and mangle ----------------------------------------------------------------------------------

function filterChains({ family, masqueradeBit, sets }: RenderOptions): Chains {
  const bit = markBit(masqueradeBit)
  return {
    'KUBE-FORWARD': [
      `${comment('kubernetes forwarding rules')} -m mark --mark ${bit}/${bit} -j ACCEPT`,
      `${comment('kubernetes forwarding conntrack rule')} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    ],
    'KUBE-NODE-PORT': healthCheckRules(family),
    'KUBE-PROXY-FIREWALL': [
      `${explained(family, 'KUBE-LOAD-BALANCER-FW', 'dst,dst')} -j KUBE-SOURCE-RANGES-FIREWALL`,
    ],
    'KUBE-SOURCE-RANGES-FIREWALL': sourceRangeRules(family),
    'KUBE-IPVS-FILTER': ipvsFilterRules(family, sets),
    'KUBE-IPVS-ACCEPT': acceptRules(family, sets),
    // The runbooks' chain. What it does for kube-proxy is done in mangle.
    'KUBE-IPVS-OUT-FILTER': [],
  }
}

const ADDRESS_SETS = [
  'KUBE-LOAD-BALANCER',
  'KUBE-CLUSTER-IP',
  'KUBE-EXTERNAL-IP',
  'KUBE-EXTERNAL-IP-LOCAL',
] as const

/**
 * Health checks pass, also those for the address of a load balancer, as some clouds send them. The set knows ports
 * only: what is for a Service's address and port goes on to the rules of source ranges and of the host.
 */
function healthCheckRules(family: Family): string[] {
  return [
    ...ADDRESS_SETS.map((base) => `${inSet(family, base, 'dst,dst')} -j RETURN`),
    `-p tcp ${explained(family, 'KUBE-HEALTH-CHECK-NODE-PORT', 'dst')} -j ACCEPT`,
  ]
}

/** Without one of its sets the chain lets fewer through: an allowed client waits rather than that a forbidden one enters. */
function sourceRangeRules(family: Family): string[] {
  return [
    `${explained(family, 'KUBE-LOAD-BALANCER-SOURCE-CIDR', 'dst,dst,src')} -j RETURN`,
    `${explained(family, 'KUBE-LOAD-BALANCER-SOURCE-IP', 'dst,dst,src')} -j RETURN`,
    '-j DROP',
  ]
}

/**
 * Rejects what comes for an address on kube-ipvs0 and is no Service's port. Without one of the sets it would reject
 * the traffic of Services, so then it rejects nothing.
 */
function ipvsFilterRules(family: Family, sets: ReadonlySet<string>): string[] {
  const passing = [
    ...ADDRESS_SETS.map((base) => inSet(family, base, 'dst,dst')),
    `-p tcp ${inSet(family, 'KUBE-HEALTH-CHECK-NODE-PORT', 'dst')}`,
  ]
  const isComplete = passing.flatMap(setsOfRule).every((set) => sets.has(set))
  const unreachable = family === 'IPv4' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable'
  const ours = inSet(family, 'KUBE-IPVS-IPS', 'dst')
  const reject = `-m conntrack --ctstate NEW ${ours} -j REJECT --reject-with ${unreachable}`
  return [...passing.map((match) => `${match} -j RETURN`), ...(isComplete ? [reject] : [])]
}

/**
 * For hosts whose firewall drops what no rule accepts: lets in what is for a Service's address and port, after every
 * rule of others, and never before its source ranges have been asked, wherever the jumps stand. Node ports are on the
 * node's own addresses: these are the host's to open.
 */
function acceptRules(family: Family, sets: ReadonlySet<string>): string[] {
  const isAsked = sets.has(setName('KUBE-LOAD-BALANCER-FW', family))
  const accept = (base: (typeof ADDRESS_SETS)[number]): string =>
    `${inSet(family, base, 'dst,dst')} -j ACCEPT`
  return [
    `${inSet(family, 'KUBE-LOAD-BALANCER-FW', 'dst,dst')} -j KUBE-SOURCE-RANGES-FIREWALL`,
    ...ADDRESS_SETS.filter((base) => isAsked || base !== 'KUBE-LOAD-BALANCER').map(accept),
  ]
}

/**
 * Source ranges for the node's own traffic. IPVS takes it in LOCAL_OUT right after nat, so filter never sees its
 * destination; its source is the load balancer's address, as that is an address of the node.
 */
function mangleChains({ family }: RenderOptions): Chains {
  return {
    'KUBE-IPVS-OUT-FILTER': [
      `${inSet(family, 'KUBE-LOAD-BALANCER-FW', 'dst,dst')} -j KUBE-SOURCE-RANGES-FIREWALL`,
    ],
    'KUBE-SOURCE-RANGES-FIREWALL': sourceRangeRules(family),
  }
}

// --- Jumps ----------------------------------------------------------------------------------------------

function jump(chain: string, target: string, text: string, place: Jump['place'] = 'top'): Jump {
  return { chain, target, rule: `${comment(text)} -j ${target}`, place }
}

const NAT_JUMPS: readonly Jump[] = [
  jump('OUTPUT', 'KUBE-SERVICES', 'kubernetes service portals'),
  jump('PREROUTING', 'KUBE-SERVICES', 'kubernetes service portals'),
  jump('POSTROUTING', 'KUBE-POSTROUTING', 'kubernetes postrouting rules'),
]
const FILTER_JUMPS: readonly Jump[] = [
  jump('FORWARD', 'KUBE-FORWARD', 'kubernetes forwarding rules'),
  jump('INPUT', 'KUBE-NODE-PORT', 'kubernetes health check rules'),
  jump('INPUT', 'KUBE-PROXY-FIREWALL', 'kube-proxy firewall rules'),
  jump('FORWARD', 'KUBE-PROXY-FIREWALL', 'kube-proxy firewall rules'),
  jump('INPUT', 'KUBE-IPVS-FILTER', 'kubernetes ipvs access filter'),
  jump('OUTPUT', 'KUBE-IPVS-OUT-FILTER', 'kubernetes ipvs access filter'),
  jump('INPUT', 'KUBE-IPVS-ACCEPT', 'kubernetes service traffic that no rule has decided', 'end'),
]
const MANGLE_JUMPS: readonly Jump[] = [
  jump('OUTPUT', 'KUBE-IPVS-OUT-FILTER', 'kubernetes ipvs access filter'),
]

/** What stands in chains that are not ours. */
export const JUMPS: Readonly<Record<TableName, readonly Jump[]>> = {
  nat: NAT_JUMPS,
  filter: FILTER_JUMPS,
  mangle: MANGLE_JUMPS,
}
