/** `kube-ipvs drain` and `undrain`: take a Pod out of service on this node by hand, and back. */
import type { DrainList } from '../../view/documents.ts'
import { formatDrains } from '../../view/tables.ts'
import { ask, change } from './ask.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { orPrintError, OUTPUT, print } from './output.ts'

async function drain(context: CommandContext, path: '/v1/drain' | '/v1/undrain'): Promise<ExitCode> {
  const { operands, localSocket } = context.commandLine
  const [of] = operands
  const list =
    of === undefined
      ? await ask<DrainList>(localSocket, '/v1/drains', {})
      : await change<DrainList>(localSocket, path, { of })
  print(context, list, formatDrains)
  return 0
}

export const DRAIN: Command = {
  name: 'drain',
  description:
    'take a Pod out of service on this node, until undrain or a restart; alone: show what is drained',
  operands: ['[pod-or-address]'],
  options: [OUTPUT],
  run: (context) => orPrintError(() => drain(context, '/v1/drain'), 1),
}

export const UNDRAIN: Command = {
  name: 'undrain',
  description: 'put what was drained by hand back into service',
  operands: ['<pod-or-address>'],
  options: [OUTPUT],
  run: (context) => orPrintError(() => drain(context, '/v1/undrain'), 1),
}
