/** IPVS's connections, as /proc/net/ip_vs_conn lists them (net/netfilter/ipvs/ip_vs_conn.c): netlink has no way to ask for them. */
import { createReadStream } from 'node:fs'
import { createInterface } from 'node:readline'
import { type Address, addressFromBytes, parseAddress, type SocketAddress } from '../../model/address.ts'
import type { Protocol } from '../../model/virtual-server.ts'

const FILE = '/proc/net/ip_vs_conn'

export interface Connection {
  readonly protocol: Protocol
  readonly client: SocketAddress
  readonly virtualServer: SocketAddress
  readonly realServer: SocketAddress
  /** Of the protocol's own: ESTABLISHED, UDP ... */
  readonly state: string
  /** Without a packet until then. */
  readonly expiresInSeconds: number
  /** No connection, but what binds a client to its real server (sessionAffinity); its client's port is 0. */
  readonly isTemplate: boolean
}

/** Eight hexadecimal digits for IPv4, the whole address for IPv6. */
function addressOf(text: string): Address | undefined {
  return text.includes(':') ? parseAddress(text) : addressFromBytes(Buffer.from(text, 'hex'))
}

function socketAddress(address: string, port: string): SocketAddress | undefined {
  const at = addressOf(address)
  return at && { address: at, port: parseInt(port, 16) }
}

/** One line; undefined for what is none, as the head. */
export function parseConnection(line: string): Connection | undefined {
  const [protocol, from, fromPort, to, toPort, real, realPort, state, expires] = line.trim().split(/\s+/)
  if (!['TCP', 'UDP', 'SCTP'].includes(protocol!) || expires === undefined) return undefined
  const client = socketAddress(from!, fromPort!)
  const virtualServer = socketAddress(to!, toPort!)
  const realServer = socketAddress(real!, realPort!)
  if (client === undefined || virtualServer === undefined || realServer === undefined) return undefined
  return {
    ...{ protocol: protocol as Protocol, client, virtualServer, realServer, state: state! },
    expiresInSeconds: Number(expires),
    isTemplate: client.port === 0,
  }
}

/** Those that are asked for: the list may have a million, and is read a part at a time. Throws when it cannot be read. */
export async function readConnections(isAsked: (connection: Connection) => boolean): Promise<Connection[]> {
  const found: Connection[] = []
  for await (const line of createInterface({ input: createReadStream(FILE), crlfDelay: Infinity })) {
    const connection = parseConnection(line)
    if (connection !== undefined && isAsked(connection)) found.push(connection)
  }
  return found
}
