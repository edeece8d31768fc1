/**
 * A stand-in API server for kubectl: keeps objects, and notes what is asked. It knows kinds, labels, fields, the three
 * kinds of patches as far as docs use them, and shows Pods that have ended and DaemonSets that are rolled out.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import jsonPatch, { type Operation } from 'fast-json-patch'
import { mergePatch } from './api-events.ts'

interface Kind {
  readonly kind: string
  readonly groupVersion: string
  readonly namespaced: boolean
  readonly short?: string
}

/** By their plural. */
const KINDS: Readonly<Record<string, Kind>> = {
  nodes: { kind: 'Node', groupVersion: 'v1', namespaced: false },
  pods: { kind: 'Pod', groupVersion: 'v1', namespaced: true },
  services: { kind: 'Service', groupVersion: 'v1', namespaced: true, short: 'svc' },
  events: { kind: 'Event', groupVersion: 'v1', namespaced: true },
  configmaps: { kind: 'ConfigMap', groupVersion: 'v1', namespaced: true, short: 'cm' },
  serviceaccounts: { kind: 'ServiceAccount', groupVersion: 'v1', namespaced: true },
  daemonsets: { kind: 'DaemonSet', groupVersion: 'apps/v1', namespaced: true, short: 'ds' },
  controllerrevisions: { kind: 'ControllerRevision', groupVersion: 'apps/v1', namespaced: true },
  clusterroles: { kind: 'ClusterRole', groupVersion: 'rbac.authorization.k8s.io/v1', namespaced: false },
  clusterrolebindings: {
    kind: 'ClusterRoleBinding',
    groupVersion: 'rbac.authorization.k8s.io/v1',
    namespaced: false,
  },
}
const GROUP_VERSIONS = [...new Set(Object.values(KINDS).map(({ groupVersion }) => groupVersion))]
const VERBS = ['create', 'delete', 'get', 'list', 'patch', 'update', 'watch']

export interface StoredObject {
  apiVersion: string
  kind: string
  metadata: { name: string; namespace?: string; labels?: Record<string, string>; [field: string]: unknown }
  [field: string]: unknown
}

/** One request, without those by which kubectl gets to know the server. */
export interface Asked {
  readonly method: string
  /** The path, without the group and its version, and the query. */
  readonly path: string
  readonly body: unknown
}

const folderOf = (groupVersion: string): string =>
  groupVersion === 'v1' ? '/api/v1' : `/apis/${groupVersion}`

/** Where an object is. */
function pathOf({ apiVersion, kind, metadata: { name, namespace } }: StoredObject): string {
  const [plural, { namespaced }] = Object.entries(KINDS).find(
    ([, known]) => known.kind === kind && known.groupVersion === apiVersion,
  )!
  return `${folderOf(apiVersion)}${namespaced ? `/namespaces/${namespace!}` : ''}/${plural}/${name}`
}

/** A strategic merge patch: lists of things with names are merged by these. */
function strategicPatch(target: unknown, patch: unknown): unknown {
  if (Array.isArray(patch) && Array.isArray(target)) {
    const named = (item: unknown): unknown => (item as { name?: unknown }).name
    if (!patch.every((item) => named(item) !== undefined)) return patch
    return target.map((item: unknown) =>
      strategicPatch(item, patch.find((one) => named(one) === named(item)) ?? {}),
    )
  }
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch
  const merged: Record<string, unknown> = { ...(target as object | undefined) }
  for (const [field, value] of Object.entries(patch)) {
    if (value === null) Reflect.deleteProperty(merged, field)
    else if (!field.startsWith('$')) merged[field] = strategicPatch(merged[field], value)
  }
  return merged
}

const PATCHES: Readonly<Record<string, (target: unknown, patch: unknown) => unknown>> = {
  'application/json-patch+json': (target, patch) =>
    jsonPatch.applyPatch(structuredClone(target), patch as Operation[], true).newDocument,
  'application/merge-patch+json': mergePatch,
  'application/strategic-merge-patch+json': strategicPatch,
}

/** As the controllers would have it after a moment. */
function settled(object: StoredObject): StoredObject {
  if (object.kind === 'Pod') return { status: { phase: 'Succeeded' }, ...object }
  if (object.kind !== 'DaemonSet') return object
  const counts = { desiredNumberScheduled: 2, updatedNumberScheduled: 2, numberAvailable: 2 }
  const spec = { updateStrategy: { type: 'RollingUpdate' }, ...(object.spec as object) }
  return {
    ...object,
    metadata: { ...object.metadata, generation: 1 },
    spec,
    status: { observedGeneration: 1, ...counts },
  }
}

/** What makes kubectl trust a server to find unknown fields itself. */
function openApi(groupVersion: string): object {
  const [version, group = ''] = groupVersion.split('/').reverse()
  const paths = Object.entries(KINDS)
    .filter(([, known]) => known.groupVersion === groupVersion)
    .map(([plural, { kind }]) => [
      `${folderOf(groupVersion)}/${plural}/{name}`,
      {
        patch: {
          'x-kubernetes-group-version-kind': { group, version, kind },
          parameters: [{ name: 'fieldValidation', in: 'query', schema: { type: 'string' } }],
          responses: {},
        },
      },
    ])
  const info = { title: 'stand-in', version: '0' }
  return { openapi: '3.0.0', info, paths: Object.fromEntries(paths) as object }
}

/** What kubectl asks to get to know a server. */
function introduction(pathname: string): object | undefined {
  if (pathname === '/api') return { kind: 'APIVersions', versions: ['v1'] }
  if (pathname === '/apis') {
    const groups = GROUP_VERSIONS.filter((one) => one !== 'v1').map((groupVersion) => {
      const [name, version] = groupVersion.split('/')
      const versions = [{ groupVersion, version }]
      return { name, versions, preferredVersion: versions[0] }
    })
    return { kind: 'APIGroupList', apiVersion: 'v1', groups }
  }
  if (pathname === '/openapi/v3') {
    const paths = GROUP_VERSIONS.map((one) => [
      folderOf(one).slice(1),
      { serverRelativeURL: `/openapi/v3${folderOf(one)}` },
    ])
    return { paths: Object.fromEntries(paths) as object }
  }
  const groupVersion = GROUP_VERSIONS.find((one) => pathname.endsWith(folderOf(one)))
  if (groupVersion === undefined) return undefined
  if (pathname.startsWith('/openapi/v3')) return openApi(groupVersion)
  const resources = Object.entries(KINDS)
    .filter(([, known]) => known.groupVersion === groupVersion)
    .map(([name, { kind, namespaced, short }]) => ({
      ...{ name, kind, namespaced, singularName: kind.toLowerCase(), verbs: VERBS },
      ...(short === undefined ? {} : { shortNames: [short] }),
    }))
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion, resources }
}

const refusal = (code: number, reason: string): object => ({
  ...{ kind: 'Status', apiVersion: 'v1', status: 'Failure' },
  ...{ message: reason, reason, code },
})

export class KubectlServer {
  readonly asked: Asked[] = []
  readonly #server: Server
  readonly #objects = new Map<string, StoredObject>()

  private constructor(objects: readonly StoredObject[]) {
    for (const object of objects) this.#objects.set(pathOf(object), settled(object))
    this.#server = createServer((request, response) => {
      void this.#answer(request, response)
    })
  }

  static async start(objects: readonly StoredObject[]): Promise<KubectlServer> {
    const server = new KubectlServer(objects)
    await new Promise<void>((resolve) => server.#server.listen(0, '127.0.0.1', resolve))
    return server
  }

  /** For KUBECONFIG. */
  get config(): string {
    const { port } = this.#server.address() as AddressInfo
    return JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'x' },
      clusters: [{ name: 'x', cluster: { server: `http://127.0.0.1:${port}` } }],
      users: [{ name: 'x', user: {} }],
      contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
    })
  }

  get objects(): StoredObject[] {
    return [...this.#objects.values()]
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, 'http://x')
    const raw = await text(request)
    const reply = this.#reply(request, url, raw === '' ? undefined : JSON.parse(raw))
    const body = typeof reply === 'string' ? reply : JSON.stringify(reply)
    const { kind, code } = reply as { kind?: string; code?: number }
    response.writeHead(kind === 'Status' ? code! : 200, { 'Content-Type': 'application/json' })
    // A watch has nothing to say, and does not end.
    if (url.searchParams.has('watch') && kind !== 'Status') response.flushHeaders()
    else response.end(body)
  }

  #reply(request: IncomingMessage, url: URL, body: unknown): object | string {
    const { pathname, search, searchParams } = url
    const method = request.method!
    const known = method === 'GET' ? introduction(pathname) : undefined
    if (known !== undefined) return known
    const path = `${pathname.replace(/^\/(api\/v1|apis\/[\w.-]+\/v1)\//, '')}${search}`
    this.asked.push({ method, path, body })
    // Lists that are watches: kubectl then lists, and watches.
    if (searchParams.has('sendInitialEvents')) return refusal(422, 'Invalid')
    if (pathname.endsWith('/log')) return '# no change: the kernel is as it should be\n'
    if (method === 'POST' || method === 'PUT') return this.#put(body as StoredObject)
    const object = this.#objects.get(pathname)
    if (object === undefined)
      return method === 'GET' && Object.hasOwn(KINDS, pathname.split('/').at(-1)!)
        ? this.#list(pathname, searchParams)
        : refusal(404, 'NotFound')
    if (method === 'PATCH')
      return this.#put(PATCHES[request.headers['content-type']!]!(object, body) as StoredObject)
    const before = structuredClone(object)
    if (method === 'DELETE') this.#delete(pathname, object)
    return before
  }

  #put(object: StoredObject): StoredObject {
    const stored = settled(object)
    this.#objects.set(pathOf(stored), stored)
    return stored
  }

  /** A Pod that has an owner comes back. */
  #delete(path: string, object: StoredObject): void {
    if (object.metadata.ownerReferences === undefined) this.#objects.delete(path)
    else object.metadata = { ...object.metadata, uid: `${object.metadata.uid as string}'` }
  }

  /** Of a kind, in one namespace or in all, with such labels. */
  #list(pathname: string, query: URLSearchParams): object {
    const plural = pathname.split('/').at(-1)!
    const { kind, groupVersion } = KINDS[plural]!
    const namespace = /\/namespaces\/([^/]+)\//.exec(pathname)?.[1]
    const labels = (query.get('labelSelector') ?? '').split(',').filter((term) => term !== '')
    const name = /metadata\.name=([^,]+)/.exec(query.get('fieldSelector') ?? '')?.[1]
    const items = this.objects.filter(
      ({ apiVersion, kind: its, metadata }) =>
        apiVersion === groupVersion &&
        its === kind &&
        (namespace === undefined || metadata.namespace === namespace) &&
        (name === undefined || metadata.name === name) &&
        labels.every((term) => {
          const [key, value] = term.split('=')
          return metadata.labels?.[key!] === value
        }),
    )
    return { kind: `${kind}List`, apiVersion: groupVersion, metadata: { resourceVersion: '1' }, items }
  }
}
