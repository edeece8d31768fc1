/** All commands. A new one is a file beside this one, and a line here. */
import { CLEANUP } from './cleanup.ts'
import type { Command } from './command.ts'
import { completionOf } from './completion.ts'
import { DIFF } from './look/diff.ts'
import { DOCTOR } from './look/doctor.ts'
import { DRAIN, UNDRAIN } from './look/drain.ts'
import { EXPLAIN } from './look/explain.ts'
import { GET } from './look/get.ts'
import { INIT } from './init.ts'
import { REPORT } from './look/report.ts'
import { TRACE } from './look/trace.ts'
import { TOP } from './look/top.ts'
import { PLAN } from './plan.ts'
import { RUN } from './run.ts'
import { type Syntax, syntaxOf } from './syntax/syntax.ts'
import { WRITE_CONFIG } from './write-config.ts'

/** What is done when no other command is asked for. */
export const DEFAULT_COMMAND = RUN

/** The others. Of several that flags ask for, the first counts. */
export const COMMANDS: readonly Command[] = [
  WRITE_CONFIG,
  CLEANUP,
  INIT,
  PLAN,
  GET,
  EXPLAIN,
  TRACE,
  DIFF,
  DOCTOR,
  TOP,
  DRAIN,
  UNDRAIN,
  REPORT,
  completionOf(() => SYNTAX),
]

/** What of all this can be written on the command line. */
export const SYNTAX: Syntax = syntaxOf(DEFAULT_COMMAND, COMMANDS)
