/** What can be written on the command line, as shells complete it and the manual page tells it. */
import type { ValueHint } from '../../config/flags.ts'
import type { Command, CommandOption } from '../command.ts'
import { type Flag, flagsOf, formatFlag, HELP, VERSION } from './flags.ts'

export const PROGRAM = 'kube-ipvs'

/** An option of a command, or a flag. */
export interface SyntaxOption {
  /** `-o` and `--output` */
  readonly names: readonly string[]
  /** What its value is called; undefined: it takes none. */
  readonly value: string | undefined
  /** The value may be left out, and is never the next word. */
  readonly isOptional: boolean
  readonly hint: ValueHint | undefined
  readonly help: string
}

export interface SyntaxCommand {
  readonly name: string
  readonly description: string
  /** As the help shows them: `<what>`, `[name]`. */
  readonly operands: readonly string[]
  /** What an operand may be; empty: anything. */
  readonly choices: readonly string[]
  readonly options: readonly SyntaxOption[]
  /** What the exit codes 0, 1 and 2 mean, where that is said. */
  readonly exitCodes: readonly string[]
}

export interface Syntax {
  readonly description: string
  readonly commands: readonly SyntaxCommand[]
  /** Every command takes them. */
  readonly flags: readonly SyntaxOption[]
  /** Taken, and without effect: nobody is offered them. */
  readonly ignored: readonly string[]
}

const BOOLEANS: ValueHint = ['true', 'false']

function optionOf(flags: string, help: string, hint?: ValueHint): SyntaxOption {
  const [, value] = /[<[](.+)[>\]]$/.exec(flags) ?? []
  return {
    names: flags.match(/(?<=^|, )--?[^\s,]+/g) ?? [],
    value,
    isOptional: flags.endsWith(']'),
    hint,
    help,
  }
}

function ownOption({ flags, help, choices }: CommandOption): SyntaxOption {
  return optionOf(flags, help, choices)
}

function flagOption(flag: Flag): SyntaxOption {
  return optionOf(formatFlag(flag), flag.help, flag.kind === 'flag' ? BOOLEANS : flag.hint)
}

function commandOf(command: Command): SyntaxCommand {
  const { name, description, operands = [], choices = [], options = [], exitCodes = [] } = command
  return { name, description, operands, choices, options: options.map(ownOption), exitCodes }
}

/** Of the command that no name asks for, and of all others. */
export function syntaxOf({ description }: Command, commands: readonly Command[]): Syntax {
  const flags = flagsOf(commands)
  return {
    description,
    commands: commands.filter(({ flag }) => flag === undefined).map(commandOf),
    flags: [
      ...flags.filter(({ kind }) => kind !== undefined).map(flagOption),
      ...[HELP, VERSION].map(ownOption),
    ],
    ignored: flags.filter(({ kind }) => kind === undefined).map(({ name }) => `--${name}`),
  }
}

/** Names of options that take the next word as their value. */
export function takingNames(options: readonly SyntaxOption[]): string[] {
  return options.flatMap(({ names, value, isOptional }) => (value === undefined || isOptional ? [] : names))
}
