/** A name that no Node has: a proxy runs under it for ever, and never knows which endpoints are its own. */
import type { Logger } from 'pino'
import type { Cluster } from '../model/facts/cluster.ts'
import type { NodeNames, Origin } from './origin.ts'

/** Names beyond this are counted. */
const NAMED = 5

/** This node's name, and what says it. */
export interface NodeNaming {
  readonly name: string
  readonly source: '--hostname-override' | 'hostnameOverride of the configuration' | "the host's name"
}

/** One sentence each: what is missing, what there is, and what to do. */
export function describeMissingNode({ name, source }: NodeNaming, known?: NodeNames): string {
  const remedy = source === "the host's name" ? 'Set --hostname-override' : `Correct ${source}`
  return [
    `There is no Node "${name}" (${source}), so no endpoint counts as local`,
    ...(known === undefined ? [] : [namesText(known)]),
    `${remedy}: it has to be a name that "kubectl get nodes" shows`,
  ].join('. ')
}

function namesText({ names, more }: NodeNames): string {
  if (names.length === 0) return 'There are no Nodes at all'
  const named = names.slice(0, NAMED)
  const rest = names.length - named.length + more
  return `There are: ${named.join(', ')}${rest === 0 ? '' : ` and ${rest} more`}`
}

export interface MissingNodeInput {
  readonly naming: NodeNaming
  readonly cluster: Cluster
  readonly origin: Pick<Origin, 'hasNodes' | 'listNodeNames'>
  readonly log: Logger
  readonly signal: AbortSignal
}

/**
 * To be called once when the Nodes have been listed: says that this one is not among them. Returns what it has said;
 * undefined where it is there, or where nobody has said that there are Nodes. Never throws.
 */
export async function explainMissingNode({
  naming,
  cluster,
  origin,
  log,
  signal,
}: MissingNodeInput): Promise<string | undefined> {
  const isThere = (): boolean => cluster.node !== undefined
  if (isThere()) return undefined
  const known = await origin.listNodeNames(cluster, signal).catch((err: unknown) => {
    log.debug({ err }, 'cannot list the names of the Nodes')
    return undefined
  })
  const isUnasked = !origin.hasNodes && known?.names.length === 0
  // It may have come meanwhile.
  if (signal.aborted || isUnasked || isThere()) return undefined
  const text = describeMissingNode(naming, known)
  log.error(text)
  return text
}
