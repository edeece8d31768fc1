/** Reads a file of the configuration again when it changes, also by the symlink swap of a mounted ConfigMap, or on SIGHUP. */
import { watch } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Logger } from 'pino'

/** A change is read when the folder has been quiet for so long: writers may need several writes. */
const QUIET_MS = 100

export interface FileWatch {
  readonly file: string
  /** Reads it; as text unless given. */
  readonly read?: (file: string) => Promise<string>
  /** What it said at the start. */
  readonly initial: string
  /** Takes a new text, or throws an Error that says why it cannot be used: then what was before stays. */
  readonly onText: (text: string) => Promise<void>
  /** Called with the reason why a new text cannot be used, or read. */
  readonly onRefusal: (reason: string) => void
  readonly log: Logger
  readonly signal: AbortSignal
}

async function readText(file: string): Promise<string> {
  return readFile(file, 'utf8')
}

/** Calls `onText` with every new text of the file until the signal aborts, one at a time. */
export function watchFile({
  file,
  read = readText,
  initial,
  onText,
  onRefusal,
  log,
  signal,
}: FileWatch): void {
  if (signal.aborted) return
  let current = initial
  let timer: NodeJS.Timeout | undefined
  let running = Promise.resolve()
  const reread = async (): Promise<void> => {
    try {
      const text = await read(file)
      if (text === current || signal.aborted) return
      current = text
      await onText(text)
    } catch (err) {
      log.error({ err }, 'cannot use the new configuration: the old one stays')
      onRefusal((err as Error).message)
    }
  }
  const rereadSoon = (): void => {
    clearTimeout(timer)
    timer = setTimeout(() => {
      running = running.then(reread)
    }, QUIET_MS)
  }
  const watcher = watch(dirname(file), rereadSoon)
  watcher.on('error', (err) => {
    log.error({ err, file }, 'cannot watch the configuration: send SIGHUP to apply a change')
  })
  process.on('SIGHUP', rereadSoon)
  signal.addEventListener('abort', () => {
    clearTimeout(timer)
    process.off('SIGHUP', rereadSoon)
    watcher.close()
  })
}
