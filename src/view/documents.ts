/** What commands and the status page show, as JSON: `-o json` prints these. A field may be added in v1, none changes its meaning. */
import type { Right } from '../model/claims/claim.ts'

export const API_VERSION = 'kube-ipvs.io/v1'

/** Where a document comes from: the running process, which knows why, or the kernel alone. */
export type Source = 'process' | 'kernel'

/**
 * wanted, and in the kernel: `programmed`; wanted, and on its way there: `pending`; refused by the kernel, and tried again:
 * `failing`; not wanted any more, with connections: `draining`; not wanted: `unwanted`; somebody else's: `foreign`; only
 * the kernel was asked, and nobody knows: `unknown`.
 */
export type State = 'programmed' | 'pending' | 'failing' | 'draining' | 'unwanted' | 'foreign' | 'unknown'

/** What the kernel refuses. */
export interface FailureView {
  /** In the words of its tool: a virtual server, an address, a set and its member. */
  readonly object: string
  /** The kernel's answer. */
  readonly reason: string
  readonly retryInSeconds: number
}

export interface RealServerView {
  readonly realServer: string
  /** `namespace/name`. */
  readonly pod?: string
  readonly node?: string
  readonly state: State
  /** What a Service wants, and what the kernel has. */
  readonly weight: { readonly wanted?: number; readonly programmed?: number }
  readonly connections?: { readonly active: number; readonly inactive: number }
  /** Of one that drains: when it is deleted at the latest; without it, when its last connection ends. */
  readonly drainEndsInSeconds?: number
  /** It is drained by hand, under this name, until `kube-ipvs undrain` or the end of the process. */
  readonly drainedAs?: string
}

export interface VirtualServerView {
  readonly virtualServer: string
  /** `namespace/name` of the Service that has it. */
  readonly service?: string
  /** The name of the Service's port. */
  readonly port?: string
  /** What the Service has the address as. */
  readonly role?: Right
  readonly state: State
  readonly scheduler: { readonly wanted?: string; readonly programmed?: string }
  /** Of it, its address and its set members. */
  readonly failures: readonly FailureView[]
  readonly realServers: readonly RealServerView[]
}

/** What `kube-ipvs get` shows. */
export interface VirtualServerList {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'VirtualServerList'
  readonly source: Source
  readonly node?: string
  /** What is drained by hand on this node, whether it has connections or not. */
  readonly drained?: readonly string[]
  readonly virtualServers: readonly VirtualServerView[]
}

export interface DrainedService {
  readonly service: string
  /** Endpoints that get new connections: of its virtual servers, those of the one with fewest. */
  readonly endpointsLeft: number
  /** Virtual servers without any: they refuse new connections. */
  readonly refusing: readonly string[]
}

/** A Pod or an address that is drained by hand. */
export interface HandDrainView {
  /** As it was named: `namespace/name` of a Pod, or an address. */
  readonly drained: string
  /** RFC 3339. */
  readonly since: string
  /** Services that have an endpoint there. */
  readonly services: readonly DrainedService[]
}

/** What `kube-ipvs drain` and `undrain` show: what is drained afterwards. */
export interface DrainList {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'DrainList'
  readonly source: 'process'
  readonly node: string
  readonly drains: readonly HandDrainView[]
}

/** Whose address an endpoint sees. */
export type SeenAs = 'client' | 'node' | 'virtualIp'

export interface EndpointView {
  readonly endpoint: string
  readonly pod?: string
  readonly node?: string
  /** It gets new connections. */
  readonly isIn: boolean
  /** Why it is out. */
  readonly reason?: string
  /** Of one that is drained by hand: under which name. */
  readonly drainedAs?: string
  /** Of one that is in, for the client that was asked about. */
  readonly seenAs?: SeenAs
}

export interface FrontendView {
  readonly virtualServer: string
  readonly port?: string
  readonly role: Right
  readonly state: State
  readonly failures: readonly FailureView[]
  /** The traffic policy that chooses its endpoints. */
  readonly policy: 'Cluster' | 'Local'
  readonly scheduler: string
  readonly affinitySeconds: number
  /** Undefined: the client that was asked about is let in. */
  readonly refused?: string
  /** What becomes of the client's address, and the rule that says so. */
  readonly clientAddress: { readonly seenAs: SeenAs; readonly reason: string }
  readonly endpoints: readonly EndpointView[]
  /** What else there is to know. */
  readonly notes: readonly string[]
}

/** What `kube-ipvs explain` shows. */
export interface Explanation {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'Explanation'
  readonly source: 'process'
  readonly node: string
  readonly service: string
  /** In words. */
  readonly client: string
  readonly frontends: readonly FrontendView[]
  /** What of the Service is not served, and why. */
  readonly notServed: readonly string[]
}

/** A rule that applies to a packet, or may. */
export interface RuleStepView {
  /** Table and chain. */
  readonly at: string
  /** As its tool prints it. */
  readonly rule: string
  readonly effect: string
}

/** What IPVS remembers of a client. */
export interface ConnectionView {
  /** Address and port; the port is 0 where only the client is bound to its real server (sessionAffinity). */
  readonly client: string
  readonly realServer: string
  readonly pod?: string
  /** As the protocol has it: ESTABLISHED, SYN_RECV, UDP ... */
  readonly state: string
  readonly expiresInSeconds: number
}

/** A flow of the kernel's connection tracking. */
export interface FlowView {
  readonly client: string
  /** To whom it goes, and whether he has answered. */
  readonly realServer: string
  readonly isAnswered: boolean
  /** Whom that one sees. */
  readonly sees: string
  readonly expiresInSeconds?: number
}

/** What `kube-ipvs trace` shows. */
export interface Trace {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'Trace'
  readonly source: Source
  /** `TCP 10.244.1.2:40022 -> 10.96.0.10:80`; without a port: from any. */
  readonly packet: string
  /** What becomes of the first packet in our rules, in their order. */
  readonly rules: readonly RuleStepView[]
  readonly virtualServer?: VirtualServerView
  readonly connections: readonly ConnectionView[]
  readonly flows: readonly FlowView[]
  /** How many there are beside those that are shown. */
  readonly more: { readonly connections: number; readonly flows: number }
  /** What follows from all that: a sentence each. */
  readonly conclusions: readonly string[]
}

/** What `kube-ipvs diff` shows. */
export interface Difference {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'Difference'
  readonly source: Source
  /** Commands that would make the kernel what the API wants; none: nothing differs. */
  readonly changes: readonly string[]
  /** Virtual servers and addresses of somebody else: they stay. */
  readonly foreign: readonly string[]
  /** What Services want and somebody else has: a sentence each. */
  readonly blocked: readonly string[]
  /** What is drained by hand: no difference, though the API wants it to be served. */
  readonly drained: readonly string[]
}

/** A second, as the kernel averages them: from clients (in), and to them (out). */
export interface Rates {
  readonly connections: number
  readonly inPackets: number
  readonly outPackets: number
  readonly inBytes: number
  readonly outBytes: number
}

/** A virtual server as a line of the status page: from memory, but for its rates. */
export interface StatusRow extends Pick<
  VirtualServerView,
  'virtualServer' | 'service' | 'port' | 'role' | 'state'
> {
  readonly scheduler?: string
  readonly realServers: {
    /** Wanted, and in the kernel as they are wanted. */
    readonly programmed: number
    /** Wanted, and not in the kernel, or not as they are wanted. */
    readonly missing: number
    readonly draining: number
  }
  /** Without them, the kernel does not have it, or could not be asked. */
  readonly rates?: Rates
}

/** What `status/v1/virtual-servers` answers. */
export interface StatusTable {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'StatusTable'
  /** Virtual servers on this node, and those that match the search. */
  readonly total: number
  readonly matching: number
  /** Of what is shown: on a large node it is read less often. */
  readonly ageSeconds: number
  /** How many of these come before the first row. */
  readonly offset: number
  readonly rows: readonly StatusRow[]
}

/** What `status/v1/virtual-server` answers: all of one, but not more real servers than can be looked through. */
export interface StatusDetail {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'StatusDetail'
  readonly virtualServer: VirtualServerView
  readonly realServers: number
}

/** What was measured of ten seconds. */
export interface Sample {
  /** Their end, in ms since the epoch. */
  readonly at: number
  /** Seconds from a change in the cluster to a kernel that has it; absent: nothing has changed. */
  readonly latency?: { readonly median: number; readonly max: number }
  /** Changes made to the kernel, a second. */
  readonly changes: number
  /** New connections a second; absent where the kernel does not tell. */
  readonly connections?: number
}

/** A real server that gets no new connections. */
export interface DrainView {
  readonly virtualServer: string
  readonly realServer: string
  readonly service?: string
  readonly pod?: string
  /** Its endpoint is gone, and it is deleted then at the latest; without it, when its last connection ends. */
  readonly endsInSeconds?: number
}

/** Something that was refused, or put right. */
export interface JournalEntry {
  /** In ms since the epoch. */
  readonly at: number
  readonly kind: 'refusal' | 'repair'
  /** In the words of its tool. */
  readonly object: string
  readonly service?: string
  readonly reason: string
}

/** What `status/v1/summary` answers. */
export interface StatusSummary {
  readonly apiVersion: typeof API_VERSION
  readonly kind: 'StatusSummary'
  readonly node: string
  readonly version: string
  /** As /healthz says it. */
  readonly health: { readonly isOk: boolean; readonly reasons: readonly string[] }
  readonly counts: {
    readonly services: number
    readonly virtualServers: number
    readonly realServers: number
    /** Objects that the kernel refuses. */
    readonly failing: number
    readonly draining: number
    readonly conflicts: number
    /** External addresses and endpoints that are not served. */
    readonly refused: number
  }
  /** net.ipv4.vs.run_estimation is 0: the kernel counts nothing. */
  readonly ratesStandStill: boolean
  /** The oldest first. */
  readonly history: readonly Sample[]
  readonly drains: readonly DrainView[]
  /** Pods and addresses that are drained by hand. */
  readonly drained: readonly string[]
  /** The newest first. */
  readonly journal: readonly JournalEntry[]
}
