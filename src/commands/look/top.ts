/** `kube-ipvs top`: connections, packets and bytes a second by Service or Pod, as the kernel counts them. */
import { setTimeout as sleep } from 'node:timers/promises'
import { formatSysctl } from '../../kernel/host/sysctl.ts'
import { isEstimating } from '../../kernel/ipvs/estimators.ts'
import { type CountedVirtualServer, explainMissingIpvs, Ipvs } from '../../kernel/ipvs/ipvs.ts'
import type { Traffic } from '../../kernel/ipvs/stats-codec.ts'
import { loadAddon } from '../../netlink/socket.ts'
import { API_VERSION, type VirtualServerList } from '../../view/documents.ts'
import {
  addUp,
  formatTop,
  type Group,
  GROUPS,
  type History,
  type Load,
  remember,
  type Sort,
  sortLoads,
  SORTS,
} from '../../view/top.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { ask } from './ask.ts'
import { orPrintError, OUTPUT, print, printNote } from './output.ts'
import { hasTerminal } from './terminal.ts'
import { type Sample, type Watch, watchInTerminal } from './watch.ts'

/** As often as the kernel makes new averages. */
const INTERVAL_MS = 2_000
/** Samples after which names are asked for anew. */
const NAMES_EVERY = 10
const CLEAR = '\x1b[H\x1b[2J'
const ESTIMATION = { path: 'net/ipv4/vs/run_estimation', value: '1' }

/** Services by virtual server, and Pods by real server; empty where the program does not answer. */
interface Names {
  readonly services: ReadonlyMap<string, string>
  readonly pods: ReadonlyMap<string, string>
  /** Why there are none. */
  readonly notes: readonly string[]
}

const NO_NAMES: Names = { services: new Map(), pods: new Map(), notes: [] }

async function readNames(socket: string): Promise<Names> {
  const names = {
    services: new Map<string, string>(),
    pods: new Map<string, string>(),
    notes: [] as string[],
  }
  const list = await ask<VirtualServerList>(socket, '/v1/virtual-servers', {}).catch((error: unknown) => {
    names.notes.push(`without names: ${(error as Error).message}`)
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

/** What makes of rates what they are not. */
function ratesNotes(): string[] {
  if (isEstimating()) return []
  return [`rates stand still, as the kernel counts nothing: "${formatSysctl(ESTIMATION)}"`]
}

/** Reads samples one after the other. */
function samplesOf(ipvs: Ipvs, socket: string): () => Promise<Sample> {
  let names = NO_NAMES
  let count = 0
  return async () => {
    if (count++ % NAMES_EVERY === 0) names = await readNames(socket)
    const counted = await ipvs.readTraffic()
    return {
      loadsBy: (group) => addUp(loadsOf(counted, group, names)),
      notes: [...ratesNotes(), ...names.notes],
    }
  }
}

interface Options {
  readonly group: Group
  readonly sort: Sort
}

function showOnce(context: CommandContext, sample: Sample, { group, sort }: Options): void {
  sample.notes.forEach(printNote)
  const loads = sortLoads(sample.loadsBy(group), sort)
  const document = { apiVersion: API_VERSION, kind: 'Top', by: group, loads }
  print(context, document, () => formatTop(loads, group, remember(new Map(), loads)))
}

/** As many lines as the terminal has, where there is one. */
function show(lines: readonly string[]): void {
  const { isTTY, rows } = process.stdout
  const fitting = isTTY ? lines.slice(0, rows - 1) : lines
  process.stdout.write(`${isTTY ? CLEAR : ''}${fitting.join('\n')}\n`)
}

/** Where nobody can press keys. A note is told when it is new. */
async function watch({ read, intervalMs, signal }: Watch, { group, sort }: Options): Promise<void> {
  let history: History = new Map()
  let told: readonly string[] = []
  while (!signal.aborted) {
    const { loadsBy, notes } = await read()
    notes.filter((note) => !told.includes(note)).forEach(printNote)
    told = notes
    const loads = sortLoads(loadsBy(group), sort)
    history = remember(history, loads)
    show(formatTop(loads, group, history))
    await sleep(intervalMs, undefined, { signal }).catch(() => undefined)
  }
}

async function showTraffic(context: CommandContext, ipvs: Ipvs): Promise<void> {
  const { options, localSocket } = context.commandLine
  const { by = 'service', sort = 'bytes', once, output } = options
  const chosen = { group: by as Group, sort: sort as Sort }
  const read = samplesOf(ipvs, localSocket)
  if (once === 'true' || output === 'json') {
    showOnce(context, await read(), chosen)
    return
  }
  const watched: Watch = { read, intervalMs: INTERVAL_MS, signal: context.signal }
  await (hasTerminal()
    ? watchInTerminal(watched, { ...chosen, isReversed: false, isPaused: false, hasEnded: false })
    : watch(watched, chosen))
}

async function top(context: CommandContext): Promise<ExitCode> {
  // It ends when it is stopped: nothing to tell.
  context.log.level = 'silent'
  try {
    const ipvs = await Ipvs.open(loadAddon())
    await showTraffic(context, ipvs).finally(() => {
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
