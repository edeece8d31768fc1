/**
 * What programs ask of the kernel, written down for scripts/profiles.ts: `LAB_RECORD=1 scripts/test lab` traces every
 * Program, and all that it starts.
 */
import { mkdirSync } from 'node:fs'
import { basename, join } from 'node:path'

const FOLDER = join(process.env.LAB_OUT ?? '.', 'calls')

/** Of a line of strace: who calls, what; of files which one, how, and why not. */
const PARTS = String.raw`
  s/^[0-9]+<([^>]*)> +openat\(AT_FDCWD, "([^"]*)", ([A-Z_|]+)[^=]*(= -1 (E[A-Z]+))?.*/\1\topenat\t\2\t\3\t\5/p; t
  s/^[0-9]+<([^>]*)> +execve\("([^"]*)"[^=]*(= -1 (E[A-Z]+))?.*/\1\texecve\t\2\t\t\4/p; t
  s/^[0-9]+<([^>]*)> +([a-z0-9_]+)\(.*/\1\t\2/p`

let count = 0

/** A command that runs the one after it, whose process stays the caller's child; empty unless calls are recorded. */
export function recorder(): string[] {
  if (process.env.LAB_RECORD === undefined) return []
  mkdirSync(FOLDER, { recursive: true })
  const test = basename(process.argv.at(-1)!, '.lab.cjs')
  const file = join(FOLDER, `${test}.${process.pid}-${count++}`)
  // Each line once: written as they come, they would be millions.
  const output = `|sed -nE '${PARTS}' | awk '!seen[$0]++' > ${file}`
  return ['strace', '-D', '-f', '-qq', '--decode-pids=comm', '-esignal=none', '-eraw=!%file', '-o', output]
}
