/** Who has how much traffic, a line each. */
import { formatColumns } from './tables.ts'

/** By which names traffic is added up. */
export const GROUPS = ['service', 'pod', 'server'] as const
export type Group = (typeof GROUPS)[number]

/** What lines are sorted by; the most comes first. */
export const SORTS = ['bytes', 'packets', 'connections', 'new', 'name'] as const
export type Sort = (typeof SORTS)[number]

/** What is counted of one name; all but `open` a second. */
export interface Load {
  readonly name: string
  /** Connections that the kernel has now, active and inactive. */
  readonly open: number
  readonly newConnections: number
  readonly inPackets: number
  readonly outPackets: number
  readonly inBytes: number
  readonly outBytes: number
}

const FIELDS = ['open', 'newConnections', 'inPackets', 'outPackets', 'inBytes', 'outBytes'] as const

function sum(a: Load, b: Load): Load {
  const added = FIELDS.map((field) => [field, a[field] + b[field]] as const)
  return { name: a.name, ...(Object.fromEntries(added) as unknown as Omit<Load, 'name'>) }
}

/** Adds up what has one name. */
export function addUp(loads: readonly Load[]): Load[] {
  const byName = new Map<string, Load>()
  for (const load of loads) {
    const before = byName.get(load.name)
    byName.set(load.name, before === undefined ? load : sum(before, load))
  }
  return [...byName.values()]
}

const bytes = ({ inBytes, outBytes }: Load): number => inBytes + outBytes
const ORDERS: Readonly<Record<Sort, (load: Load) => number>> = {
  bytes,
  packets: ({ inPackets, outPackets }) => inPackets + outPackets,
  connections: ({ open }) => open,
  new: ({ newConnections }) => newConnections,
  name: () => 0,
}

/** Equal ones stay in the order of their names, so that lines do not jump. */
export function sortLoads(loads: readonly Load[], sort: Sort): Load[] {
  const order = ORDERS[sort]
  return [...loads].sort((a, b) => order(b) - order(a) || (a.name < b.name ? -1 : 1))
}

/** By name, the bytes a second of the last samples. */
export type History = ReadonlyMap<string, readonly number[]>

/** A history with one sample more; a name that has gone is forgotten. */
export function remember(history: History, loads: readonly Load[]): History {
  return new Map(
    loads.map((load) => [load.name, [...(history.get(load.name) ?? []), bytes(load)].slice(-HISTORY)]),
  )
}

const BARS = '▁▂▃▄▅▆▇█'
/** Samples in a sparkline. */
export const HISTORY = 20

/** The last samples as bars, the highest of them full. */
export function sparkline(values: readonly number[]): string {
  const most = Math.max(...values, 1)
  return values
    .slice(-HISTORY)
    .map((value) => BARS[Math.min(BARS.length - 1, Math.floor((value / most) * BARS.length))]!)
    .join('')
}

const UNITS = ['', 'k', 'M', 'G', 'T'] as const

/** `1234567` as `1.23M`. */
export function formatNumber(value: number): string {
  const power = value < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(value) / 3))
  const scaled = value / 1000 ** power
  const digits = power === 0 || scaled >= 100 ? 0 : scaled >= 10 ? 1 : 2
  return `${scaled.toFixed(digits)}${UNITS[power]!}`
}

const HEADS: Readonly<Record<Group, string>> = { service: 'SERVICE', pod: 'POD', server: 'SERVER' }

/** The cell of the head that stands for each. */
const PLACES: Readonly<Record<Sort, number>> = { name: 0, connections: 1, new: 2, packets: 3, bytes: 5 }

/** The order that lines are in. */
export interface Order {
  readonly sort: Sort
  readonly isReversed: boolean
}

/** Names rise, numbers fall, unless they are reversed. */
function markOf({ sort, isReversed }: Order): string {
  return (sort === 'name') === isReversed ? '▼' : '▲'
}

/** `order` is marked in the head, where it is given. */
export function formatTop(loads: readonly Load[], group: Group, history: History, order?: Order): string[] {
  const head = [HEADS[group], 'OPEN', 'NEW/s', 'PACKETS/s IN', 'OUT', 'BYTES/s IN', 'OUT', 'LAST BYTES/s']
  const place = order && PLACES[order.sort]
  const marked = head.map((cell, i) => (i === place ? `${cell} ${markOf(order!)}` : cell))
  const rows = loads.map((load) => [
    load.name,
    ...FIELDS.map((field) => formatNumber(load[field])),
    sparkline(history.get(load.name) ?? []),
  ])
  return formatColumns([marked, ...rows])
}
