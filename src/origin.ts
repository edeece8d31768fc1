/** Where facts come from and Events go to: an API server, or a directory of manifests. */
import type { Logger } from 'pino'
import { keepHeapSmall } from './heap.ts'
import type { Cluster } from './model/cluster.ts'
import type { Metrics } from './serve/metrics.ts'
import { loadKubeConfig, openApiClient } from './source/api-client.ts'
import { followApiServer, listNodeNames } from './source/api-source.ts'
import { openEvents, type RecordEvent } from './source/events.ts'
import { followManifests } from './source/manifests.ts'
import { openPageReader } from './source/page-reader.ts'

/** Some names of Nodes, and how many more there are. */
export interface NodeNames {
  readonly names: readonly string[]
  readonly more: number
}

export interface Origin {
  /** Keeps the facts up to date until the signal aborts. */
  readonly follow: (cluster: Cluster, signal: AbortSignal) => Promise<void>
  readonly recordEvent: RecordEvent
  /** Names of Nodes that there are, once these have been listed. Throws what the API server answers. */
  readonly listNodeNames: (cluster: Cluster, signal: AbortSignal) => Promise<NodeNames>
  /** An API server has an object for every node; a directory need not. */
  readonly hasNodes: boolean
}

/** What says where facts are. */
export interface OriginChoice {
  /** A directory instead of an API server. */
  readonly manifests?: string | undefined
  /** The API server's URL, instead of the kubeconfig's. */
  readonly master?: string | undefined
  /** Empty: the pod's service account. */
  readonly kubeconfig: string
}

export interface OriginOptions {
  readonly nodeName: string
  readonly metrics: Metrics
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Throws an Error when there would be nothing to follow. */
export function checkOrigin({ manifests, kubeconfig, master }: OriginChoice): void {
  if (manifests === undefined) loadKubeConfig(kubeconfig, master)
}

/** Throws an Error at once when there is nothing to follow, before the kernel is touched. */
export function openOrigin(choice: OriginChoice, { nodeName, metrics, log, signal }: OriginOptions): Origin {
  const { manifests, kubeconfig, master } = choice
  if (manifests !== undefined) {
    return {
      follow: (cluster, until) => followManifests({ directory: manifests, cluster, log, signal: until }),
      recordEvent: (happening) => {
        log.debug({ happening }, 'an Event without an API server')
      },
      listNodeNames: (cluster) => Promise.resolve({ names: cluster.nodeNames, more: 0 }),
      hasNodes: false,
    }
  }
  const api = openApiClient(
    () => loadKubeConfig(kubeconfig, master),
    (request) => {
      metrics.requested(request)
    },
  )
  const readPage = openPageReader(signal, keepHeapSmall)
  return {
    follow: (cluster, until) => followApiServer({ api, readPage, cluster, nodeName, log, signal: until }),
    recordEvent: openEvents({ api, nodeName, log, signal }),
    listNodeNames: (_cluster, until) => listNodeNames(api, until),
    hasNodes: true,
  }
}
