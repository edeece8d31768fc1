/** `kube-ipvs diff`: what the API wants against what the kernel has. Exit code 0: the same, 1: not the same, 2: unknown. */
import { preview } from '../../program/preview.ts'
import { API_VERSION, type Difference } from '../../view/documents.ts'
import { formatDifference } from '../../view/tables.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { readProgramOptions } from '../configuration.ts'
import { OUTPUT, print, printError } from './output.ts'

async function compare(context: CommandContext): Promise<ExitCode> {
  const options = await readProgramOptions(context)
  if (options.loaded.config.verbosity === 0) context.log.level = 'warn'
  const { commands: changes, foreign, blocked } = await preview(options)
  const document: Difference = {
    ...{ apiVersion: API_VERSION, kind: 'Difference', source: 'kernel' },
    ...{ changes, foreign, blocked },
  }
  print(context, document, formatDifference)
  return changes.length + blocked.length === 0 ? 0 : 1
}

export const DIFF: Command = {
  name: 'diff',
  description: 'compare what the API wants with what the kernel has; exit code 1 where they differ',
  options: [OUTPUT],
  run: async (context) =>
    compare(context).catch((error: unknown): ExitCode => {
      printError(error)
      return 2
    }),
}
