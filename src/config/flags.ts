/** kube-proxy's flags (1.36) that stand for fields of the configuration, as a table; and the document that they make. */
import { SCHEDULER_NAMES } from '../model/schedulers.ts'
import { API_VERSION, KIND, LOCAL_MODES, withField } from './schema.ts'

export type FlagKind = 'text' | 'flag' | 'number' | 'list' | 'gates'

/** What a value may be, for who completes it: a path, or one of these words. Nothing is refused by it. */
export type ValueHint = 'file' | 'directory' | readonly string[]

/** One flag and the field that it sets. */
export interface FieldFlag {
  readonly name: string
  readonly field: string
  readonly kind: FlagKind
  readonly help: string
  readonly hint?: ValueHint
}

const flagOf = (name: string, field: string, help: string, kind: FlagKind = 'text'): FieldFlag => ({
  name,
  field,
  kind,
  help,
})

/** They count only where there is no --config. */
export const FIELD_FLAGS: readonly FieldFlag[] = [
  { ...flagOf('proxy-mode', 'mode', 'must be ipvs'), hint: ['ipvs'] },
  {
    ...flagOf('ipvs-scheduler', 'ipvs.scheduler', 'scheduler of the virtual servers (rr)'),
    hint: SCHEDULER_NAMES,
  },
  flagOf('ipvs-sync-period', 'ipvs.syncPeriod', 'how often the kernel is audited (30s)'),
  flagOf('ipvs-min-sync-period', 'ipvs.minSyncPeriod', 'least time between two syncs (0s)'),
  flagOf('ipvs-exclude-cidrs', 'ipvs.excludeCIDRs', 'networks where nothing is deleted', 'list'),
  flagOf('ipvs-strict-arp', 'ipvs.strictARP', 'arp_ignore 1, arp_announce 2', 'flag'),
  flagOf('ipvs-tcp-timeout', 'ipvs.tcpTimeout', 'life of an idle TCP connection (as the kernel has it)'),
  flagOf('ipvs-tcpfin-timeout', 'ipvs.tcpFinTimeout', 'life of a TCP connection after a FIN'),
  flagOf('ipvs-udp-timeout', 'ipvs.udpTimeout', 'life of an idle UDP flow'),
  {
    ...flagOf(
      'kubeconfig',
      'clientConnection.kubeconfig',
      "how to reach the API server (the pod's service account)",
    ),
    hint: 'file',
  },
  flagOf('kube-api-content-type', 'clientConnection.contentType', 'no effect'),
  flagOf('kube-api-qps', 'clientConnection.qps', 'no effect', 'number'),
  flagOf('kube-api-burst', 'clientConnection.burst', 'no effect', 'number'),
  flagOf('bind-address', 'bindAddress', "the node's address, instead of its Node object's (0.0.0.0)"),
  flagOf('healthz-bind-address', 'healthzBindAddress', 'where /healthz and /livez are (0.0.0.0:10256)'),
  flagOf('metrics-bind-address', 'metricsBindAddress', 'where /metrics is (127.0.0.1:10249)'),
  flagOf(
    'bind-address-hard-fail',
    'bindAddressHardFail',
    'an address that is taken ends the program',
    'flag',
  ),
  flagOf('cluster-cidr', 'clusterCIDR', 'networks of the Pods'),
  {
    ...flagOf('detect-local-mode', 'detectLocalMode', 'how traffic from Pods is told (ClusterCIDR)'),
    hint: LOCAL_MODES,
  },
  flagOf('pod-bridge-interface', 'detectLocal.bridgeInterface', 'for BridgeInterface'),
  flagOf('pod-interface-name-prefix', 'detectLocal.interfaceNamePrefix', 'for InterfaceNamePrefix'),
  flagOf('nodeport-addresses', 'nodePortAddresses', 'primary, or networks of the node', 'list'),
  flagOf('masquerade-all', 'iptables.masqueradeAll', 'masquerade all that goes to a cluster IP', 'flag'),
  flagOf('iptables-masquerade-bit', 'iptables.masqueradeBit', 'bit of the packet mark (14)', 'number'),
  flagOf('iptables-localhost-nodeports', 'iptables.localhostNodePorts', 'no effect', 'flag'),
  flagOf('iptables-sync-period', 'iptables.syncPeriod', 'no effect'),
  flagOf('iptables-min-sync-period', 'iptables.minSyncPeriod', 'no effect'),
  flagOf(
    'conntrack-max-per-core',
    'conntrack.maxPerCore',
    'tracked connections for each core (32768)',
    'number',
  ),
  flagOf('conntrack-min', 'conntrack.min', 'tracked connections at least (131072)', 'number'),
  flagOf('conntrack-tcp-timeout-established', 'conntrack.tcpEstablishedTimeout', 'life when idle (24h0m0s)'),
  flagOf('conntrack-tcp-timeout-close-wait', 'conntrack.tcpCloseWaitTimeout', 'life in CLOSE_WAIT (1h0m0s)'),
  flagOf('conntrack-tcp-be-liberal', 'conntrack.tcpBeLiberal', 'out-of-window packets are tracked', 'flag'),
  flagOf('conntrack-udp-timeout', 'conntrack.udpTimeout', 'life of an unanswered flow'),
  flagOf('conntrack-udp-timeout-stream', 'conntrack.udpStreamTimeout', 'life of an answered flow'),
  flagOf('oom-score-adj', 'oomScoreAdj', 'who is ended first when memory is short (-999)', 'number'),
  flagOf('config-sync-period', 'configSyncPeriod', 'no effect'),
  flagOf('feature-gates', 'featureGates', 'AllowServiceExternalIPs=false has an effect', 'gates'),
  flagOf('profiling', 'enableProfiling', 'no effect', 'flag'),
  flagOf('show-hidden-metrics-for-version', 'showHiddenMetricsForVersion', 'no effect'),
]

/** They win over the file, too. */
export const LOGGING_FLAGS: readonly FieldFlag[] = [
  flagOf('v', 'logging.verbosity', '4 for every change, 6 for everything', 'number'),
  flagOf('vmodule', 'logging.vmodule', 'no effect', 'list'),
  flagOf('logging-format', 'logging.format', 'no effect: JSON lines'),
  flagOf('log-flush-frequency', 'logging.flushFrequency', 'no effect'),
  flagOf('log-text-split-stream', 'logging.options.text.splitStream', 'no effect', 'flag'),
  flagOf('log-text-info-buffer-size', 'logging.options.text.infoBufferSize', 'no effect'),
  flagOf('log-json-split-stream', 'logging.options.json.splitStream', 'no effect', 'flag'),
  flagOf('log-json-info-buffer-size', 'logging.options.json.infoBufferSize', 'no effect'),
]

/** They complete the addresses of others: a port, or 0 for none. */
export const DEPRECATED_FLAGS: readonly Omit<FieldFlag, 'field'>[] = [
  {
    name: 'healthz-port',
    kind: 'number',
    help: 'deprecated: the port of --healthz-bind-address; 0 for none',
  },
  {
    name: 'metrics-port',
    kind: 'number',
    help: 'deprecated: the port of --metrics-bind-address',
  },
]

/** Of old manifests, and of other systems: accepted, without a value or with one. */
export const FLAGS_WITHOUT_EFFECT: readonly string[] = [
  'add-dir-header',
  'alsologtostderr',
  'boot-id-file',
  'cleanup-ipvs',
  'log-backtrace-at',
  'log-dir',
  'log-file',
  'log-file-max-size',
  'logtostderr',
  'machine-id-file',
  'one-output',
  'skip-headers',
  'skip-log-headers',
  'stderrthreshold',
]

/** Flags as they were given, by name. A list has an entry for each time. */
export type FlagValues = Readonly<Record<string, readonly string[]>>

const BOOLEANS: Readonly<Record<string, boolean>> = {
  '1': true,
  t: true,
  true: true,
  '0': false,
  f: false,
  false: false,
}

/** The value as it would stand in a file; what cannot be read stays text, which the schema refuses. */
function fieldValue(kind: FlagKind, texts: readonly string[]): unknown {
  const last = texts.at(-1)!
  const items = texts.flatMap((text) => text.split(',')).filter((item) => item !== '')
  switch (kind) {
    case 'text':
      return last
    case 'flag':
      return BOOLEANS[last.toLowerCase()] ?? last
    case 'number':
      return last.trim() === '' || Number.isNaN(Number(last)) ? last : Number(last)
    case 'list':
      return items
    case 'gates':
      return Object.fromEntries(items.map(gateOf))
  }
}

function gateOf(item: string): [string, unknown] {
  const [name = '', value = ''] = item.split('=').map((part) => part.trim())
  return [name, BOOLEANS[value.toLowerCase()] ?? value]
}

/** `pattern=3` */
function moduleOf(item: string): object {
  const [filePattern = '', verbosity = ''] = item.split('=')
  return { filePattern, verbosity: Number(verbosity) }
}

type Json = Record<string, unknown>

function withFlags(document: unknown, flags: readonly FieldFlag[], values: FlagValues): unknown {
  return flags.reduce((current, { name, field, kind }) => {
    const texts = values[name]
    if (texts === undefined) return current
    const value = name === 'vmodule' ? modulesOf(texts, current) : fieldValue(kind, texts)
    return withField(current, field.split('.'), value)
  }, document)
}

/** Those of the flag come first. */
function modulesOf(texts: readonly string[], document: unknown): unknown[] {
  const { vmodule } = ((document as Json | null)?.logging ?? {}) as { vmodule?: unknown }
  return [
    ...(fieldValue('list', texts) as string[]).map(moduleOf),
    ...(Array.isArray(vmodule) ? (vmodule as unknown[]) : []),
  ]
}

/** A file's document with the flags that win over it. */
export function withLoggingFlags(document: unknown, values: FlagValues): unknown {
  return withFlags(document, LOGGING_FLAGS, values)
}

/** The deprecated --healthz-port and --metrics-port complete an address that has no port; 0 takes the address away. */
function portedAddress(
  values: FlagValues,
  [addressFlag, portFlag]: readonly [string, string],
  wildcard: string,
): string | undefined {
  const address = values[addressFlag]?.at(-1)
  const port = values[portFlag]?.at(-1)
  if (port === undefined) return address
  const host = address === undefined || address === '' ? wildcard : address
  return /:\d+$/.test(host) && !/^[^[]*:[^[]*:/.test(host)
    ? host
    : `${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** The document that flags alone make. */
export function documentOfFlags(values: FlagValues): unknown {
  const healthz = portedAddress(values, ['healthz-bind-address', 'healthz-port'], '0.0.0.0')
  const metrics = portedAddress(values, ['metrics-bind-address', 'metrics-port'], '127.0.0.1')
  const isDisabled = values['healthz-port']?.at(-1) === '0'
  const addresses: FlagValues = {
    ...(healthz !== undefined && { 'healthz-bind-address': [isDisabled ? '' : healthz] }),
    ...(metrics !== undefined && { 'metrics-bind-address': [metrics] }),
  }
  const hostname = values['hostname-override']
  const document = withFlags({ apiVersion: API_VERSION, kind: KIND, mode: 'ipvs' }, FIELD_FLAGS, {
    ...values,
    ...addresses,
  })
  const named = hostname === undefined ? document : withField(document, ['hostnameOverride'], hostname.at(-1))
  return withLoggingFlags(named, values)
}

/** Whether --healthz-port=0 asks for no health server. */
export function isHealthzDisabled(values: FlagValues): boolean {
  return values['healthz-port']?.at(-1) === '0'
}

/** How a field is called on the command line. */
export function flagOfField(path: string): string {
  const flag = [...FIELD_FLAGS, ...LOGGING_FLAGS].find(
    ({ field }) => path === field || path.startsWith(`${field}.`),
  )
  return flag === undefined ? path : `--${flag.name}`
}
