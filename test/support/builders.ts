/** Objects with everything that a test is not about. */

type Json = Record<string, unknown>

export interface ServiceParts {
  readonly name?: string
  readonly namespace?: string
  readonly spec?: Json
  readonly metadata?: Json
  readonly clusterIP?: string
  readonly ports?: readonly Json[]
}

/** A Service manifest: shop/web at 10.96.0.10, port 80/TCP named http. */
export function service({
  name = 'web',
  namespace = 'shop',
  spec = {},
  metadata = {},
  clusterIP = '10.96.0.10',
  ports,
}: ServiceParts = {}): Json {
  return {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name, namespace, creationTimestamp: '2026-01-01T00:00:00Z', ...metadata },
    spec: {
      type: 'ClusterIP',
      clusterIP,
      ports: ports ?? [{ name: 'http', port: 80, protocol: 'TCP' }],
      ...spec,
    },
  }
}

/** Conditions of an endpoint, by the state of its Pod. */
export const READY = { ready: true, serving: true, terminating: false }
export const UNREADY = { ready: false, serving: false, terminating: false }
export const TERMINATING = { ready: false, serving: true, terminating: true }
export const STOPPING = { ready: false, serving: false, terminating: true }

/** One endpoint of a slice, on another node than node-1, which the tests are on. */
export function endpoint(address: string, parts: Json = {}): Json {
  return { addresses: [address], conditions: READY, nodeName: 'node-2', ...parts }
}

export interface SliceParts {
  readonly name?: string
  readonly namespace?: string
  readonly service?: string
  readonly addressType?: string
  readonly ports?: readonly Json[] | null
  readonly endpoints?: readonly (Json | string)[] | null
}

/** A slice of shop/web: port http is 8080. Endpoints given as text are ready. */
export function slice({
  name,
  namespace = 'shop',
  service: of = 'web',
  addressType = 'IPv4',
  ports,
  endpoints = [],
}: SliceParts = {}): Json {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: name ?? `${of}-1`, namespace, labels: { 'kubernetes.io/service-name': of } },
    addressType,
    ports: ports === undefined ? [{ name: 'http', port: 8080, protocol: 'TCP' }] : ports,
    endpoints: endpoints?.map((entry) => (typeof entry === 'string' ? endpoint(entry) : entry)) ?? null,
  }
}

export function node(name = 'node-1', zone?: string): Json {
  return {
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name, labels: zone === undefined ? {} : { 'topology.kubernetes.io/zone': zone } },
  }
}
