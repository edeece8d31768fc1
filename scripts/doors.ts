/** Checks who imports whom: each room of src may open only its doors, and no file imports itself in a circle. */
import { readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, normalize, relative } from 'node:path'

const SRC = join(import.meta.dirname, '..', 'src')

/** Rooms and packages that a room may import beside itself. The hall (files directly in src) may import all. */
const DOORS: Readonly<Record<string, readonly string[]>> = {
  model: ['ipaddr.js'],
  'model/facts': ['model'],
  'model/claims': ['model', 'model/facts'],
  plan: ['model', 'model/claims'],
  view: ['model', 'model/facts', 'model/claims'],
  config: ['model', 'model/claims', 'yaml', 'zod'],
  waiting: ['node:timers/promises'],
  netlink: ['waiting', 'native', 'node:fs', 'node:module', 'node:os', 'node:path'],
  kernel: ['waiting', 'model', 'netlink', 'kernel/ipvs', 'kernel/filter', 'kernel/link', 'kernel/flows'],
  'kernel/ipvs': ['waiting', 'kernel', 'kernel/host', 'model', 'netlink', 'netlink/dist/rt/rt.js', 'node:*'],
  'kernel/filter': ['kernel', 'kernel/filter/iptables', 'model', 'netlink', 'node:*'],
  'kernel/filter/iptables': ['waiting', 'kernel', 'kernel/filter', 'model', 'netlink', 'node:*'],
  'kernel/link': [
    'waiting',
    'kernel',
    'kernel/host',
    'model',
    'model/claims',
    'netlink',
    'netlink/dist/rt/rt.js',
    'node:*',
    'pino',
  ],
  'kernel/flows': ['waiting', 'kernel', 'model', 'netlink'],
  'kernel/host': ['model', 'node:*'],
  source: [
    'waiting',
    'model',
    'model/facts',
    'source/pages',
    '@kubernetes/client-node',
    'pino',
    'yaml',
    'node:*',
  ],
  'source/pages': ['source', 'model', 'model/facts', 'node:*'],
  loop: [
    'view',
    'loop/intake',
    'loop/audit',
    'waiting',
    'model',
    'model/facts',
    'model/claims',
    'plan',
    'kernel',
    'netlink',
    'serve',
    'source',
    'pino',
  ],
  'loop/intake': ['loop', 'waiting', 'model', 'model/facts', 'model/claims', 'pino'],
  'loop/audit': ['loop', 'view', 'waiting', 'model', 'model/claims', 'plan', 'kernel', 'serve', 'pino'],
  serve: ['waiting', 'model', 'model/facts', 'source', 'package.json', 'prom-client', 'pino', 'node:*'],
  program: ['*'],
  'program/choices': [
    'program',
    'program/report',
    'loop',
    'view',
    'config',
    'kernel',
    'kernel/ipvs',
    'model',
    'model/claims',
    'model/facts',
    'serve',
    'pino',
  ],
  'program/follow': [
    'program',
    'program/choices',
    'program/report',
    'waiting',
    'config',
    'model',
    'model/facts',
    'model/claims',
    'kernel/link',
    'netlink',
    'pino',
    'node:*',
  ],
  'program/report': [
    'node:*',
    'program',
    'program/status',
    'waiting',
    'model',
    'model/facts',
    'model/claims',
    'view',
    'config',
    'kernel/filter',
    'kernel/ipvs',
    'loop',
    'serve',
    'source',
    'pino',
  ],
  'program/status': [
    'program',
    'program/report',
    'waiting',
    'model',
    'model/facts',
    'plan',
    'view',
    'kernel/ipvs',
    'loop',
    'serve',
    'package.json',
    'prom-client',
    'node:*',
  ],
  page: ['view', 'preact', 'preact/hooks', 'uplot'],
  doctor: ['*'],
  commands: ['*'],
  'commands/look': ['*'],
  'commands/syntax': ['commands', 'config', 'model'],
}
/** More is not one room any more. */
const FILES_IN_ROOM = 14
const FILES_IN_HALL = 4
const LINES_IN_FILE = 350
/** What pure rooms never say. */
const IMPURE = /\b(?:async|await|Date\.now|Math\.random|performance\.now|process\.|console\.|setTimeout)\b/
const PURE = ['model', 'model/facts', 'model/claims', 'plan', 'view', 'config', 'commands/syntax']
const IMPORT = /^(?:import|export)\s[^'"]*?from\s+'([^']+)'|^import\s+'([^']+)'/gm

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.tsx?$/.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
}

function roomOf(file: string): string | undefined {
  const path = relative(SRC, file)
  if (path.startsWith('..')) return path.split('/')[1]
  return path.includes('/') ? dirname(path) : undefined
}

function importsOf(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(IMPORT)].map((match) => match[1] ?? match[2]!)
}

function isOpen(doors: readonly string[], name: string): boolean {
  const builtin = name.startsWith('node:') || builtinModules.includes(name)
  return doors.includes('*') || doors.includes(name) || (builtin && doors.includes('node:*'))
}

function faultsOf(file: string): string[] {
  const room = roomOf(file)
  if (room === undefined) return []
  const doors = DOORS[room]
  const where = relative(join(SRC, '..'), file)
  if (doors === undefined) return [`${where}: the room ${room} has no doors: add it to scripts/doors.ts`]
  const faults = importsOf(file).flatMap((name) => {
    const target = name.startsWith('.') ? roomOf(normalize(join(dirname(file), name))) : name
    const open = target === room ? name.startsWith('.') : target !== undefined && isOpen(doors, target)
    return open ? [] : [`${where}: ${room} may not import ${name}`]
  })
  const code = readFileSync(file, 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*$/gm, '')
  const effect = PURE.includes(room) ? IMPURE.exec(code) : null
  return effect === null ? faults : [...faults, `${where}: ${room} is pure, but says ${effect[0]}`]
}

function lengthFaults(file: string): string[] {
  const lines = readFileSync(file, 'utf8').split('\n').length - 1
  return lines > LINES_IN_FILE ? [`${relative(SRC, file)}: ${lines} lines, more than ${LINES_IN_FILE}`] : []
}

function crowdFaults(all: readonly string[]): string[] {
  const rooms = Map.groupBy(all, (file) => roomOf(file) ?? 'the hall')
  return [...rooms].flatMap(([room, { length }]) => {
    const most = room === 'the hall' ? FILES_IN_HALL : FILES_IN_ROOM
    return length > most ? [`${room}: ${length} files, more than ${most}`] : []
  })
}

/** A chain of imports that comes back to where it began. */
function findCycle(
  file: string,
  graph: ReadonlyMap<string, readonly string[]>,
  path: readonly string[] = [],
): string[] | undefined {
  if (path.includes(file)) return [...path.slice(path.indexOf(file)), file]
  for (const next of graph.get(file) ?? []) {
    const cycle = findCycle(next, graph, [...path, file])
    if (cycle !== undefined) return cycle
  }
  return undefined
}

const all = files(SRC)
const graph = new Map(
  all.map((file) => [
    file,
    importsOf(file)
      .filter((name) => name.startsWith('.'))
      .map((name) => normalize(join(dirname(file), name))),
  ]),
)
const faults = [...all.flatMap(faultsOf), ...all.flatMap(lengthFaults), ...crowdFaults(all)]
const cycle = all.map((file) => findCycle(file, graph)).find((found) => found !== undefined)
if (cycle !== undefined) faults.push(`circle: ${cycle.map((file) => relative(SRC, file)).join(' -> ')}`)
for (const fault of faults) console.error(fault)
if (faults.length > 0) process.exitCode = 1
else console.log(`doors: ${all.length} files, every import goes through an open door`)
