/**
 * A stand-in for the API server: lists in pages, watches, bookmarks, expired versions, credentials and Events over
 * real TLS, as strict as the real one, and with faults on demand.
 */
import { type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import { text } from 'node:stream/consumers'
import { type AddressInfo, isIP } from 'node:net'
import { gzipSync } from 'node:zlib'
import { generate } from 'selfsigned'
import { type ApiEvent, eventFault, mergePatch, patchFault } from './api-events.ts'

export type { ApiEvent } from './api-events.ts'

export type Resource = 'services' | 'endpointslices' | 'nodes' | 'servicecidrs'

const PATHS: Readonly<Record<string, Resource>> = {
  '/api/v1/services': 'services',
  '/apis/discovery.k8s.io/v1/endpointslices': 'endpointslices',
  '/api/v1/nodes': 'nodes',
  '/apis/networking.k8s.io/v1/servicecidrs': 'servicecidrs',
}
const KINDS: Readonly<Record<Resource, string>> = {
  services: 'ServiceList',
  endpointslices: 'EndpointSliceList',
  nodes: 'NodeList',
  servicecidrs: 'ServiceCIDRList',
}
const VERSIONS: Readonly<Record<Resource, string>> = {
  services: 'v1',
  endpointslices: 'discovery.k8s.io/v1',
  nodes: 'v1',
  servicecidrs: 'networking.k8s.io/v1',
}

interface Metadata {
  name: string
  namespace?: string
  resourceVersion?: string
}
export interface ApiObject {
  metadata: Metadata
}
export type EventType = 'ADDED' | 'MODIFIED' | 'DELETED'

interface Event {
  readonly version: number
  readonly line: string
}

interface Watcher {
  readonly resource: Resource
  readonly response: ServerResponse
}

/** What happens to the next request that matches. */
export interface Fault {
  readonly matches: (url: URL) => boolean
  /** Answers with this instead. */
  readonly status?: number
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: unknown
  /** Sends this share of the answer to a list, then cuts the connection. */
  readonly cutAfter?: number
  /** Closes the connection instead of answering. */
  readonly resets?: boolean
  /** Ends a watch as soon as it has begun. */
  readonly endsAtOnce?: boolean
  /** Waits before it answers. */
  readonly delayMs?: number
  /** Waits for this before it answers. */
  readonly until?: Promise<unknown>
}

const EVENTS = /^\/apis\/events\.k8s\.io\/v1\/namespaces\/([^/]+)\/events(?:\/([^/]+))?$/
/** What asks for the metadata of objects only. */
const NAMES_ONLY = /^application\/json;as=PartialObjectMetadataList;g=meta\.k8s\.io;v=v1(,|$)/
const metadataOnly = ({ metadata }: ApiObject): ApiObject => ({ metadata })

export interface SeenRequest {
  readonly url: URL
  readonly status: number
  readonly isZipped?: boolean
}

/** Undefined when it is not JSON. */
function parsed(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    return undefined
  }
}

function keyOf({ metadata: { namespace, name } }: ApiObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`
}

/** The API server compresses what is longer, for those who take it (defaultGzipThresholdBytes). */
const ZIP_BYTES = 128 * 1024

/** A list as it is sent. */
interface Body {
  readonly plain: Buffer
  readonly zipped: Buffer | undefined
}

function encode(list: object): Body {
  const plain = Buffer.from(JSON.stringify(list))
  return { plain, zipped: plain.length > ZIP_BYTES ? gzipSync(plain, { level: 1 }) : undefined }
}

export class ApiServer {
  token = 'token-1'
  /** Closes every connection at the next request at the latest. */
  dead = false
  /** How an expired resource version of a watch is told: by the status, or by an event after 200. */
  expiredForm: 'status' | 'event' = 'event'
  expiredEvent = JSON.stringify({ type: 'ERROR', object: status(410, {}, 'too old resource version') })
  readonly requests: SeenRequest[] = []
  /** How many lists were asked for metadata only. */
  listsOfNames = 0
  /** How many have been opened. */
  connections = 0
  /** Events as they stand. */
  readonly events: ApiEvent[] = []
  /** What was wrong with Events that no API server takes: `close` fails for them. */
  readonly refusedEvents: string[] = []
  readonly faults: Fault[] = []
  readonly #server: Server
  readonly #certificate: string
  readonly #objects: Record<Resource, Map<string, ApiObject>> = {
    services: new Map(),
    endpointslices: new Map(),
    nodes: new Map(),
    servicecidrs: new Map(),
  }
  readonly #history: Record<Resource, Event[]> = {
    services: [],
    endpointslices: [],
    nodes: [],
    servicecidrs: [],
  }
  readonly #watchers = new Set<Watcher>()
  readonly #pages = new Map<string, readonly ApiObject[]>()
  /** Pages that are encoded already, by continue token, the first one by resource. */
  readonly #prepared = new Map<string, Body>()
  #version = 1
  #compacted = 0

  private constructor(server: Server, certificate: string) {
    this.#server = server
    this.#certificate = certificate
    server.on('connection', (socket) => {
      this.connections++
      if (this.dead) socket.destroy()
    })
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      if (this.dead) request.socket.destroy()
      else void this.#answer(request, response)
    })
  }

  /** Listens on a free port of 127.0.0.1; its certificate is good for these addresses and names, too. */
  static async start(others: readonly string[] = []): Promise<ApiServer> {
    const altNames = ['127.0.0.1', ...others].map((host) =>
      isIP(host) > 0 ? ({ type: 7, ip: host } as const) : ({ type: 2, value: host } as const),
    )
    const { private: key, cert } = await generate([{ name: 'commonName', value: 'kube-apiserver' }], {
      keyType: 'ec',
      extensions: [{ name: 'subjectAltName', altNames }],
    })
    const server = createServer({ key, cert })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    return new ApiServer(server, cert)
  }

  get url(): string {
    return `https://127.0.0.1:${(this.#server.address() as AddressInfo).port}`
  }

  get version(): number {
    return this.#version
  }

  /** A kubeconfig for this server; with `tokenFile` the token is read from there, with `proxy` the way is through that. */
  kubeconfig(tokenFile?: string, proxy?: string): string {
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'lab',
          cluster: {
            server: this.url,
            'certificate-authority-data': Buffer.from(this.#certificate).toString('base64'),
            ...(proxy !== undefined && { 'proxy-url': proxy }),
          },
        },
      ],
      users: [{ name: 'proxy', user: tokenFile === undefined ? { token: this.token } : { tokenFile } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'proxy' } }],
      'current-context': 'lab',
    })
  }

  /** In the order of their keys, as etcd has them. */
  objects(resource: Resource): readonly ApiObject[] {
    const objects = [...this.#objects[resource]]
    return objects.sort(([a], [b]) => (a < b ? -1 : 1)).map(([, object]) => object)
  }

  /** Puts objects there without an event, as before the first list. */
  load(resource: Resource, objects: readonly ApiObject[], version?: number): void {
    for (const object of objects) this.#objects[resource].set(keyOf(object), object)
    this.#version = Math.max(this.#version, version ?? 0)
  }

  /** Encodes all pages, of so many objects, so that serving them costs nothing; the next change makes them void. */
  prepare(limits: Readonly<Partial<Record<Resource, number>>>): void {
    for (const [resource, limit] of Object.entries(limits) as [Resource, number][]) {
      let rest: readonly ApiObject[] | undefined = this.objects(resource)
      for (let token: string = resource; rest !== undefined;) {
        const { body, next } = this.#page(resource, rest, limit)
        this.#prepared.set(token, encode(body))
        rest = next === undefined ? undefined : this.#pages.get(next)
        token = next ?? ''
      }
    }
  }

  /** Changes an object and tells every watcher. Recorded events keep their version and their bytes. */
  emit(resource: Resource, type: EventType, object: ApiObject, recordedLine?: string): void {
    this.#prepared.clear()
    const recorded = Number(object.metadata.resourceVersion)
    this.#version = recordedLine === undefined ? this.#version + 1 : Math.max(this.#version, recorded)
    const version = recordedLine === undefined ? this.#version : recorded
    const current = { ...object, metadata: { ...object.metadata, resourceVersion: String(version) } }
    if (type === 'DELETED') this.#objects[resource].delete(keyOf(object))
    else this.#objects[resource].set(keyOf(object), current)
    const line = recordedLine ?? JSON.stringify({ type, object: current })
    this.#history[resource].push({ version, line })
    for (const watcher of this.#watchers)
      if (watcher.resource === resource) watcher.response.write(`${line}\n`)
  }

  /** Adds or changes an object, whichever it is. */
  put(resource: Resource, object: object): void {
    const known = this.#objects[resource].has(keyOf(object as ApiObject))
    this.emit(resource, known ? 'MODIFIED' : 'ADDED', object as ApiObject)
  }

  delete(resource: Resource, key: string): void {
    const object = this.#objects[resource].get(key)
    if (object !== undefined) this.emit(resource, 'DELETED', object)
  }

  bookmark(): void {
    for (const { resource, response } of this.#watchers) {
      const kind = KINDS[resource].replace('List', '')
      const object = {
        kind,
        metadata: { resourceVersion: String(this.#version) },
        endpoints: null,
        ports: null,
      }
      response.write(`${JSON.stringify({ type: 'BOOKMARK', object })}\n`)
    }
  }

  /** Forgets all history: resource versions and continue tokens from before are too old. */
  compact(): void {
    this.#compacted = this.#version
    this.#pages.clear()
    this.#prepared.clear()
    for (const events of Object.values(this.#history)) events.length = 0
  }

  get watching(): number {
    return this.#watchers.size
  }

  /** Ends every watch in the ordinary way. */
  endWatches(): void {
    for (const { response } of this.#watchers) response.end()
    this.#watchers.clear()
  }

  /** Cuts every watch, in the middle of a line if there is one to send. */
  cutWatches(line = ''): void {
    for (const { response } of this.#watchers) {
      if (line !== '') response.write(line.slice(0, Math.ceil(line.length / 2)))
      setTimeout(() => response.destroy(), 20)
    }
    this.#watchers.clear()
  }

  /** Throws an Error when Events have been refused, so that no test passes over them. */
  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
    if (this.refusedEvents.length > 0)
      throw new Error(`Events were refused: ${this.refusedEvents.join(', ')}`)
  }

  // --- Requests -------------------------------------------------------------------------------------------

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url)
    const index = this.faults.findIndex(({ matches }) => matches(url))
    const [fault] = index < 0 ? [] : this.faults.splice(index, 1)
    if (fault?.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.delayMs))
    await fault?.until
    if (fault?.resets === true) {
      request.socket.destroy()
      return
    }
    if (fault?.status !== undefined) {
      this.#send(url, response, fault.status, fault.body ?? status(fault.status), fault.headers)
      return
    }
    const resource = PATHS[url.pathname]
    if (request.headers.authorization !== `Bearer ${this.token}`) this.#send(url, response, 401, status(401))
    else if (EVENTS.test(url.pathname)) await this.#event(url, request, response)
    else if (resource === undefined) this.#send(url, response, 404, status(404))
    else if (url.searchParams.get('watch') === 'true') this.#watch(url, resource, response, fault)
    else this.#list(url, resource, request, response, fault)
  }

  #send(url: URL, response: ServerResponse, code: number, body: unknown, headers = {}): void {
    this.requests.push({ url, status: code })
    response.writeHead(code, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
  }

  async #event(url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, namespace, name] = EVENTS.exec(url.pathname)!
    const body = await text(request)
    const { method, headers } = request
    const form = `${method} ${headers['content-type']}`
    if (form === 'POST application/json' && name === undefined)
      this.#createEvent(url, response, namespace!, body)
    else if (form === 'PATCH application/merge-patch+json' && name !== undefined) {
      const known = this.#knownEvent(namespace, name)
      if (known === undefined) this.#send(url, response, 404, status(404, {}, `events "${name}" not found`))
      else this.#patchEvent(url, response, known, body)
    } else this.#refuseEvent(url, response, 405, form)
  }

  #knownEvent(namespace: string | undefined, name: string): ApiEvent | undefined {
    return this.events.find(({ metadata }) => metadata.namespace === namespace && metadata.name === name)
  }

  #refuseEvent(url: URL, response: ServerResponse, code: number, why: string): void {
    this.refusedEvents.push(why)
    this.#send(url, response, code, status(code, {}, `Event is invalid: ${why}`))
  }

  #createEvent(url: URL, response: ServerResponse, namespace: string, body: string): void {
    const event = parsed(body) as ApiEvent
    const fault = eventFault(event, namespace)
    if (fault !== undefined) this.#refuseEvent(url, response, 422, fault)
    else if (this.#knownEvent(namespace, event.metadata.name) !== undefined)
      this.#send(url, response, 409, status(409, {}, `events "${event.metadata.name}" already exists`))
    else {
      this.events.push(event)
      this.#send(url, response, 201, event)
    }
  }

  #patchEvent(url: URL, response: ServerResponse, known: ApiEvent, body: string): void {
    const after = mergePatch(known, parsed(body))
    const fault = patchFault(known, after)
    if (fault !== undefined) this.#refuseEvent(url, response, 422, fault)
    else this.#send(url, response, 200, Object.assign(known, after))
  }

  #list(
    url: URL,
    resource: Resource,
    { headers }: IncomingMessage,
    response: ServerResponse,
    fault?: Fault,
  ): void {
    const token = url.searchParams.get('continue')
    const zips = headers['accept-encoding'] === 'gzip'
    const prepared = this.#prepared.get(token ?? resource)
    if (prepared !== undefined && fault === undefined) {
      this.#sendList(url, response, prepared, zips)
      return
    }
    const found = token === null ? this.#select(url, resource) : this.#pages.get(token)
    const isNamesOnly = NAMES_ONLY.test(headers.accept ?? '')
    if (isNamesOnly) this.listsOfNames++
    const selected = isNamesOnly ? found?.map(metadataOnly) : found
    if (selected === undefined) {
      this.#send(url, response, 410, status(410, { continue: 'inconsistent' }))
      return
    }
    const limit = Number(url.searchParams.get('limit') ?? 0) || Infinity
    const { body } = this.#page(resource, selected, limit)
    this.#sendList(url, response, encode(body), zips, fault?.cutAfter)
  }

  /** A long list is compressed for whoever asks for it. Cut: only this share of it is sent. */
  #sendList(url: URL, response: ServerResponse, { plain, zipped }: Body, zips: boolean, cutAfter = 1): void {
    const isZipped = zips && zipped !== undefined
    const content = isZipped ? zipped : plain
    this.requests.push({ url, status: 200, isZipped })
    response.writeHead(200, {
      'Content-Type': 'application/json',
      ...(isZipped && { 'Content-Encoding': 'gzip' }),
    })
    if (cutAfter === 1) response.end(content)
    else {
      response.write(content.subarray(0, Math.floor(content.length * cutAfter)))
      setTimeout(() => response.destroy(), 20)
    }
  }

  /** The first so many objects; the others can be had under a continue token. */
  #page(resource: Resource, objects: readonly ApiObject[], limit: number): { body: object; next?: string } {
    const apiVersion = VERSIONS[resource]
    const kind = { kind: KINDS[resource], apiVersion }
    const resourceVersion = String(this.#version)
    const items = objects.slice(0, limit)
    const rest = objects.slice(limit)
    if (rest.length === 0) return { body: { ...kind, metadata: { resourceVersion }, items } }
    const next = `${this.#version}-${resource}-${rest.length}-${this.#pages.size}`
    this.#pages.set(next, rest)
    // In the order in which Go writes it.
    const metadata = { resourceVersion, continue: next, remainingItemCount: rest.length }
    return { body: { ...kind, metadata, items }, next }
  }

  /** Of the selectors only those by name are honoured: a client must not rely on the others. */
  #select(url: URL, resource: Resource): readonly ApiObject[] {
    const name = /^metadata\.name=(.*)$/.exec(url.searchParams.get('fieldSelector') ?? '')?.[1]
    return this.objects(resource).filter(({ metadata }) => name === undefined || metadata.name === name)
  }

  #watch(url: URL, resource: Resource, response: ServerResponse, fault?: Fault): void {
    const since = Number(url.searchParams.get('resourceVersion'))
    if (since < this.#compacted && this.expiredForm === 'status') {
      this.#send(url, response, 410, status(410, {}, 'too old resource version'))
      return
    }
    this.requests.push({ url, status: 200 })
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.flushHeaders()
    if (since < this.#compacted) {
      response.end(`${this.expiredEvent}\n`)
      return
    }
    for (const { version, line } of this.#history[resource]) if (version > since) response.write(`${line}\n`)
    if (fault?.endsAtOnce === true) {
      response.end()
      return
    }
    const watcher = { resource, response }
    this.#watchers.add(watcher)
    response.on('close', () => this.#watchers.delete(watcher))
  }
}

function status(code: number, metadata: object = {}, message = `code ${code}`): object {
  const reasons: Readonly<Record<number, string>> = {
    401: 'Unauthorized',
    403: 'Forbidden',
    404: 'NotFound',
    409: 'AlreadyExists',
    410: 'Expired',
    422: 'Invalid',
  }
  return {
    kind: 'Status',
    apiVersion: 'v1',
    metadata,
    status: 'Failure',
    message,
    reason: reasons[code] ?? '',
    code,
  }
}
