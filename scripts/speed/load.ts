/** The cluster that speed is measured with: as large as asked, and the same for the same seed. Objects are as an API server sends them. */
import type { Binding } from '../../src/model/binding.ts'
import { Random } from '../../test/support/random.ts'

export interface Size {
  readonly services: number
  /** Of each Service. */
  readonly endpoints: number
  /** How virtual IPs are bound: as addresses, unless given. */
  readonly binding?: Binding
}

type Json = Record<string, unknown>

const NODES = 200
const CREATED = '2026-01-01T00:00:00Z'

/** `first`.x.y.z, another one for each number below 2^24. */
function address(first: number, number: number): string {
  return `${first}.${(number >> 16) & 255}.${(number >> 8) & 255}.${number & 255}`
}

export const clusterIp = (service: number): string => address(11, service + 1)
export const podIp = ({ endpoints }: Size, service: number, endpoint: number): string =>
  address(10, service * endpoints + endpoint + 1)

/** The namespace has something to do with real life: there are a few, of many Services each. */
const namespaceOf = (service: number): string => `team-${service % 40}`
const nameOf = (service: number): string => `service-${service}`

export class Load {
  readonly size: Size
  readonly #seed: number

  constructor(size: Size, seed = 1) {
    this.size = size
    this.#seed = seed
  }

  /** The same for the same thing. */
  #uid(kind: number, number: number): string {
    const random = new Random(this.#seed + kind * 0x1000000 + number)
    const hex = Array.from({ length: 4 }, () =>
      Math.floor(random.next() * 2 ** 32)
        .toString(16)
        .padStart(8, '0'),
    ).join('')
    return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
  }

  service(i: number): Json {
    const ip = clusterIp(i)
    return {
      metadata: {
        name: nameOf(i),
        namespace: namespaceOf(i),
        uid: this.#uid(1, i),
        resourceVersion: '1',
        creationTimestamp: CREATED,
        labels: { app: nameOf(i) },
        managedFields: managed('kubectl-client-side-apply', 'v1', SERVICE_FIELDS),
      },
      spec: {
        ports: [{ name: 'http', protocol: 'TCP', port: 80, targetPort: 8080 }],
        selector: { app: nameOf(i) },
        clusterIP: ip,
        clusterIPs: [ip],
        type: 'ClusterIP',
        sessionAffinity: 'None',
        ipFamilies: ['IPv4'],
        ipFamilyPolicy: 'SingleStack',
        internalTrafficPolicy: 'Cluster',
      },
      status: { loadBalancer: {} },
    }
  }

  /** The slice of a Service; the endpoints of these numbers are not ready. */
  slice(i: number, unready: ReadonlySet<number> = new Set()): Json {
    return {
      metadata: this.#sliceMetadata(i, ''),
      addressType: 'IPv4',
      endpoints: Array.from({ length: this.size.endpoints }, (_, j) =>
        this.#endpoint(i, podIp(this.size, i, j), i * this.size.endpoints + j, !unready.has(j)),
      ),
      ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    }
  }

  /** A further slice of a Service, of endpoints that no other one has. */
  extraSlice(i: number, name: string, addresses: readonly string[]): Json {
    return {
      metadata: this.#sliceMetadata(i, name),
      addressType: 'IPv4',
      endpoints: addresses.map((ip, j) => this.#endpoint(i, ip, j, true)),
      ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
    }
  }

  #sliceMetadata(i: number, suffix: string): Json {
    const uid = this.#uid(1, i)
    const owner = {
      apiVersion: 'v1',
      kind: 'Service',
      name: nameOf(i),
      uid,
      controller: true,
      blockOwnerDeletion: true,
    }
    return {
      name: `${nameOf(i)}-${suffix}${this.#uid(2, i).slice(0, 5)}`,
      generateName: `${nameOf(i)}-`,
      namespace: namespaceOf(i),
      uid: this.#uid(2, i),
      resourceVersion: '1',
      generation: 1,
      creationTimestamp: CREATED,
      labels: {
        app: nameOf(i),
        'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
        'kubernetes.io/service-name': nameOf(i),
      },
      ownerReferences: [owner],
      managedFields: managed('kube-controller-manager', 'discovery.k8s.io/v1', SLICE_FIELDS),
    }
  }

  #endpoint(i: number, ip: string, pod: number, ready: boolean): Json {
    return {
      addresses: [ip],
      conditions: { ready, serving: ready, terminating: false },
      targetRef: {
        kind: 'Pod',
        namespace: namespaceOf(i),
        name: `${nameOf(i)}-${pod}`,
        uid: this.#uid(3, pod),
      },
      nodeName: `node-${2 + (pod % NODES)}`,
      zone: `zone-${pod % 3}`,
    }
  }

  *services(): Generator<Json> {
    for (let i = 0; i < this.size.services; i++) yield this.service(i)
  }

  *slices(): Generator<Json> {
    for (let i = 0; i < this.size.services; i++) yield this.slice(i)
  }
}

/** Characters of a page, about: as the program asks for them (src/source/list.ts). */
const PAGE_LENGTH = 512 * 1024

/** Both lists, in pages, as an API server answers. */
export function* pagesOf(load: Load): Generator<string> {
  yield* pages('ServiceList', 'v1', load.services())
  yield* pages('EndpointSliceList', 'discovery.k8s.io/v1', load.slices())
}

function* pages(kind: string, apiVersion: string, objects: Iterable<Json>): Generator<string> {
  const page = (items: readonly string[]): string =>
    `{"kind":"${kind}","apiVersion":"${apiVersion}","metadata":{"resourceVersion":"1"},"items":[${items.join()}]}`
  let items: string[] = []
  let length = 0
  for (const object of objects) {
    const text = JSON.stringify(object)
    items.push(text)
    length += text.length
    if (length < PAGE_LENGTH) continue
    yield page(items)
    items = []
    length = 0
  }
  if (items.length > 0) yield page(items)
}

const SERVICE_FIELDS = {
  'f:metadata': { 'f:labels': { '.': {}, 'f:app': {} } },
  'f:spec': {
    'f:internalTrafficPolicy': {},
    'f:ports': {
      '.': {},
      'k:{"port":80,"protocol":"TCP"}': {
        '.': {},
        'f:name': {},
        'f:port': {},
        'f:protocol': {},
        'f:targetPort': {},
      },
    },
    'f:selector': {},
    'f:sessionAffinity': {},
    'f:type': {},
  },
}

const SLICE_FIELDS = {
  'f:addressType': {},
  'f:endpoints': {},
  'f:metadata': {
    'f:generateName': {},
    'f:labels': {
      '.': {},
      'f:app': {},
      'f:endpointslice.kubernetes.io/managed-by': {},
      'f:kubernetes.io/service-name': {},
    },
    'f:ownerReferences': { '.': {} },
  },
  'f:ports': {},
}

function managed(manager: string, apiVersion: string, fieldsV1: Json): Json[] {
  return [{ manager, operation: 'Update', apiVersion, time: CREATED, fieldsType: 'FieldsV1', fieldsV1 }]
}
