#!/usr/bin/env -S MALLOC_ARENA_MAX=2 MALLOC_MMAP_THRESHOLD_=131072 node --max-semi-space-size=8
// Memory is given back, and the young generation stays small (docs/performance.md).
/**
 * Starts the program, src/main.ts: scripts/bundle.ts makes main.cjs of it, and main.compiled of that, as to parse its text
 * would be a tenth of a start. What another version of Node has compiled, or one with other flags, V8 refuses, and parses
 * the text.
 */
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { Script } from 'node:vm'
// Loaded below, from the bundle. This import is for whoever looks for the way in, and is gone in the bundle.
import type {} from './main.ts'

/** The text of main.cjs is one function, of what a CommonJS module is given. */
type MainModule = (
  exports: object,
  require: NodeJS.Require,
  module: object,
  file: string,
  folder: string,
) => void

const folder = import.meta.dirname
const file = join(folder, 'main.cjs')

function readCompiled(): Buffer | undefined {
  try {
    return readFileSync(join(folder, 'main.compiled'))
  } catch {
    return undefined
  }
}

const cachedData = readCompiled()
const script = new Script(readFileSync(file, 'latin1'), {
  filename: file,
  ...(cachedData !== undefined && { cachedData }),
})
const module = { exports: {} }
const program = script.runInThisContext() as MainModule
program(module.exports, createRequire(import.meta.filename), module, file, folder)
