/** The command line: kube-proxy's flags, and the commands that they and their own names ask for. */
import { Argument, Command as Parser, type CommanderError, Option } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import type { Command, CommandLine, CommandOption } from './commands/command.ts'
import { COMMANDS, DEFAULT_COMMAND } from './commands/commands.ts'
import { type Flag, flagsOf, formatFlag, HELP, LOCAL_SOCKET, VERSION } from './commands/syntax/flags.ts'
import { PROGRAM } from './commands/syntax/syntax.ts'
import { expected } from './config/config-error.ts'
import type { FlagValues } from './config/flags.ts'
import { serviceMetricsOf } from './config/service-metrics.ts'
import { type Binding, isBinding } from './model/binding.ts'

const FLAGS = flagsOf(COMMANDS)

/** Names of all flags, for the tests. */
export const FLAG_NAMES: readonly string[] = FLAGS.map(({ name }) => name)

const append = (text: string, before: readonly string[] = []): string[] => [...before, text]

/** A flag without a value is true, as in Go; its value takes an equals sign. */
function optionOf(flag: Flag): Option {
  const option = new Option(formatFlag(flag), flag.help).argParser(append).preset('true')
  return flag.kind === undefined ? option.hideHelp() : option
}

/** The program itself, and every subcommand, takes all flags. */
function parserOf(name: string, { description, operands = [], choices, options = [] }: Command): Parser {
  const parser = new Parser(name).description(description).allowExcessArguments(false)
  parser.helpOption(HELP.flags, HELP.help)
  for (const operand of operands) {
    const argument = new Argument(operand)
    parser.addArgument(choices === undefined ? argument : argument.choices([...choices]))
  }
  for (const { flags, help, choices } of options) {
    const option = new Option(flags, help)
    parser.addOption(choices === undefined ? option : option.choices([...choices]))
  }
  for (const flag of FLAGS) parser.addOption(optionOf(flag))
  return parser
}

/** pflag's forms in commander's: `-v=4`, `--log_dir`, and a value that begins with a dash only after an equals sign. */
function normalized(arg: string): string {
  if (arg.startsWith('-v=')) return `-v${arg.slice(3)}`
  const [, name, rest] = /^--([^=]+)(.*)$/s.exec(arg) ?? []
  return name === undefined ? arg : `--${name.replaceAll('_', '-')}${rest}`
}

/** Options of commander by the names of the flags. */
function valuesOf(options: Readonly<Record<string, readonly string[]>>): FlagValues {
  const camel = (name: string): string => name.replace(/-(\w)/g, (_, letter: string) => letter.toUpperCase())
  return Object.fromEntries(
    FLAG_NAMES.flatMap((name) => {
      const value = options[camel(name)]
      return value === undefined ? [] : [[name, value]]
    }),
  )
}

/** As Go's strconv.ParseBool. */
const GO_BOOLEANS: Readonly<Record<string, boolean>> = Object.fromEntries([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False'].map((text) => [text, false] as const),
])

/** Throws an Error for what is neither: a word that is not understood must not clean up a node. */
function isSet(values: FlagValues, name: string): boolean {
  const last = values[name]?.at(-1) ?? 'false'
  if (Object.hasOwn(GO_BOOLEANS, last)) return GO_BOOLEANS[last]!
  throw new Error(`Cannot use --${name}: ${expected('true or false', last)}`)
}

/** A flag of this command asks for it. */
function isAskedFor({ flag }: Command, values: FlagValues): boolean {
  if (flag === undefined) return false
  return flag.kind === 'flag' ? isSet(values, flag.name) : values[flag.name] !== undefined
}

/** Where the exit code 1 is an answer, a fault of the command line has another. */
function endWith({ exitCodes }: Command): (error: CommanderError) => never {
  return ({ exitCode }) => process.exit(exitCode === 1 && exitCodes !== undefined ? 2 : exitCode)
}

/**
 * Parses process.argv. Help, the version and faults are commander's: it prints them and ends the process, unless
 * `onExit` is there to throw them.
 */
export function parseCommandLine(
  argv: readonly string[],
  onExit?: (error: Error) => never,
  commands = COMMANDS,
): CommandLine {
  let parsed: CommandLine | undefined
  const program = parserOf(PROGRAM, DEFAULT_COMMAND)
    .version(packageJson.version, VERSION.flags, VERSION.help)
    .enablePositionalOptions(false)
    .action((options: Record<string, readonly string[]>) => {
      const values = valuesOf(options)
      const asked = commands.find((command) => isAskedFor(command, values)) ?? DEFAULT_COMMAND
      parsed = commandLineOf(asked, values)
    })
  for (const command of commands.filter(({ flag }) => flag === undefined)) {
    const subcommand = parserOf(command.name, command).exitOverride(endWith(command))
    subcommand.action(() => {
      parsed = commandLineOf(
        command,
        valuesOf(subcommand.optsWithGlobals()),
        subcommand.args,
        subcommand.opts(),
      )
    })
    program.addCommand(subcommand)
  }
  program.helpCommand(false)
  if (onExit !== undefined) {
    for (const parser of [program, ...program.commands])
      parser.exitOverride(onExit).configureOutput({ writeErr: () => undefined })
  }
  program.parse(argv.map(normalized))
  return parsed!
}

function commandLineOf(
  { name: action, options = [] }: Command,
  values: FlagValues,
  operands: readonly string[] = [],
  given: Given = {},
): CommandLine {
  const last = (name: string): string | undefined => values[name]?.at(-1)
  return {
    ...{ action, operands, values },
    configFile: last('config'),
    manifests: last('manifests'),
    master: last('master'),
    vipBinding: bindingOf(last('vip-binding')),
    serviceMetrics: serviceMetricsOf(values),
    localSocket: last('local-socket') ?? LOCAL_SOCKET,
    statusPage: isSet(values, 'status-page'),
    options: ownOptions(options, given),
    hostnameOverride: hostnameOf(last('hostname-override')),
  }
}

/** Commander's: an option without a value is true. */
type Given = Readonly<Record<string, string | boolean | undefined>>

/** What was given of a subcommand's own options. */
function ownOptions(options: readonly CommandOption[], given: Given): Record<string, string> {
  const names = options.map(({ flags }) => new Option(flags).attributeName())
  return Object.fromEntries(
    names.flatMap((name) => (given[name] === undefined ? [] : [[name, String(given[name])]])),
  )
}

function bindingOf(given = 'address'): Binding {
  if (isBinding(given)) return given
  throw new Error(`Cannot use --vip-binding: ${expected('address or route', given)}`)
}

function hostnameOf(given: string | undefined): string | undefined {
  const name = given?.trim().toLowerCase()
  if (given !== undefined && given !== '' && name === '') {
    throw new Error('Cannot use --hostname-override: it is empty but for spaces')
  }
  return name === '' ? undefined : name
}

/** The command that a command line asks for. */
export function commandOf({ action }: CommandLine): Command {
  return COMMANDS.find(({ name }) => name === action) ?? DEFAULT_COMMAND
}
