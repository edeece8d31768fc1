/**
 * The lab's hosts: network namespaces around the one in which the test itself runs, which is the node. Each has
 * a wire of its own to the node, as a Pod has.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { isDeepStrictEqual, promisify } from 'node:util'
import { recorder } from './calls.ts'
import { eventually } from './eventually.ts'
import type { LogLine } from './log.ts'
import { inImage } from './pod.ts'

const execute = promisify(execFile)
const ROOT = process.cwd()
const TRAFFIC = join(ROOT, 'test/support/traffic.py')
export const PROGRAM = join(ROOT, 'dist/kube-ipvs.cjs')
/** Names of namespaces are the machine's: those of tests that run side by side must differ. */
const PREFIX = `lab${process.pid}`

/** Standard output of a command; throws with its standard error when it fails. */
export async function run(command: string, ...args: readonly string[]): Promise<string> {
  const { stdout } = await execute(command, args, { maxBuffer: 64 * 1024 * 1024 })
  return stdout
}

/** Runs a line of shell. */
export const sh = (line: string): Promise<string> => run('sh', '-ec', line)

/** The virtual servers of the node, as `ipvsadm -S -n` prints them, sorted within each. */
export async function ipvsadm(): Promise<string[]> {
  return (await run('ipvsadm', '-S', '-n')).split('\n').filter((line) => line !== '')
}

/** The addresses on kube-ipvs0, without prefix length. */
export async function boundAddresses(): Promise<string[]> {
  const text = await run('ip', '-o', 'addr', 'show', 'dev', 'kube-ipvs0').catch(() => '')
  return [...text.matchAll(/inet6? ([^/]+)\//g)].map((match) => match[1]!).sort()
}

export interface Traffic {
  /** Connections by the name of the server that answered. */
  readonly answers: Readonly<Record<string, number>>
  /** By the client address that the server saw. */
  readonly sources: Readonly<Record<string, number>>
  readonly errors: Readonly<Record<string, number>>
  /** Who answered, in order. */
  readonly sequence: readonly string[]
}

export type WireProtocol = 'tcp' | 'udp' | 'sctp'

/** Connections to open, all at the same time. */
export interface Question {
  readonly protocol: WireProtocol
  readonly address: string
  readonly port: number
  readonly count: number
  /** The client's address; the kernel's choice unless given. */
  readonly source?: string
}

export interface Reply {
  /** Connections by what the server said: its name, a space, and the client address that it saw. */
  readonly seen: Readonly<Record<string, number>>
  /** Connections that failed, by name of the error (ECONNREFUSED), or `timeout`. */
  readonly errors: Readonly<Record<string, number>>
}

/** Connections that stay open, each speaking from time to time. */
export class HeldConnections {
  readonly #process: ChildProcess
  readonly #lines: { open: number; broken: Record<string, string>; servers: string[]; rounds: number }[] = []

  constructor(process: ChildProcess) {
    this.#process = process
    createInterface({ input: process.stdout! }).on('line', (line) =>
      this.#lines.push(JSON.parse(line) as never),
    )
  }

  /** The names of the servers, sorted; resolves when all connections are open. */
  async opened(): Promise<readonly string[]> {
    return eventually(() => this.#last.servers, 90_000)
  }

  /** How many are open now, after another round of speaking on each. */
  async open(): Promise<number> {
    const { rounds } = this.#last
    return eventually(() => {
      if (this.#last.rounds < rounds + 2) throw new Error('no round since')
      return this.#last.open
    }, 90_000)
  }

  /** The servers whose connections have broken, and how. */
  get broken(): Readonly<Record<string, string>> {
    return this.#last.broken
  }

  async close(): Promise<void> {
    this.#process.stdin!.end()
    if (this.#process.exitCode === null) await once(this.#process, 'exit')
  }

  get #last() {
    const line = this.#lines.at(-1)
    if (line === undefined) throw new Error(`no connection is open (exit code ${this.#process.exitCode})`)
    return line
  }
}

/** Where a connection goes. */
export type Target = Pick<Question, 'protocol' | 'address' | 'port'>

/** What became of new connections so far. */
export interface Tally {
  readonly asked: number
  readonly answered: number
  /** Connections that failed, by their target and the error. */
  readonly errors: Readonly<Record<string, number>>
  /** The longest that an answer took, in seconds. */
  readonly slowest: number
  /** How long it has been going on. */
  readonly seconds: number
}

/** New connections at a rate, to one target after the other, each with a request and its answer. */
export class NewConnections {
  readonly #process: ChildProcess
  readonly #lines: Tally[] = []

  constructor(process: ChildProcess, targets: readonly Target[]) {
    this.#process = process
    createInterface({ input: process.stdout! }).on('line', (line) =>
      this.#lines.push(JSON.parse(line) as Tally),
    )
    process.stdin!.write(`${JSON.stringify(targets)}\n`)
  }

  /** As it is a second from now. */
  async tally(): Promise<Tally> {
    const told = this.#lines.length
    return eventually(() => {
      if (this.#lines.length === told) throw new Error('nothing said since')
      return this.#lines.at(-1)!
    }, 30_000)
  }

  /** Opens no more; resolves when all have ended. */
  async close(): Promise<Tally> {
    this.#process.stdin!.end()
    if (this.#process.exitCode === null) await once(this.#process, 'close')
    return this.#lines.at(-1)!
  }
}

/** The namespace of a host: such names are the machine's, so every test has its own. */
export const namespaceOf = (name: string): string => `${PREFIX}-${name}`

/** After `ip netns exec NAMESPACE`: a node has a /run/kube-ipvs of its own, as that mounts in a namespace of its own. */
export const OWN_RUN: readonly string[] = [
  'sh',
  '-c',
  'mkdir -p /run/kube-ipvs && mount -t tmpfs tmpfs /run/kube-ipvs && exec "$@"',
  'sh',
]

/** A namespace, usually with one wire to the node. */
export class Host {
  readonly name: string
  readonly namespace: string
  readonly ipv4: string
  readonly ipv6: string
  readonly #processes: ChildProcess[] = []

  private constructor(name: string, ipv4: string, ipv6: string) {
    this.name = name
    this.namespace = namespaceOf(name)
    this.ipv4 = ipv4
    this.ipv6 = ipv6
  }

  /** A host whose namespace and wires the caller lays. */
  static of(name: string, ipv4: string, ipv6: string): Host {
    return new Host(name, ipv4, ipv6)
  }

  /** Adds a host; `number` (1 to 254) makes its addresses. */
  static async add(name: string, number: number): Promise<Host> {
    const host = new Host(name, `10.244.${number}.2`, `fd00:10:244:${number}::2`)
    const { namespace: ns } = host
    await sh(`
      ip netns add ${ns}
      ip link add v-${name} type veth peer name eth0 netns ${ns}
      ip addr add 10.244.${number}.1/24 dev v-${name}
      ip addr add fd00:10:244:${number}::1/64 dev v-${name} nodad
      ip link set v-${name} up
      ip -n ${ns} addr add ${host.ipv4}/24 dev eth0
      ip -n ${ns} addr add ${host.ipv6}/64 dev eth0 nodad
      ip -n ${ns} link set eth0 up
      ip -n ${ns} link set lo up
      ip -n ${ns} route add default via 10.244.${number}.1
      ip -n ${ns} -6 route add default via fd00:10:244:${number}::1`)
    return host
  }

  /** Starts a server that answers its name, on TCP, UDP and SCTP and both families. */
  async serve(port = 8080): Promise<void> {
    const server = this.#spawn(TRAFFIC, 'serve', this.name, String(port))
    await once(server.stdout!, 'data')
  }

  /** Connections one after the other. */
  async connect(
    protocol: WireProtocol,
    address: string,
    port: number,
    options: { count?: number; sourcePort?: number } = {},
  ): Promise<Traffic> {
    const { count = 1, sourcePort = 0 } = options
    const args = ['connect', protocol, address, String(port), '-n', String(count), '-s', String(sourcePort)]
    return JSON.parse(
      await run('ip', 'netns', 'exec', this.namespace, 'python3', TRAFFIC, ...args),
    ) as Traffic
  }

  /**
   * Opens the connections of all questions at once; what has not been answered after `seconds` is a timeout. TCP does
   * not hear a refusal that comes while it is still in connect(2): it asks again after 1, 3 and 7 seconds.
   */
  async ask(questions: readonly Question[], seconds = 10): Promise<readonly Reply[]> {
    return ask(questions, seconds, ['ip', 'netns', 'exec', this.namespace])
  }

  /** Opens connections, and speaks on each every `pause` seconds: no answer within `timeout` seconds breaks it. */
  async hold(
    protocol: WireProtocol,
    address: string,
    port: number,
    count = 1,
    { pause = 0.1, timeout = 5, sourcePort = 0 } = {},
  ): Promise<HeldConnections> {
    const options = ['-p', String(pause), '-t', String(timeout), '-s', String(sourcePort)]
    const args = ['hold', protocol, address, String(port), '-n', String(count), ...options]
    const held = new HeldConnections(this.#spawn(TRAFFIC, ...args))
    await held.opened()
    return held
  }

  /** Opens new connections until they are closed, `rate` a second. */
  stream(rate: number, targets: readonly Target[]): NewConnections {
    return new NewConnections(this.#spawn(TRAFFIC, 'stream', String(rate)), targets)
  }

  async remove(): Promise<void> {
    for (const process of this.#processes) process.kill('SIGKILL')
    await run('ip', 'netns', 'del', this.namespace)
    await run('ip', 'link', 'del', `v-${this.name}`).catch(() => undefined)
  }

  #spawn(...args: readonly string[]): ChildProcess {
    const process = spawn('ip', ['netns', 'exec', this.namespace, 'python3', ...args], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#processes.push(process)
    return process
  }
}

/** `Host.ask` from a process on the node, or from wherever `wrapper` puts it. */
export async function ask(
  questions: readonly Question[],
  seconds: number,
  wrapper: readonly string[] = [],
): Promise<readonly Reply[]> {
  const [command, ...args] = [...wrapper, 'python3', TRAFFIC, 'ask', String(seconds)]
  const running = execute(command, args, { maxBuffer: 64 * 1024 * 1024 })
  running.child.stdin!.end(JSON.stringify(questions))
  return JSON.parse((await running).stdout) as Reply[]
}

/** The node forwards; IPv6 forwarding is the network plug-in's to set. */
export async function prepareNode(): Promise<void> {
  await sh('ip link set lo up; sysctl -qw net.ipv6.conf.all.forwarding=1')
}

/** Takes away what the program leaves on the node. */
export async function clearNode(): Promise<void> {
  await sh(`
    ipvsadm -C
    ip link del kube-ipvs0 2>/dev/null || true
    for tables in iptables ip6tables; do
      for table in nat filter mangle; do $tables -t $table -F; $tables -t $table -X; done
    done
    ipset destroy`)
}

/** A folder of the test's own; the lab forgets it. */
export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
}

/** The bundle, or what is in the image that LAB_IMAGE has unpacked (scripts/image/try). */
const ours = (): readonly string[] =>
  process.env.LAB_IMAGE === undefined
    ? [...recorder(), process.execPath, PROGRAM]
    : inImage(process.env.LAB_IMAGE)

/** The program, running on the node. */
export class Program {
  readonly lines: LogLine[] = []
  readonly process: ChildProcess
  stdout = ''

  /** `wrapper` is a command that runs it, such as setpriv; `program` how it is called. */
  constructor(args: readonly string[], wrapper: readonly string[] = [], program = ours()) {
    const [command, ...rest] = [...wrapper, ...program, ...args]
    this.process = spawn(command!, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_COMPILE_CACHE: '/tmp/compile-cache' },
    })
    createInterface({ input: this.process.stderr! }).on('line', (line) => this.lines.push(parseLine(line)))
    this.process.stdout!.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()))
  }

  /** Starts a whole command line. */
  static ofCommand(command: readonly string[]): Program {
    return new Program(command.slice(1), [], command.slice(0, 1))
  }

  /** Starts it and waits until the kernel is as it should be. */
  static async start(...args: readonly string[]): Promise<Program> {
    const program = new Program(args)
    try {
      await program.logged('first sync finished', 180_000)
      return program
    } catch (error) {
      await program.stop('SIGKILL')
      throw error
    }
  }

  /** The first line with this message, once it is there. */
  async logged(message: string, timeoutMs = 120_000): Promise<LogLine> {
    return eventually(() => {
      const line = this.lines.find(({ msg }) => msg === message)
      if (line !== undefined) return line
      if (this.process.exitCode !== null) throw new Error(`it ended: ${JSON.stringify(this.lines.slice(-3))}`)
      throw new Error(
        `expected the log line "${message}", got ${JSON.stringify(this.lines.map(({ msg }) => msg))}`,
      )
    }, timeoutMs)
  }

  /** Messages of a level and above: 40 warn, 50 error, 60 fatal. */
  complaints(level = 40): LogLine[] {
    return this.lines.filter((line) => line.level >= level)
  }

  /** Changes made to the kernel so far, by kind of operation. */
  async changes(): Promise<Record<string, number>> {
    const text = await (await fetch('http://127.0.0.1:10249/metrics')).text()
    const found = text.matchAll(/^kube_ipvs_kernel_changes_total\{operation="(\w+)"\} (\d+)$/gm)
    return Object.fromEntries([...found].map((match) => [match[1]!, Number(match[2])]))
  }

  /** Ends it; resolves with its exit code. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill(signal)
      await once(this.process, 'exit')
    }
    return this.process.exitCode
  }

  /** Resolves with the exit code when it ends by itself. */
  async ended(): Promise<number | null> {
    if (this.process.exitCode === null) await once(this.process, 'close')
    return this.process.exitCode
  }
}

function parseLine(line: string): LogLine {
  try {
    return JSON.parse(line) as LogLine
  } catch {
    return { level: 100, msg: line }
  }
}

/** Writes down a figure that was measured, for who reads the results: no test depends on it. */
export function noteFigure(text: string): void {
  appendFileSync(join(process.env.LAB_OUT ?? '.', 'figures.txt'), `    ${text}\n`)
}

/** A folder laid out, and swapped, as kubelet does with a mounted ConfigMap: `..data` is a link that is renamed. */
export class ConfigMapVolume {
  readonly folder = temporaryFolder()
  #versions = 0

  /** Publishes files by their names, all at once. */
  publish(files: Readonly<Record<string, string>>): void {
    const version = `..2026_11_24_00_00_00.${++this.#versions}`
    const previous = `..2026_11_24_00_00_00.${this.#versions - 1}`
    mkdirSync(join(this.folder, version))
    for (const [name, text] of Object.entries(files)) writeFileSync(join(this.folder, version, name), text)
    symlinkSync(version, join(this.folder, '..data_tmp'))
    renameSync(join(this.folder, '..data_tmp'), join(this.folder, '..data'))
    for (const name of Object.keys(files)) {
      if (this.#versions === 1) symlinkSync(join('..data', name), join(this.folder, name))
    }
    rmSync(join(this.folder, previous), { recursive: true, force: true })
  }
}

/**
 * What two readings in a row agree on. While the kernel lists the virtual servers of one namespace it counts those of
 * all, so that what another test adds or deletes meanwhile hides some (ip_vs_genl_dump_services).
 */
async function steady(read: () => Promise<string[]>): Promise<string[]> {
  let last = await read()
  for (let i = 0; i < 5; i++) {
    const next = await read()
    if (isDeepStrictEqual(next, last)) return next
    last = next
  }
  return last
}

/** Everything on the node that kube-proxies write, without what differs from reading to reading. */
export async function nodeState(): Promise<Readonly<Record<string, readonly string[]>>> {
  const lines = async (command: string, ...args: readonly string[]): Promise<string[]> =>
    (await run(command, ...args)).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  const rules = async (program: string): Promise<string[]> =>
    (await lines(program)).map((line) => line.replace(/ \[\d+:\d+\]$/, ''))
  return {
    ipvs: await steady(() => lines('ipvsadm', '-S', '-n')),
    sets: (await lines('ipset', 'save')).map((line) => line.replace(/ initval \w+$/, '')).sort(),
    iptables: await rules('iptables-save'),
    ip6tables: await rules('ip6tables-save'),
    addresses: (await lines('ip', '-o', 'addr')).map((line) =>
      line
        .replace(/^\d+: /, '')
        .replace(/\\.*$/, '')
        .trim(),
    ),
    links: (await lines('ip', '-br', 'link')).map((line) => line.split(' ')[0]!),
  }
}
