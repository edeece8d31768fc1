/**
 * The kernel's estimators: every two seconds, IPVS adds up the counters of each virtual and real server over all
 * processors. Up to Linux 6.1 a timer does it in one go: with very many, it holds up packets on its processor for longer
 * than anybody notices where it comes from (kernel commit 2232642ec3fb: over 200 ms for 50,000 on 104 processors). Since
 * 6.2 there are threads for it, with a niceness (`est_nice`) and processors (`est_cpulist`), by default all that are not
 * isolated, which is as it should be.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ensureSysctl, readSysctl, type Sysctl } from '../host/sysctl.ts'

const RUN: Sysctl = { path: 'net/ipv4/vs/run_estimation', value: '0' }
const NICE: Sysctl = { path: 'net/ipv4/vs/est_nice', value: '10' }

/** From that commit's figures: what one server costs on one processor. */
const SECONDS_EACH = 40e-9
/** A timer that takes longer than this is switched off; threads that take longer give way to everything else. */
const LONGEST_SECONDS = 0.01

/**
 * How this kernel estimates: by threads, by a timer that can be switched off (since 5.17), or by one that cannot.
 * `settled`: not at all, or by threads that give way already.
 */
export type Estimation = 'threads' | 'timer' | 'fixedTimer' | 'settled'

/** What one round takes for so many virtual and real servers, in seconds. */
export function roundSeconds(servers: number, processors: number): number {
  return servers * processors * SECONDS_EACH
}

/** False: somebody, or we, have switched them off, and what the kernel tells of traffic stands still. */
export function isEstimating(): boolean {
  return readSysctl(RUN.path) !== RUN.value
}

async function read(root: string, { path }: Sysctl): Promise<string | undefined> {
  return readFile(join(root, path), 'utf8').then(
    (text) => text.trim(),
    () => undefined,
  )
}

export async function detectEstimation(root = '/proc/sys'): Promise<Estimation> {
  const [run, nice] = [await read(root, RUN), await read(root, NICE)]
  if (run === undefined) return 'fixedTimer'
  if (run === '0' || Number(nice ?? 0) > 0) return 'settled'
  return nice === undefined ? 'timer' : 'threads'
}

/** What is done about the estimators of so many servers, and why. */
export interface EstimationChoice {
  /** Undefined where only a newer kernel helps. */
  readonly sysctl: Sysctl | undefined
  readonly reason: string
}

/** What is done where a round takes too long; undefined: nothing. */
function chooseEstimation(estimation: Estimation, seconds: number): EstimationChoice | undefined {
  const stall = `about ${Math.round(seconds * 1000)} ms every two seconds`
  switch (estimation) {
    case 'settled':
      return undefined
    case 'threads':
      return { sysctl: NICE, reason: `the threads of the estimators take ${stall}: they give way now` }
    case 'timer':
      return {
        sysctl: RUN,
        reason: `the timer of the estimators would hold up packets for ${stall}: "ipvsadm --stats" and "--rate" stand still now`,
      }
    case 'fixedTimer':
      return {
        sysctl: undefined,
        reason: `the timer of the estimators may hold up packets for ${stall}: Linux 5.17 can switch it off`,
      }
  }
}

export interface EstimatorsOptions {
  /** Told of what is done, once. */
  readonly chosen: (choice: EstimationChoice) => void
  /** Under which the sysctls are. */
  readonly root?: string
  readonly processors: number
}

/**
 * Looks after the estimators as the number of servers grows: call it with that number. It acts once: who wants
 * statistics all the same can switch them on again. Throws an Error that names the sysctl, and acts no more.
 */
export function tendEstimators({
  chosen,
  root = '/proc/sys',
  processors,
}: EstimatorsOptions): (servers: number) => Promise<void> {
  let isDone = false
  return async (servers) => {
    if (isDone) return
    const seconds = roundSeconds(servers, processors)
    if (seconds <= LONGEST_SECONDS) return
    isDone = true
    const choice = chooseEstimation(await detectEstimation(root), seconds)
    if (choice === undefined) return
    if (choice.sysctl !== undefined) ensureSysctl(choice.sysctl, root)
    chosen(choice)
  }
}
