/**
 * Short words for objects of the API, each a line; what they leave out is as in test/support/builders.ts: namespace shop,
 * a port named http, created on 2026-01-01.
 *
 *   service web 10.96.0.10 TCP 80               a Service with one port; after it, where it matters:
 *     namespace/name, portName=http nodePort=30080 created=2026-02-01T00:00:00Z label=k8s-app:kube-dns
 *     loadBalancer=203.0.113.80 externalIP=203.0.113.80 externalTrafficPolicy=Local healthCheckNodePort=30999
 *     sourceRange=10.0.0.0/8
 *   endpoints web 10.244.0.1 10.244.0.2         the slice web-1 of Service web: ready Pods on another node, port 8080/TCP;
 *     10.244.0.1(terminating), also (unready), (stopping), (here): on this node, (zone=a): for clients in that zone
 *     slice=web-2 port=UDP:5353 portName=http trigger=2026-01-01T00:00:00Z
 *   node node-1 zone=a address=192.168.50.1     a Node; node-1 is the one that we are on
 *   delete service web                          also: delete endpoints web-1, delete node node-1
 *
 * Everything else is YAML: a body that begins with `apiVersion:`, documents apart by `---`.
 */
import { parseAllDocuments } from 'yaml'
import { parseAddress } from '../../src/model/address.ts'
import { endpoint, node, service, slice, STOPPING, TERMINATING, UNREADY } from '../support/builders.ts'
import { type Kind, kindOf } from '../support/story.ts'

/** What happens to the cluster: an object is there, or has changed, or is gone. */
export interface Change {
  readonly kind: Kind
  /** With the namespace before it, if there is one. */
  readonly name: string
  /** Undefined: it is gone. */
  readonly object?: Record<string, unknown>
}

type Options = ReadonlyMap<string, string>

const SERVICE_OPTIONS = [
  'portName',
  'nodePort',
  'created',
  'label',
  'loadBalancer',
  'externalIP',
  'externalTrafficPolicy',
  'healthCheckNodePort',
  'sourceRange',
]
const KINDS: Readonly<Record<string, Kind>> = { service: 'Service', endpoints: 'EndpointSlice', node: 'Node' }
const PROTOCOLS = ['TCP', 'UDP', 'SCTP']

const withNamespace = (name: string): [string, string] =>
  name.includes('/') ? (name.split('/') as [string, string]) : ['shop', name]

function portOf(protocol: string | undefined, port: string | undefined): { port: number; protocol: string } {
  if (!PROTOCOLS.includes(protocol!) || !/^\d+$/.test(port ?? ''))
    throw new Error(`"${protocol ?? ''} ${port ?? ''}" is no protocol and port`)
  return { port: Number(port), protocol: protocol! }
}

/** `name=value` words. Throws for a name that is not `allowed`. */
function optionsOf(words: readonly string[], allowed: readonly string[]): Options {
  const pairs = words.map((word) => [word.split('=')[0]!, word.slice(word.indexOf('=') + 1)] as const)
  for (const [name] of pairs)
    if (!allowed.includes(name)) throw new Error(`"${name}" is none of: ${allowed.join(', ')}`)
  return new Map(pairs)
}

/** `{ [name]: value }`, or nothing where there is no value. */
const field = (name: string, value: unknown): Record<string, unknown> =>
  value === undefined ? {} : { [name]: value }
const numberOf = (text: string | undefined): number | undefined =>
  text === undefined ? undefined : Number(text)
const listOf = (text: string | undefined): string[] | undefined =>
  text === undefined ? undefined : text.split(',')

function specOf(options: Options): Record<string, unknown> {
  const isBalanced = options.has('loadBalancer')
  return {
    ...field('type', isBalanced ? 'LoadBalancer' : options.has('nodePort') ? 'NodePort' : undefined),
    ...field('externalIPs', listOf(options.get('externalIP'))),
    ...field('externalTrafficPolicy', options.get('externalTrafficPolicy')),
    ...field('healthCheckNodePort', numberOf(options.get('healthCheckNodePort'))),
    ...field('loadBalancerSourceRanges', listOf(options.get('sourceRange'))),
  }
}

function serviceOf([fullName, clusterIP, protocol, port, ...words]: readonly string[]): Record<
  string,
  unknown
> {
  const [namespace, name] = withNamespace(fullName!)
  if (parseAddress(clusterIP ?? '') === undefined) throw new Error(`"${clusterIP ?? ''}" is no address`)
  const options = optionsOf(words, SERVICE_OPTIONS)
  const nodePort = field('nodePort', numberOf(options.get('nodePort')))
  const ports = [{ name: options.get('portName') ?? 'http', ...portOf(protocol, port), ...nodePort }]
  const [label, value] = options.get('label')?.split(':') ?? []
  const labels = field('labels', label === undefined ? undefined : { [label]: value })
  const metadata = { ...field('creationTimestamp', options.get('created')), ...labels }
  const ingress = listOf(options.get('loadBalancer'))?.map((ip) => ({ ip }))
  return {
    ...service({ name, namespace, clusterIP: clusterIP!, ports, metadata, spec: specOf(options) }),
    ...field('status', ingress && { loadBalancer: { ingress } }),
  }
}

const ENDPOINT_STATES: Readonly<Record<string, object>> = {
  terminating: { conditions: TERMINATING },
  unready: { conditions: UNREADY },
  stopping: { conditions: STOPPING },
  here: { nodeName: 'node-1' },
}

/** `10.244.0.1` or `10.244.0.1(terminating)`. */
function endpointOf(word: string): Record<string, unknown> {
  const [, address, state] = /^([^()]+)(?:\((.+)\))?$/.exec(word) ?? []
  if (parseAddress(address ?? '') === undefined) throw new Error(`"${word}" is no endpoint`)
  const zone = /^zone=(.+)$/.exec(state ?? '')?.[1]
  const parts = zone === undefined ? ENDPOINT_STATES[state ?? ''] : { hints: { forZones: [{ name: zone }] } }
  if (state !== undefined && parts === undefined) throw new Error(`"${state}" is no state of an endpoint`)
  return endpoint(address!, { ...parts })
}

function sliceOf([fullName, ...words]: readonly string[]): Record<string, unknown> {
  const [namespace, of] = withNamespace(fullName!)
  const isOption = (word: string): boolean => /^\w+=/.test(word)
  const options = optionsOf(words.filter(isOption), ['slice', 'port', 'portName', 'trigger'])
  const [protocol, port] = (options.get('port') ?? 'TCP:8080').split(':')
  const made = slice({
    ...field('name', options.get('slice')),
    ...{ namespace, service: of },
    ports: [{ name: options.get('portName') ?? 'http', ...portOf(protocol, port) }],
    endpoints: words.filter((word) => !isOption(word)).map(endpointOf),
  })
  const annotation = field('endpoints.kubernetes.io/last-change-trigger-time', options.get('trigger'))
  return { ...made, metadata: { ...(made.metadata as object), annotations: annotation } }
}

function nodeOf([name, ...words]: readonly string[]): Record<string, unknown> {
  const options = optionsOf(words, ['zone', 'address'])
  const addresses = listOf(options.get('address'))?.map((address) => ({ type: 'InternalIP', address }))
  return { ...node(name, options.get('zone')), ...field('status', addresses && { addresses }) }
}

function putOf(object: Record<string, unknown>): Change {
  const { namespace, name } = object.metadata as { namespace?: string; name: string }
  return { object, kind: kindOf(object), name: namespace === undefined ? name : `${namespace}/${name}` }
}

function removalOf([word, fullName]: readonly string[]): Change {
  const kind = KINDS[word ?? '']
  if (kind === undefined || fullName === undefined)
    throw new Error('delete service, endpoints or node, and its name')
  const name = kind === 'Node' ? fullName : withNamespace(fullName).join('/')
  return { kind, name }
}

/** One line of short words. Throws for what it does not know. */
export function parseChange(text: string): Change {
  const [word, ...words] = text.split(/\s+/)
  if (words.length === 0) throw new Error(`"${text}" lacks a name`)
  if (word === 'service') return putOf(serviceOf(words))
  if (word === 'endpoints') return putOf(sliceOf(words))
  if (word === 'node') return putOf(nodeOf(words))
  if (word === 'delete') return removalOf(words)
  throw new Error(
    `"${word!}" is none of: service, endpoints, node, delete; or YAML that begins with "apiVersion:"`,
  )
}

/** Objects in YAML. */
export function parseYamlChanges(text: string): Change[] {
  return parseAllDocuments(text).map((document) => {
    if (document.errors.length > 0) throw new Error(document.errors[0]!.message)
    return putOf(document.toJS() as Record<string, unknown>)
  })
}
