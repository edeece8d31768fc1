/** Facts from a directory of YAML and JSON manifests, watched live: for use without a cluster. */
import { once } from 'node:events'
import { type FSWatcher, watch } from 'node:fs'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from 'pino'
import { parseAllDocuments } from 'yaml'
import type { Cluster, Collection } from '../model/facts/cluster.ts'
import type { Parsed, Resource } from '../model/facts/facts.ts'
import { PARSERS } from '../model/facts/parse-facts.ts'

/** A change is read when the directory has been quiet for so long: writers may need several writes. */
const QUIET_MS = 100
/** ... but one that never is quiet is read now and then. */
const LONGEST_QUIET_MS = 1_000

type Kind = 'Service' | 'EndpointSlice' | 'Node' | 'ServiceCIDR'
const RESOURCES: Readonly<Record<Kind, Resource>> = {
  Service: 'services',
  EndpointSlice: 'endpointSlices',
  Node: 'nodes',
  ServiceCIDR: 'serviceCidrs',
}
const KINDS = Object.keys(RESOURCES) as readonly Kind[]

/** `Service shop/web` -> what it gives. */
type Objects = Map<string, Parsed<unknown>>

/** One manifest file: what it says, and the state of the file when it was read. */
interface Manifest {
  readonly version: string
  readonly objects: Objects
}

export interface ManifestSourceOptions {
  readonly directory: string
  readonly cluster: Cluster
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Parses one file's text. `problems` are sentences; `isWhole` is false when some document could not be read. */
export function parseManifest(
  file: string,
  text: string,
): {
  readonly objects: Objects
  readonly problems: readonly string[]
  readonly isWhole: boolean
} {
  const objects: Objects = new Map()
  const problems: string[] = []
  if (text.trim() === '') {
    const problem = `Cannot use manifest ${file}: it is empty; delete the file to remove its objects`
    return { objects, problems: [problem], isWhole: false }
  }
  let isWhole = true
  for (const document of parseAllDocuments(text)) {
    const [error] = document.errors
    if (error !== undefined) {
      problems.push(
        `Cannot read a document of manifest ${file}: ${error.message.split('\n')[0]!.replace(/:$/, '')}`,
      )
      isWhole = false
      continue
    }
    for (const object of itemsOf(document.toJS())) collect(file, object, objects, problems)
  }
  return { objects, problems, isWhole }
}

/** A List stands for its items, which in a ServiceList need not say that they are Services; an empty document for nothing. */
function itemsOf(object: unknown): readonly unknown[] {
  if (object === null || object === undefined) return []
  const { kind, items } = object as { kind?: unknown; items?: unknown }
  if (typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) return [object]
  return items.map((item: unknown) => ({ kind: kind.slice(0, -'List'.length), ...(item as object) }))
}

function collect(file: string, object: unknown, objects: Objects, problems: string[]): void {
  const { kind } = object as { kind?: unknown }
  const known = KINDS.find((name) => name === kind)
  if (known === undefined) {
    problems.push(
      `Ignored an object of manifest ${file}: kind is ${kind === undefined ? 'missing' : JSON.stringify(kind)}, expected ${KINDS.join(', ')}`,
    )
    return
  }
  const parsed = PARSERS[RESOURCES[known]](object)
  problems.push(...parsed.problems.map((problem) => `${problem} (manifest ${file})`))
  objects.set(`${known} ${parsed.name}`, parsed)
}

/** Reads the files that have changed; what cannot be read keeps what it gave before. */
async function readDirectory(
  directory: string,
  before: ReadonlyMap<string, Manifest>,
  log: Logger,
): Promise<Map<string, Manifest>> {
  const manifests = new Map<string, Manifest>()
  const names = (await readdir(directory)).filter((name) => /^[^.].*\.(ya?ml|json)$/.test(name))
  for (const name of names.sort()) {
    const previous = before.get(name)
    const manifest = await readManifest(join(directory, name), previous, log)
    if (manifest !== undefined) manifests.set(name, manifest)
  }
  return manifests
}

async function readManifest(
  file: string,
  previous: Manifest | undefined,
  log: Logger,
): Promise<Manifest | undefined> {
  try {
    const { mtimeMs, size, ino } = await stat(file)
    const version = `${mtimeMs} ${size} ${ino}`
    if (version === previous?.version) return previous
    const { objects, problems, isWhole } = parseManifest(file, await readFile(file, 'utf8'))
    for (const problem of problems) log.error({ manifest: file }, problem)
    // Which objects the unreadable part held is unknown: what worked stays.
    return { version, objects: isWhole ? objects : new Map([...(previous?.objects ?? []), ...objects]) }
  } catch (err) {
    if ((err as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    log.error({ err, manifest: file }, `Cannot read manifest ${file}`)
    return previous
  }
}

function collectionOf(cluster: Cluster, kind: Kind): Collection<never> {
  return cluster[RESOURCES[kind]]
}

function merge(manifests: ReadonlyMap<string, Manifest>): Objects {
  return new Map([...manifests.values()].flatMap(({ objects }) => [...objects]))
}

/** Hands the cluster what is new, what has changed and what is gone. */
function publish(cluster: Cluster, before: Objects, after: Objects): void {
  for (const [id, parsed] of after) {
    const kind = id.slice(0, id.indexOf(' ')) as Kind
    if (before.get(id) !== parsed) collectionOf(cluster, kind).put(parsed as Parsed<never>)
  }
  for (const [id, { name }] of before) {
    if (!after.has(id)) collectionOf(cluster, id.slice(0, id.indexOf(' ')) as Kind).remove(name)
  }
}

/** Calls `act` when `ring` has been quiet for a while, or has gone on for long; never twice at a time. */
function debounce(act: () => Promise<void>): { readonly ring: () => void; readonly stop: () => void } {
  let timer: NodeJS.Timeout | undefined
  let since: number | undefined
  let running = Promise.resolve()
  const fire = (): void => {
    since = undefined
    running = running.then(act)
  }
  return {
    ring: () => {
      since ??= Date.now()
      clearTimeout(timer)
      timer = setTimeout(fire, Date.now() - since > LONGEST_QUIET_MS ? 0 : QUIET_MS)
    },
    stop: () => {
      clearTimeout(timer)
    },
  }
}

/**
 * Reads the directory, and again whenever it changes, until the signal aborts. Throws an Error when the
 * directory cannot be read at the start.
 */
export async function followManifests({
  directory,
  cluster,
  log,
  signal,
}: ManifestSourceOptions): Promise<void> {
  let manifests: ReadonlyMap<string, Manifest> = new Map()
  const { ring, stop } = debounce(async () => {
    const after = await readDirectory(directory, manifests, log).catch((err: unknown) => {
      log.error({ err, directory }, 'cannot read the manifests: what they gave before stays')
      return manifests
    })
    publish(cluster, merge(manifests), merge(after))
    manifests = after
  })
  const watcher = startWatching(directory, ring, log)
  signal.addEventListener('abort', () => {
    stop()
    watcher.close()
  })
  try {
    manifests = await readDirectory(directory, manifests, log)
  } catch (cause) {
    throw new Error(`Cannot read the manifests in ${directory}`, { cause })
  }
  publishAll(cluster, merge(manifests))
  if (!signal.aborted) await once(signal, 'abort')
}

function startWatching(directory: string, onChange: () => void, log: Logger): FSWatcher {
  try {
    const watcher = watch(directory, onChange)
    watcher.on('error', (err) => {
      log.error({ err, directory }, 'cannot watch the manifests: changes are not seen any more')
    })
    return watcher
  } catch (cause) {
    throw new Error(`Cannot watch the manifests in ${directory}`, { cause })
  }
}

/** The first list of each kind. */
function publishAll(cluster: Cluster, objects: Objects): void {
  for (const kind of KINDS) {
    const own = [...objects].filter(([id]) => id.startsWith(`${kind} `)).map(([, parsed]) => parsed)
    collectionOf(cluster, kind).replace(own as Parsed<never>[])
  }
}
