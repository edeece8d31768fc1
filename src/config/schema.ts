/**
 * KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) as a schema: any JSON in, the resolved document out, with
 * kube-proxy's defaults (1.36). A resolved document resolves to itself.
 */
import * as z from 'zod'
import { parseAddress } from '../model/address.ts'
import { type Cidr, formatCidr, parseCidr } from '../model/cidr.ts'
import { formatDuration, parseDuration } from './duration.ts'

// A schema is used once: compiling it for later takes longer than going through it.
z.config({ jitless: true })

export const API_VERSION = 'kubeproxy.config.k8s.io/v1alpha1'
export const KIND = 'KubeProxyConfiguration'
const HEALTHZ_PORT = 10_256
const METRICS_PORT = 10_249
const MAX_INT32 = 2 ** 31 - 1

export const LOCAL_MODES = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const

/** How traffic from Pods is told from traffic from elsewhere. */
export type LocalMode = (typeof LOCAL_MODES)[number]

// --- Kinds of fields: absent and null are the default ---------------------------------------------------

// Kinds stand once, and what many fields are is one schema: making a schema costs more than its use.

const optionalText = z.string().nullish()

const text = (fallback: string) =>
  optionalText.transform((value) => {
    const trimmed = value?.trim() ?? ''
    return trimmed === '' ? fallback : trimmed
  })
const anyText = text('')

const optionalFlag = z.boolean().nullish()
const flag = (fallback: boolean) => optionalFlag.transform((value) => value ?? fallback)
const off = flag(false)

const integer = (fallback: number, min: number, max = MAX_INT32) =>
  z
    .int()
    .min(min)
    .max(max)
    .nullish()
    .transform((value) => value ?? fallback)

/** A number for which 0 stands for the default. */
const countOrDefault = (fallback: number) =>
  z
    .number()
    .min(0)
    .nullish()
    .transform((value) => (value === 0 ? fallback : (value ?? fallback)))

interface DurationOptions {
  readonly fallback?: string
  /** 0 stands for the default. */
  readonly isZeroDefault?: boolean
}

/** metav1.Duration, as canonical text. */
const duration = ({ fallback = '0s', isZeroDefault = false }: DurationOptions) =>
  optionalText.transform((value, context) => {
    const ms = parseDuration(value ?? fallback)
    if (ms !== undefined && ms >= 0) return ms === 0 && isZeroDefault ? fallback : formatDuration(ms)
    context.addIssue({ code: 'custom', message: 'expected a duration of 0 or more, such as 30s' })
    return z.NEVER
  })
const anyDuration = duration({})

/** logging.flushFrequency may be in nanoseconds, too. */
const flushFrequency = z
  .union([z.number().transform((ns) => formatDuration(Math.floor(ns / 1e6))), z.string()])
  .nullish()
  .pipe(duration({ fallback: '5s', isZeroDefault: true }))

const listOf = (parse: (text: string) => string | undefined, expected: string) => {
  const item = z.string().transform((value, context) => {
    const parsed = parse(value.trim())
    if (parsed !== undefined) return parsed
    context.addIssue({ code: 'custom', message: `expected ${expected}, got "${value}"` })
    return z.NEVER
  })
  return z
    .array(item)
    .nullish()
    .transform((items) => items ?? [])
}

const NETWORK = 'a network such as 192.0.2.0/24'
const network = (value: string): string | undefined => {
  const cidr = parseCidr(value)
  return cidr && formatCidr(cidr)
}

const nodePortAddresses = listOf(
  (value) => (value === 'primary' ? value : network(value)),
  `"primary" or ${NETWORK}`,
).check((context) => {
  const { value } = context
  if (!value.includes('primary') || value.length === 1) return
  context.issues.push({ code: 'custom', input: value, message: 'expected "primary" alone, or networks' })
})

/** `10.244.0.0/16,fd00:10:244::/48`: one network, or one of each family. */
const clusterCidr = anyText.transform((value, context) => {
  const networks: (Cidr | undefined)[] =
    value === '' ? [] : value.split(',').map((item) => parseCidr(item.trim()))
  const parsed = networks.filter((cidr) => cidr !== undefined)
  const families = new Set(parsed.map(({ family }) => family))
  if (parsed.length === networks.length && families.size === networks.length) {
    return parsed.map(formatCidr).join(',')
  }
  const message = `expected ${NETWORK}, or one of each family separated by a comma, got "${value}"`
  context.addIssue({ code: 'custom', message })
  return z.NEVER
})

const bindAddress = text('0.0.0.0').transform((value, context): string => {
  const address = parseAddress(value)
  if (address !== undefined) return address
  context.addIssue({ code: 'custom', message: `expected an IP address, got "${value}"` })
  return z.NEVER
})

const IP_AND_PORT = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/

/** `ip` or `ip:port`, as `ip:port` or `[ip]:port`; undefined when it is neither. */
function endpoint(value: string, port: number): string | undefined {
  const bare = parseAddress(value)
  const [, ipv6, ipv4, digits] = bare === undefined ? (IP_AND_PORT.exec(value) ?? []) : [, bare, , `${port}`]
  const address = parseAddress(ipv6 ?? ipv4 ?? '')
  const number = Number(digits)
  if (address === undefined || !(number >= 1 && number <= 65_535)) return undefined
  return address.includes(':') ? `[${address}]:${number}` : `${address}:${number}`
}

/** Where something listens; empty for the default, which is of the family of `bindAddress`. */
const listenAddress = (port: number) =>
  anyText.transform((value, context) => {
    const address = value === '' ? '' : endpoint(value, port)
    if (address !== undefined) return address
    context.addIssue({ code: 'custom', message: `expected IP:port, got "${value}"` })
    return z.NEVER
  })

const oneOf = <const Words extends readonly [string, ...string[]]>(words: Words, fallback: Words[number]) =>
  z
    .enum(['', ...words])
    .nullish()
    .transform((value): Words[number] =>
      value === '' || value === undefined || value === null ? fallback : value,
    )

const gates = z
  .record(z.string(), z.boolean())
  .nullish()
  .transform((value) => value ?? {})

const object = <Shape extends z.ZodRawShape>(shape: Shape) =>
  z.preprocess((value) => value ?? {}, z.object(shape))

/** What belongs to another mode: of its type, and as kube-proxy in mode ipvs prints it. */
const durationOfOtherMode = anyDuration.transform(() => '0s')
const quantity = z
  .union([z.string(), z.number()])
  .nullish()
  .transform((value) => String(value ?? '0'))
const buffering = object({ splitStream: off, infoBufferSize: quantity })
const vmodule = z
  .array(z.object({ filePattern: z.string().min(1), verbosity: z.int().min(0).max(MAX_INT32) }))
  .nullish()
  .transform((value) => value ?? [])

// --- The fields -----------------------------------------------------------------------------------------

export const SCHEMA = z.object({
  apiVersion: z.literal(API_VERSION),
  kind: z.literal(KIND),
  mode: z.literal('ipvs', {
    error: ({ input }) =>
      `expected "ipvs", got ${JSON.stringify(input ?? '')}: kube-ipvs serves this mode only, keep kube-proxy for another`,
  }),
  bindAddress,
  bindAddressHardFail: off,
  clientConnection: object({
    kubeconfig: anyText,
    acceptContentTypes: anyText,
    contentType: text('application/vnd.kubernetes.protobuf'),
    qps: countOrDefault(5),
    burst: countOrDefault(10),
  }),
  clusterCIDR: clusterCidr,
  configSyncPeriod: duration({ fallback: '15m0s', isZeroDefault: true }),
  conntrack: object({
    maxPerCore: integer(32_768, 0),
    min: integer(131_072, 0),
    tcpEstablishedTimeout: duration({ fallback: '24h0m0s' }),
    tcpCloseWaitTimeout: duration({ fallback: '1h0m0s' }),
    tcpBeLiberal: off,
    udpTimeout: anyDuration,
    udpStreamTimeout: anyDuration,
  }),
  detectLocal: object({ bridgeInterface: anyText, interfaceNamePrefix: anyText }),
  detectLocalMode: oneOf(LOCAL_MODES, 'ClusterCIDR'),
  enableProfiling: off,
  featureGates: gates,
  healthzBindAddress: listenAddress(HEALTHZ_PORT),
  hostnameOverride: anyText,
  iptables: object({
    masqueradeAll: off,
    masqueradeBit: integer(14, 0, 31),
    localhostNodePorts: flag(true),
    syncPeriod: durationOfOtherMode,
    minSyncPeriod: durationOfOtherMode,
  }),
  ipvs: object({
    scheduler: text('rr'),
    syncPeriod: duration({ fallback: '30s', isZeroDefault: true }),
    minSyncPeriod: anyDuration,
    excludeCIDRs: listOf(network, NETWORK),
    strictARP: off,
    tcpTimeout: anyDuration,
    tcpFinTimeout: anyDuration,
    udpTimeout: anyDuration,
  }),
  logging: object({
    format: oneOf(['text', 'json'], 'text'),
    flushFrequency,
    verbosity: integer(0, 0),
    vmodule,
    options: object({ text: buffering, json: buffering }),
  }),
  metricsBindAddress: listenAddress(METRICS_PORT),
  nftables: object({
    masqueradeAll: off,
    masqueradeBit: integer(14, 0, 31),
    syncPeriod: durationOfOtherMode,
    minSyncPeriod: durationOfOtherMode,
  }),
  nodePortAddresses,
  oomScoreAdj: integer(-999, -1_000, 1_000),
  portRange: anyText,
  showHiddenMetricsForVersion: anyText,
  windowsRunAsService: off,
  winkernel: object({
    networkName: anyText,
    sourceVip: anyText,
    enableDSR: off,
    rootHnsEndpointName: anyText,
    forwardHealthCheckVip: off,
  }),
})

/** A resolved configuration in v1alpha1's form: every field has a value. */
export type Document = z.infer<typeof SCHEMA>

/** Fields that are accepted and have no effect here. */
export const WITHOUT_EFFECT: readonly string[] = [
  'clientConnection.acceptContentTypes',
  'clientConnection.contentType',
  'clientConnection.qps',
  'clientConnection.burst',
  'configSyncPeriod',
  'enableProfiling',
  'iptables.localhostNodePorts',
  'iptables.syncPeriod',
  'iptables.minSyncPeriod',
  'logging.format',
  'logging.flushFrequency',
  'logging.vmodule',
  'logging.options.text.splitStream',
  'logging.options.text.infoBufferSize',
  'logging.options.json.splitStream',
  'logging.options.json.infoBufferSize',
  'nftables.masqueradeAll',
  'nftables.masqueradeBit',
  'nftables.syncPeriod',
  'nftables.minSyncPeriod',
  'portRange',
  'showHiddenMetricsForVersion',
  'windowsRunAsService',
  'winkernel.networkName',
  'winkernel.sourceVip',
  'winkernel.enableDSR',
  'winkernel.rootHnsEndpointName',
  'winkernel.forwardHealthCheckVip',
]

/** Puts the default listening addresses, which depend on the family of another field, into a document. */
export function withListenAddresses(document: Document): Document {
  const isIpv6 = document.bindAddress.includes(':')
  return {
    ...document,
    healthzBindAddress: document.healthzBindAddress || `${isIpv6 ? '[::]' : '0.0.0.0'}:${HEALTHZ_PORT}`,
    metricsBindAddress: document.metricsBindAddress || `${isIpv6 ? '[::1]' : '127.0.0.1'}:${METRICS_PORT}`,
  }
}

// --- The schema as data ---------------------------------------------------------------------------------

function shapeOf(schema: z.ZodType): Record<string, z.ZodType> | undefined {
  if (schema instanceof z.ZodPipe) return shapeOf(schema.out as z.ZodType)
  return schema instanceof z.ZodObject ? schema.shape : undefined
}

/** Paths of all fields: `ipvs.scheduler`. */
export function fieldPaths(schema: z.ZodType = SCHEMA, path = ''): string[] {
  const shape = shapeOf(schema)
  if (shape === undefined) return [path]
  return Object.entries(shape).flatMap(([name, field]) =>
    fieldPaths(field, path === '' ? name : `${path}.${name}`),
  )
}

/** The schema of one field; undefined where there is none. */
export function fieldSchema(path: string): z.ZodType | undefined {
  return path
    .split('.')
    .reduce<z.ZodType | undefined>((schema, name) => schema && shapeOf(schema)?.[name], SCHEMA)
}

/** Paths of fields in `value` that the schema does not have. */
export function unknownFields(value: unknown, schema: z.ZodType = SCHEMA, path = ''): string[] {
  const shape = shapeOf(schema)
  if (shape === undefined || typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([name, inner]) => {
    const field = shape[name]
    return field === undefined ? [`${path}${name}`] : unknownFields(inner, field, `${path}${name}.`)
  })
}

/** What stands at a path; undefined where there is nothing. */
export function valueAt(value: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((inner, name) => (inner as Record<string, unknown> | null | undefined)?.[name], value)
}
