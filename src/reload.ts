/** Reads the configuration file again when it changes, also by the symlink swap of a mounted ConfigMap. */
import { watch } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Logger } from 'pino'
import { type LoadedConfig, parseConfig } from './config/config.ts'

const QUIET_MS = 100

/** Calls `changed` with every new configuration that is valid, until the signal aborts. A broken one is logged. */
export function watchConfig(
  file: string,
  initial: string,
  changed: (loaded: LoadedConfig) => Promise<void>,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): void {
  let current = initial
  let timer: NodeJS.Timeout | undefined
  const reread = async (): Promise<void> => {
    try {
      const text = await readFile(file, 'utf8')
      if (text === current) return
      current = text
      await changed(parseConfig(file, text))
    } catch (err) {
      log.error({ err }, 'cannot use the new configuration: the old one stays')
    }
  }
  const watcher = watch(dirname(file), () => {
    clearTimeout(timer)
    timer = setTimeout(() => void reread(), QUIET_MS)
  })
  watcher.on('error', (err) => {
    log.error({ err, file }, 'cannot watch the configuration: restart to apply a change')
  })
  signal.addEventListener('abort', () => {
    clearTimeout(timer)
    watcher.close()
  })
}
