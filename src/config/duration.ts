/** Durations as Go and Kubernetes write them: `30s`, `1h15m`, `1.5h`, `250ms`, `0`. */

const UNITS_MS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
}
const PART = /(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)/y

/** Milliseconds; undefined when the text is not a duration. */
export function parseDuration(text: string): number | undefined {
  const unsigned = text.replace(/^[+-]/, '')
  if (unsigned === '0') return 0
  let total = 0
  PART.lastIndex = 0
  while (PART.lastIndex < unsigned.length) {
    const part = PART.exec(unsigned)
    if (part === null) return undefined
    total += Number(part[1]) * UNITS_MS[part[2]!]!
  }
  if (unsigned === '') return undefined
  return text.startsWith('-') ? -total : total
}

/** As Go prints it: `1h15m0s`, `250ms`, `0s`. Below a millisecond nothing is kept. */
export function formatDuration(ms: number): string {
  if (ms === 0) return '0s'
  if (ms < 1_000) return `${ms}ms`
  const seconds = (ms % 60_000) / 1_000
  const minutes = Math.floor(ms / 60_000) % 60
  const hours = Math.floor(ms / 3_600_000)
  if (hours > 0) return `${hours}h${minutes}m${seconds}s`
  return minutes > 0 ? `${minutes}m${seconds}s` : `${seconds}s`
}
