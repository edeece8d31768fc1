/** One flow through the kernel: what its rules, IPVS and the connection tracking know of it, and what follows from that. */
import { formatSocketAddress, isSame, type SocketAddress } from '../model/address.ts'
import type { Protocol } from '../model/virtual-server.ts'
import {
  API_VERSION,
  type ConnectionView,
  type FlowView,
  type RealServerView,
  type RuleStepView,
  type Source,
  type Trace,
  type VirtualServerView,
} from './documents.ts'

/** A connection of IPVS, as far as it is shown. */
export interface TracedConnection {
  readonly client: SocketAddress
  readonly realServer: SocketAddress
  readonly state: string
  readonly expiresInSeconds: number
  readonly isTemplate: boolean
}

/** A tracked flow, as far as it is shown. */
export interface TracedFlow {
  readonly original: { readonly source: SocketAddress; readonly destination: SocketAddress }
  readonly reply: { readonly source: SocketAddress; readonly destination: SocketAddress }
  readonly isAnswered: boolean
  readonly timeout: number | undefined
}

/** What becomes of a new connection in the rules. */
export interface TracedRules {
  readonly steps: readonly RuleStepView[]
  readonly isDropped: boolean
  readonly isUncertain: boolean
  /** Whether each real server that may get it sees an address of this node, by `ADDRESS:PORT`. */
  readonly masquerades: ReadonlyMap<string, boolean>
}

/** All that the kernel, and the running program, say of a flow. */
export interface Traced {
  readonly protocol: Protocol
  readonly client: { readonly address: SocketAddress['address']; readonly port: number | undefined }
  readonly destination: SocketAddress
  readonly source: Source
  readonly rules: TracedRules
  readonly isForNode: boolean
  /** The kernel has it. */
  readonly isServed: boolean
  readonly virtualServer: VirtualServerView | undefined
  readonly connections: readonly TracedConnection[]
  readonly flows: readonly TracedFlow[]
}

/** Of a client that has many, so many are shown. */
const SHOWN = 20

const format = ({ address, port }: SocketAddress): string => formatSocketAddress(address, port)

function realServerOf({ virtualServer }: Traced, key: string): RealServerView | undefined {
  return virtualServer?.realServers.find(({ realServer }) => realServer === key)
}

function connectionView(
  { client, realServer, state, expiresInSeconds }: TracedConnection,
  traced: Traced,
): ConnectionView {
  const key = format(realServer)
  const pod = realServerOf(traced, key)?.pod
  return {
    client: format(client),
    realServer: key,
    ...(pod !== undefined && { pod }),
    ...{ state, expiresInSeconds },
  }
}

function flowView({ original, reply, isAnswered, timeout }: TracedFlow): FlowView {
  return {
    client: format(original.source),
    realServer: format(reply.source),
    isAnswered,
    sees: format(reply.destination),
    ...(timeout !== undefined && { expiresInSeconds: timeout }),
  }
}

/** Why our rules drop a packet, by the chain that does. */
const DROPS: readonly (readonly [chain: string, reason: string])[] = [
  ['KUBE-SOURCE-RANGES-FIREWALL', 'the client is in none of loadBalancerSourceRanges'],
  ['KUBE-IPVS-FILTER', 'no Service has this port'],
]

function dropped({ steps }: TracedRules): string {
  const { at, effect } = steps.at(-1)!
  const reason = DROPS.find(([chain]) => at.endsWith(chain))?.[1]
  return `a new connection: ${effect} by ${at}${reason === undefined ? '' : `, as ${reason}`}`
}

function notServed({ virtualServer, isForNode, destination }: Traced): string {
  const at = format(destination)
  if (virtualServer?.service !== undefined)
    return `${at} is not in the kernel, though ${virtualServer.service} wants it (${virtualServer.state}): an audit repairs it`
  return isForNode
    ? `no virtual server is at ${at}: this node refuses a new connection, unless somebody listens there`
    : `no virtual server is at ${at}, which is no address of this node: IPVS has nothing to do with it`
}

const NODE = 'an address of this node'

/** Whom real servers see: most of them, and those that see another. */
function seen({ masquerades, isUncertain }: TracedRules): string {
  const own = [...masquerades].filter(([, isMasqueraded]) => isMasqueraded).map(([key]) => key)
  const unless = isUncertain ? ', unless a rule applies of which that is not known here' : ''
  if (own.length === masquerades.size) return `${NODE}${unless}`
  const except = own.length === 0 ? '' : `, but for ${own.join(', ')}: that sees ${NODE}`
  return `the client's address${except}${unless}`
}

/** What becomes of a new connection. */
function newConnection(traced: Traced): string {
  const { rules, isServed } = traced
  if (rules.isDropped) return dropped(rules)
  if (!isServed) return notServed(traced)
  const { size } = rules.masquerades
  if (size === 0) return 'a new connection: it is refused, as no real server takes any'
  const which = size === 1 ? 'the real server' : `one of ${size} real servers`
  return `a new connection: it goes to ${which}, which will see ${seen(rules)}`
}

/** States of TCP and SCTP in which nothing more is sent. */
const ENDED = /^(?:TIME_WAIT|CLOSE|FIN_WAIT|LAST_ACK|SHUT|CLOSED)/

/** Where a connection goes, and what is unusual about that. */
function opened(connection: TracedConnection, traced: Traced): string {
  const key = format(connection.realServer)
  const real = realServerOf(traced, key)
  const name = real?.pod === undefined ? key : `${key} (${real.pod})`
  const state =
    real === undefined
      ? ', which is no real server any more: see "kube-ipvs get"'
      : real.weight.programmed === 0
        ? ', which takes no new connections (weight 0)'
        : ''
  if (connection.isTemplate)
    return `new connections of the client are bound to ${name} (sessionAffinity)${state}`
  const client = format(connection.client)
  if (ENDED.test(connection.state))
    return `${client} was connected to ${name}: that has ended (${connection.state})`
  const flow = traced.flows.find(({ original }) => isSame(original.source, connection.client))
  const answers = flow?.isAnswered === false ? `, which has not answered (${connection.state})` : ''
  const sees = flow === undefined ? '' : `, and is seen as ${format(flow.reply.destination)}`
  return `${client} is connected to ${name}${state}${answers}${sees}`
}

/** A flow without a connection of IPVS. */
function left({ original, reply }: TracedFlow, { destination }: Traced): string {
  const client = format(original.source)
  return isSame(reply.source, destination)
    ? `${client} reaches ${format(destination)} itself: nobody changes the destination`
    : `${client} is tracked on its way to ${format(reply.source)}, though IPVS has no such connection any more`
}

function conclusionsOf(traced: Traced): string[] {
  const { connections, flows } = traced
  const isConnected = ({ original }: TracedFlow): boolean =>
    connections.some(({ client }) => isSame(client, original.source))
  const isOpen = ({ isTemplate, state }: TracedConnection): boolean => !isTemplate && !ENDED.test(state)
  return [
    newConnection(traced),
    ...connections.slice(0, SHOWN).map((connection) => opened(connection, traced)),
    ...flows
      .filter((flow) => !isConnected(flow))
      .slice(0, SHOWN)
      .map((flow) => left(flow, traced)),
    ...(connections.some(isOpen) && flows.length === 0
      ? ['the connection tracking knows none of them: with net.ipv4.vs.conntrack at 0 nobody is masqueraded']
      : []),
  ]
}

export function traceView(traced: Traced): Trace {
  const { protocol, client, destination, source, rules, virtualServer, connections, flows } = traced
  const from = client.port === undefined ? client.address : formatSocketAddress(client.address, client.port)
  return {
    ...{ apiVersion: API_VERSION, kind: 'Trace', source },
    packet: `${protocol} ${from} -> ${format(destination)}`,
    rules: rules.steps,
    ...(virtualServer !== undefined && { virtualServer }),
    connections: connections.slice(0, SHOWN).map((connection) => connectionView(connection, traced)),
    flows: flows.slice(0, SHOWN).map(flowView),
    more: {
      connections: Math.max(0, connections.length - SHOWN),
      flows: Math.max(0, flows.length - SHOWN),
    },
    conclusions: conclusionsOf(traced),
  }
}
