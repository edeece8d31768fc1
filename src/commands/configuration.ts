/** The configuration that a command works with: of the file and the flags that the command line names. */
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import type { Logger } from 'pino'
import { type Config, loadConfiguration, type LoadedConfig, parseConfig } from '../config/config.ts'
import {
  DEPRECATED_FLAGS,
  documentOfFlags,
  FIELD_FLAGS,
  flagOfField,
  FLAGS_WITHOUT_EFFECT,
  type FlagValues,
  isHealthzDisabled,
  withLoggingFlags,
} from '../config/flags.ts'
import { openPolicy, type PolicyFile, policyFileBeside } from '../program/follow/external-policy.ts'
import type { NodeNaming } from '../program/missing-node.ts'
import type { ProgramOptions } from '../program/program.ts'
import type { CommandContext, CommandLine } from './command.ts'

// --- From the command line to the configuration ---------------------------------------------------------

/** Flags that were set though the file has their fields. */
function ignoredFlags(values: FlagValues): string[] {
  const names = [...FIELD_FLAGS, ...DEPRECATED_FLAGS].map(({ name }) => name)
  return names.filter((name) => values[name] !== undefined).map((name) => `--${name}`)
}

function unusedFlags(values: FlagValues): string[] {
  return FLAGS_WITHOUT_EFFECT.filter((name) => values[name] !== undefined).map((name) => `--${name}`)
}

/**
 * The configuration of a command line: of the file's text where there is a file, else of the flags. Throws
 * ConfigError with all faults, each naming its field or flag.
 */
export function loadConfig(
  { configFile, values }: Pick<CommandLine, 'configFile' | 'values'>,
  text: string | undefined,
): LoadedConfig {
  const loaded =
    configFile === undefined || text === undefined
      ? configOfFlags(values)
      : configOfFile(configFile, text, values)
  return { ...loaded, unused: [...loaded.unused, ...unusedFlags(values)] }
}

function configOfFile(file: string, text: string, values: FlagValues): LoadedConfig {
  const loaded = parseConfig(file, text, (document) => withLoggingFlags(document, values))
  const ignored = ignoredFlags(values)
  if (ignored.length === 0) return loaded
  const warning = `${ignored.join(', ')}: ignored, as ${file} is the configuration`
  return { ...loaded, warnings: [...loaded.warnings, warning] }
}

function configOfFlags(values: FlagValues): LoadedConfig {
  const author = { name: 'the flags', nameOf: flagOfField }
  const loaded = loadConfiguration(documentOfFlags(values), author)
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

// --- What commands begin with ---------------------------------------------------------------------------

/** A configuration, and the text of its file where there is one. */
interface ReadConfig {
  readonly loaded: LoadedConfig
  readonly text: string | undefined
}

/** Reads and reports the configuration. Throws an Error that names the file, or ConfigError. */
export async function readConfig({ commandLine, log }: CommandContext): Promise<ReadConfig> {
  const { configFile } = commandLine
  const text = configFile === undefined ? undefined : await readConfigFile(configFile)
  const loaded = loadConfig(commandLine, text)
  reportConfig(loaded, log)
  return { loaded, text }
}

async function readConfigFile(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: unknown) => {
    throw new Error(`Cannot read configuration ${file}: ${(cause as Error).message}`, { cause })
  })
}

/** Reads what stands beside the configuration of external addresses. Throws an Error that names the file. */
export async function readPolicy({ configFile }: CommandLine): Promise<PolicyFile | undefined> {
  return configFile === undefined ? undefined : openPolicy(policyFileBeside(configFile))
}

/** kube-proxy's verbosity in pino's levels. */
function levelOf(verbosity: number): string {
  return verbosity >= 6 ? 'trace' : verbosity >= 4 ? 'debug' : 'info'
}

/** Applies what a configuration says of the log, and says what is in it that has no effect. */
function reportConfig({ config, warnings, unused }: LoadedConfig, log: Logger): void {
  log.level = levelOf(config.verbosity)
  for (const warning of warnings) log.warn(warning)
  if (unused.length > 0) log.debug({ fields: unused }, 'fields of the configuration that have no effect here')
}

/** What the running program, and a preview of it, begin with. Throws as `readConfig` and `readPolicy`. */
export async function readProgramOptions(context: CommandContext): Promise<ProgramOptions> {
  const { commandLine, log, signal } = context
  const { configFile, manifests, master, vipBinding, serviceMetrics, localSocket, statusPage } = commandLine
  const { loaded, text } = await readConfig(context)
  const load = (changed: string): LoadedConfig => loadConfig(commandLine, changed)
  return {
    loaded,
    configFile: configFile === undefined || text === undefined ? undefined : { path: configFile, text, load },
    policy: await readPolicy(commandLine),
    naming: nameNode(commandLine, loaded.config, hostname()),
    ...{ vipBinding, serviceMetrics, localSocket, statusPage },
    choice: { manifests, master, kubeconfig: loaded.config.kubeconfig },
    reportConfig: (changed) => {
      reportConfig(changed, log)
    },
    log,
    signal,
  }
}
