/** The table of flags, which the program itself and every subcommand take. */
import {
  DEPRECATED_FLAGS,
  FIELD_FLAGS,
  type FlagKind,
  FLAGS_WITHOUT_EFFECT,
  LOGGING_FLAGS,
  type ValueHint,
} from '../../config/flags.ts'
import { BINDINGS } from '../../model/binding.ts'
import type { Command, CommandOption } from '../command.ts'

export interface Flag {
  readonly name: string
  /** Undefined: it takes anything or nothing, and the help does not show it. */
  readonly kind?: FlagKind
  readonly help: string
  readonly hint?: ValueHint
}

export const LOCAL_SOCKET = '/run/kube-ipvs/socket'

export const HELP: CommandOption = { flags: '-h, --help', help: 'print this, and exit' }
export const VERSION: CommandOption = { flags: '--version', help: 'print the version, and exit' }

/** Flags that are no field of the configuration, beside those of commands. */
const OWN_FLAGS: readonly Flag[] = [
  {
    name: 'config',
    kind: 'text',
    help: 'KubeProxyConfiguration; a change is applied live. With it, flags that stand for its fields are ignored',
    hint: 'file',
  },
  {
    name: 'manifests',
    kind: 'text',
    help: 'a directory of YAML or JSON manifests instead of an API server; changes are picked up',
    hint: 'directory',
  },
  { name: 'hostname-override', kind: 'text', help: "this node's name, instead of the host's" },
  {
    name: 'vip-binding',
    kind: 'text',
    help: 'how virtual IPs are bound: address (on kube-ipvs0) or route (on lo); the annotation of the Node wins (address)',
    hint: BINDINGS,
  },
  {
    name: 'local-socket',
    kind: 'text',
    help: `where the running program answers get, explain, drain and the like; empty: nowhere (${LOCAL_SOCKET})`,
    hint: 'file',
  },
  {
    name: 'service-metrics',
    kind: 'number',
    help: 'how many virtual servers of Services have metrics of their own, those with most traffic (0)',
  },
  {
    name: 'service-metrics-namespaces',
    kind: 'list',
    help: 'namespaces whose Services have metrics of their own (all)',
  },
  {
    name: 'status-page',
    kind: 'flag',
    help: 'show what is on this node at /status/ of metricsBindAddress, to be read in a browser (false)',
  },
  { name: 'master', kind: 'text', help: "the API server's URL, instead of the kubeconfig's" },
]

/** The flags that ask for commands, by name. */
function commandFlags(commands: readonly Command[]): Flag[] {
  return commands
    .flatMap(({ flag, description: help }) => (flag === undefined ? [] : [{ ...flag, help }]))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

/** All flags, in the order of the help. */
export function flagsOf(commands: readonly Command[]): readonly Flag[] {
  return [
    ...OWN_FLAGS,
    ...commandFlags(commands),
    ...LOGGING_FLAGS.slice(0, 1),
    ...FIELD_FLAGS,
    ...LOGGING_FLAGS.slice(1),
    ...DEPRECATED_FLAGS,
    ...FLAGS_WITHOUT_EFFECT.map((name) => ({ name, help: '' })),
  ]
}

/** As the help shows it: `--config <file>`. A flag without a value is true, as in Go. */
export function formatFlag({ name, kind, hint }: Flag): string {
  if (name === 'v') return '-v, --v <level>'
  if (kind === 'flag' || kind === undefined) return `--${name} [value]`
  return `--${name} <${kind === 'text' && typeof hint === 'string' ? hint : kind}>`
}
