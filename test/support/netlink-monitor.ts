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

const IPVS: Readonly<Record<number, string>> = {
  1: 'virtual server added',
  2: 'virtual server changed',
  3: 'virtual server deleted',
  5: 'real server added',
  6: 'real server changed',
  7: 'real server deleted',
  9: 'daemon added',
  10: 'daemon deleted',
  12: 'timeouts changed',
  16: 'counters set to 0',
  17: 'IPVS flushed',
}
const LINKS: Readonly<Record<number, string>> = {
  16: 'link added',
  17: 'link deleted',
  19: 'link changed',
  20: 'address added',
  21: 'address deleted',
  24: 'route added',
  25: 'route deleted',
}
const FLOWS: Readonly<Record<number, string>> = { 0: 'flow added', 2: 'flow deleted' }
const SETS: Readonly<Record<number, string>> = {
  2: 'set created',
  3: 'set destroyed',
  4: 'set flushed',
  5: 'set renamed',
  6: 'sets swapped',
  9: 'set member added',
  10: 'set member deleted',
}
const RULES: Readonly<Record<number, string>> = {
  0: 'table added',
  2: 'table deleted',
  3: 'chain added',
  5: 'chain deleted',
  6: 'rule added',
  8: 'rule deleted',
  9: 'set of rules added',
  11: 'set of rules deleted',
}
/** Subsystems of nfnetlink, above the type (linux/netfilter/nfnetlink.h). */
const SUBSYSTEMS = { flows: 1 << 8, sets: 6 << 8, rules: 10 << 8 }

/** Messages that create, change or delete, by what they do: to IPVS, links and addresses, flows, sets, rules. */
export function changing(counts: Readonly<Record<string, number>>, family: number): Record<string, number> {
  const kinds: readonly (readonly [string, Readonly<Record<number, string>>, number?])[] = [
    [`16/${family}/`, IPVS],
    ['0/', LINKS],
    ['12/', FLOWS, SUBSYSTEMS.flows],
    ['12/', SETS, SUBSYSTEMS.sets],
    ['12/', RULES, SUBSYSTEMS.rules],
  ]
  const found = kinds.flatMap(([prefix, names, base = 0]) =>
    Object.entries(names).map(([type, name]) => [name, counts[`${prefix}${base + Number(type)}`]] as const),
  )
  return Object.fromEntries(found.filter((entry): entry is [string, number] => entry[1] !== undefined))
}
