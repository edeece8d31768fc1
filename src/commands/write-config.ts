/** `--write-config-to`: writes the configuration with every field, and its default where it was not set. */
import { writeFile } from 'node:fs/promises'
import { stringify } from 'yaml'
import type { Command, CommandContext } from './command.ts'
import { readConfig, readPolicy } from './configuration.ts'

const FLAG = 'write-config-to'

async function writeConfig(context: CommandContext): Promise<void> {
  const file = context.commandLine.values[FLAG]!.at(-1)!
  const { loaded } = await readConfig(context)
  // Whoever checks a configuration has the list beside it checked, too.
  await readPolicy(context.commandLine)
  await writeFile(file, stringify(loaded.document)).catch((cause: unknown) => {
    throw new Error(`Cannot write configuration ${file}: ${(cause as Error).message}`, { cause })
  })
}

export const WRITE_CONFIG: Command = {
  name: 'writeConfig',
  description: 'write the resolved configuration to a file, and exit',
  flag: { name: FLAG, kind: 'text', hint: 'file' },
  run: async (context) => {
    await writeConfig(context)
    return 'stopped'
  },
}
