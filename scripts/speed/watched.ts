/** The program as it is measured: started as on a node, watched from outside. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Binding } from '../../src/model/binding.ts'

const PROGRAM = join(process.cwd(), 'dist/kube-ipvs.cjs')

interface Line {
  readonly msg: string
  readonly time: string
  readonly level: number
}

export class Watched {
  readonly #process: ChildProcess
  readonly #lines: Line[] = []
  /** When it was started, in ms since the epoch. */
  readonly startedAt = Date.now()

  constructor(kubeconfig: string, binding: Binding = 'address', more: readonly string[] = []) {
    const folder = mkdtempSync(join(tmpdir(), 'speed-'))
    const [config, access] = [join(folder, 'config.conf'), join(folder, 'kubeconfig.conf')]
    writeFileSync(access, kubeconfig)
    const head = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'
    writeFileSync(config, `${head}clientConnection: {kubeconfig: ${access}}\n`)
    // As on a node, where its first line says how Node is to run it; otherwise to find out what would be better.
    const flags = process.env.LAB_FLAGS?.split(' ')
    const command = flags === undefined ? [PROGRAM] : [process.execPath, ...flags, PROGRAM]
    const args = ['--config', config, '--hostname-override', 'node-1', '--vip-binding', binding, ...more]
    const profiled =
      process.env.LAB_PROFILE === undefined
        ? {}
        : { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${process.env.LAB_OUT}/speed` }
    this.#process = spawn(command[0]!, [...command.slice(1), ...args], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...profiled },
    })
    createInterface({ input: this.#process.stderr! }).on('line', (line) => {
      const parsed = JSON.parse(line) as Line
      this.#lines.push(parsed)
      if (parsed.level >= 40 || process.env.LAB_VERBOSE !== undefined) console.error(line)
    })
  }

  /** When it logged this, in ms since its start. */
  async logged(msg: string): Promise<number> {
    for (;;) {
      const line = this.#lines.find((candidate) => candidate.msg === msg)
      if (line !== undefined) return Date.parse(line.time) - this.startedAt
      if (this.#process.exitCode !== null)
        throw new Error(`it has ended: ${JSON.stringify(this.#lines.slice(-3))}`)
      await sleep(20)
    }
  }

  get pid(): number {
    return this.#process.pid!
  }

  /** Resident memory in MiB: now, and the most that there was. */
  memory(): { readonly now: number; readonly peak: number } {
    const status = readFileSync(`/proc/${this.pid}/status`, 'utf8')
    const of = (name: string): number => Number(new RegExp(`${name}:\\s*(\\d+)`).exec(status)![1]) / 1024
    return { now: of('VmRSS'), peak: of('VmHWM') }
  }

  /** Time of processors used so far by all its threads, and by programs that it has run and that have ended, in ms. */
  cpuMs(): number {
    const threads = readdirSync(`/proc/${this.pid}/task`).map((thread) =>
      Number(readFileSync(`/proc/${this.pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]),
    )
    const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8').split(') ')[1]!.split(' ')
    return threads.reduce((sum, ns) => sum + ns / 1e6, 0) + (Number(fields[13]) + Number(fields[14])) * 10
  }

  /** The value of a metric, or the sum of those with other labels. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch('http://127.0.0.1:10249/metrics')).text()
    const values = [...text.matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)$`, 'gm'))]
    return values.reduce((sum, match) => sum + Number(match[1]), 0)
  }

  async stop(signal: NodeJS.Signals): Promise<void> {
    this.#process.kill(signal)
    if (this.#process.exitCode === null && this.#process.signalCode === null)
      await once(this.#process, 'exit')
  }
}

/** One change of a virtual or real server, and when the kernel had it, in ms since the epoch. */
export interface Seen {
  readonly at: number
  /** `-e 11.0.0.1:80 10.0.0.1:8080 0`, or without a real server `-A 11.0.0.1:80`. */
  readonly change: string
}

/** What passes on the wire to the kernel. */
export class Wire {
  readonly #process: ChildProcess
  #seen: Seen[] = []
  #ready: (() => void) | undefined

  private constructor(process: ChildProcess) {
    this.#process = process
    createInterface({ input: process.stdout! }).on('line', (line) => {
      const [at, ...words] = line.split(' ')
      if (at === 'ready') this.#ready?.()
      else this.#seen.push({ at: Number(at), change: words.join(' ') })
    })
  }

  static async tap(): Promise<Wire> {
    const process = spawn('python3', ['scripts/speed/wire.py'], { stdio: ['pipe', 'pipe', 'inherit'] })
    await once(process.stdout, 'data')
    return new Wire(process)
  }

  /** What has passed since the last call. */
  async take(): Promise<readonly Seen[]> {
    this.#seen = []
    const ready = new Promise<void>((resolve) => {
      this.#ready = resolve
    })
    this.#process.stdin!.write('\n')
    await ready
    return this.#seen
  }

  async close(): Promise<void> {
    this.#process.stdin!.end()
    await once(this.#process, 'exit')
  }
}
