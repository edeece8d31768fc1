/** What a command is, and what it is given. */
import type { Logger } from 'pino'
import type { FlagKind, FlagValues, ValueHint } from '../config/flags.ts'
import type { ServiceMetricsChoice } from '../config/service-metrics.ts'
import type { Binding } from '../model/binding.ts'
import type { Ending } from '../program/life.ts'

/** What the command line says. */
export interface CommandLine {
  /** The name of the command that is asked for. */
  readonly action: string
  /** What follows the name of a subcommand. */
  readonly operands: readonly string[]
  readonly configFile: string | undefined
  /** A directory instead of an API server. */
  readonly manifests: string | undefined
  /** The API server's URL. */
  readonly master: string | undefined
  /** Wins over the configuration. */
  readonly hostnameOverride: string | undefined
  /** How virtual IPs are bound where the Node does not say it. */
  readonly vipBinding: Binding
  /** Which Services have metrics of their own; undefined: none. */
  readonly serviceMetrics: ServiceMetricsChoice | undefined
  /** Where the running program answers; empty: nowhere. */
  readonly localSocket: string
  /** The running program has a page for browsers. */
  readonly statusPage: boolean
  /** A subcommand's own options, by their long names. */
  readonly options: Readonly<Record<string, string>>
  /** All flags, by name. */
  readonly values: FlagValues
}

export interface CommandContext {
  readonly commandLine: CommandLine
  readonly log: Logger
  /** Aborts when the process is told to stop. */
  readonly signal: AbortSignal
}

/** An option of one subcommand, as the help shows it: `-o, --output <format>`. */
export interface CommandOption {
  readonly flags: string
  readonly help: string
  /** What it may be; anything, unless given. */
  readonly choices?: readonly string[]
}

/** The exit code of a command that compares or looks. */
export type ExitCode = 0 | 1 | 2

/** Something that the program can be asked to do. */
export interface Command {
  readonly name: string
  /** One line of the help. */
  readonly description: string
  /** kube-proxy's flag that asks for it. Without one it is a subcommand, and its name asks for it. */
  readonly flag?: { readonly name: string; readonly kind: FlagKind; readonly hint?: ValueHint }
  /** What a subcommand takes after its name, as the help shows it: `<what>`, `[name]`. */
  readonly operands?: readonly string[]
  /** What its operands may be; anything, unless given. */
  readonly choices?: readonly string[]
  readonly options?: readonly CommandOption[]
  /** What the exit codes 0, 1 and 2 mean; done and failed, unless given. */
  readonly exitCodes?: readonly string[]
  /** Throws an Error with a remedy. */
  readonly run: (context: CommandContext) => Promise<Ending | ExitCode>
}
