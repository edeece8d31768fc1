/** What `top` shows in a terminal, and what keys make of it. */
import { formatTop, type Group, GROUPS, type History, type Load, type Sort, sortLoads } from './top.ts'

/** What somebody who looks has chosen. */
export interface TopState {
  readonly group: Group
  readonly sort: Sort
  /** What would come last comes first. */
  readonly isReversed: boolean
  readonly isPaused: boolean
  readonly hasEnded: boolean
}

/** Columns by which lines can be sorted, from the left to the right. */
const COLUMNS: readonly Sort[] = ['name', 'connections', 'new', 'packets', 'bytes']

const SORT_KEYS: Readonly<Record<string, Sort>> = {
  b: 'bytes',
  p: 'packets',
  c: 'connections',
  n: 'new',
  a: 'name',
}

function sortBy(state: TopState, sort: Sort): TopState {
  return { ...state, sort, isReversed: false }
}

/** The one that is so many places further; the ends stay the ends. */
function columnBeside(sort: Sort, places: number): Sort {
  const place = Math.min(COLUMNS.length - 1, Math.max(0, COLUMNS.indexOf(sort) + places))
  return COLUMNS[place]!
}

function nextGroup(group: Group): Group {
  return GROUPS[(GROUPS.indexOf(group) + 1) % GROUPS.length]!
}

/** What a key makes of it, by its name in node:readline; with Ctrl it is `ctrl-c`. */
export function pressKey(state: TopState, key: string): TopState {
  const sort = Object.hasOwn(SORT_KEYS, key) ? SORT_KEYS[key] : undefined
  if (sort !== undefined) return sortBy(state, sort)
  switch (key) {
    case 'left':
      return sortBy(state, columnBeside(state.sort, -1))
    case 'right':
      return sortBy(state, columnBeside(state.sort, 1))
    case 'r':
      return { ...state, isReversed: !state.isReversed }
    case 'g':
      return { ...state, group: nextGroup(state.group) }
    case 'space':
      return { ...state, isPaused: !state.isPaused }
    case 'q':
    case 'ctrl-c':
      return { ...state, hasEnded: true }
    default:
      return state
  }
}

const KEYS = 'sort: b bytes  p packets  c connections  n new  a name  ← → column  r reverse'

function statusOf({ group, sort, isReversed, isPaused }: TopState): string {
  const order = `by ${group}, sorted by ${sort}${isReversed ? ', reversed' : ''}${isPaused ? ', paused' : ''}`
  return `${order}   q quit  space ${isPaused ? 'go on' : 'pause'}  g by ${nextGroup(group)}`
}

/** What is read at one moment. */
export interface TopReading {
  readonly loads: readonly Load[]
  readonly history: History
  /** What somebody who looks should know of it. */
  readonly notes: readonly string[]
}

export interface ScreenSize {
  readonly rows: number
  readonly columns: number
}

/** As many lines as there are rows, and no wider than the screen. */
export function formatScreen(
  state: TopState,
  { loads, history, notes }: TopReading,
  { rows, columns }: ScreenSize,
): string[] {
  const sorted = sortLoads(loads, state.sort)
  const lines = [
    statusOf(state),
    KEYS,
    ...notes.map((note) => `# ${note}`),
    ...formatTop(state.isReversed ? sorted.reverse() : sorted, state.group, history, state),
  ]
  return lines.slice(0, rows).map((line) => line.slice(0, columns))
}
