/** `kube-ipvs top`: connections, packets and bytes a second by Service or Pod, as the kernel counts them. */
import { setTimeout as sleep } from 'node:timers/promises'
import { formatSysctl, readSysctl } from '../../kernel/host/sysctl.ts'
import { type CountedVirtualServer, explainMissingIpvs, Ipvs } from '../../kernel/ipvs/ipvs.ts'
import type { Traffic } from '../../kernel/ipvs/stats-codec.ts'
import { loadAddon } from '../../netlink/socket.ts'
import { API_VERSION, type VirtualServerList } from '../../view/documents.ts'
import {
  addUp,
  formatTop,
  type Group,
  GROUPS,
  HISTORY,
  type Load,
  type Sort,
  sortLoads,
  SORTS,
} from '../../view/top.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { ask } from './ask.ts'
import { orPrintError, OUTPUT, print, printNote } from './output.ts'

/** As often as the kernel makes new averages. */
const INTERVAL_S = 2
/** Samples after which names are asked for anew. */
const NAMES_EVERY = 10
const CLEAR = '\x1b[H\x1b[2J'
const ESTIMATION = { path: 'net/ipv4/vs/run_estimation', value: '1' }

/** Services by virtual server, and Pods by real server; empty where the program does not answer. */
interface Names {
  readonly services: ReadonlyMap<string, string>
  readonly pods: ReadonlyMap<string, string>
}

async function readNames(socket: string): Promise<Names> {
  const names = { services: new Map<string, string>(), pods: new Map<string, string>() }
  const list = await ask<VirtualServerList>(socket, '/v1/virtual-servers', {}).catch((error: unknown) => {
    printNote(`without names: ${(error as Error).message}`)
    return undefined
  })
  for (const { virtualServer, service, realServers } of list?.virtualServers ?? []) {
    if (service !== undefined) names.services.set(virtualServer, service)
    for (const { realServer, pod } of realServers) if (pod !== undefined) names.pods.set(realServer, pod)
  }
  return names
}

function loadOf(name: string, open: number, { connections, ...rest }: Traffic): Load {
  return { name, open, newConnections: connections, ...rest }
}

function loadsOf(counted: readonly CountedVirtualServer[], group: Group, names: Names): Load[] {
  const openOf = ({ realServers }: CountedVirtualServer): number =>
    realServers.reduce((open, { connections }) => open + connections.active + connections.inactive, 0)
  if (group === 'pod')
    return counted.flatMap(({ realServers }) =>
      realServers.map(({ key, connections: { active, inactive }, stats }) =>
        loadOf(names.pods.get(key) ?? key, active + inactive, stats.perSecond),
      ),
    )
  return counted.map((one) => {
    const name = group === 'service' ? (names.services.get(one.id.key) ?? one.id.key) : one.id.key
    return loadOf(name, openOf(one), one.stats.perSecond)
  })
}

interface Options {
  readonly group: Group
  readonly sort: Sort
  readonly isOnce: boolean
}

/** Remembers the bytes a second of each name. */
function remember(history: Map<string, number[]>, loads: readonly Load[]): void {
  for (const { name, inBytes, outBytes } of loads)
    history.set(name, [...(history.get(name) ?? []), inBytes + outBytes].slice(-HISTORY))
}

/** As many lines as the terminal has, where there is one. */
function show(lines: readonly string[]): void {
  const { isTTY, rows } = process.stdout
  const fitting = isTTY ? lines.slice(0, rows - 1) : lines
  process.stdout.write(`${isTTY ? CLEAR : ''}${fitting.join('\n')}\n`)
}

async function watch(context: CommandContext, ipvs: Ipvs, { group, sort, isOnce }: Options): Promise<void> {
  const { commandLine, signal } = context
  const history = new Map<string, number[]>()
  let names: Names = { services: new Map(), pods: new Map() }
  for (let i = 0; !signal.aborted; i++) {
    if (i % NAMES_EVERY === 0) names = await readNames(commandLine.localSocket)
    const loads = sortLoads(addUp(loadsOf(await ipvs.readTraffic(), group, names)), sort)
    remember(history, loads)
    if (isOnce) {
      const document = { apiVersion: API_VERSION, kind: 'Top', by: group, loads }
      print(context, document, () => formatTop(loads, group, history))
      return
    }
    show(formatTop(loads, group, history))
    await sleep(INTERVAL_S * 1_000, undefined, { signal }).catch(() => undefined)
  }
}

async function top(context: CommandContext): Promise<ExitCode> {
  const { by, sort, once, output } = context.commandLine.options
  // It ends when it is stopped: nothing to tell.
  context.log.level = 'silent'
  const options: Options = {
    group: (by ?? 'service') as Group,
    sort: (sort ?? 'bytes') as Sort,
    isOnce: once === 'true' || output === 'json',
  }
  if (readSysctl(ESTIMATION.path) === '0')
    printNote(`rates stand still, as the kernel counts nothing: "${formatSysctl(ESTIMATION)}"`)
  try {
    const ipvs = await Ipvs.open(loadAddon())
    await watch(context, ipvs, options).finally(() => {
      ipvs.close()
    })
    return 0
  } catch (error) {
    throw explainMissingIpvs(error)
  }
}

export const TOP: Command = {
  name: 'top',
  description: 'show connections, packets and bytes a second by Service or Pod, until it is stopped',
  options: [
    { flags: '--by <what>', help: 'whose traffic a line is (service)', choices: GROUPS },
    { flags: '--sort <column>', help: 'what comes first (bytes)', choices: SORTS },
    { flags: '--once', help: 'print it once, and exit' },
    OUTPUT,
  ],
  run: (context) => orPrintError(() => top(context), 1),
}
