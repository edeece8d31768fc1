import { pino, type Logger } from 'pino'

export interface LogLine {
  readonly level: number
  readonly msg: string
  readonly [field: string]: unknown
}

/** A logger that keeps its lines. */
export function recordingLog(level = 'debug'): { readonly log: Logger; readonly lines: LogLine[] } {
  const lines: LogLine[] = []
  const log = pino(
    { level, base: null, timestamp: false },
    { write: (text) => lines.push(JSON.parse(text) as LogLine) },
  )
  return { log, lines }
}

/** The messages of a level and above: 40 warn, 50 error. */
export function complaints(lines: readonly LogLine[], level = 40): string[] {
  return lines.filter((line) => line.level >= level).map(({ msg }) => msg)
}
