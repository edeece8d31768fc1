/** The latencies as a plot: for each scenario a line for each choice, with 50, 99 and 99.9 % and the range of rounds. */
import { PERCENTS, type Row } from './figures.ts'
import { CHOICES, SCENARIOS } from './plan.ts'

const WIDTH = 720
const LEFT = 80
const RIGHT = 30
const TOP = 40
const LINE = 18
/** Above the lines of a panel is its title, below them are its ticks. */
const TITLE = 26
const PANEL = TITLE + (CHOICES.length + 1) * LINE + 30
const COLOURS = ['#0b6e99', '#d08020', '#b5442b']

const ROWS = [...CHOICES, 'none'] as const
const TICKS = [1, 10, 100, 1_000, 10_000].flatMap((power) => [1, 2, 5].map((digit) => digit * power))

const text = (x: number, y: number, words: string, more = ''): string =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}"${more && ` ${more}`}>${words}</text>`
const stroke = (x1: number, x2: number, y1: number, y2: number, colour: string, width = 1): string =>
  `<line x1="${x1.toFixed(1)}" x2="${x2.toFixed(1)}" y1="${y1.toFixed(1)}" y2="${y2.toFixed(1)}" stroke="${colour}" stroke-width="${width}"/>`

type Scale = (ms: number) => number

/** In powers of ten, from a tick to a tick. */
function scaleOf(rows: readonly Row[]): { x: Scale; ticks: readonly number[] } {
  const all = rows.flatMap(({ latency }) => latency.flatMap(({ low, high }) => [low, high]))
  const first = TICKS.findLast((tick) => tick <= Math.min(...all)) ?? TICKS[0]!
  const last = TICKS.find((tick) => tick >= Math.max(...all)) ?? TICKS.at(-1)!
  const x: Scale = (ms) => LEFT + (Math.log(ms / first) / Math.log(last / first)) * (WIDTH - LEFT - RIGHT)
  return { x, ticks: TICKS.filter((tick) => tick >= first && tick <= last) }
}

function lineOf({ choice, latency }: Row, y: number, x: Scale): string[] {
  const colourOf = (i: number): string => (choice === 'none' ? '#999999' : COLOURS[i]!)
  return [
    text(LEFT - 8, y + 4, choice === 'none' ? 'no waiting' : choice, 'text-anchor="end"'),
    ...latency.flatMap(({ all, low, high }, i) => [
      stroke(x(low), x(high), y, y, colourOf(i), 3),
      `<circle cx="${x(all).toFixed(1)}" cy="${y.toFixed(1)}" r="4" fill="${colourOf(i)}"/>`,
    ]),
  ]
}

function panel(index: number, rows: readonly Row[], { x, ticks }: ReturnType<typeof scaleOf>): string[] {
  const { name, title } = SCENARIOS[index]!
  const top = TOP + index * PANEL
  const bottom = top + TITLE + ROWS.length * LINE
  const lines = ROWS.flatMap((choice, i) => {
    const row = rows.find((one) => one.scenario === name && one.choice === choice)
    return row === undefined ? [] : lineOf(row, top + TITLE + (i + 0.5) * LINE, x)
  })
  const grid = ticks.flatMap((ms) => [
    stroke(x(ms), x(ms), top + TITLE, bottom, '#dddddd'),
    text(x(ms), bottom + 14, ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`, 'text-anchor="middle"'),
  ])
  return [text(LEFT, top + 16, title, 'font-weight="bold"'), ...grid, ...lines]
}

export function plot(rows: readonly Row[]): string {
  const scale = scaleOf(rows)
  const legend = PERCENTS.map((percent, i) =>
    text(LEFT + i * 90, 20, `● ${percent} %`, `fill="${COLOURS[i]!}"`),
  )
  const panels = SCENARIOS.flatMap((_, i) => panel(i, rows, scale))
  const head = `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${TOP + SCENARIOS.length * PANEL}" font-family="sans-serif" font-size="11">`
  return `${head}<rect width="100%" height="100%" fill="white"/>${[...legend, ...panels].join('\n')}</svg>\n`
}
