/** KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) to one frozen Config. Pure: text in, value out. */
import { parseDocument } from 'yaml'
import * as z from 'zod'
import { type Cidr, parseCidr } from '../model/cidr.ts'
import { parseDuration } from './duration.ts'

/** What the program runs with. Durations in the unit of their name. */
export interface Config {
  /** Name of a kernel scheduler. */
  readonly scheduler: string
  readonly syncPeriodMs: number
  readonly minSyncPeriodMs: number
  /** IPVS timeouts in whole seconds; 0 leaves the kernel's. */
  readonly tcpTimeoutSeconds: number
  readonly tcpFinTimeoutSeconds: number
  readonly udpTimeoutSeconds: number
  /** Empty: the pod's service account. */
  readonly kubeconfig: string
  /** Empty: the host's name. */
  readonly hostnameOverride: string
  readonly healthzBindAddress: string
  readonly metricsBindAddress: string
  /** `primary`, or networks; empty for all addresses of the node. */
  readonly nodePortAddresses: readonly string[]
  /** Networks of all Pods; empty where they are not said. */
  readonly clusterCidrs: readonly Cidr[]
  readonly detectLocalMode: LocalMode
  readonly bridgeInterface: string
  readonly interfaceNamePrefix: string
  readonly masqueradeAll: boolean
  /** Bit of the packet mark (0 to 31) that asks for masquerading. */
  readonly masqueradeBit: number
  /** Where nothing is deleted. */
  readonly excludeCidrs: readonly Cidr[]
  readonly strictArp: boolean
}

const LOCAL_MODES = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const

/** How traffic from Pods is told from traffic from elsewhere. */
export type LocalMode = (typeof LOCAL_MODES)[number]

/** A configuration that cannot be used; the message has a line for each fault. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

const API_VERSION = 'kubeproxy.config.k8s.io/v1alpha1'
const KIND = 'KubeProxyConfiguration'
const HEALTHZ_PORT = 10_256
const METRICS_PORT = 10_249
const MASQUERADE_BIT = 14

/** metav1.Duration; absent and null mean the default. */
function duration(defaultMs: number): z.ZodType<number> {
  return z
    .string()
    .nullish()
    .transform((text, context) => {
      const ms = text === null || text === undefined ? defaultMs : parseDuration(text)
      if (ms !== undefined && ms >= 0) return ms
      context.addIssue({ code: 'custom', message: 'expected a duration of 0 or more, such as 30s' })
      return z.NEVER
    })
}

const text = z
  .string()
  .nullish()
  .transform((value) => value?.trim() ?? '')

const WITH_PORT = /^(?:\[[^\]]+\]|[^:]+):\d+$/
const IP_AND_PORT = /^(?:\[[0-9a-fA-F:.]+\]|[0-9.]+):(\d{1,5})$/

/** `ip` or `ip:port`; the port is appended where it is missing, an empty address is the default. */
function bindAddress(defaultHost: string, defaultPort: number): z.ZodType<string> {
  return text.transform((value, context) => {
    const host = value === '' ? defaultHost : value
    const bracketed = host.includes(':') && !host.startsWith('[') ? `[${host}]` : host
    const address = WITH_PORT.test(host) ? host : `${bracketed}:${defaultPort}`
    const port = Number(IP_AND_PORT.exec(address)?.[1])
    if (port >= 1 && port <= 65_535) return address
    context.addIssue({ code: 'custom', message: 'expected IP:port' })
    return z.NEVER
  })
}

/** A list whose items become what `parse` makes of them, or are faults. */
function listOf<Item>(
  parse: (text: string) => Item | undefined,
  expected: string,
): z.ZodType<readonly Item[]> {
  const item = z.string().transform((text, context) => {
    const parsed = parse(text.trim())
    if (parsed !== undefined) return parsed
    context.addIssue({ code: 'custom', message: `expected ${expected}, got "${text}"` })
    return z.NEVER
  })
  return z
    .array(item)
    .nullish()
    .transform((items): readonly Item[] => items ?? [])
}

const NETWORK = 'a network such as 192.0.2.0/24'

function parseNodePortAddress(text: string): string | undefined {
  return text === 'primary' || parseCidr(text) !== undefined ? text : undefined
}

/** `10.244.0.0/16,fd00:10:244::/48`. */
const networks = text.transform((value, context) => {
  const parsed = value === '' ? [] : value.split(',').map((item) => parseCidr(item.trim()))
  if (parsed.every((cidr) => cidr !== undefined)) return parsed
  context.addIssue({
    code: 'custom',
    message: `expected ${NETWORK}, or one of each family with a comma between`,
  })
  return z.NEVER
})

const flag = z
  .boolean()
  .nullish()
  .transform((value) => value ?? false)

/** Fields that exist in v1alpha1 and have no effect here, or none yet. */
const WITHOUT_EFFECT = [
  'featureGates',
  'logging',
  'bindAddress',
  'bindAddressHardFail',
  'enableProfiling',
  'showHiddenMetricsForVersion',
  'nftables',
  'winkernel',
  'oomScoreAdj',
  'conntrack',
  'configSyncPeriod',
  'portRange',
  'windowsRunAsService',
] as const

/** Accepted whatever it holds. */
const UNUSED = z.unknown().optional()

const nullable = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.preprocess((value) => value ?? {}, z.object(shape))

const SCHEMA = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal(KIND),
  mode: z.literal('ipvs', {
    error: ({ input }) =>
      `expected "ipvs", got ${JSON.stringify(input ?? '')}: kube-ipvs serves this mode only, keep kube-proxy for another`,
  }),
  hostnameOverride: text,
  healthzBindAddress: bindAddress('0.0.0.0', HEALTHZ_PORT),
  metricsBindAddress: bindAddress('127.0.0.1', METRICS_PORT),
  clientConnection: nullable({
    kubeconfig: text,
    acceptContentTypes: UNUSED,
    contentType: UNUSED,
    qps: UNUSED,
    burst: UNUSED,
  }),
  nodePortAddresses: listOf(parseNodePortAddress, `"primary" or ${NETWORK}`),
  clusterCIDR: networks,
  detectLocalMode: z
    .enum(['', ...LOCAL_MODES])
    .nullish()
    .transform((mode) => (mode === '' || mode === undefined || mode === null ? 'ClusterCIDR' : mode)),
  detectLocal: nullable({ bridgeInterface: text, interfaceNamePrefix: text }),
  iptables: nullable({
    masqueradeAll: flag,
    masqueradeBit: z.int().min(0).max(31).nullish(),
    localhostNodePorts: UNUSED,
    syncPeriod: UNUSED,
    minSyncPeriod: UNUSED,
  }),
  ipvs: nullable({
    scheduler: text,
    syncPeriod: duration(30_000),
    minSyncPeriod: duration(0),
    excludeCIDRs: listOf(parseCidr, NETWORK),
    strictARP: flag,
    tcpTimeout: duration(0),
    tcpFinTimeout: duration(0),
    udpTimeout: duration(0),
  }),
  ...(Object.fromEntries(WITHOUT_EFFECT.map((field) => [field, UNUSED])) as Record<string, typeof UNUSED>),
})

/** The configuration of a program that was started without a file. */
export function defaultConfig(): Config {
  return fromFile(SCHEMA.parse({ apiVersion: API_VERSION, kind: KIND, mode: 'ipvs' }))
}

function fromFile(file: z.infer<typeof SCHEMA>): Config {
  const { ipvs, clientConnection } = file
  return Object.freeze({
    scheduler: ipvs.scheduler === '' ? 'rr' : ipvs.scheduler,
    // kube-proxy takes 0 for the default.
    syncPeriodMs: ipvs.syncPeriod === 0 ? 30_000 : ipvs.syncPeriod,
    minSyncPeriodMs: ipvs.minSyncPeriod,
    tcpTimeoutSeconds: Math.floor(ipvs.tcpTimeout / 1000),
    tcpFinTimeoutSeconds: Math.floor(ipvs.tcpFinTimeout / 1000),
    udpTimeoutSeconds: Math.floor(ipvs.udpTimeout / 1000),
    kubeconfig: clientConnection.kubeconfig,
    hostnameOverride: file.hostnameOverride.toLowerCase(),
    healthzBindAddress: file.healthzBindAddress,
    metricsBindAddress: file.metricsBindAddress,
    nodePortAddresses: file.nodePortAddresses,
    clusterCidrs: file.clusterCIDR,
    detectLocalMode: file.detectLocalMode,
    bridgeInterface: file.detectLocal.bridgeInterface,
    interfaceNamePrefix: file.detectLocal.interfaceNamePrefix,
    masqueradeAll: file.iptables.masqueradeAll,
    masqueradeBit: file.iptables.masqueradeBit ?? MASQUERADE_BIT,
    excludeCidrs: ipvs.excludeCIDRs,
    strictArp: ipvs.strictARP,
  })
}

/** Paths of fields that the schema does not have. */
function unknownFields(value: unknown, schema: z.ZodType, path: string): string[] {
  const shape = shapeOf(schema)
  if (shape === undefined || typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) => {
    const field = shape[name]
    return field === undefined ? [`${path}${name}`] : unknownFields(inner, field, `${path}${name}.`)
  })
}

function shapeOf(schema: z.ZodType): Record<string, z.ZodType> | undefined {
  if (schema instanceof z.ZodPipe) return shapeOf(schema.out as z.ZodType)
  return schema instanceof z.ZodObject ? schema.shape : undefined
}

/** What single fields cannot tell. */
function contradictions(config: Config): string[] {
  const faults: string[] = []
  const { detectLocalMode: mode, bridgeInterface, interfaceNamePrefix, nodePortAddresses } = config
  if (config.minSyncPeriodMs > config.syncPeriodMs) {
    faults.push('ipvs.syncPeriod: expected at least ipvs.minSyncPeriod')
  }
  if (mode === 'BridgeInterface' && bridgeInterface === '') {
    faults.push('detectLocal.bridgeInterface: expected the name of an interface in mode BridgeInterface')
  }
  if (mode === 'InterfaceNamePrefix' && interfaceNamePrefix === '') {
    faults.push('detectLocal.interfaceNamePrefix: expected a prefix in mode InterfaceNamePrefix')
  }
  if (nodePortAddresses.includes('primary') && nodePortAddresses.length > 1) {
    faults.push('nodePortAddresses: expected "primary" alone, or networks')
  }
  return faults
}

/** A parsed file: the configuration, and what its author should know. */
export interface LoadedConfig {
  readonly config: Config
  /** A sentence each: unknown or repeated fields, which are ignored. */
  readonly warnings: readonly string[]
}

/** Parses YAML or JSON. Throws ConfigError with all faults, each naming its field. */
export function parseConfig(file: string, source: string): LoadedConfig {
  const document = parseDocument(source, { uniqueKeys: false })
  const [syntax] = document.errors
  if (syntax !== undefined) throw new ConfigError(`Cannot read configuration ${file}: ${syntax.message}`)
  const value: unknown = document.toJS()
  const result = SCHEMA.safeParse(value)
  if (!result.success) {
    const faults = result.error.issues.map(({ path, message }) => `  ${path.join('.') || file}: ${message}`)
    throw new ConfigError(`Cannot use configuration ${file}:\n${faults.join('\n')}`)
  }
  const config = fromFile(result.data)
  const faults = contradictions(config)
  if (faults.length > 0) {
    throw new ConfigError(
      `Cannot use configuration ${file}:\n${faults.map((fault) => `  ${fault}`).join('\n')}`,
    )
  }
  const warnings = unknownFields(value, SCHEMA, '').map(
    (field) => `unknown field "${field}" in ${file} is ignored`,
  )
  return { config, warnings }
}
