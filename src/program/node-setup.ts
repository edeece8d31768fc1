/** Brings a node to where Services can be served: modules, sysctls, timeouts. What is refused is said, and costs only itself. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { Config } from '../config/config.ts'
import { BRIDGE_MODULE, type BridgeFault, tendBridges } from '../kernel/host/bridges.ts'
import { hasCapability } from '../kernel/host/capabilities.ts'
import { probeConnReuse } from '../kernel/ipvs/conn-reuse.ts'
import { LinuxKernel, type LinuxKernelOptions } from '../kernel/linux-kernel.ts'
import { loadModule } from '../kernel/host/modules.ts'
import {
  conntrackMax,
  conntrackSysctls,
  ensureHashSize,
  ensureOomScore,
  isSpared,
} from '../kernel/host/node-settings.ts'
import { countProcessors } from '../kernel/host/processors.ts'
import {
  connReuseSysctl,
  ensureSysctl,
  formatSysctl,
  readSysctl,
  SERVING_SYSCTLS,
  STRICT_ARP_SYSCTLS,
  type Sysctl,
} from '../kernel/host/sysctl.ts'
import type { Family } from '../model/address.ts'

/** How long after the start the kernel is probed: it takes seconds of work, and nothing waits for it. */
const PROBE_AFTER_MS = 30_000

/** Opens the kernel; where IPVS is missing, asks the host once to load it, as kube-proxy does. */
export async function openKernel(options: LinuxKernelOptions, log: Logger): Promise<LinuxKernel> {
  try {
    return await LinuxKernel.open(options)
  } catch (err) {
    if (options.readOnly === true) throw err
    log.debug({ err }, 'loading ip_vs')
    await loadModule('ip_vs').catch((error: unknown) => {
      log.debug({ err: error }, 'cannot load ip_vs')
    })
    return LinuxKernel.open(options)
  }
}

/** The sysctls that a configuration asks for, beside that of reused source ports. */
export function wantedSysctls(config: Config): readonly Sysctl[] {
  return [
    ...SERVING_SYSCTLS,
    ...(config.strictArp ? STRICT_ARP_SYSCTLS : []),
    ...conntrackSysctls(config.conntrack, countProcessors()),
  ]
}

/** More than is asked for is as good where it cannot be changed: in a network namespace, the limit is the host's. */
function isEnough({ path, value }: Sysctl): boolean {
  return path.endsWith('nf_conntrack_max') && Number(readSysctl(path)) >= Number(value)
}

function ensureSysctls(sysctls: readonly Sysctl[], log: Logger): void {
  for (const sysctl of sysctls) {
    try {
      ensureSysctl(sysctl)
    } catch (err) {
      if (isEnough(sysctl)) log.debug({ err }, 'the limit is high enough')
      else log.error({ err }, 'cannot prepare the kernel: serving goes on')
    }
  }
}

/** Everything that is set on a node. Throws when the kernel cannot say its timeouts. */
export async function setUpNode(kernel: LinuxKernel, config: Config, log: Logger): Promise<void> {
  ensureSysctls(wantedSysctls(config), log)
  await ensureHashSize(conntrackMax(config.conntrack, countProcessors())).catch((err: unknown) => {
    log.warn({ err }, 'cannot prepare the kernel: serving goes on')
  })
  setOomScore(config.oomScoreAdj, log)
  await applyTimeouts(kernel, config)
}

/** A Pod with fewer privileges may not raise its rank: kubelet has done so where the Pod is critical for the node. */
export function setOomScore(score: number, log: Logger, file?: string): void {
  try {
    ensureOomScore(score, file)
  } catch (err) {
    const { message: reason } = err as Error
    if (isSpared(file)) log.debug({ reason }, 'oom_score_adj stays as kubelet has set it')
    else log.info({ reason }, 'the kernel may end this process sooner than others when memory is short')
  }
}

/** Writes the IPVS timeouts that are configured and differ. */
async function applyTimeouts({ ipvs }: LinuxKernel, config: Config): Promise<void> {
  const wanted = timeoutsToWrite(config, await ipvs.readTimeouts())
  if (wanted !== undefined) await ipvs.writeTimeouts(wanted)
}

/** IPVS timeouts in seconds; 0 leaves what the kernel has. */
export type IpvsTimeouts = Parameters<LinuxKernel['ipvs']['writeTimeouts']>[0]

/** All that the configuration asks for, where one of them differs from what the kernel has; undefined where none does. */
export function timeoutsToWrite(config: Config, now: IpvsTimeouts): IpvsTimeouts | undefined {
  const { tcpTimeoutSeconds: tcp, tcpFinTimeoutSeconds: tcpFin, udpTimeoutSeconds: udp } = config
  const wanted = { tcp, tcpFin, udp }
  const differs = (name: keyof IpvsTimeouts): boolean => wanted[name] > 0 && wanted[name] !== now[name]
  return differs('tcp') || differs('tcpFin') || differs('udp') ? wanted : undefined
}

/** Finds out, and sets, what becomes of reused source ports. Takes seconds. */
export async function chooseConnReuse(log: Logger, signal?: AbortSignal): Promise<void> {
  const { mode, reason } = await probeConnReuse(process.argv[1]!, signal)
  if (signal?.aborted === true) return
  log.info({ mode, reason }, 'what becomes of reused source ports')
  if (mode !== undefined) ensureSysctls([connReuseSysctl(mode)], log)
}

/** The same, when the start is over; where the privileges are missing, `--init-only` has done it. */
export async function chooseConnReuseLater(log: Logger, signal: AbortSignal): Promise<void> {
  if (!hasCapability('SYS_ADMIN')) {
    log.debug(
      'conn_reuse_mode stays as it is: to probe for it takes the capability SYS_ADMIN, as --init-only has',
    )
    return
  }
  await sleep(PROBE_AFTER_MS, undefined, { signal, ref: false }).catch(() => undefined)
  if (!signal.aborted) await chooseConnReuse(log, signal)
}

/** What a Pod meets that asks a Service, where the bridge keeps the answer from us. */
const SAME_BRIDGE =
  'a Pod that asks a Service whose endpoint is on the same bridge gets no answer it can use: it comes from the wrong address'

/** Makes Services work between Pods on one bridge, or says what is in the way. To be called again as bridges come. */
export function openBridges(families: ReadonlySet<Family>, log: Logger): () => Promise<void> {
  return tendBridges({
    families,
    load: loadModule,
    onLoaded: (bridges) => {
      log.info({ bridges }, 'loaded br_netfilter: answers between Pods on one bridge come from the Service')
    },
    onFault: (fault) => {
      log.warn({ bridges: fault.bridges, ...bridgeRemedy(fault) }, SAME_BRIDGE)
    },
  })
}

/** The command that helps, and for a module the one that makes it last. */
export function bridgeRemedy({ sysctls }: BridgeFault): {
  readonly command: string
  readonly onBoot?: string
} {
  if (sysctls !== undefined) return { command: sysctls.map(formatSysctl).join('; ') }
  const onBoot = `echo ${BRIDGE_MODULE} > /etc/modules-load.d/${BRIDGE_MODULE}.conf`
  return { command: `modprobe ${BRIDGE_MODULE}`, onBoot }
}
