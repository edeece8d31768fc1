/** Numbers, times and states as the page says them. */
import type { Rates, Sample, State } from '../view/documents.ts'
import { formatNumber } from '../view/top.ts'

/** `good`, `busy` and `bad` have colours; the word says it all the same. */
export const TONES: Readonly<Record<State, string>> = {
  programmed: 'good',
  pending: 'busy',
  failing: 'bad',
  draining: 'busy',
  unwanted: 'busy',
  foreign: '',
  unknown: '',
}

export const count = (value: number): string => value.toLocaleString('en')

/** `1 virtual server`, `2,000 virtual servers`. */
export const counted = (value: number, what: string): string =>
  `${count(value)} ${what}${value === 1 ? '' : 's'}`

/** `in / out`; a dash where nothing is known. */
export function inAndOut(rates: Rates | undefined, what: 'Packets' | 'Bytes'): string {
  if (rates === undefined) return '–'
  return `${formatNumber(rates[`in${what}`])} / ${formatNumber(rates[`out${what}`])}`
}

const time = (date: Date): string => date.toTimeString().slice(0, 8)

/** `14:03:59`, after the day where that is not today. */
export function formatTime(at: number, now = Date.now()): string {
  const date = new Date(at)
  const isToday = date.toDateString() === new Date(now).toDateString()
  return isToday ? time(date) : `${date.toLocaleDateString('sv')} ${time(date)}`
}

/** `12 ms`, `1.25 s`. */
export function formatSeconds(seconds: number): string {
  return seconds < 1 ? `${Math.round(seconds * 1_000)} ms` : `${seconds.toPrecision(3)} s`
}

/** `0.4`, `12`, `1.2k`. */
export function formatRate(value: number): string {
  return value < 10 && !Number.isInteger(value) ? value.toFixed(1) : formatNumber(value)
}

/** The last one, and the highest: a plot in words. */
export function describe(
  samples: readonly Sample[],
  value: (sample: Sample) => number | undefined,
  format: (value: number) => string,
): string {
  const values = samples.map(value).filter((one) => one !== undefined)
  if (values.length === 0) return 'none so far'
  return `last ${format(values.at(-1)!)}, most ${format(Math.max(...values))}`
}
