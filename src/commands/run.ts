/** The proxy itself: what the program does unless it is asked for something else. */
import { run } from '../program/program.ts'
import type { Command } from './command.ts'
import { readProgramOptions } from './configuration.ts'

export const RUN: Command = {
  name: 'run',
  description: 'The IPVS service proxy for Kubernetes, in place of kube-proxy with mode ipvs',
  run: async (context) => run(await readProgramOptions(context)),
}
