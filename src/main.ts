/** The command line: reads flags and configuration, does what they ask for, decides the exit code. */
import { readFile, writeFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { type Logger, pino } from 'pino'
import { stringify } from 'yaml'
import { cleanUp } from './commands/cleanup.ts'
import { type CommandLine, loadConfig, nameNode, parseCommandLine } from './command-line.ts'
import type { Config, LoadedConfig } from './config/config.ts'
import { CONN_REUSE_PROBE, runConnReuseProbe } from './kernel/ipvs/conn-reuse.ts'
import { supportedFamilies } from './kernel/host/families.ts'
import { loadNamespaceSchedulers } from './kernel/ipvs/schedulers.ts'
import { openPolicy, policyFileBeside } from './program/external-policy.ts'
import { loadAddon } from './netlink/socket.ts'
import { chooseConnReuse, openBridges, openKernel, setUpNode } from './program/node-setup.ts'
import { formatPlan, preview } from './commands/plan.ts'
import { type Ending, type ProgramOptions, run } from './program/program.ts'

/** kube-proxy's verbosity in pino's levels. */
function levelOf(verbosity: number): string {
  return verbosity >= 6 ? 'trace' : verbosity >= 4 ? 'debug' : 'info'
}

/** JSON lines on standard error; written at once, so that the last one is there when the process ends. */
function openLog(): Logger {
  return pino(
    { level: 'info', base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  )
}

async function readConfigFile(file: string): Promise<string> {
  return readFile(file, 'utf8').catch((cause: unknown) => {
    throw new Error(`Cannot read configuration ${file}: ${(cause as Error).message}`, { cause })
  })
}

/** Applies what a configuration says of the log, and says what is in it that has no effect. */
function reportConfig({ config, warnings, unused }: LoadedConfig, log: Logger): void {
  log.level = levelOf(config.verbosity)
  for (const warning of warnings) log.warn(warning)
  if (unused.length > 0) log.debug({ fields: unused }, 'fields of the configuration that have no effect here')
}

/** What needs full privileges: settings of the kernel and the node. Afterwards CAP_NET_ADMIN and CAP_NET_RAW are enough. */
async function initialize(config: Config, log: Logger): Promise<void> {
  const families = await supportedFamilies()
  const kernel = await openKernel({ addon: loadAddon(), families }, log)
  try {
    await setUpNode(kernel, config, log)
    await openBridges(families, log)()
    // The node's scheduler may be switched to one of them later, where nobody may load modules.
    await loadNamespaceSchedulers()
  } finally {
    kernel.close()
  }
  await chooseConnReuse(log)
  log.info('the node is prepared')
}

async function writeConfig(file: string, { document }: LoadedConfig): Promise<void> {
  await writeFile(file, stringify(document)).catch((cause: unknown) => {
    throw new Error(`Cannot write configuration ${file}: ${(cause as Error).message}`, { cause })
  })
}

function programOptions(
  commandLine: CommandLine,
  loaded: LoadedConfig,
  text: string | undefined,
  { log, signal }: { readonly log: Logger; readonly signal: AbortSignal },
): Omit<ProgramOptions, 'policy'> {
  const { configFile, manifests, master } = commandLine
  const load = (changed: string): LoadedConfig => loadConfig(commandLine, changed)
  return {
    loaded,
    configFile: configFile === undefined || text === undefined ? undefined : { path: configFile, text, load },
    naming: nameNode(commandLine, loaded.config, hostname()),
    choice: { manifests, master, kubeconfig: loaded.config.kubeconfig },
    configured: (changed) => {
      reportConfig(changed, log)
    },
    log,
    signal,
  }
}

/** Does what the command line asks for. */
async function act(commandLine: CommandLine, log: Logger, signal: AbortSignal): Promise<Ending> {
  const { action, configFile, writeConfigTo } = commandLine
  const text = configFile === undefined ? undefined : await readConfigFile(configFile)
  const loaded = loadConfig(commandLine, text)
  reportConfig(loaded, log)
  // What is printed is the result: the log is for what goes wrong.
  if (action === 'plan' && loaded.config.verbosity === 0) log.level = 'warn'
  // Whoever checks a configuration has the list beside it checked, too.
  const policy = configFile === undefined ? undefined : await openPolicy(policyFileBeside(configFile))
  if (action === 'writeConfig') await writeConfig(writeConfigTo!, loaded)
  else if (action === 'cleanup') await cleanUp({ addon: loadAddon(), config: loaded.config, log })
  else if (action === 'init') await initialize(loaded.config, log)
  else {
    const options = { ...programOptions(commandLine, loaded, text, { log, signal }), policy }
    if (action === 'run') return run(options)
    process.stdout.write(formatPlan(await preview(options)))
  }
  return 'stopped'
}

/** The messages of an error and of what caused it. */
function reasons(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)]
  const causes: unknown[] = error instanceof AggregateError ? error.errors : [error.cause]
  return [error.message, ...causes.filter((cause) => cause !== undefined).flatMap(reasons)]
}

/** Starts the program again in place of this process, with the same arguments: the process id stays. */
function startAnew(): never {
  return process.execve!(process.execPath, [process.execPath, ...process.execArgv, ...process.argv.slice(1)])
}

async function main(argv: readonly string[]): Promise<void> {
  const log = openLog()
  const abort = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      log.info({ signal: name }, 'stopping: the kernel stays as it is')
      abort.abort()
    })
  }
  // Without a configuration file there is nothing to read again, and nothing to end for.
  process.on('SIGHUP', () => {
    log.info('received SIGHUP')
  })
  try {
    const ending = await act(parseCommandLine(argv), log, abort.signal)
    if (ending === 'restart') startAnew()
  } catch (error) {
    const [message, ...because] = reasons(error)
    log.fatal({ because }, message)
    process.exitCode = 1
  } finally {
    abort.abort()
  }
}

// The program starts itself as the probe, in a network namespace of its own.
void (process.argv[2] === CONN_REUSE_PROBE
  ? runConnReuseProbe(loadAddon(), process.argv[3])
  : main(process.argv))
