/** The figures as a table of Markdown, and as a plot of cost against size. */
import type { Binding } from '../../src/model/binding.ts'
import type { Size } from './load.ts'
import type { Figures } from './scenario.ts'

export type Result = Size & { readonly figures: Figures }

interface Row {
  readonly what: string
  readonly unit: string
  /** Undefined where it was not measured. */
  readonly of: (figures: Figures) => number | undefined
  readonly digits?: number
}

const named = (name: string) => (figures: Figures) => figures[name]
const ratio = (over: string, under: string) => (figures: Figures) =>
  figures[over] === undefined || figures[under] === undefined ? undefined : figures[over] / figures[under]

const ROWS: readonly Row[] = [
  {
    what: 'floor: the same messages, encoded before',
    unit: 's',
    of: ({ floor }) => floor! / 1000,
    digits: 2,
  },
  {
    what: 'cold programming: all is listed, until all is in the kernel',
    unit: 's',
    of: ({ cold }) => cold! / 1000,
    digits: 2,
  },
  { what: '**ratio to the floor**', unit: '', of: ratio('cold', 'floor'), digits: 2 },
  { what: 'the whole start, from exec', unit: 's', of: ({ ready }) => ready! / 1000, digits: 1 },
  { what: 'processors used by it', unit: 's', of: ({ startCpu }) => startCpu! / 1000, digits: 1 },
  {
    what: 'one endpoint, sent until in the kernel: median',
    unit: 'ms',
    of: named('changeMedian'),
    digits: 1,
  },
  { what: '99 %', unit: 'ms', of: named('change99'), digits: 1 },
  { what: '**99 % to the median**', unit: '', of: ratio('change99', 'changeMedian'), digits: 1 },
  { what: 'processors used by one change', unit: 'ms', of: named('cpuPerChange'), digits: 1 },
  { what: '100 changes a second for a minute: median', unit: 'ms', of: named('floodMedian') },
  { what: '99 %', unit: 'ms', of: named('flood99') },
  { what: 'the last change, after the last was sent', unit: 'ms', of: named('floodBacklog') },
  { what: 'changes lost', unit: '', of: named('floodLost') },
  { what: 'one processor, used by it', unit: '%', of: named('floodCpuShare') },
  {
    what: '1,000 endpoints of a Service roll over',
    unit: 's',
    of: ({ rollMs }) => rollMs && rollMs / 1000,
    digits: 1,
  },
  {
    what: '1,000 Services are replaced: the new ones are there',
    unit: 's',
    of: ({ swapCreated }) => swapCreated && swapCreated / 1000,
    digits: 1,
  },
  {
    what: 'the old ones are gone',
    unit: 's',
    of: ({ swapDeleted }) => swapDeleted && swapDeleted / 1000,
    digits: 1,
  },
  { what: 'memory: Node alone', unit: 'MiB', of: named('nodeAlone') },
  { what: 'after the start', unit: 'MiB', of: named('startMemory') },
  { what: 'after a minute of changes', unit: 'MiB', of: named('churnFirst') },
  { what: 'after ten', unit: 'MiB', of: named('churnLast') },
  { what: '**growth**', unit: '%', of: named('churnGrowth'), digits: 1 },
  { what: 'at most', unit: 'MiB', of: named('memoryPeak') },
  { what: '`get`: processors', unit: 'ms', of: named('getCpu') },
  { what: 'a refresh of the status page: processors', unit: 'ms', of: named('refreshCpu') },
  { what: 'the same: bytes', unit: 'kB', of: ({ refreshBytes }) => refreshBytes && refreshBytes / 1_000 },
  { what: 'a scrape with metrics of each Service: processors', unit: 'ms', of: named('scrapeCpu') },
  {
    what: '**one endpoint while all three go on, to without: median**',
    unit: '',
    of: ratio('seenMedian', 'unseenMedian'),
    digits: 2,
  },
  { what: '**99 %**', unit: '', of: ratio('seen99', 'unseen99'), digits: 2 },
  { what: 'idle: one processor', unit: '%', of: named('idleShare'), digits: 2 },
  {
    what: 'restart on a correct kernel',
    unit: 's',
    of: ({ restartMs }) => restartMs && restartMs / 1000,
    digits: 1,
  },
  { what: 'changing messages of it', unit: '', of: named('restartChanges') },
  {
    what: 'the same after all of the above',
    unit: 's',
    of: ({ lateMs }) => lateMs && lateMs / 1000,
    digits: 1,
  },
  { what: 'changing messages of it', unit: '', of: named('lateChanges') },
]

function cell({ of, unit, digits = 0 }: Row, figures: Figures): string {
  const value = of(figures)
  return value === undefined || Number.isNaN(value) ? '' : `${value.toFixed(digits)} ${unit}`.trim()
}

const nameOf = ({ services, endpoints, binding }: Size): string =>
  `${services.toLocaleString('en')} x ${endpoints}${binding === undefined ? '' : `, ${binding}`}`

export function table(results: readonly Result[]): string {
  const lines = ROWS.map((row) => ({ row, cells: results.map(({ figures }) => cell(row, figures)) }))
    .filter(({ cells }) => cells.some((text) => text !== ''))
    .map(({ row, cells }) => `| ${row.what} | ${cells.join(' | ')} |`)
  const [small, large] = [1_000, 10_000].map((wanted) =>
    results.find(({ services, endpoints }) => services === wanted && endpoints === 10),
  )
  const head = [
    `| Services x endpoints | ${results.map(nameOf).join(' | ')} |`,
    `|---|${results.map(() => '---|').join('')}`,
  ]
  const flat =
    small === undefined || large === undefined
      ? []
      : [
          '',
          `One change at 10,000 Services to one at 1,000: ${(large.figures.changeMedian! / small.figures.changeMedian!).toFixed(2)}`,
        ]
  return [...head, ...lines, ...flat, ''].join('\n')
}

const WIDTH = 640
const HEIGHT = 400
const MARGIN = 60

interface Line {
  readonly name: string
  readonly colour: string
  readonly binding: Binding
  readonly of: (figures: Figures) => number | undefined
}

/** All in ms. */
const LINES: readonly Line[] = [
  { name: 'cold programming, as addresses', colour: '#b5442b', binding: 'address', of: named('cold') },
  { name: 'its floor', colour: '#e0a08f', binding: 'address', of: named('floor') },
  { name: 'cold programming, as routes', colour: '#0b6e99', binding: 'route', of: named('cold') },
  { name: 'its floor', colour: '#7fb6cf', binding: 'route', of: named('floor') },
  {
    name: 'one change, as addresses, median',
    colour: '#886644',
    binding: 'address',
    of: named('changeMedian'),
  },
  { name: 'one change, as routes, median', colour: '#444444', binding: 'route', of: named('changeMedian') },
]

/** Cost against the number of Services of one endpoint, in both bindings; both in powers of ten. */
export function plot(all: readonly Result[]): string {
  const results = all.filter(({ binding }) => binding !== undefined)
  const x = ({ services }: Size): number => MARGIN + (Math.log10(services / 1_000) / 2) * (WIDTH - 2 * MARGIN)
  const y = (ms: number): number => HEIGHT - MARGIN - (Math.log10(ms) / 6) * (HEIGHT - 2 * MARGIN)
  const grid = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000].map(
    (ms) =>
      `<line x1="${MARGIN}" x2="${WIDTH - MARGIN}" y1="${y(ms)}" y2="${y(ms)}" stroke="#dddddd"/><text x="${MARGIN - 6}" y="${y(ms) + 4}" text-anchor="end">${ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`}</text>`,
  )
  const sizes = [...new Map(results.map((result) => [result.services, result])).values()].map(
    (result) =>
      `<text x="${x(result)}" y="${HEIGHT - MARGIN + 20}" text-anchor="middle">${result.services.toLocaleString('en')}</text>`,
  )
  const lines = LINES.map(({ name, colour, binding, of }, i) => {
    const points = results
      .filter((result) => result.binding === binding)
      .flatMap((result) => {
        const ms = of(result.figures)
        return ms === undefined ? [] : [`${x(result).toFixed(1)},${y(ms).toFixed(1)}`]
      })
    const dots = points.map(
      (point) => `<circle cx="${point.replace(',', '" cy="')}" r="3" fill="${colour}"/>`,
    )
    const legend = `<text x="${MARGIN + 10}" y="${MARGIN - 40 + i * 14}" fill="${colour}">${name}</text>`
    return `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join('')}${legend}`
  })
  const style = 'font-family="sans-serif" font-size="11"'
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" ${style}><rect width="100%" height="100%" fill="white"/>${[...grid, ...sizes, ...lines].join('\n')}</svg>\n`
}
