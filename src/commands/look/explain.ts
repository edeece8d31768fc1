/** `kube-ipvs explain`: the way of a packet to a Service, and why each endpoint gets traffic or none. */
import type { Explanation } from '../../view/documents.ts'
import { formatExplanation } from '../../view/tables.ts'
import { ask } from './ask.ts'
import type { Command, CommandContext, ExitCode } from '../command.ts'
import { orPrintError, OUTPUT, print } from './output.ts'

async function explain(context: CommandContext): Promise<ExitCode> {
  const { operands, options, localSocket } = context.commandLine
  const query = { of: operands[0]!, from: options.from ?? '' }
  print(context, await ask<Explanation>(localSocket, '/v1/explanation', query), formatExplanation)
  return 0
}

export const EXPLAIN: Command = {
  name: 'explain',
  description: 'show what becomes of a packet for a Service, and why each endpoint gets traffic or none',
  operands: ['<service-or-address>'],
  options: [{ flags: '--from <client>', help: 'who asks: a Pod, an IP address, or node (a Pod)' }, OUTPUT],
  run: (context) => orPrintError(() => explain(context), 1),
}
