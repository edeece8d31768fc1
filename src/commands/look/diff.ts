/** `kube-ipvs diff`: what the API wants against what the kernel has. Exit code 0: the same, 1: not the same, 2: unknown. */
import { type Preview, preview } from '../../program/preview.ts'
import type { ProgramOptions } from '../../program/program.ts'
import { API_VERSION, type Difference } from '../../view/documents.ts'
import { formatDifference } from '../../view/tables.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { readProgramOptions } from '../configuration.ts'
import { askForDrained } from './ask.ts'
import { orPrintError, OUTPUT, print } from './output.ts'

/** So long the API server has for its lists. */
const LIMIT_MS = 60_000
const TOO_LATE = `The API server has not told all within ${LIMIT_MS / 1_000} s: see "kube-ipvs doctor --only api"`

/** Throws an Error when the API server does not tell all in time. */
async function previewInTime(options: ProgramOptions, drained: readonly string[]): Promise<Preview> {
  const limit = AbortSignal.timeout(LIMIT_MS)
  try {
    const signal = AbortSignal.any([options.signal, limit])
    return await preview({ ...options, signal }, new Set(drained))
  } catch (cause) {
    throw limit.aborted ? new Error(TOO_LATE, { cause }) : cause
  }
}

async function compare(context: CommandContext): Promise<ExitCode> {
  const options = await readProgramOptions(context)
  const drained = await askForDrained(context.commandLine.localSocket)
  if (options.loaded.config.verbosity === 0) context.log.level = 'warn'
  const { commands: changes, foreign: others, blocked, problems } = await previewInTime(options, drained)
  if (problems > 0) throw new Error(`What ${problems} of its objects want cannot be told: see above`)
  // An address is somebody else's by the virtual servers on it.
  const foreign = others.filter((key) => key.includes('/'))
  const document: Difference = {
    ...{ apiVersion: API_VERSION, kind: 'Difference', source: 'kernel' },
    ...{ changes, foreign, blocked, drained },
  }
  print(context, document, formatDifference)
  return changes.length + blocked.length === 0 ? 0 : 1
}

export const DIFF: Command = {
  name: 'diff',
  description: 'compare what the API wants with what the kernel has; exit code 1 where they differ',
  options: [OUTPUT],
  exitCodes: ['nothing differs', 'something differs', 'it could not be found out'],
  run: (context) => orPrintError(() => compare(context), 2),
}
