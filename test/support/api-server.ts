/**
 * A stand-in for the API server: lists in pages, watches, bookmarks, expired versions, credentials and Events over
 * real TLS, as strict as the real one, and with faults on demand.
 */
import { type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import { json } from 'node:stream/consumers'
import type { AddressInfo } from 'node:net'
import { generate } from 'selfsigned'

export type Resource = 'services' | 'endpointslices' | 'nodes'

const PATHS: Readonly<Record<string, Resource>> = {
  '/api/v1/services': 'services',
  '/apis/discovery.k8s.io/v1/endpointslices': 'endpointslices',
  '/api/v1/nodes': 'nodes',
}
const KINDS: Readonly<Record<Resource, string>> = {
  services: 'ServiceList',
  endpointslices: 'EndpointSliceList',
  nodes: 'NodeList',
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
  /** Ends a watch as soon as it has begun. */
  readonly endsAtOnce?: boolean
  /** Waits before it answers. */
  readonly delayMs?: number
}

/** An Event of events.k8s.io/v1, as far as tests look at it. */
export interface ApiEvent extends ApiObject {
  readonly type: string
  readonly reason: string
  readonly action: string
  readonly note: string
  readonly regarding: { readonly kind: string; readonly name: string; readonly namespace?: string }
  series?: { readonly count: number; readonly lastObservedTime: string }
}

const EVENTS = /^\/apis\/events\.k8s\.io\/v1\/namespaces\/([^/]+)\/events(?:\/([^/]+))?$/

/** What the API server refuses of an Event (pkg/apis/core/validation/events.go); undefined: nothing. */
function eventFault(event: Record<string, unknown>, namespace: string): string | undefined {
  const { metadata, eventTime, regarding, note, type } = event as unknown as ApiEvent & { eventTime?: string }
  const isText = (name: string, max: number): boolean => {
    const value = event[name]
    return typeof value === 'string' && value !== '' && value.length <= max
  }
  if (!/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/.test(metadata.name ?? '') || metadata.name.length > 253) return 'metadata.name'
  if (metadata.namespace !== namespace) return 'metadata.namespace'
  if ((regarding.namespace ?? 'default') !== namespace) return 'regarding.namespace'
  if (!/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/.test(eventTime ?? '')) return 'eventTime'
  const texts = ['reportingController', 'reportingInstance', 'action', 'reason']
  const text = texts.find((name) => !isText(name, 128))
  if (text !== undefined) return text
  if (!/^[a-z0-9-.]+(\/[\w.-]+)?$/i.test(String(event.reportingController))) return 'reportingController'
  if (Buffer.byteLength(note) > 1_024) return 'note'
  return type === 'Normal' || type === 'Warning' ? undefined : 'type'
}

export interface SeenRequest {
  readonly url: URL
  readonly status: number
}

function keyOf({ metadata: { namespace, name } }: ApiObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`
}

export class ApiServer {
  token = 'token-1'
  /** Closes every new connection at once. */
  dead = false
  /** How an expired resource version of a watch is told: by the status, or by an event after 200. */
  expiredForm: 'status' | 'event' = 'event'
  expiredEvent = JSON.stringify({ type: 'ERROR', object: status(410, {}, 'too old resource version') })
  readonly requests: SeenRequest[] = []
  /** Events that have been written. */
  readonly events: ApiEvent[] = []
  /** Why Events were refused: a well-behaved client has none. */
  readonly refusedEvents: string[] = []
  readonly faults: Fault[] = []
  readonly #server: Server
  readonly #certificate: string
  readonly #objects: Record<Resource, Map<string, ApiObject>> = {
    services: new Map(),
    endpointslices: new Map(),
    nodes: new Map(),
  }
  readonly #history: Record<Resource, Event[]> = { services: [], endpointslices: [], nodes: [] }
  readonly #watchers = new Set<Watcher>()
  readonly #pages = new Map<string, readonly ApiObject[]>()
  #version = 1
  #compacted = 0

  private constructor(server: Server, certificate: string) {
    this.#server = server
    this.#certificate = certificate
    server.on('connection', (socket) => {
      if (this.dead) socket.destroy()
    })
    server.on(
      'request',
      (request: IncomingMessage, response: ServerResponse) => void this.#answer(request, response),
    )
  }

  /** Listens on a free port of 127.0.0.1. */
  static async start(): Promise<ApiServer> {
    const { private: key, cert } = await generate([{ name: 'commonName', value: 'kube-apiserver' }], {
      keyType: 'ec',
      extensions: [{ name: 'subjectAltName', altNames: [{ type: 7, ip: '127.0.0.1' }] }],
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

  /** A kubeconfig for this server; with `tokenFile` the token is read from there. */
  kubeconfig(tokenFile?: string): string {
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'lab',
          cluster: {
            server: this.url,
            'certificate-authority-data': Buffer.from(this.#certificate).toString('base64'),
          },
        },
      ],
      users: [{ name: 'proxy', user: tokenFile === undefined ? { token: this.token } : { tokenFile } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user: 'proxy' } }],
      'current-context': 'lab',
    })
  }

  objects(resource: Resource): readonly ApiObject[] {
    return [...this.#objects[resource].values()]
  }

  /** Puts objects there without an event, as before the first list. */
  load(resource: Resource, objects: readonly ApiObject[], version?: number): void {
    for (const object of objects) this.#objects[resource].set(keyOf(object), object)
    this.#version = Math.max(this.#version, version ?? 0)
  }

  /** Changes an object and tells every watcher. Recorded events keep their version and their bytes. */
  emit(resource: Resource, type: EventType, object: ApiObject, recordedLine?: string): void {
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

  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise((resolve) => this.#server.close(resolve))
  }

  // --- Requests -------------------------------------------------------------------------------------------

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', this.url)
    const index = this.faults.findIndex(({ matches }) => matches(url))
    const [fault] = index < 0 ? [] : this.faults.splice(index, 1)
    if (fault?.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.delayMs))
    if (fault?.status !== undefined) {
      this.#send(url, response, fault.status, fault.body ?? status(fault.status), fault.headers)
      return
    }
    const resource = PATHS[url.pathname]
    if (request.headers.authorization !== `Bearer ${this.token}`) this.#send(url, response, 401, status(401))
    else if (EVENTS.test(url.pathname)) await this.#event(url, request, response)
    else if (resource === undefined) this.#send(url, response, 404, status(404))
    else if (url.searchParams.get('watch') === 'true') this.#watch(url, resource, response, fault)
    else this.#list(url, resource, response, fault)
  }

  #send(url: URL, response: ServerResponse, code: number, body: unknown, headers = {}): void {
    this.requests.push({ url, status: code })
    response.writeHead(code, { 'Content-Type': 'application/json', ...headers }).end(JSON.stringify(body))
  }

  async #event(url: URL, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [, namespace, name] = EVENTS.exec(url.pathname)!
    const body = (await json(request)) as Record<string, unknown>
    const known = this.events.find(
      ({ metadata }) =>
        metadata.namespace === namespace && metadata.name === (name ?? (body as unknown as ApiEvent).metadata.name),
    )
    const refuse = (code: number, why: string): void => {
      this.refusedEvents.push(why)
      this.#send(url, response, code, status(code, {}, why))
    }
    const type = request.headers['content-type']
    if (request.method === 'POST' && name === undefined && type === 'application/json') {
      const fault = eventFault(body, namespace!)
      if (fault !== undefined) refuse(422, fault)
      else if (known !== undefined) refuse(409, 'it exists')
      else {
        this.events.push(body as unknown as ApiEvent)
        this.#send(url, response, 201, body)
      }
    } else if (request.method === 'PATCH' && type === 'application/merge-patch+json') {
      if (known === undefined) refuse(404, 'there is none')
      else this.#send(url, response, 200, Object.assign(known, body))
    } else refuse(405, `${request.method} ${type}`)
  }

  #list(url: URL, resource: Resource, response: ServerResponse, fault?: Fault): void {
    const token = url.searchParams.get('continue')
    const selected = token === null ? this.#select(url, resource) : this.#pages.get(token)
    if (selected === undefined) {
      this.#send(url, response, 410, status(410, { continue: 'inconsistent' }))
      return
    }
    const limit = Number(url.searchParams.get('limit') ?? 0) || Infinity
    const rest = selected.slice(limit)
    const next =
      rest.length > 0 ? `${this.#version}-${resource}-${rest.length}-${this.#pages.size}` : undefined
    if (next !== undefined) this.#pages.set(next, rest)
    const metadata = {
      resourceVersion: String(this.#version),
      ...(next === undefined ? {} : { continue: next }),
    }
    const body = { kind: KINDS[resource], apiVersion: 'v1', metadata, items: selected.slice(0, limit) }
    if (fault?.cutAfter === undefined) {
      this.#send(url, response, 200, body)
      return
    }
    const text = JSON.stringify(body)
    this.requests.push({ url, status: 200 })
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.write(text.slice(0, Math.floor(text.length * fault.cutAfter)))
    setTimeout(() => response.destroy(), 20)
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
  const reasons: Readonly<Record<number, string>> = { 401: 'Unauthorized', 403: 'Forbidden', 410: 'Expired' }
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
