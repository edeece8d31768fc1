/** From API objects or manifests (any JSON) to facts. Never throws: faults come back as sentences. */
import { type Address, describeSpecial, type Family, familyOf, parseAddress } from '../address.ts'
import {
  API_SERVER,
  type Endpoint,
  type EndpointPort,
  type EndpointSlice,
  type Facts,
  type Node,
  type Parsed,
  type Resource,
  type Service,
  type ServicePort,
  type TrafficPolicy,
} from './facts.ts'
import { type Binding, isBinding } from '../binding.ts'
import { Fault, fault, integer, item, type Json, list, oneOf, record, text, usableItems } from './json.ts'
import { cidr, metadata, parsing } from './parse-object.ts'
import { parseServiceCidr } from './service-cidr.ts'
import type { Protocol } from '../virtual-server.ts'

/** Hands a Service to somebody else (KEP-2447). */
const PROXY_NAME_LABEL = 'service.kubernetes.io/service-proxy-name'
/** Counts on slices only, as in kube-proxy 1.36: a Service is headless by its cluster IP. */
const HEADLESS_LABEL = 'service.kubernetes.io/headless'
const SERVICE_NAME_LABEL = 'kubernetes.io/service-name'
const ZONE_LABEL = 'topology.kubernetes.io/zone'
/** Nobody checks it where an endpoint names it, and it is shown to people (RFC 1123). */
const POD_NAME = /^[a-z0-9](?:[-.a-z0-9]{0,251}[a-z0-9])?$/
const DNS_LABEL = 'k8s-app'
const TRIGGER_ANNOTATION = 'endpoints.kubernetes.io/last-change-trigger-time'
const SCHEDULER_ANNOTATION = 'kube-ipvs.io/scheduler'
const BINDING_ANNOTATION = 'kube-ipvs.io/vip-binding'
/** The cluster autoscaler's taint on a node that it is about to delete (KEP-3836). */
const LEAVING_TAINT = 'ToBeDeletedByClusterAutoscaler'

/** The API server's default and bounds for sessionAffinityConfig.clientIP.timeoutSeconds. */
const DEFAULT_AFFINITY_SECONDS = 10_800
const MAX_AFFINITY_SECONDS = 86_400

const PROTOCOLS: readonly string[] = ['TCP', 'UDP', 'SCTP'] satisfies Protocol[]

function address(value: unknown, path = ''): Address {
  return parseAddress(text(value, path)) ?? fault(path, value, 'an IP address')
}

const MOST_INTERNED = 20_000
const internedTexts = new Map<string, string>()

/** The same text in the same memory: the names of nodes and zones are in every endpoint. */
function interned(text: string): string {
  const known = internedTexts.get(text)
  if (known !== undefined) return known
  // Names of nodes that come and go must not pile up.
  if (internedTexts.size >= MOST_INTERNED) internedTexts.clear()
  internedTexts.set(text, text)
  return text
}

function protocol(value: unknown, path: string): Protocol {
  return oneOf(value, path, PROTOCOLS, 'TCP') as Protocol
}

/** RFC 3339 to ms since the epoch; 0 for anything else. */
function time(value: unknown): number {
  return typeof value === 'string' ? Date.parse(value) || 0 : 0
}

function endpointPort(value: unknown): EndpointPort {
  const port = record(value)
  return {
    name: port.name === undefined || port.name === null ? '' : text(port.name, '.name'),
    protocol: protocol(port.protocol, '.protocol'),
    port: integer(port.port, '.port', 1, 65_535),
  }
}

function servicePort(value: unknown): ServicePort {
  return { ...endpointPort(value), nodePort: portOrNone(record(value).nodePort, '.nodePort') }
}

function portOrNone(value: unknown, path: string): number {
  return value === undefined || value === null ? 0 : integer(value, path, 0, 65_535)
}

function servicePorts(value: unknown): readonly ServicePort[] {
  const ports = list(value, 'spec.ports').map((port, i) => item('spec.ports', i, port, servicePort))
  const seen = new Set<string>()
  for (const [i, { port, protocol }] of ports.entries()) {
    const frontend = `${port}/${protocol}`
    if (seen.has(frontend)) throw new Fault(`spec.ports[${i}] repeats ${frontend}`)
    seen.add(frontend)
  }
  return ports
}

function clusterIps(spec: Json): readonly Address[] {
  const several = list(spec.clusterIPs, 'spec.clusterIPs')
  const values = several.length > 0 ? several : [spec.clusterIP]
  const addresses = values.map((value, i) =>
    several.length > 0 ? item('spec.clusterIPs', i, value, address) : address(value, 'spec.clusterIP'),
  )
  if (new Set(addresses.map(familyOf)).size < addresses.length) {
    fault('spec.clusterIPs', values, 'one address per family')
  }
  return addresses
}

function affinitySeconds(spec: Json): number {
  if (oneOf(spec.sessionAffinity, 'spec.sessionAffinity', ['None', 'ClientIP'], 'None') === 'None') return 0
  const { timeoutSeconds } = record(record(spec.sessionAffinityConfig).clientIP)
  if (timeoutSeconds === undefined || timeoutSeconds === null) return DEFAULT_AFFINITY_SECONDS
  return integer(
    timeoutSeconds,
    'spec.sessionAffinityConfig.clientIP.timeoutSeconds',
    1,
    MAX_AFFINITY_SECONDS,
  )
}

const POLICIES: readonly TrafficPolicy[] = ['Cluster', 'Local']

/** Headless, ExternalName, waiting for an address, or left to another proxy. */
function isNotOurs(spec: Json, labels: Json): boolean {
  const { clusterIP, clusterIPs, type } = spec
  const first = clusterIP ?? (Array.isArray(clusterIPs) ? (clusterIPs as unknown[])[0] : undefined) ?? ''
  return first === '' || first === 'None' || type === 'ExternalName' || PROXY_NAME_LABEL in labels
}

/** externalTrafficPolicy counts only where there is something external. */
function externalTrafficPolicy(spec: Json): TrafficPolicy {
  const policy = oneOf(spec.externalTrafficPolicy, 'spec.externalTrafficPolicy', POLICIES, 'Cluster')
  const isExternal =
    spec.type === 'LoadBalancer' ||
    spec.type === 'NodePort' ||
    list(spec.externalIPs, 'spec.externalIPs').length > 0
  return isExternal ? policy : 'Cluster'
}

function healthCheckNodePort(spec: Json): number {
  if (spec.type !== 'LoadBalancer' || externalTrafficPolicy(spec) === 'Cluster') return 0
  return portOrNone(spec.healthCheckNodePort, 'spec.healthCheckNodePort')
}

/** The IPs that the load balancer has been given; an ingress that is only a host name has none. */
function ingressIps(status: unknown): readonly unknown[] {
  return list(record(record(status).loadBalancer).ingress, 'status.loadBalancer.ingress')
    .map(record)
    .filter(({ ip, ipMode }) => ip !== undefined && ip !== null && ip !== '' && ipMode !== 'Proxy')
    .map(({ ip }) => ip)
}

/** A Service; without a fact when it is none of ours. An external IP that is none costs only itself. */
export function parseService(object: unknown): Parsed<Service> {
  const { name, labels, creationTimestamp } = metadata(object, { namespaced: true })
  const spec = record(record(object).spec)
  return parsing('Service', name, () => {
    if (isNotOurs(spec, labels)) return { problems: [] }
    const external = usableItems(list(spec.externalIPs, 'spec.externalIPs'), 'spec.externalIPs', address)
    const ingress = usableItems(ingressIps(record(object).status), 'status.loadBalancer.ingress', address)
    const fact: Service = {
      name,
      createdAt: time(creationTimestamp),
      essential: name === API_SERVER || labels[DNS_LABEL] === 'kube-dns' || labels[DNS_LABEL] === 'coredns',
      clusterIps: clusterIps(spec),
      ports: servicePorts(spec.ports),
      affinitySeconds: affinitySeconds(spec),
      internalTrafficPolicy: oneOf(
        spec.internalTrafficPolicy,
        'spec.internalTrafficPolicy',
        POLICIES,
        'Cluster',
      ),
      externalTrafficPolicy: externalTrafficPolicy(spec),
      externalIps: unique(external.items),
      loadBalancerIps: unique(ingress.items),
      // One that cannot be read would let everybody in if it were left out.
      sourceRanges: list(spec.loadBalancerSourceRanges, 'spec.loadBalancerSourceRanges').map((range, i) =>
        item('spec.loadBalancerSourceRanges', i, range, cidr),
      ),
      healthCheckNodePort: healthCheckNodePort(spec),
    }
    const faults = [...external.faults, ...ingress.faults]
    return { fact, problems: faults.map((message) => `Cannot use a part of Service ${name}: ${message}`) }
  })
}

function unique<Item>(items: readonly Item[]): readonly Item[] {
  return [...new Set(items)]
}

function hints(value: unknown, path: string): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined
  const name = (hint: unknown): string => interned(text(record(hint).name, '.name'))
  const names = list(value, path).map((hint, i) => item(path, i, hint, name))
  return names.length > 0 ? names : undefined
}

/** `undefined` and `null` conditions mean: ready and serving yes, terminating no (EndpointConditions, discovery/v1). */
function endpoint(value: unknown, family: Family): Endpoint {
  const { addresses, conditions, nodeName, hints: hinted, targetRef } = record(value)
  const { kind, name } = record(targetRef)
  const { ready, serving, terminating } = record(conditions)
  const first = address(list(addresses, '.addresses')[0], '.addresses[0]')
  if (familyOf(first) !== family) fault('.addresses[0]', first, `an ${family} address`)
  return {
    address: first,
    ready: ready !== false,
    serving: serving !== false,
    terminating: terminating === true,
    nodeName: typeof nodeName === 'string' ? interned(nodeName) : undefined,
    pod: kind === 'Pod' && typeof name === 'string' && POD_NAME.test(name) ? name : undefined,
    zoneHints: hints(record(hinted).forZones, '.hints.forZones'),
    nodeHints: hints(record(hinted).forNodes, '.hints.forNodes'),
  }
}

const NONE: readonly string[] = []

/**
 * Endpoints that lead to this node itself, or to everybody: an API server refuses some of them, and an old or broken one
 * none (CVE-2021-25737). Returns a sentence for each.
 */
function refusedEndpoints(endpoints: readonly Endpoint[]): readonly string[] {
  // Nearly all have none, and there are many slices.
  if (!endpoints.some(({ address }) => describeSpecial(address) !== undefined)) return NONE
  return endpoints.flatMap(({ address }) => {
    const special = describeSpecial(address)
    return special === undefined ? [] : `${address} is ${special}`
  })
}

/** An EndpointSlice; without a fact when it belongs to no Service of ours or is of type FQDN. */
export function parseEndpointSlice(object: unknown): Parsed<EndpointSlice> {
  const { name, labels, annotations, creationTimestamp } = metadata(object, { namespaced: true })
  const { addressType, ports, endpoints } = record(object)
  return parsing('EndpointSlice', name, () => {
    const service = labels[SERVICE_NAME_LABEL]
    if (typeof service !== 'string' || service === '' || HEADLESS_LABEL in labels) return { problems: [] }
    const family = oneOf(addressType, 'addressType', ['IPv4', 'IPv6', 'FQDN'], 'IPv4')
    if (family === 'FQDN') return { problems: [] }
    const usablePorts = usableItems(list(ports, 'ports'), 'ports', endpointPort)
    const usableEndpoints = usableItems(list(endpoints, 'endpoints'), 'endpoints', (value) =>
      endpoint(value, family),
    )
    const refused = refusedEndpoints(usableEndpoints.items)
    const fact: EndpointSlice = {
      name,
      createdAt: time(creationTimestamp),
      service: `${name.slice(0, name.indexOf('/'))}/${service}`,
      family,
      ports: usablePorts.items,
      endpoints:
        refused === NONE
          ? usableEndpoints.items
          : usableEndpoints.items.filter(({ address }) => describeSpecial(address) === undefined),
      refused,
      triggeredAt: time(annotations[TRIGGER_ANNOTATION]),
    }
    const faults = [...usablePorts.faults, ...usableEndpoints.faults]
    return {
      fact,
      problems: faults.map((message) => `Cannot use a part of EndpointSlice ${name}: ${message}`),
    }
  })
}

/** The same slice, but for the memory that its names take. */
export function withInternedNames(slice: EndpointSlice): EndpointSlice {
  const endpoints = slice.endpoints.map(
    ({ address, ready, serving, terminating, nodeName, pod, zoneHints, nodeHints }) => ({
      address,
      ready,
      serving,
      terminating,
      nodeName: nodeName === undefined ? undefined : interned(nodeName),
      pod,
      zoneHints: zoneHints?.map(interned),
      nodeHints: nodeHints?.map(interned),
    }),
  )
  return { ...slice, endpoints, refused: slice.refused.length > 0 ? slice.refused : NONE }
}

/** Host names and the like are no addresses. */
function nodeAddresses(values: readonly unknown[]): readonly Address[] {
  const ofType = (wanted: string): Address[] =>
    values.map(record).flatMap(({ type, address }) => {
      const parsed = type === wanted && typeof address === 'string' ? parseAddress(address) : undefined
      return parsed ?? []
    })
  return unique([...ofType('InternalIP'), ...ofType('ExternalIP')])
}

function isLeaving(spec: unknown, deletionTimestamp: unknown): boolean {
  const taints = list(record(spec).taints, 'spec.taints').map(record)
  return typeof deletionTimestamp === 'string' || taints.some(({ key }) => key === LEAVING_TAINT)
}

/** Empty is none: `kubectl annotate` sets it so. What is no binding is told, and the flag counts. */
function vipBinding(value: unknown): { readonly item: Binding | undefined; readonly faults: string[] } {
  if (value === undefined || value === null || value === '') return { item: undefined, faults: [] }
  if (isBinding(value)) return { item: value, faults: [] }
  const message = `${BINDING_ANNOTATION} is ${JSON.stringify(value)}, expected address or route`
  return { item: undefined, faults: [message] }
}

export function parseNode(object: unknown): Parsed<Node> {
  const { name, labels, annotations, deletionTimestamp } = metadata(object, { namespaced: false })
  const { spec, status } = record(object)
  return parsing('Node', name, () => {
    const zone = labels[ZONE_LABEL]
    const scheduler = annotations[SCHEDULER_ANNOTATION]
    const binding = vipBinding(annotations[BINDING_ANNOTATION])
    const podCidrs = usableItems(list(record(spec).podCIDRs, 'spec.podCIDRs'), 'spec.podCIDRs', cidr)
    const fact: Node = {
      name,
      zone: typeof zone === 'string' && zone !== '' ? zone : undefined,
      addresses: nodeAddresses(list(record(status).addresses, 'status.addresses')),
      podCidrs: podCidrs.items,
      scheduler: typeof scheduler === 'string' && scheduler !== '' ? scheduler : undefined,
      vipBinding: binding.item,
      leaving: isLeaving(spec, deletionTimestamp),
    }
    const faults = [...podCidrs.faults, ...binding.faults]
    return {
      fact,
      problems: faults.map((message) => `Cannot use a part of Node ${name}: ${message}`),
    }
  })
}

/** The parser of each resource. */
export const PARSERS: { readonly [R in Resource]: (object: unknown) => Parsed<Facts[R]> } = {
  services: parseService,
  endpointSlices: parseEndpointSlice,
  nodes: parseNode,
  serviceCidrs: parseServiceCidr,
}
