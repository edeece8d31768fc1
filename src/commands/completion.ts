/** `kube-ipvs completion`: the script with which a shell completes what is written on the command line. */
import type { Command } from './command.ts'
import { formatBash } from './syntax/bash.ts'
import { formatFish } from './syntax/fish.ts'
import type { Syntax } from './syntax/syntax.ts'
import { formatZsh } from './syntax/zsh.ts'

const FORMATS = { bash: formatBash, zsh: formatZsh, fish: formatFish } as const
type Shell = keyof typeof FORMATS

/** `syntax` is that of all commands, this one among them. */
export function completionOf(syntax: () => Syntax): Command {
  return {
    name: 'completion',
    description: 'print the script that completes commands, options and flags in a shell',
    operands: ['<shell>'],
    choices: Object.keys(FORMATS),
    run: ({ commandLine }) => {
      process.stdout.write(FORMATS[commandLine.operands[0] as Shell](syntax()))
      return Promise.resolve(0)
    },
  }
}
