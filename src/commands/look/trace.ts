/** `kube-ipvs trace`: one flow through the rules, IPVS's connections and the connection tracking, as the kernel has it now. */
import { Conntrack } from '../../kernel/flows/conntrack.ts'
import { supportedFamilies } from '../../kernel/host/families.ts'
import { type Connection, readConnections } from '../../kernel/ipvs/connections.ts'
import { readNodeAddresses } from '../../kernel/link/node-addresses.ts'
import { NETLINK_ROUTE } from '../../kernel/link/rtnetlink.ts'
import { LinuxKernel } from '../../kernel/linux-kernel.ts'
import {
  type Address,
  familyOf,
  formatSocketAddress,
  isSame,
  type SocketAddress,
} from '../../model/address.ts'
import type { KernelTables } from '../../model/kernel-object.ts'
import { type Protocol, PROTOCOL_NUMBERS, virtualServerId } from '../../model/virtual-server.ts'
import { NetlinkConnection } from '../../netlink/connection.ts'
import { loadAddon } from '../../netlink/socket.ts'
import type { VirtualServerList, VirtualServerView } from '../../view/documents.ts'
import { parseSubject } from '../../view/subject.ts'
import { formatTrace } from '../../view/trace-text.ts'
import { type Traced, traceView } from '../../view/trace.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { ask, NoAnswerError } from './ask.ts'
import { readKernel } from './get.ts'
import { orPrintError, OUTPUT, print, printNote } from './output.ts'

/** What is asked about. */
interface Asked {
  readonly protocol: Protocol
  readonly client: { readonly address: Address; readonly port: number | undefined }
  readonly destination: SocketAddress
}

function protocolOf(text: string): Protocol {
  const name = text.toUpperCase()
  if (Object.hasOwn(PROTOCOL_NUMBERS, name)) return name as Protocol
  throw new Error(`"${text}" is no protocol of Services: give tcp, udp or sctp`)
}

interface Place {
  readonly address: Address
  readonly port: number | undefined
}

/** An address, with a port or without. Throws an Error that says what is expected. */
function placeOf(text: string, expected: string): Place {
  const subject = parseSubject(text)
  const isPlace = subject.kind === 'address' && subject.protocol === undefined
  const port = subject.kind === 'address' ? subject.port : undefined
  if (!isPlace || port === 0 || (port ?? 0) > 65_535) throw new Error(`"${text}" is no ${expected}`)
  return { address: subject.address, port }
}

/** Throws an Error that names what is wrong with the words. */
export function parseFlow([protocol, from, to]: readonly string[]): Asked {
  const client = placeOf(from!, 'IP address, with a port or without: "kube-ipvs get" has those of Pods')
  const expected = 'IP address with a port, such as 10.96.0.10:443 or [fd00::10]:443'
  const { address, port } = placeOf(to!, expected)
  if (port === undefined) throw new Error(`"${to!}" is no ${expected}`)
  if (familyOf(client.address) !== familyOf(address))
    throw new Error(`${client.address} and ${address} are not of one family`)
  return { protocol: protocolOf(protocol!), client, destination: { address, port } }
}

function isFrom({ client }: Asked, { address, port }: SocketAddress): boolean {
  return address === client.address && (client.port === undefined || port === client.port || port === 0)
}

async function findConnections(asked: Asked): Promise<Connection[]> {
  return readConnections(
    ({ protocol, client, virtualServer }) =>
      protocol === asked.protocol && isFrom(asked, client) && isSame(virtualServer, asked.destination),
  )
}

/** The running program's answer, which knows Services and Pods; where it has none, whatever the reason, the kernel's. */
async function findVirtualServer(
  socket: string,
  key: string,
): Promise<Pick<Traced, 'source' | 'virtualServer'>> {
  const list = await ask<VirtualServerList>(socket, '/v1/virtual-servers', { of: key }).catch(
    (error: unknown) => {
      if (error instanceof NoAnswerError) printNote(`from the kernel alone: ${error.message}`)
      return readKernel(key)
    },
  )
  return { source: list.source, virtualServer: list.virtualServers[0] }
}

/** Real servers that may get a new connection, as the kernel has them. */
function candidates(virtualServer: VirtualServerView | undefined): SocketAddress[] {
  const open = (virtualServer?.realServers ?? []).filter(({ weight }) => (weight.programmed ?? 0) > 0)
  return open.flatMap(({ realServer }) => {
    const { address, port } = placeOf(realServer, 'real server')
    return port === undefined ? [] : [{ address, port }]
  })
}

const LOOPBACK = /^(?:127\.|::1$)/

/** Tells addresses of this node: of its interfaces, and virtual ones. */
async function nodeAddresses(
  connection: NetlinkConnection,
  { addresses }: KernelTables,
): Promise<(address: Address) => boolean> {
  const own = new Set((await readNodeAddresses(connection)).addresses)
  return (address) => own.has(address) || addresses.has(address) || LOOPBACK.test(address)
}

interface Open {
  readonly kernel: LinuxKernel
  readonly conntrack: Conntrack
  readonly links: NetlinkConnection
}

async function readFlow(asked: Asked, { kernel, conntrack, links }: Open, socket: string): Promise<Traced> {
  const { protocol, client, destination } = asked
  const { key } = virtualServerId(destination.address, destination.port, protocol)
  const tables = await kernel.readTables()
  const isNodes = await nodeAddresses(links, tables)
  const connections = await findConnections(asked)
  const flows = await conntrack.readFlows(protocol, destination)
  const found = await findVirtualServer(socket, key)
  const realServers = candidates(found.virtualServer)
  const isForNode = isNodes(destination.address)
  const packet = {
    ...{ family: familyOf(destination.address), protocol, source: client.address },
    ...{ destination: destination.address, destinationPort: destination.port },
    ...{ isOwn: isNodes(client.address), isForNode },
  }
  const { masquerades, ...rules } = await kernel.filter.trace(packet, realServers)
  const names = realServers.map(({ address, port }) => formatSocketAddress(address, port))
  return {
    ...{ ...asked, ...found, connections, isForNode },
    isServed: tables.virtualServers.some(({ id }) => id.key === key),
    rules: { ...rules, masquerades: new Map(masquerades.map((is, i) => [names[i]!, is])) },
    flows: flows.filter(({ original }) => isFrom(asked, original.source)),
  }
}

async function trace(context: CommandContext): Promise<ExitCode> {
  const { operands, localSocket } = context.commandLine
  const asked = parseFlow(operands)
  const addon = loadAddon()
  const kernel = await LinuxKernel.open({ addon, families: await supportedFamilies(), readOnly: true })
  const conntrack = new Conntrack(addon)
  const links = new NetlinkConnection(addon, NETLINK_ROUTE)
  try {
    const document = traceView(await readFlow(asked, { kernel, conntrack, links }, localSocket))
    print(context, document, formatTrace)
    return document.connections.length + document.flows.length > 0 ? 0 : 1
  } finally {
    for (const opened of [kernel, conntrack, links]) opened.close()
  }
}

export const TRACE: Command = {
  name: 'trace',
  description: 'follow one flow through rules, IPVS and connection tracking',
  operands: ['<protocol>', '<client>', '<address:port>'],
  options: [OUTPUT],
  exitCodes: ['there is such a flow', 'there is none now', 'it could not be found out'],
  run: (context) => orPrintError(() => trace(context), 2),
}
