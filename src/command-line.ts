/** The command line: kube-proxy's flags, and what they ask for. */
import { Command, Option } from 'commander'
import packageJson from '../package.json' with { type: 'json' }
import { type Config, loadConfiguration, type LoadedConfig, parseConfig } from './config/config.ts'
import { expected } from './config/config-error.ts'
import {
  documentOfFlags,
  FIELD_FLAGS,
  type FlagKind,
  flagOfField,
  FLAGS_WITHOUT_EFFECT,
  type FlagValues,
  isHealthzDisabled,
  LOGGING_FLAGS,
  withLoggingFlags,
} from './config/flags.ts'
import type { NodeNaming } from './program/missing-node.ts'

export type Action = 'run' | 'plan' | 'cleanup' | 'init' | 'writeConfig'

export interface CommandLine {
  readonly action: Action
  readonly configFile: string | undefined
  /** For the action `writeConfig`. */
  readonly writeConfigTo: string | undefined
  /** A directory instead of an API server. */
  readonly manifests: string | undefined
  /** The API server's URL. */
  readonly master: string | undefined
  /** Wins over the configuration. */
  readonly hostnameOverride: string | undefined
  /** Flags that stand for fields of the configuration. */
  readonly values: FlagValues
}

/** Flags that are no field of the configuration. */
const OWN_FLAGS: readonly (readonly [string, FlagKind, string])[] = [
  [
    'config',
    'text',
    'KubeProxyConfiguration; a change is applied live. With it, flags that stand for its fields are ignored',
  ],
  [
    'manifests',
    'text',
    'a directory of YAML or JSON manifests instead of an API server; changes are picked up',
  ],
  ['hostname-override', 'text', "this node's name, instead of the host's"],
  ['master', 'text', "the API server's URL, instead of the kubeconfig's"],
  ['cleanup', 'flag', 'remove everything that is ours from this node, and exit'],
  ['init-only', 'flag', 'do what needs full privileges, and exit: then NET_ADMIN and NET_RAW are enough'],
  ['write-config-to', 'text', 'write the resolved configuration to a file, and exit'],
]

const DEPRECATED_FLAGS: readonly (readonly [string, FlagKind, string])[] = [
  ['healthz-port', 'number', 'deprecated: the port of --healthz-bind-address; 0 for none'],
  ['metrics-port', 'number', 'deprecated: the port of --metrics-bind-address'],
]

/** Names of all flags, for the tests. */
export const FLAG_NAMES: readonly string[] = [
  ...OWN_FLAGS.map(([name]) => name),
  ...FIELD_FLAGS.map(({ name }) => name),
  ...LOGGING_FLAGS.map(({ name }) => name),
  ...DEPRECATED_FLAGS.map(([name]) => name),
  ...FLAGS_WITHOUT_EFFECT,
]

const append = (text: string, before: readonly string[] = []): string[] => [...before, text]

/** A flag without a value is true, as in Go; its value takes an equals sign. */
function option(name: string, kind: FlagKind | undefined, help: string): Option {
  const value = kind === 'flag' || kind === undefined ? '[value]' : kind === 'text' ? '<text>' : `<${kind}>`
  const flags = name === 'v' ? '-v, --v <level>' : `--${name} ${value}`
  const made = new Option(flags, help).argParser(append).preset('true')
  return kind === undefined ? made.hideHelp() : made
}

function addOptions(command: Command): Command {
  for (const [name, kind, help] of OWN_FLAGS) command.addOption(option(name, kind, help))
  for (const { name, kind, help } of [
    ...LOGGING_FLAGS.slice(0, 1),
    ...FIELD_FLAGS,
    ...LOGGING_FLAGS.slice(1),
  ])
    command.addOption(option(name, kind, help))
  for (const [name, kind, help] of DEPRECATED_FLAGS) command.addOption(option(name, kind, help))
  for (const name of FLAGS_WITHOUT_EFFECT) command.addOption(option(name, undefined, ''))
  return command.allowExcessArguments(false)
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
const BOOLEANS: Readonly<Record<string, boolean>> = Object.fromEntries([
  ...['1', 't', 'T', 'TRUE', 'true', 'True'].map((text) => [text, true] as const),
  ...['0', 'f', 'F', 'FALSE', 'false', 'False'].map((text) => [text, false] as const),
])

/** Throws an Error for what is neither: a word that is not understood must not clean up a node. */
function isSet(values: FlagValues, name: string): boolean {
  const last = values[name]?.at(-1) ?? 'false'
  if (Object.hasOwn(BOOLEANS, last)) return BOOLEANS[last]!
  throw new Error(`Cannot use --${name}: ${expected('true or false', last)}`)
}

function actionOf(values: FlagValues): Action {
  if (values['write-config-to'] !== undefined) return 'writeConfig'
  if (isSet(values, 'cleanup')) return 'cleanup'
  return isSet(values, 'init-only') ? 'init' : 'run'
}

/**
 * Parses process.argv. Help, the version and faults are commander's: it prints them and ends the process, unless
 * `onExit` is there to throw them.
 */
export function parseCommandLine(argv: readonly string[], onExit?: (error: Error) => never): CommandLine {
  let parsed: { readonly values: FlagValues; readonly action: Action } | undefined
  const program = addOptions(new Command('kube-ipvs'))
    .description('The IPVS service proxy for Kubernetes, in place of kube-proxy with mode ipvs')
    .version(packageJson.version, '--version', 'print the version, and exit')
    .helpOption('-h, --help', 'print this, and exit')
    .enablePositionalOptions(false)
    .action((options: Record<string, readonly string[]>) => {
      const values = valuesOf(options)
      parsed = { values, action: actionOf(values) }
    })
  const plan = addOptions(new Command('plan'))
    .description('print what would change, as commands that can be run, and change nothing')
    .action((_options, command: Command) => {
      parsed = { values: valuesOf(command.optsWithGlobals()), action: 'plan' }
    })
  program.addCommand(plan).helpCommand(false)
  if (onExit !== undefined) {
    for (const command of [program, plan])
      command.exitOverride(onExit).configureOutput({ writeErr: () => undefined })
  }
  program.parse(argv.map(normalized))
  const { values, action } = parsed!
  const last = (name: string): string | undefined => values[name]?.at(-1)
  return {
    action,
    configFile: last('config'),
    writeConfigTo: last('write-config-to'),
    manifests: last('manifests'),
    master: last('master'),
    hostnameOverride: hostnameOf(last('hostname-override')),
    values,
  }
}

function hostnameOf(given: string | undefined): string | undefined {
  const name = given?.trim().toLowerCase()
  if (given !== undefined && given !== '' && name === '') {
    throw new Error('Cannot use --hostname-override: it is empty but for spaces')
  }
  return name === '' ? undefined : name
}

/** Flags that were set though the file has their fields. */
function ignoredFlags(values: FlagValues): string[] {
  const names = [...FIELD_FLAGS.map(({ name }) => name), ...DEPRECATED_FLAGS.map(([name]) => name)]
  return names.filter((name) => values[name] !== undefined).map((name) => `--${name}`)
}

function unusedFlags(values: FlagValues): string[] {
  return FLAGS_WITHOUT_EFFECT.filter((name) => values[name] !== undefined).map((name) => `--${name}`)
}

/**
 * The configuration of a command line: of the file's text where there is a file, else of the flags. Throws
 * ConfigError with all faults, each naming its field or flag.
 */
export function loadConfig({ configFile, values }: CommandLine, text: string | undefined): LoadedConfig {
  const loaded =
    configFile === undefined || text === undefined ? loadFlags(values) : loadFile(configFile, text, values)
  return { ...loaded, unused: [...loaded.unused, ...unusedFlags(values)] }
}

function loadFile(file: string, text: string, values: FlagValues): LoadedConfig {
  const loaded = parseConfig(file, text, (document) => withLoggingFlags(document, values))
  const ignored = ignoredFlags(values)
  if (ignored.length === 0) return loaded
  const warning = `${ignored.join(', ')}: ignored, as ${file} is the configuration`
  return { ...loaded, warnings: [...loaded.warnings, warning] }
}

function loadFlags(values: FlagValues): LoadedConfig {
  const origin = { name: 'the flags', nameOf: flagOfField }
  const loaded = loadConfiguration(documentOfFlags(values), origin)
  if (!isHealthzDisabled(values)) return loaded
  return { ...loaded, config: Object.freeze({ ...loaded.config, healthzBindAddress: '' }) }
}

/** This node's name, and what says it; `host` is the host's. Throws an Error with a remedy where it is empty. */
export function nameNode(
  { hostnameOverride }: Pick<CommandLine, 'hostnameOverride'>,
  config: Pick<Config, 'hostnameOverride'>,
  host: string,
): NodeNaming {
  const naming: NodeNaming =
    hostnameOverride !== undefined
      ? { name: hostnameOverride, source: '--hostname-override' }
      : config.hostnameOverride !== ''
        ? { name: config.hostnameOverride, source: 'hostnameOverride of the configuration' }
        : { name: host, source: "the host's name" }
  const name = naming.name.trim().toLowerCase()
  if (name === '') throw new Error('This node has no name: set --hostname-override')
  return { ...naming, name }
}
