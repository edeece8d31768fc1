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
import { formatColumns, stateOfReal, weightOf } from './tables.ts'

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
  readonly timeout: number | undefined
}

/** All that the kernel, and the running program, say of a flow. */
export interface Traced {
  readonly protocol: Protocol
  readonly client: { readonly address: SocketAddress['address']; readonly port: number | undefined }
  readonly destination: SocketAddress
  readonly source: Source
  readonly rules: {
    readonly steps: readonly RuleStepView[]
    readonly isDropped: boolean
    readonly isMasqueraded: boolean
  }
  readonly isForNode: boolean
  readonly virtualServer: VirtualServerView | undefined
  readonly connections: readonly TracedConnection[]
  readonly flows: readonly TracedFlow[]
}

const format = ({ address, port }: SocketAddress): string => formatSocketAddress(address, port)

function realServerOf(virtualServer: VirtualServerView | undefined, key: string): RealServerView | undefined {
  return virtualServer?.realServers.find(({ realServer }) => realServer === key)
}

function connectionView(
  { client, realServer, state, expiresInSeconds }: TracedConnection,
  { virtualServer }: Traced,
): ConnectionView {
  const key = format(realServer)
  const pod = realServerOf(virtualServer, key)?.pod
  return {
    client: format(client),
    realServer: key,
    ...(pod !== undefined && { pod }),
    ...{ state, expiresInSeconds },
  }
}

function flowView({ original, reply, timeout }: TracedFlow): FlowView {
  return {
    client: format(original.source),
    answeredBy: format(reply.source),
    sees: format(reply.destination),
    ...(timeout !== undefined && { expiresInSeconds: timeout }),
  }
}

const weight = ({ weight: { programmed = 0 } }: RealServerView): number => programmed

/** Where a new connection goes. */
function newConnection({ virtualServer, rules, isForNode, destination }: Traced): string {
  if (virtualServer === undefined)
    return isForNode
      ? `no virtual server is at ${format(destination)}: IPVS leaves it to this node itself, which refuses it unless somebody listens`
      : `no virtual server is at ${format(destination)}, and it is no address of this node: IPVS has nothing to do with it`
  const open = virtualServer.realServers.filter((real) => weight(real) > 0).length
  if (open === 0) return 'no real server takes new connections: a new one is refused'
  const sees = rules.isMasqueraded ? 'an address of this node' : "the client's address"
  const which = open === 1 ? 'the real server' : `one of ${open} real servers`
  return `a new connection goes to ${which}, which sees ${sees}`
}

/** Where one that is open goes, and why that may be a surprise. */
function openConnection(connection: TracedConnection, traced: Traced): string {
  const key = format(connection.realServer)
  const real = realServerOf(traced.virtualServer, key)
  const name = real?.pod === undefined ? key : `${key} (${real.pod})`
  const what = connection.isTemplate
    ? `new connections of the client are bound to ${name} (sessionAffinity)`
    : `${format(connection.client)} is connected to ${name}`
  if (real === undefined) return `${what}, which is no real server any more: see "kube-ipvs get"`
  if (weight(real) === 0) return `${what}, which takes no new connections (weight 0)`
  if (connection.state.startsWith('SYN')) return `${what}, which has not answered (${connection.state})`
  return what
}

/** What the connection tracking says beside it. */
function trackedFlow({ original, reply }: TracedFlow, { connections, destination }: Traced): string {
  const client = format(original.source)
  const isServed = connections.some((one) => isSame(one.client, original.source))
  if (!isServed && isSame(reply.source, destination))
    return `the flow of ${client} is not changed by anybody: ${format(destination)} answers itself`
  const sees = isSame(reply.destination, original.source)
    ? "the client's own address"
    : `${reply.destination.address}: it is masqueraded`
  const stale = isServed ? '' : ', though IPVS has no such connection any more'
  return `${format(reply.source)} answers ${client}, and sees ${sees}${stale}`
}

function conclusionsOf(traced: Traced): string[] {
  const { rules, connections, flows } = traced
  const opened = connections.filter(({ isTemplate }) => !isTemplate)
  return [
    rules.isDropped ? 'the rules drop a new connection: see the last one' : newConnection(traced),
    ...connections.map((connection) => openConnection(connection, traced)),
    ...flows.map((flow) => trackedFlow(flow, traced)),
    ...(opened.length > 0 && flows.length === 0
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
    connections: connections.map((connection) => connectionView(connection, traced)),
    flows: flows.map(flowView),
    conclusions: conclusionsOf(traced),
  }
}

const indented = (lines: readonly string[], none: string): string[] =>
  (lines.length === 0 ? [none] : lines).map((line) => `  ${line}`)

function ruleRows({ at, rule, effect }: RuleStepView): string[] {
  return [at, effect, rule.replace(/-m comment --comment ("[^"]*"|\S+) ?/, '')]
}

function virtualServerRows({ virtualServer, service, state, realServers }: VirtualServerView): string[][] {
  return [
    [virtualServer, service ?? '', '', state],
    ...realServers.map((real) => [
      `-> ${real.realServer}`,
      real.pod ?? '',
      weightOf(real.weight),
      stateOfReal(real),
    ]),
  ]
}

const seconds = (value: number | undefined): string => (value === undefined ? '' : `ends in ${value} s`)

/** What `kube-ipvs trace` prints. */
export function formatTrace({
  packet,
  rules,
  virtualServer,
  connections,
  flows,
  conclusions,
}: Trace): string[] {
  return [
    packet,
    '',
    'Rules of ours that apply to its first packet:',
    ...indented(formatColumns(rules.map(ruleRows)), 'none'),
    '',
    'Virtual server:',
    ...indented(formatColumns(virtualServer === undefined ? [] : virtualServerRows(virtualServer)), 'none'),
    '',
    'Connections of IPVS:',
    ...indented(
      formatColumns(
        connections.map(({ client, realServer, pod, state, expiresInSeconds }) => [
          `${client} -> ${realServer}`,
          pod ?? '',
          state,
          seconds(expiresInSeconds),
        ]),
      ),
      'none',
    ),
    '',
    'Connection tracking:',
    ...indented(
      formatColumns(
        flows.map(({ client, answeredBy, sees, expiresInSeconds }) => [
          client,
          `answered by ${answeredBy}`,
          `which sees ${sees}`,
          seconds(expiresInSeconds),
        ]),
      ),
      'none',
    ),
    '',
    ...conclusions.map((sentence) => `=> ${sentence}`),
  ]
}
