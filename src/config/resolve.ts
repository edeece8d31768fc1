/** From what somebody wrote to a resolved document, or to all faults at once. */
import { ConfigError, expected } from './config-error.ts'
import { parseDuration } from './duration.ts'
import { isObject } from './kinds.ts'
import {
  type Document,
  fieldPaths,
  fieldSchema,
  type LocalMode,
  SCHEMA,
  valueAt,
  WITHOUT_EFFECT,
  withListenAddresses,
} from './schema.ts'

/** Where a document comes from, for its faults. */
export interface DocumentSource {
  /** `configuration /var/lib/kube-proxy/config.conf`. */
  readonly name: string
  /** How a field is called there; its path unless given. */
  readonly nameOf?: (path: string) => string
}

/** A document, and the paths of what was left out of it: it has no effect, and is not as it should be. */
export interface Resolved {
  readonly document: Document
  readonly leftOut: readonly string[]
}

type Path = readonly string[]

/** A field that is at fault, and what is expected of it. */
interface FieldFault {
  readonly path: Path
  readonly message: string
}

// --- What has no effect ---------------------------------------------------------------------------------

/** Fields that count in one mode only. */
const FIELDS_OF_MODES: Readonly<Record<string, LocalMode>> = {
  clusterCIDR: 'ClusterCIDR',
  'detectLocal.bridgeInterface': 'BridgeInterface',
  'detectLocal.interfaceNamePrefix': 'InterfaceNamePrefix',
}

/** The only gate that counts. */
const GATE = 'AllowServiceExternalIPs'

/** A field without effect in this mode, a gate that nobody asks for, or what has nothing else below it. */
function isIdle(path: Path, mode: LocalMode | undefined): boolean {
  const name = path.join('.')
  const hasNoEffect = (field: string): boolean =>
    WITHOUT_EFFECT.includes(field) || (mode !== undefined && (FIELDS_OF_MODES[field] ?? mode) !== mode)
  if (path[0] === 'featureGates') return path.length === 2 && path[1] !== GATE
  const below = fieldPaths().filter((field) => field.startsWith(`${name}.`))
  return hasNoEffect(name) || (below.length > 0 && below.every(hasNoEffect))
}

/** The smallest part around a fault that has no effect; undefined where the fault counts. */
function idlePart({ path }: FieldFault, mode: LocalMode | undefined): Path | undefined {
  const around = path.map((_, i) => path.slice(0, path.length - i))
  return around.find((part) => isIdle(part, mode))
}

// --- Faults ---------------------------------------------------------------------------------------------

/** What single fields cannot tell; a field that is faulty itself says so, and nothing here. */
function contradictions(value: unknown, mode: LocalMode | undefined): FieldFault[] {
  const field = (path: string): unknown => fieldSchema(path)!.safeParse(valueAt(value, path)).data
  const faults: FieldFault[] = []
  const fault = (path: string, what: string): unknown =>
    faults.push({ path: path.split('.'), message: expected(what, valueAt(value, path)) })
  const [period, minimum] = ['ipvs.syncPeriod', 'ipvs.minSyncPeriod'].map((path) =>
    parseDuration(String(field(path))),
  )
  if (period !== undefined && minimum !== undefined && minimum > period) {
    fault('ipvs.syncPeriod', `at least ipvs.minSyncPeriod (${String(field('ipvs.minSyncPeriod'))})`)
  }
  if (mode === 'BridgeInterface' && field('detectLocal.bridgeInterface') === '') {
    fault('detectLocal.bridgeInterface', 'the name of an interface in mode BridgeInterface')
  }
  if (mode === 'InterfaceNamePrefix' && field('detectLocal.interfaceNamePrefix') === '') {
    fault('detectLocal.interfaceNamePrefix', 'a prefix in mode InterfaceNamePrefix')
  }
  return faults
}

/** A copy without what stands at a path. */
function without(value: unknown, [name, ...rest]: Path): unknown {
  const entries = isObject(value) ? Object.entries(value) : []
  return Object.fromEntries(
    rest.length === 0
      ? entries.filter(([other]) => other !== name)
      : entries.map(([other, inner]) => [other, other === name ? without(inner, rest) : inner]),
  )
}

const begins = (path: Path, start: Path): boolean => start.every((name, i) => name === path[i])

/** Resolves a document. Throws ConfigError with all faults that count, each naming its field. */
export function resolveDocument(value: unknown, { name, nameOf = (path) => path }: DocumentSource): Resolved {
  const result = SCHEMA.safeParse(value)
  const mode = SCHEMA.shape.detectLocalMode.safeParse(valueAt(value, 'detectLocalMode')).data
  const own = (result.error?.issues ?? []).map(({ path, message }) => ({ path: path.map(String), message }))
  const counting = own.filter((fault) => idlePart(fault, mode) === undefined)
  const others = contradictions(value, mode).filter(({ path }) => !own.some((one) => begins(path, one.path)))
  const faults = [...counting, ...others]
  if (faults.length > 0) {
    const lines = faults.map(({ path, message }) => `  ${nameOf(path.join('.'))}: ${message}`)
    throw new ConfigError(`Cannot use ${name}:\n${lines.join('\n')}`)
  }
  const parts = own.map((fault) => idlePart(fault, mode)!)
  const document = result.data ?? SCHEMA.parse(parts.reduce<unknown>(without, value))
  return {
    document: withListenAddresses(document),
    leftOut: [...new Set(parts.map((part) => part.join('.')))],
  }
}
