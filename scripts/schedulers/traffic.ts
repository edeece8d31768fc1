/** Pods and clients, which traffic.py is: processes, and what goes in and out of them. Work is waiting. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { isSlow, PODS, type Request, type Scenario, SLOTS } from './plan.ts'

const TRAFFIC = join(process.cwd(), 'scripts/schedulers/traffic.py')
export const PORT = 80
export const podAddress = (pod: number): string => `10.245.0.${pod + 1}`
export const clientAddress = (node: number): string => `10.244.${node}.2`

/** In ms. */
export interface Answer {
  readonly pod: number
  /** From when it was to be sent until it was answered. */
  readonly latency: number
  /** How late it was sent. */
  readonly lag: number
  /** What is neither the Pod's queue nor its work: the lab itself. */
  readonly overhead: number
}

export interface Failure {
  readonly error: string
}

export interface Pod {
  readonly address: string
  readonly isSlow: boolean
}
export const ALL_PODS: readonly Pod[] = Array.from({ length: PODS }, (_, pod) => ({
  address: podAddress(pod),
  isSlow: isSlow(pod),
}))

/** Starts Pods that listen; `wrapper` is a command that says where. They end with their process. */
export async function startPods(
  pods: readonly Pod[],
  port: number,
  wrapper: readonly string[] = [],
): Promise<ChildProcess> {
  const [command, ...args] = [...wrapper, 'python3', TRAFFIC, 'pods']
  const process = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
  process.stdin.write(`${JSON.stringify({ port, slots: SLOTS, pods })}\n`)
  await once(process.stdout, 'data')
  return process
}

/** A request as it is sent: `work` is what it takes on a Pod that is not slow, and on one that is. */
export interface Sent {
  readonly at: number
  readonly source: string
  readonly port: number
  readonly work: string
}

export interface Load {
  readonly address: string
  readonly port: number
  readonly patience: number
  readonly requests: readonly Sent[]
}

/** Sends all of it; resolves with the answers in the order of the requests. */
export async function send(load: Load): Promise<(Answer | Failure)[]> {
  const process = spawn('python3', [TRAFFIC, 'clients'], { stdio: ['pipe', 'pipe', 'inherit'] })
  process.stdin.end(`${JSON.stringify(load)}\n`)
  return JSON.parse(Buffer.concat(await process.stdout.toArray()).toString()) as (Answer | Failure)[]
}

const PATIENCE_MS = 60_000
/** No port comes again while anybody may still remember it, which is for two minutes. */
const PORTS = { first: 10_000, count: 50_000 }
let sent = 0

/** Sends a scenario's requests to a virtual IP, from clients on their nodes. */
export async function askAll(
  requests: readonly Request[],
  address: string,
  { slowness }: Scenario,
): Promise<(Answer | Failure)[]> {
  const all = requests.map(({ at, node, demand }) => ({
    at,
    source: clientAddress(node),
    port: PORTS.first + (sent++ % PORTS.count),
    work: `${demand} ${demand * slowness}`,
  }))
  return send({ address, port: PORT, patience: PATIENCE_MS, requests: all })
}
