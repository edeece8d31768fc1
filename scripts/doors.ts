/** Checks who imports whom: each room of src may open only its doors, and no file imports itself in a circle. */
import { readdirSync, readFileSync } from 'node:fs'
import { builtinModules } from 'node:module'
import { dirname, join, normalize, relative } from 'node:path'

const SRC = join(import.meta.dirname, '..', 'src')

/** Rooms and packages that a room may import beside itself. The hall (files directly in src) may import all. */
const DOORS: Readonly<Record<string, readonly string[]>> = {
  model: ['ipaddr.js'],
  plan: ['model'],
  config: ['model', 'yaml', 'zod'],
  netlink: ['native', 'node:fs', 'node:module', 'node:os', 'node:path'],
  kernel: ['model', 'netlink', 'netlink/dist/rt/rt.js', 'pino', 'node:*'],
  source: ['model', '@kubernetes/client-node', 'pino', 'yaml', 'node:*'],
  loop: ['model', 'plan', 'kernel', 'netlink', 'serve', 'source', 'pino'],
  serve: ['model', 'package.json', 'prom-client', 'pino', 'node:http', 'node:perf_hooks'],
}
/** What pure rooms never say. */
const IMPURE = /\b(?:async|await|Date\.now|Math\.random|performance\.now|process\.|console\.|setTimeout)\b/
const PURE = ['model', 'plan', 'config']
const IMPORT = /^(?:import|export)\s[^'"]*?from\s+'([^']+)'|^import\s+'([^']+)'/gm

function files(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.ts'))
    .map((entry) => join(entry.parentPath, entry.name))
}

function roomOf(file: string): string | undefined {
  const path = relative(SRC, file)
  if (path.startsWith('..')) return path.split('/')[1]
  return path.includes('/') ? path.split('/')[0] : undefined
}

function importsOf(file: string): string[] {
  return [...readFileSync(file, 'utf8').matchAll(IMPORT)].map((match) => match[1] ?? match[2]!)
}

function isOpen(doors: readonly string[], name: string): boolean {
  const builtin = name.startsWith('node:') || builtinModules.includes(name)
  return doors.includes(name) || (builtin && doors.includes('node:*'))
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
const faults = all.flatMap(faultsOf)
const cycle = all.map((file) => findCycle(file, graph)).find((found) => found !== undefined)
if (cycle !== undefined) faults.push(`circle: ${cycle.map((file) => relative(SRC, file)).join(' -> ')}`)
for (const fault of faults) console.error(fault)
if (faults.length > 0) process.exitCode = 1
else console.log(`doors: ${all.length} files, every import goes through an open door`)
