/** Counts the messages that go to the kernel in this network namespace, as a network monitor sees them. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { NetlinkConnection } from '../../src/netlink/connection.ts'
import { NETLINK_GENERIC, resolveGenlFamilyId } from '../../src/netlink/generic.ts'
import { loadAddon } from '../../src/netlink/socket.ts'

/** The number of IPVS in generic netlink, on this kernel. */
export async function ipvsFamily(): Promise<number> {
  const connection = new NetlinkConnection(loadAddon(), NETLINK_GENERIC)
  const family = await resolveGenlFamilyId(connection, 'IPVS')
  connection.close()
  return family
}

export class NetlinkMonitor {
  readonly #process: ChildProcess

  private constructor(process: ChildProcess) {
    this.#process = process
  }

  static async start(): Promise<NetlinkMonitor> {
    const process = spawn('python3', ['test/support/nlmon.py'], { stdio: ['pipe', 'pipe', 'inherit'] })
    await once(process.stdout, 'data')
    return new NetlinkMonitor(process)
  }

  /** Messages by protocol, type and, for generic netlink, command: `16/28/1`. */
  async stop(): Promise<Record<string, number>> {
    let text = ''
    this.#process.stdout!.on('data', (chunk: Buffer) => (text += chunk.toString()))
    this.#process.stdin!.end()
    await once(this.#process, 'exit')
    return JSON.parse(text) as Record<string, number>
  }
}

/** Messages that create, change or delete: of IPVS, of links and addresses, of sets, of rules. */
export function changing(counts: Readonly<Record<string, number>>, family: number): Record<string, number> {
  const ipvs = [1, 2, 3, 5, 6, 7, 9, 10, 12, 16, 17].map((command) => `16/${family}/${command}`)
  const routes = [16, 17, 19, 20, 21, 24, 25].map((type) => `0/${type}`)
  const sets = [2, 3, 4, 5, 6, 9, 10].map((command) => `12/${(6 << 8) | command}`)
  const rules = [0, 2, 3, 5, 6, 8, 9, 11].map((command) => `12/${(10 << 8) | command}`)
  const kinds = [...ipvs, ...routes, ...sets, ...rules]
  return Object.fromEntries(Object.entries(counts).filter(([kind]) => kinds.includes(kind)))
}
