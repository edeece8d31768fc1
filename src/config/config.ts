/** KubeProxyConfiguration to one frozen Config. Pure: text in, value out. */
import { type Address, parseAddress } from '../model/address.ts'
import { type Cidr, parseCidr } from '../model/cidr.ts'
import type { ConntrackSettings } from '../model/conntrack-settings.ts'
import { ConfigError, shown } from './config-error.ts'
import { parseDuration } from './duration.ts'
import { isObject } from './kinds.ts'
import { type DocumentSource, resolveDocument } from './resolve.ts'
import {
  API_VERSION,
  type Document,
  KIND,
  type LocalMode,
  SCHEMA,
  unknownFields,
  valueAt,
  WITHOUT_EFFECT,
  withListenAddresses,
} from './schema.ts'
import { readYaml } from './yaml.ts'

export { ConfigError } from './config-error.ts'
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
  /** Networks of all Pods; empty where they are not said, and in modes that do not ask for them. */
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
  readonly conntrack: ConntrackSettings
  /** -1000 (this process is never ended for want of memory) to 1000. */
  readonly oomScoreAdj: number
  /** Of the log, as kube-proxy counts it: 4 for every change, 6 for everything. */
  readonly verbosity: number
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

function conntrackOf({ conntrack }: Document): ConntrackSettings {
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

/** As in kube-proxy, in one mode only. */
function clusterCidrsOf({ clusterCIDR, detectLocalMode }: Document): readonly Cidr[] {
  return clusterCIDR === '' || detectLocalMode !== 'ClusterCIDR' ? [] : networks(clusterCIDR.split(','))
}

function configOf(document: Document): Config {
  const { ipvs, iptables } = document
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
    clusterCidrs: clusterCidrsOf(document),
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

// --- Loading --------------------------------------------------------------------------------------------

const DEFAULTS = withListenAddresses(SCHEMA.parse({ apiVersion: API_VERSION, kind: KIND, mode: 'ipvs' }))

function unusedFields(document: Document): string[] {
  return WITHOUT_EFFECT.filter(
    (path) => JSON.stringify(valueAt(document, path)) !== JSON.stringify(valueAt(DEFAULTS, path)),
  )
}

/** Networks of Pods that were given, in a mode that does not ask for them. */
function clusterCidrWarning(
  value: unknown,
  { detectLocalMode: mode }: Document,
  source: DocumentSource,
): string[] {
  const nameOf = source.nameOf ?? String
  const given = valueAt(value, 'clusterCIDR') ?? ''
  if (given === '' || mode === 'ClusterCIDR') return []
  return [`${nameOf('clusterCIDR')} is ignored: it has no effect with ${nameOf('detectLocalMode')} ${mode}`]
}

/** Resolves what somebody wrote. Throws ConfigError with all faults, each naming its field. */
export function loadConfiguration(value: unknown, source: DocumentSource): LoadedConfig {
  const { document, leftOut } = resolveDocument(value, source)
  const unused = [...unusedFields(document), ...leftOut.filter((path) => path !== 'clusterCIDR')]
  return {
    config: configOf(document),
    document,
    warnings: clusterCidrWarning(value, document, source),
    unused: unused.map(source.nameOf ?? String),
  }
}

/** What is wrong with a file's first document as a whole; undefined where it is a KubeProxyConfiguration. */
function strangeness(value: unknown): string | undefined {
  if (value === null || value === undefined) return 'is empty'
  if (!isObject(value)) return `is ${shown(value)}`
  if (value.kind === KIND) return undefined
  return value.kind === undefined ? 'has no kind' : `is of kind ${shown(value.kind)}`
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
  const { value, warnings } = readYaml(file, source)
  const strange = strangeness(value)
  if (strange !== undefined) {
    const advice = `only the first is read, so put the ${KIND} (${API_VERSION}) there`
    throw new ConfigError(`Cannot use configuration ${file}: its first YAML document ${strange}: ${advice}`)
  }
  const unknown = unknownFields(value).map((field) => `unknown field "${field}" in ${file} is ignored`)
  const loaded = loadConfiguration(adjust(value), { name: `configuration ${file}` })
  return { ...loaded, warnings: [...warnings, ...unknown, ...loaded.warnings] }
}

/** The configuration of a program that was started without file and flags. */
export function defaultConfig(): Config {
  return configOf(DEFAULTS)
}
