/** KubeProxyConfiguration to one frozen Config. Pure: text in, value out. */
import { parseDocument } from 'yaml'
import { type Address, parseAddress } from '../model/address.ts'
import { type Cidr, parseCidr } from '../model/cidr.ts'
import { parseDuration } from './duration.ts'
import {
  API_VERSION,
  type Document,
  fieldSchema,
  KIND,
  type LocalMode,
  SCHEMA,
  unknownFields,
  valueAt,
  WITHOUT_EFFECT,
  withListenAddresses,
} from './schema.ts'

export type { Document, LocalMode } from './schema.ts'

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
  /** The node's address, instead of what its Node object says. */
  readonly bindAddress: Address | undefined
  /** Whether an address of the next two that cannot be had ends the program. */
  readonly bindAddressHardFail: boolean
  /** Empty: nowhere. */
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
  /** Whether Services may have externalIPs. */
  readonly allowExternalIps: boolean
  readonly conntrack: ConntrackConfig
  /** -1000 (this process is never ended for want of memory) to 1000. */
  readonly oomScoreAdj: number
  /** Of the log, as kube-proxy counts it: 4 for every change, 6 for everything. */
  readonly verbosity: number
}

/** The kernel's connection tracking; 0 and false leave what it has. */
export interface ConntrackConfig {
  readonly maxPerCore: number
  readonly min: number
  readonly tcpEstablishedTimeoutSeconds: number
  readonly tcpCloseWaitTimeoutSeconds: number
  readonly tcpBeLiberal: boolean
  readonly udpTimeoutSeconds: number
  readonly udpStreamTimeoutSeconds: number
}

/** A configuration that cannot be used; the message has a line for each fault. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError'
}

/** A configuration in all its forms, and what its author should know. */
export interface LoadedConfig {
  readonly config: Config
  /** As it is published: every field, with its default where it was not set. */
  readonly document: Document
  /** A sentence each: what is ignored. */
  readonly warnings: readonly string[]
  /** Fields that were set to something else than their default, and have no effect here. */
  readonly unused: readonly string[]
}

// --- From the document to what the program runs with ----------------------------------------------------

const seconds = (text: string): number => Math.floor(parseDuration(text)! / 1000)
const networks = (texts: readonly string[]): readonly Cidr[] => texts.map((text) => parseCidr(text)!)

function conntrackOf({ conntrack }: Document): ConntrackConfig {
  return Object.freeze({
    maxPerCore: conntrack.maxPerCore,
    min: conntrack.min,
    tcpEstablishedTimeoutSeconds: seconds(conntrack.tcpEstablishedTimeout),
    tcpCloseWaitTimeoutSeconds: seconds(conntrack.tcpCloseWaitTimeout),
    tcpBeLiberal: conntrack.tcpBeLiberal,
    udpTimeoutSeconds: seconds(conntrack.udpTimeout),
    udpStreamTimeoutSeconds: seconds(conntrack.udpStreamTimeout),
  })
}

function configOf(document: Document): Config {
  const { ipvs, iptables, clusterCIDR } = document
  const address = parseAddress(document.bindAddress)
  return Object.freeze({
    scheduler: ipvs.scheduler,
    syncPeriodMs: parseDuration(ipvs.syncPeriod)!,
    minSyncPeriodMs: parseDuration(ipvs.minSyncPeriod)!,
    tcpTimeoutSeconds: seconds(ipvs.tcpTimeout),
    tcpFinTimeoutSeconds: seconds(ipvs.tcpFinTimeout),
    udpTimeoutSeconds: seconds(ipvs.udpTimeout),
    kubeconfig: document.clientConnection.kubeconfig,
    hostnameOverride: document.hostnameOverride.toLowerCase(),
    bindAddress: address === '0.0.0.0' || address === '::' ? undefined : address,
    bindAddressHardFail: document.bindAddressHardFail,
    healthzBindAddress: document.healthzBindAddress,
    metricsBindAddress: document.metricsBindAddress,
    nodePortAddresses: document.nodePortAddresses,
    clusterCidrs: networks(clusterCIDR === '' ? [] : clusterCIDR.split(',')),
    detectLocalMode: document.detectLocalMode,
    bridgeInterface: document.detectLocal.bridgeInterface,
    interfaceNamePrefix: document.detectLocal.interfaceNamePrefix,
    masqueradeAll: iptables.masqueradeAll,
    masqueradeBit: iptables.masqueradeBit,
    excludeCidrs: networks(ipvs.excludeCIDRs),
    strictArp: ipvs.strictARP,
    allowExternalIps: document.featureGates.AllowServiceExternalIPs !== false,
    conntrack: conntrackOf(document),
    oomScoreAdj: document.oomScoreAdj,
    verbosity: document.logging.verbosity,
  })
}

// --- Faults ---------------------------------------------------------------------------------------------

/** A field that is at fault, and what is expected of it. */
interface Fault {
  readonly path: string
  readonly message: string
}

/** What single fields cannot tell; a field that is faulty itself says so, and nothing here. */
function contradictions(value: unknown): Fault[] {
  const field = (path: string): unknown => fieldSchema(path)!.safeParse(valueAt(value, path)).data
  const faults: Fault[] = []
  const mode = field('detectLocalMode')
  const [period, minimum] = ['ipvs.syncPeriod', 'ipvs.minSyncPeriod'].map((path) =>
    parseDuration(String(field(path))),
  )
  if (period !== undefined && minimum !== undefined && minimum > period) {
    faults.push({ path: 'ipvs.syncPeriod', message: 'expected at least ipvs.minSyncPeriod' })
  }
  if (mode === 'BridgeInterface' && field('detectLocal.bridgeInterface') === '') {
    const message = 'expected the name of an interface in mode BridgeInterface'
    faults.push({ path: 'detectLocal.bridgeInterface', message })
  }
  if (mode === 'InterfaceNamePrefix' && field('detectLocal.interfaceNamePrefix') === '') {
    const message = 'expected a prefix in mode InterfaceNamePrefix'
    faults.push({ path: 'detectLocal.interfaceNamePrefix', message })
  }
  if (field('logging.format') === 'json' && (field('logging.vmodule') as unknown[] | undefined)?.length) {
    faults.push({ path: 'logging.vmodule', message: 'expected none with logging.format json' })
  }
  return faults
}

/** Where a document comes from, for its faults. */
export interface Origin {
  /** `configuration /var/lib/kube-proxy/config.conf`. */
  readonly name: string
  /** How a field is called there; its path unless given. */
  readonly nameOf?: (path: string) => string
}

/** Resolves a document. Throws ConfigError with all faults, each naming its field. */
export function resolveDocument(value: unknown, { name, nameOf = (path) => path }: Origin): Document {
  const result = SCHEMA.safeParse(value)
  const own = (result.error?.issues ?? []).map(({ path, message }) => ({ path: path.join('.'), message }))
  const faults = [...own, ...contradictions(value)]
  if (faults.length === 0) return withListenAddresses(result.data!)
  const lines = faults.map(({ path, message }) => `  ${path === '' ? '' : `${nameOf(path)}: `}${message}`)
  throw new ConfigError(`Cannot use ${name}:\n${lines.join('\n')}`)
}

// --- Loading --------------------------------------------------------------------------------------------

/** The document that stands in a file, and what is wrong with it that can be ignored. */
interface Read {
  readonly value: unknown
  readonly warnings: readonly string[]
}

/** Parses YAML or JSON: strictly, and where that finds only a repeated field, once more. The last one counts. */
function read(file: string, source: string): Read {
  const strict = parseDocument(source)
  const fatal = strict.errors.find(({ code }) => code !== 'DUPLICATE_KEY')
  if (fatal !== undefined) throw new ConfigError(`Cannot read configuration ${file}: ${fatal.message}`)
  const repeated = strict.errors.map(
    ({ linePos }) => `line ${linePos?.[0].line} of ${file} repeats a field: the last one counts`,
  )
  const value: unknown = parseDocument(source, { uniqueKeys: false }).toJS()
  const unknown = unknownFields(value).map((field) => `unknown field "${field}" in ${file} is ignored`)
  return { value, warnings: [...repeated, ...unknown] }
}

const DEFAULTS = withListenAddresses(SCHEMA.parse({ apiVersion: API_VERSION, kind: KIND, mode: 'ipvs' }))

function unusedFields(document: Document): string[] {
  return WITHOUT_EFFECT.filter(
    (path) => JSON.stringify(valueAt(document, path)) !== JSON.stringify(valueAt(DEFAULTS, path)),
  )
}

/** A resolved document with what it means. */
export function loadDocument(document: Document, warnings: readonly string[] = []): LoadedConfig {
  return { config: configOf(document), document, warnings, unused: unusedFields(document) }
}

/**
 * Parses a file's text, YAML or JSON. `adjust` may change the document before it is resolved. Throws ConfigError
 * with all faults, each naming its field.
 */
export function parseConfig(
  file: string,
  source: string,
  adjust: (value: unknown) => unknown = (value) => value,
): LoadedConfig {
  const { value, warnings } = read(file, source)
  return loadDocument(resolveDocument(adjust(value), { name: `configuration ${file}` }), warnings)
}

/** The configuration of a program that was started without file and flags. */
export function defaultConfig(): Config {
  return configOf(DEFAULTS)
}
