/** `kube-ipvs plan`: what a start would change on this node, as commands that can be run. Nothing is changed. */
import { preview } from '../program/preview.ts'
import { askForDrained } from './look/ask.ts'
import type { Command } from './command.ts'
import { readProgramOptions } from './configuration.ts'

/** What `kube-ipvs plan` prints: the commands, and a last line that says how many there are, as a comment of the shell. */
export function formatPlan(commands: readonly string[], drained: readonly string[] = []): string {
  const changes = commands.length === 1 ? '1 change' : `${commands.length} changes`
  const verdict = commands.length === 0 ? 'no change: the kernel is as it should be' : changes
  const byHand = drained.map((name) => `# drained by hand, until "kube-ipvs undrain ${name}"`)
  return [...commands, ...byHand, `# ${verdict}`].map((line) => `${line}\n`).join('')
}

export const PLAN: Command = {
  name: 'plan',
  description: 'print what would change, as commands that can be run, and change nothing',
  run: async (context) => {
    const options = await readProgramOptions(context)
    // What is printed is the result: the log is for what goes wrong.
    if (options.loaded.config.verbosity === 0) context.log.level = 'warn'
    const drained = await askForDrained(options.localSocket)
    const { commands } = await preview(options, new Set(drained))
    process.stdout.write(formatPlan(commands, drained))
    return 'stopped'
  },
}
