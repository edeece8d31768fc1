/**
 * KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) as a schema: any JSON in, the resolved document out, with
 * kube-proxy's defaults (1.36). A resolved document resolves to itself.
 */
import * as z from 'zod'
import { parseAddress } from '../model/address.ts'
import { type Cidr, formatCidr, parseCidr } from '../model/cidr.ts'
import { expected } from './config-error.ts'
import {
  anyDuration,
  anyText,
  countOrDefault,
  duration,
  durationOfOtherMode,
  exactly,
  fields,
  flag,
  flushFrequency,
  gates,
  integer,
  isObject,
  listOf,
  off,
  oneOf,
  parsedText,
  quantity,
  section,
  text,
  vmodule,
} from './kinds.ts'

export const API_VERSION = 'kubeproxy.config.k8s.io/v1alpha1'
export const KIND = 'KubeProxyConfiguration'
const HEALTHZ_PORT = 10_256
const METRICS_PORT = 10_249

export const LOCAL_MODES = ['ClusterCIDR', 'NodeCIDR', 'BridgeInterface', 'InterfaceNamePrefix'] as const

/** How traffic from Pods is told from traffic from elsewhere. */
export type LocalMode = (typeof LOCAL_MODES)[number]

// --- Addresses and networks -----------------------------------------------------------------------------

const NETWORK = 'a network such as 192.0.2.0/24'
const network = (value: string): string | undefined => {
  const cidr = parseCidr(value)
  return cidr && formatCidr(cidr)
}

const nodePortAddresses = listOf(`"primary" or ${NETWORK}`, (value) =>
  value === 'primary' ? value : network(value),
).check((context) => {
  const { value } = context
  if (!value.includes('primary') || value.length === 1) return
  const message = expected('"primary" alone, or networks', value)
  context.issues.push({ code: 'custom', input: value, message })
})

/** `10.244.0.0/16,fd00:10:244::/48`: one network, or one of each family. */
function clusterCidr(value: string): string | undefined {
  const networks: (Cidr | undefined)[] = value.split(',').map((item) => parseCidr(item.trim()))
  const parsed = networks.filter((cidr) => cidr !== undefined)
  const families = new Set(parsed.map(({ family }) => family))
  const isUsable = parsed.length === networks.length && families.size === networks.length
  return isUsable ? parsed.map(formatCidr).join(',') : undefined
}

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
const listenAddress = (port: number) => parsedText('IP:port', '', (value) => endpoint(value, port))

const buffering = section({ splitStream: off, infoBufferSize: quantity })

// --- The fields -----------------------------------------------------------------------------------------

export const SCHEMA = fields({
  apiVersion: exactly(API_VERSION),
  kind: exactly(KIND),
  mode: exactly('ipvs', ': kube-ipvs serves this mode only, keep kube-proxy for another'),
  bindAddress: parsedText('an IP address', '0.0.0.0', parseAddress),
  bindAddressHardFail: off,
  clientConnection: section({
    kubeconfig: anyText,
    acceptContentTypes: anyText,
    contentType: text('application/vnd.kubernetes.protobuf'),
    qps: countOrDefault(5),
    burst: countOrDefault(10),
  }),
  clusterCIDR: parsedText(`${NETWORK}, or one of each family separated by a comma`, '', clusterCidr),
  configSyncPeriod: duration({ fallback: '15m0s', isZeroDefault: true }),
  conntrack: section({
    maxPerCore: integer(32_768, 0),
    min: integer(131_072, 0),
    tcpEstablishedTimeout: duration({ fallback: '24h0m0s' }),
    tcpCloseWaitTimeout: duration({ fallback: '1h0m0s' }),
    tcpBeLiberal: off,
    udpTimeout: anyDuration,
    udpStreamTimeout: anyDuration,
  }),
  detectLocal: section({ bridgeInterface: anyText, interfaceNamePrefix: anyText }),
  detectLocalMode: oneOf(LOCAL_MODES, 'ClusterCIDR'),
  enableProfiling: off,
  featureGates: gates,
  healthzBindAddress: listenAddress(HEALTHZ_PORT),
  hostnameOverride: anyText,
  iptables: section({
    masqueradeAll: off,
    masqueradeBit: integer(14, 0, 31),
    localhostNodePorts: flag(true),
    syncPeriod: durationOfOtherMode,
    minSyncPeriod: durationOfOtherMode,
  }),
  ipvs: section({
    scheduler: text('rr'),
    syncPeriod: duration({ fallback: '30s', isZeroDefault: true }),
    minSyncPeriod: anyDuration,
    excludeCIDRs: listOf(NETWORK, network),
    strictARP: off,
    tcpTimeout: anyDuration,
    tcpFinTimeout: anyDuration,
    udpTimeout: anyDuration,
  }),
  logging: section({
    format: oneOf(['text', 'json'], 'text'),
    flushFrequency,
    verbosity: integer(0, 0),
    vmodule,
    options: section({ text: buffering, json: buffering }),
  }),
  metricsBindAddress: listenAddress(METRICS_PORT),
  nftables: section({
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
  winkernel: section({
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
  if (shape === undefined || !isObject(value)) return []
  return Object.entries(value).flatMap(([name, inner]) => {
    const field = Object.hasOwn(shape, name) ? shape[name] : undefined
    return field === undefined ? [`${path}${name}`] : unknownFields(inner, field, `${path}${name}.`)
  })
}

/** What stands at a path; undefined where there is nothing. */
export function valueAt(value: unknown, path: string): unknown {
  return path
    .split('.')
    .reduce<unknown>((inner, name) => (inner as Record<string, unknown> | null | undefined)?.[name], value)
}

/** A copy with another value at a path. */
export function withField(
  document: unknown,
  [name, ...rest]: readonly string[],
  value: unknown,
): Readonly<Record<string, unknown>> {
  const object = isObject(document) ? document : {}
  return { ...object, [name!]: rest.length === 0 ? value : withField(object[name!], rest, value) }
}
