/**
 * Which net.ipv4.vs.conn_reuse_mode is right for this kernel: found by what it does, in a network namespace of
 * its own, as distributions change kernels without changing their version.
 *
 * A client that soon uses a source port again meets the IPVS connection that is still in TIME_WAIT. Mode 1 lets the
 * scheduler choose anew. Kernels before 5.9 drop the SYN first when the old connection is tracked (conntrack): the
 * client waits for 1 s. Mode 0 sends it to the old real server, which may be dead.
 */
import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFile, readlink } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { text } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { createRtNetlink } from 'netlink/dist/rt/rt.js'
import type { Address } from '../../model/address.ts'
import {
  IN_SERVICE,
  realServer,
  virtualServerId,
  type VirtualServerSettings,
} from '../../model/virtual-server.ts'
import type { MessageWriter } from '../../netlink/message.ts'
import type { Socket } from '../../netlink/socket.ts'
import { Ipvs } from './ipvs.ts'
import { encodeRealServer } from './real-server-codec.ts'
import { encodeVirtualServer } from './virtual-server-codec.ts'
import { ensureSysctl, type Sysctl } from '../host/sysctl.ts'

/** The program's first argument when it is to be the probe. The second is the namespace that it must not be in. */
export const CONN_REUSE_PROBE = '__probe-conn-reuse'

const PROBE_LIMIT_MS = 10_000
/** A SYN is sent again after 1 s, 3 s and 7 s. */
const ANSWER_LIMIT_MS = 4_000

const CLIENT = '127.0.0.1'
const CLIENT_PORT = 40_000
const SERVERS = ['127.0.0.11', '127.0.0.12'] as Address[]
const PORT = 8_080
const VIRTUAL_SERVER = virtualServerId('127.0.0.10' as Address, PORT, 'TCP')
const ROUND_ROBIN: VirtualServerSettings = {
  scheduler: 'rr',
  flags: 0,
  persistenceSeconds: 0,
  persistencePrefix: 32,
}

const SYSCTLS: readonly Sysctl[] = [
  { path: 'net/ipv4/vs/conntrack', value: '1' },
  { path: 'net/ipv4/vs/expire_nodest_conn', value: '1' },
  { path: 'net/ipv4/vs/conn_reuse_mode', value: '1' },
]

const execute = promisify(execFile)

/** What became of a connection, in mode 1, whose source port the one before had used. */
export interface Reuse {
  /** The real server that was quiesced in between. */
  readonly quiesced?: string
  /** Undefined: nobody. */
  readonly answeredBy: string | undefined
  /** How often the SYN was sent again: IPVS has dropped it, as the loopback device loses nothing. */
  readonly synRetransmissions: number
}

export interface ConnReuse {
  /** Undefined where it could not be found out: what the kernel has may stay. */
  readonly mode: 0 | 1 | undefined
  /** For the log: what a connection with a reused source port meets in mode 1, or why that is not known. */
  readonly reason: string
}

/** Mode 1 where it does what it is for, and at once. */
export function decideConnReuse(reuses: readonly Reuse[]): ConnReuse {
  if (reuses.some(({ synRetransmissions }) => synRetransmissions > 0)) {
    return { mode: 0, reason: 'mode 1 drops the first SYN of a reused source port: a stall of 1 s' }
  }
  if (reuses.length === 0 || reuses.some(({ answeredBy }) => answeredBy === undefined)) {
    return { mode: undefined, reason: 'the probe got no answer' }
  }
  if (reuses.some(({ quiesced, answeredBy }) => answeredBy === quiesced)) {
    return { mode: 0, reason: 'mode 1 leaves a reused source port with a real server that is quiesced' }
  }
  return { mode: 1, reason: 'mode 1 schedules a reused source port anew, without a stall' }
}

function explainProbe(error: unknown): string {
  const { message, stderr, killed } = error as Error & { stderr?: string; killed?: boolean }
  if (killed === true) return `no result within ${PROBE_LIMIT_MS / 1_000} s`
  const said = stderr?.trim() ?? ''
  return said === '' ? message : said
}

/**
 * Finds out in at most 10 s. Starts `program`, which is this program (process.argv[1]), in a network namespace that
 * goes with it, with the argument CONN_REUSE_PROBE, upon which it has to call runConnReuseProbe. The signal ends it
 * at once. Never throws.
 */
export async function probeConnReuse(program: string, signal?: AbortSignal): Promise<ConnReuse> {
  try {
    const outside = await readlink('/proc/self/ns/net')
    const command = ['--net', process.execPath, ...process.execArgv, program, CONN_REUSE_PROBE, outside]
    const limits = { timeout: PROBE_LIMIT_MS, killSignal: 'SIGKILL', signal } as const
    const { stdout } = await execute('unshare', command, limits)
    return decideConnReuse(JSON.parse(stdout) as Reuse[])
  } catch (error) {
    return { mode: undefined, reason: `the probe could not run: ${explainProbe(error)}` }
  }
}

// --- Inside the namespace -------------------------------------------------------------------------------

/**
 * The probe itself: prints what it has measured, or why it could not and exit code 1. It refuses to run in the
 * namespace `outside`.
 */
export async function runConnReuseProbe(addon: Socket, outside: string | undefined): Promise<void> {
  try {
    if (outside === undefined || (await readlink('/proc/self/ns/net')) === outside)
      throw new Error('this is not a network namespace of its own')
    process.stdout.write(JSON.stringify(await prepareAndMeasure(addon)))
  } catch (error) {
    const { message, cause } = error as Error
    process.stderr.write(cause instanceof Error ? `${message}: ${cause.message}` : message)
    process.exitCode = 1
  }
}

async function prepareAndMeasure(addon: Socket): Promise<Reuse[]> {
  const ipvs = await Ipvs.open(addon)
  const servers: Server[] = []
  try {
    for (const sysctl of SYSCTLS) ensureSysctl(sysctl)
    await raiseLoopback()
    await trackConnections()
    for (const address of SERVERS) servers.push(await serve(address))
    return await measure(ipvs)
  } finally {
    for (const server of servers) server.close()
    ipvs.close()
  }
}

async function raiseLoopback(): Promise<void> {
  const route = createRtNetlink()
  try {
    await route.setLink({ index: 1, flags: { up: true }, change: { up: true } })
  } finally {
    route.socket.close()
  }
}

/**
 * A namespace tracks connections once a rule needs it. Not through the command iptables: in some images it is a
 * script that chooses the variant, for good, by the rules that it finds.
 */
async function trackConnections(): Promise<void> {
  const rule = ['-A', 'OUTPUT', '-m', 'conntrack', '--ctstate', 'NEW']
  await execute('iptables-nft', rule).catch(() => execute('iptables-legacy', rule))
}

/** A server that says its address and closes. */
async function serve(address: string): Promise<Server> {
  const server = createServer((socket) => socket.end(address)).listen(PORT, address)
  await once(server, 'listening')
  return server
}

/** Three connections from one port: the second meets what is left of the first, the third that of a quiesced server's. */
async function measure(ipvs: Ipvs): Promise<Reuse[]> {
  await change(ipvs, (batch) => {
    encodeVirtualServer(batch, ipvs.genlFamilyId, 'NEW', VIRTUAL_SERVER, ROUND_ROBIN)
    for (const address of SERVERS) {
      encodeRealServer(batch, ipvs.genlFamilyId, 'NEW', VIRTUAL_SERVER, realServer(address, PORT))
    }
  })
  const first = await connectAgain()
  if (first.answeredBy === undefined) return [first]
  await expectTimeWait()
  const second = await connectAgain()
  if (second.answeredBy === undefined) return [second]
  await expectTimeWait()
  const quiesced = realServer(second.answeredBy as Address, PORT, { ...IN_SERVICE, weight: 0 })
  await change(ipvs, (batch) => {
    encodeRealServer(batch, ipvs.genlFamilyId, 'SET', VIRTUAL_SERVER, quiesced)
  })
  return [second, { quiesced: quiesced.address, ...(await connectAgain()) }]
}

async function change({ connection }: Ipvs, build: (batch: MessageWriter) => void): Promise<void> {
  const batch = connection.batch()
  build(batch)
  const { refusals } = await connection.exchange(batch, 'Cannot change the virtual server of the probe')
  for (const error of refusals.values()) throw error
}

/** A connection from always the same port. Throws the error of one that could not be made. */
async function connectAgain(): Promise<Reuse> {
  const before = await countSynRetransmissions()
  const from = { localAddress: CLIENT, localPort: CLIENT_PORT }
  const socket = connect({ host: VIRTUAL_SERVER.address, port: PORT, ...from })
  socket.setTimeout(ANSWER_LIMIT_MS, () => socket.end().destroy())
  const answer = await text(socket)
  const synRetransmissions = (await countSynRetransmissions()) - before
  return { answeredBy: answer === '' ? undefined : answer, synRetransmissions }
}

/** TCPSynRetrans of this namespace. */
async function countSynRetransmissions(): Promise<number> {
  const lines = (await readFile('/proc/net/netstat', 'utf8')).split('\n')
  const [names, values] = lines.filter((line) => line.startsWith('TcpExt:')).map((line) => line.split(' '))
  const value = values?.[names?.indexOf('TCPSynRetrans') ?? -1]
  if (value === undefined) throw new Error('the kernel does not count SYNs')
  return Number(value)
}

/** Otherwise the next connection would not meet what the probe is about. */
async function expectTimeWait(): Promise<void> {
  const connections = await readFile('/proc/net/ip_vs_conn', 'utf8')
  if (!connections.includes('TIME_WAIT')) throw new Error('IPVS holds no connection in TIME_WAIT')
  const tracked = await readFile('/proc/sys/net/netfilter/nf_conntrack_count', 'utf8')
  if (Number(tracked) === 0) throw new Error('connections are not tracked')
}
