#!/usr/bin/env node
/** The command line: reads flags and configuration, runs until a signal, decides the exit code. */
import { readFile } from 'node:fs/promises'
import { hostname } from 'node:os'
import { Command } from 'commander'
import { type Logger, pino } from 'pino'
import packageJson from '../package.json' with { type: 'json' }
import { type Config, defaultConfig, type LoadedConfig, parseConfig } from './config/config.ts'
import { CONN_REUSE_PROBE, runConnReuseProbe } from './kernel/conn-reuse.ts'
import { loadAddon } from './netlink/socket.ts'
import { run, type Source } from './program.ts'
import { loadKubeConfig, openApiClient } from './source/api-client.ts'
import { followApiServer } from './source/api-source.ts'
import { followManifests } from './source/manifests.ts'

interface Flags {
  readonly config?: string
  readonly manifests?: string
  readonly dryRun?: boolean
  readonly hostnameOverride?: string
  readonly v: string
}

function parseFlags(argv: readonly string[]): Flags {
  return new Command('kube-ipvs')
    .description('The IPVS service proxy for Kubernetes')
    .option('--config <file>', 'KubeProxyConfiguration; changes are picked up')
    .option(
      '--manifests <directory>',
      'YAML or JSON manifests instead of an API server; changes are picked up',
    )
    .option('--dry-run', 'print what would change, as ipvsadm -S -n does, and change nothing')
    .option('--hostname-override <name>', "this node's name, instead of the host's")
    .option('-v, --v <level>', 'verbosity: 4 for every change, 6 for everything', '0')
    .version(packageJson.version)
    .allowExcessArguments(false)
    .parse(argv)
    .opts<Flags>()
}

/** kube-proxy's verbosity in pino's levels. */
function openLog({ v, dryRun }: Flags): Logger {
  const verbosity = Number(v)
  const level = verbosity >= 6 ? 'trace' : verbosity >= 4 ? 'debug' : dryRun === true ? 'warn' : 'info'
  return pino(
    { level, base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  )
}

interface ConfigFile extends LoadedConfig {
  readonly text: string
}

async function readConfig(file: string | undefined): Promise<ConfigFile> {
  if (file === undefined) return { config: defaultConfig(), warnings: [], text: '' }
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new Error(`Cannot read configuration ${file}: ${(cause as Error).message}`, { cause })
  })
  return { ...parseConfig(file, text), text }
}

/** Throws at once when there is nothing to follow, before the kernel is touched. */
function openSource({ manifests }: Flags, { kubeconfig }: Config, nodeName: string, log: Logger): Source {
  if (manifests !== undefined) {
    return (cluster, signal) => followManifests({ directory: manifests, cluster, log, signal })
  }
  const api = openApiClient(() => loadKubeConfig(kubeconfig))
  return (cluster, signal) => followApiServer({ api, cluster, nodeName, log, signal })
}

/** Reads the configuration and runs what the flags ask for. */
async function start(flags: Flags, log: Logger, signal: AbortSignal): Promise<void> {
  const { config, warnings, text } = await readConfig(flags.config)
  for (const warning of warnings) log.warn(warning)
  const nodeName = (flags.hostnameOverride ?? (config.hostnameOverride || hostname())).trim().toLowerCase()
  await run({
    config,
    configFile: flags.config === undefined ? undefined : { path: flags.config, text },
    nodeName,
    source: openSource(flags, config, nodeName, log),
    dryRun: flags.dryRun === true,
    log,
    signal,
  })
}

/** The messages of an error and of what caused it. */
function reasons(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)]
  return [error.message, ...(error.cause === undefined ? [] : reasons(error.cause))]
}

async function main(argv: readonly string[]): Promise<void> {
  const flags = parseFlags(argv)
  const log = openLog(flags)
  const abort = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const) {
    process.once(name, () => {
      log.info({ signal: name }, 'stopping: the kernel stays as it is')
      abort.abort()
    })
  }
  try {
    await start(flags, log, abort.signal)
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
