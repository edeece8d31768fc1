/** One size of cluster, from the start of the program to its restart; each figure is printed as it is measured. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Binding, ROUTE_PROTOCOL } from '../../src/model/binding.ts'
import { eventually } from '../../test/support/eventually.ts'
import { Api, type Change } from './api.ts'
import { clusterIp, type Size } from './load.ts'
import { cost, LOOKING_FLAGS, whileLooking } from './looking.ts'
import { type Seen, Watched, Wire } from './watched.ts'

const WARMING_UP = 100
const CHANGES = 200
const PAUSE_MS = 50
const MINUTE = 60_000
/** To ask takes the kernel a while. */
const ASK_AGAIN_MS = 2_000
/** A profile is written at an ordinary end. */
const ENDING = process.env.LAB_PROFILE === undefined ? 'SIGKILL' : 'SIGTERM'

/** By name; times in ms, memory in MiB. */
export type Figures = Record<string, number>

export interface Plan {
  /** Minutes of changes for the memory; 0: none. */
  readonly churnMinutes: number
  /** Minutes of nothing; 0: none. */
  readonly idleMinutes: number
  /** Floods of changes. */
  readonly isThorough: boolean
  /** Rolling restart, mass replacement. */
  readonly replaces: boolean
  /** Somebody looks: `get`, the status page, the metrics of each Service. */
  readonly isLookedAt?: boolean
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!
}

const ipvsadm = (): string[] =>
  execFileSync('ipvsadm', ['-S', '-n'], { encoding: 'utf8', maxBuffer: 1 << 30 })
    .split('\n')
    .filter(Boolean)
    .sort()

/** Waits until the kernel holds what the objects say, and nothing else. Throws with the first difference after `ms`. */
async function converged(api: Api, ms: number): Promise<void> {
  const wanted = await api.order<string[]>({ do: 'state' })
  const check = (): void => {
    const found = ipvsadm()
    const i = wanted.findIndex((line, n) => line !== found[n])
    if (i < 0 && wanted.length === found.length) return
    throw new Error(
      `the kernel has ${found.length} lines, wanted ${wanted.length}: "${found[i]}", wanted "${wanted[i]}"`,
    )
  }
  await eventually(check, ms, ASK_AGAIN_MS)
}

/** How many virtual servers, real servers, bound virtual IPs and set members there are. */
function countAll(binding: Binding): readonly number[] {
  const lines = readFileSync('/proc/net/ip_vs', 'utf8').split('\n')
  const count = (pattern: RegExp): number => lines.filter((line) => pattern.test(line)).length
  const what = {
    address: ['-o', '-4', 'addr', 'show', 'dev', 'kube-ipvs0'],
    route: ['-4', 'route', 'show', 'table', 'local', 'proto', String(ROUTE_PROTOCOL)],
  }
  const bound = execFileSync('ip', what[binding], { encoding: 'utf8', maxBuffer: 1 << 28 })
  const sets = execFileSync('ipset', ['save'], { encoding: 'utf8', maxBuffer: 1 << 28 })
  const members = (set: string): number => sets.match(new RegExp(`^add ${set} `, 'gm'))?.length ?? 0
  return [
    count(/^TCP/),
    count(/^ {2}->.*Masq/),
    bound.trim().split('\n').length,
    members('KUBE-CLUSTER-IP'),
    members('KUBE-IPVS-IPS'),
  ]
}

/** While what the floor has left is taken down, the kernel does not show all of ours: it is asked again. */
async function checkComplete({ services, endpoints, binding = 'address' }: Size): Promise<void> {
  const wanted = [services, services * endpoints, services, services, services].join(', ')
  const check = (): void => {
    const found = countAll(binding).join(', ')
    if (found !== wanted) throw new Error(`the kernel is not complete: ${found}, wanted ${wanted}`)
  }
  await eventually(check, MINUTE, ASK_AGAIN_MS)
}

/** When the kernel had a change: the first message about its real server after it was sent. */
function latencies(changes: readonly Change[], seen: readonly Seen[]): number[] {
  const found = new Map<string, number[]>()
  for (const { at, change } of seen) {
    const [, virtualServer, realServer, weight] = change.split(' ')
    if (realServer === undefined) continue
    // A real server that is deleted has been quiesced before.
    const key = `${virtualServer} ${realServer} ${weight === '1' ? 1 : 0}`
    const times = found.get(key) ?? []
    times.push(at)
    found.set(key, times)
  }
  return changes.map(({ at, virtualServer, realServer, weight }) => {
    const times = found.get(`${virtualServer} ${realServer} ${weight}`) ?? []
    return (times.find((time) => time > at) ?? Infinity) - at
  })
}

interface Running {
  readonly api: Api
  readonly kubeconfig: string
  readonly program: Watched
  readonly size: Size
}

/** The program and its API server, until `act` is over. */
async function withProgram(
  size: Size,
  act: (running: Running) => Promise<void>,
  flags: readonly string[] = [],
): Promise<void> {
  const api = new Api()
  const kubeconfig = await api.order<string>({ do: 'start', size })
  const program = new Watched(kubeconfig, size.binding, flags)
  try {
    await act({ api, kubeconfig, program, size })
  } finally {
    await program.stop(ENDING)
    api.stop()
  }
}

/** A small start: what the emulator translates for it need not be translated for the next one, as a processor never would. */
export async function warmUp(size: Size): Promise<void> {
  await withProgram(size, async ({ program }) => {
    await start(program, size)
  })
}

/** A run of its own: what looks ask for is there from the start. */
export async function runLookedAt(size: Size, report: (figures: Figures) => void): Promise<void> {
  await withProgram(
    size,
    async ({ api, program }) => {
      await start(program, size)
      const wire = await Wire.tap()
      await settle()
      report(await cost(program))
      const alone = await single(api, program, wire, size)
      const looked = await whileLooking(() => single(api, program, wire, size))
      report({
        ...{ unseenMedian: alone.changeMedian!, unseen99: alone.change99! },
        ...{ seenMedian: looked.changeMedian!, seen99: looked.change99! },
      })
      await wire.close()
    },
    LOOKING_FLAGS,
  )
}

export async function runScenario(size: Size, plan: Plan, report: (figures: Figures) => void): Promise<void> {
  await withProgram(size, async (running) => {
    const { api, program } = running
    report(await start(program, size))
    const wire = await Wire.tap()
    await settle()
    report(await single(api, program, wire, size))
    if (plan.isThorough) report(await flood(api, program, wire))
    if (plan.replaces) report(await replace(api, wire, size))
    await wire.close()
    if (plan.churnMinutes > 0) report(await memoryUnderChurn(api, program, plan.churnMinutes))
    if (plan.idleMinutes > 0) report(await idle(program, plan.idleMinutes))
    const { restartMs, restartChanges } = await restart(running)
    if (plan.churnMinutes > 0) report({ lateMs: restartMs!, lateChanges: restartChanges! })
    else report({ restartMs: restartMs!, restartChanges: restartChanges! })
  })
}

/** A restart, with nothing but a start before it. */
export async function runRestart(size: Size, report: (figures: Figures) => void): Promise<void> {
  await withProgram(size, async (running) => {
    await start(running.program, size)
    await settle()
    report(await restart(running))
  })
}

/** What begins with the start is over: the probe of the kernel, and whatever V8 compiles for later. */
const settle = (): Promise<void> => sleep(40_000)

async function start(program: Watched, size: Size): Promise<Figures> {
  const started = await program.logged('kube-ipvs has started')
  const listed = await program.logged('all facts are listed')
  const ready = await program.logged('first sync finished')
  const cpu = program.cpuMs()
  const { now, peak } = program.memory()
  await checkComplete(size)
  return { started, listed, ready, cold: ready - listed, startCpu: cpu, startMemory: now, startPeak: peak }
}

/** One endpoint at a time, of one Service after the other. */
async function oneByOne(api: Api, { services }: Size, count: number): Promise<Change[]> {
  const changes: Change[] = []
  const stride = Math.max(1, Math.floor(services / count))
  for (let i = 0; i < count; i++) {
    changes.push(await api.order<Change>({ do: 'change', service: (i * stride) % services }))
    await sleep(PAUSE_MS)
  }
  await sleep(2_000)
  return changes
}

/** Single changes, with nothing else going on; the first ones, which V8 has not compiled for, do not count. */
async function single(api: Api, program: Watched, wire: Wire, size: Size): Promise<Figures> {
  const first = await oneByOne(api, size, WARMING_UP)
  const before = program.cpuMs()
  const started = performance.now()
  const changes = await oneByOne(api, size, CHANGES)
  const seconds = (performance.now() - started) / 1000
  const cpuPerChange = (program.cpuMs() - before) / CHANGES
  const seen = await wire.take()
  const sorted = latencies(changes, seen).sort((a, b) => a - b)
  return {
    firstChange: latencies(first, seen)[0]!,
    changeMedian: percentile(sorted, 0.5),
    change99: percentile(sorted, 0.99),
    changeMax: sorted.at(-1)!,
    changesLost: sorted.filter((ms) => !Number.isFinite(ms)).length,
    changesPerSecond: CHANGES / seconds,
    cpuPerChange,
    memory: program.memory().now,
  }
}

/** More than there is time for each: 100 a second. */
async function flood(api: Api, program: Watched, wire: Wire): Promise<Figures> {
  await wire.take()
  const before = program.cpuMs()
  const changes = await api.order<Change[]>({ do: 'churn', perSecond: 100, seconds: 60 })
  const ended = performance.timeOrigin + performance.now()
  const cpu = program.cpuMs() - before
  await sleep(5_000)
  await converged(api, 2 * MINUTE)
  // Of two changes of one endpoint, what the first asked for may never be.
  const last = changes.filter(({ realServer, virtualServer }, i) => {
    const next = changes.slice(i + 1)
    return !next.some((later) => later.realServer === realServer && later.virtualServer === virtualServer)
  })
  const seen = await wire.take()
  const sorted = latencies(last, seen).sort((a, b) => a - b)
  return {
    floodMedian: percentile(sorted, 0.5),
    flood99: percentile(sorted, 0.99),
    floodMax: sorted.at(-1)!,
    floodLost: sorted.filter((ms) => !Number.isFinite(ms)).length,
    floodBacklog: Math.max(0, ...seen.map(({ at }) => at - ended)),
    floodCpuShare: (cpu / MINUTE) * 100,
  }
}

/** All endpoints of a Service, then many Services, are replaced. */
async function replace(api: Api, wire: Wire, { endpoints }: Size): Promise<Figures> {
  return { ...(endpoints > 1 && (await rollOver(api, wire))), ...(await swap(api, wire)) }
}

async function rollOver(api: Api, wire: Wire): Promise<Figures> {
  await wire.take()
  const roll = await api.order<{ at: number }>({ do: 'roll', endpoints: 1_000 })
  await converged(api, 5 * MINUTE)
  const ofRoll = (await wire.take()).filter(({ change }) => change.includes(`${clusterIp(0)}:80`))
  return { rollMs: Math.max(...ofRoll.map(({ at }) => at)) - roll.at }
}

async function swap(api: Api, wire: Wire): Promise<Figures> {
  await wire.take()
  const swapped = await api.order<{ at: number }>({ do: 'swap', services: 1_000 })
  await converged(api, 5 * MINUTE)
  const seen = await wire.take()
  const times = (verb: string): number[] =>
    seen.filter(({ change }) => change.startsWith(verb)).map(({ at }) => at - swapped.at)
  return { swapCreated: Math.max(...times('-A')), swapDeleted: Math.max(...times('-D')) }
}

async function memoryUnderChurn(api: Api, program: Watched, minutes: number): Promise<Figures> {
  const afterMinute: number[] = []
  for (let minute = 0; minute < minutes; minute++) {
    await api.order({ do: 'churn', perSecond: 10, seconds: 60 })
    afterMinute.push(program.memory().now)
  }
  const [first, last] = [afterMinute[0]!, afterMinute.at(-1)!]
  return {
    churnFirst: first,
    churnLast: last,
    churnGrowth: (last / first - 1) * 100,
    memoryPeak: program.memory().peak,
  }
}

async function idle(program: Watched, minutes: number): Promise<Figures> {
  const before = program.cpuMs()
  await sleep(minutes * MINUTE)
  const audits = await program.metric('kube_ipvs_last_audit_timestamp_seconds')
  return {
    idleShare: ((program.cpuMs() - before) / (minutes * MINUTE)) * 100,
    auditAge: Date.now() / 1000 - audits,
    repairs: await program.metric('kube_ipvs_repairs_total'),
  }
}

/** Killed, and started again on a kernel that is as it should be: what changed last has been drained. */
async function restart({ api, program, kubeconfig, size }: Running): Promise<Figures> {
  await converged(api, 2 * MINUTE)
  await program.stop(ENDING)
  await api.order({ do: 'prepare' })
  const wire = await Wire.tap()
  const again = new Watched(kubeconfig, size.binding)
  try {
    const restartListed = await again.logged('all facts are listed')
    const restartMs = await again.logged('first sync finished')
    const restartChanges = (await wire.take()).length + (await again.metric('kube_ipvs_kernel_changes_total'))
    await converged(api, MINUTE)
    return { restartListed, restartMs, restartChanges }
  } finally {
    await again.stop(ENDING)
    await wire.close()
  }
}
