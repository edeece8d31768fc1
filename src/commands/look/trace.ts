/** `kube-ipvs trace`: one flow through the rules, IPVS's connections and the connection tracking, as the kernel has it now. */
import { networkInterfaces } from 'node:os'
import { Conntrack } from '../../kernel/flows/conntrack.ts'
import { supportedFamilies } from '../../kernel/host/families.ts'
import { type Connection, readConnections } from '../../kernel/ipvs/connections.ts'
import { LinuxKernel } from '../../kernel/linux-kernel.ts'
import { type Address, familyOf, isSame, parseAddress, type SocketAddress } from '../../model/address.ts'
import type { KernelTables } from '../../model/kernel-object.ts'
import { type Protocol, PROTOCOL_NUMBERS, virtualServerId } from '../../model/virtual-server.ts'
import { loadAddon } from '../../netlink/socket.ts'
import type { Source, VirtualServerView } from '../../view/documents.ts'
import { parseSubject } from '../../view/subject.ts'
import { formatTrace, type Traced, traceView } from '../../view/trace.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { findVirtualServers } from './get.ts'
import { orPrintError, OUTPUT, print } from './output.ts'

/** Of a client without a port, so many are shown. */
const SHOWN = 20

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

/** Throws an Error that names what is wrong with the words. */
export function parseFlow([protocol, from, to]: readonly string[]): Asked {
  const client = parseSubject(from!)
  const destination = parseSubject(to!)
  if (client.kind !== 'address') throw new Error(`"${from!}" is no IP address, with a port or without`)
  if (destination.kind !== 'address' || destination.port === undefined)
    throw new Error(`"${to!}" is no IP address with a port, such as 10.96.0.10:443 or [fd00::10]:443`)
  if (familyOf(client.address) !== familyOf(destination.address))
    throw new Error(`${client.address} and ${destination.address} are not of one family`)
  return {
    protocol: protocolOf(protocol!),
    client: { address: client.address, port: client.port },
    destination: { address: destination.address, port: destination.port },
  }
}

function isFrom({ client }: Asked, { address, port }: SocketAddress): boolean {
  return address === client.address && (client.port === undefined || port === client.port || port === 0)
}

async function findConnections(asked: Asked): Promise<Connection[]> {
  const found = await readConnections(
    ({ protocol, client, virtualServer }) =>
      protocol === asked.protocol && isFrom(asked, client) && isSame(virtualServer, asked.destination),
  )
  return found.slice(0, SHOWN)
}

/** Without the running program, which knows Services and Pods, the kernel's. */
async function findVirtualServer(
  socket: string,
  key: string,
): Promise<{ readonly source: Source; readonly virtualServer: VirtualServerView | undefined }> {
  const { source, virtualServers } = await findVirtualServers(socket, key)
  return { source, virtualServer: virtualServers[0] }
}

/** Addresses of this node: of its interfaces, and virtual ones. */
function nodeAddresses({ addresses }: KernelTables): ReadonlySet<string> {
  const own = Object.values(networkInterfaces()).flatMap((all = []) => all.map(({ address }) => address))
  return new Set([...own.map((address) => parseAddress(address) ?? address), ...addresses.keys()])
}

async function readFlow(asked: Asked, socket: string): Promise<Traced> {
  const addon = loadAddon()
  const kernel = await LinuxKernel.open({ addon, families: await supportedFamilies(), readOnly: true })
  const conntrack = new Conntrack(addon)
  try {
    const { protocol, client, destination } = asked
    const { key } = virtualServerId(destination.address, destination.port, protocol)
    const tables = await kernel.readTables()
    const isServed = tables.virtualServers.some(({ id }) => id.key === key)
    const own = nodeAddresses(tables)
    const connections = await findConnections(asked)
    const flows = await conntrack.readFlows(protocol, destination)
    const packet = {
      ...{ family: familyOf(destination.address), protocol, source: client.address },
      ...{ destination: destination.address, destinationPort: destination.port },
      ...{ isOwn: own.has(client.address), isForNode: own.has(destination.address) },
      realServer: connections[0]?.realServer,
    }
    const rules = await kernel.filter.trace(packet, isServed)
    const found = isServed ? await findVirtualServer(socket, key) : undefined
    return {
      ...{ ...asked, rules, connections, isForNode: packet.isForNode },
      ...{ source: found?.source ?? 'kernel', virtualServer: found?.virtualServer },
      flows: flows.filter(({ original }) => isFrom(asked, original.source)).slice(0, SHOWN),
    }
  } finally {
    kernel.close()
    conntrack.close()
  }
}

async function trace(context: CommandContext): Promise<ExitCode> {
  const { operands, localSocket } = context.commandLine
  const document = traceView(await readFlow(parseFlow(operands), localSocket))
  print(context, document, formatTrace)
  return document.connections.length + document.flows.length > 0 ? 0 : 1
}

export const TRACE: Command = {
  name: 'trace',
  description: 'follow one flow through rules, IPVS and connection tracking; exit code 1 where there is none',
  operands: ['<protocol>', '<client>', '<address:port>'],
  options: [OUTPUT],
  run: (context) => orPrintError(() => trace(context), 2),
}
