/** Where facts come from and Events go to: an API server, or a directory of manifests. */
import type { Logger } from 'pino'
import { keepHeapSmall } from './heap.ts'
import type { KubeConfig } from '@kubernetes/client-node'
import type { Address } from '../model/address.ts'
import type { Cluster } from '../model/facts/cluster.ts'
import type { Metrics } from '../serve/metrics.ts'
import { followApiAddresses } from '../source/api-address.ts'
import { loadKubeConfig, openApiClient } from '../source/api-client.ts'
import { followApiServer, listNodeNames } from '../source/api-source.ts'
import { openEvents, type RecordEvent } from '../source/events.ts'
import { followManifests } from '../source/manifests.ts'
import { openPageReader } from '../source/pages/page-reader.ts'
import {
  followPeerNodes,
  listNodeAddresses,
  type NodeList,
  type PeerNodes,
  type PeerNodesOptions,
} from '../source/peer-nodes.ts'

/** Some names of Nodes, and how many more there are. */
export interface NodeNames {
  readonly names: readonly string[]
  readonly more: number
}

export interface Origin {
  /** Keeps the facts up to date until the signal aborts. */
  readonly follow: (cluster: Cluster, signal: AbortSignal) => Promise<void>
  readonly recordEvent: RecordEvent
  /** Sends the Events that wait, for so long at most; those that are left, and all later ones, are dropped. */
  readonly endEvents: (timeoutMs: number) => Promise<void>
  /** Names of Nodes that there are, once these have been listed. Throws what the API server answers. */
  readonly listNodeNames: (cluster: Cluster, signal: AbortSignal) => Promise<NodeNames>
  /** An API server has an object for every node; a directory need not. */
  readonly hasNodes: boolean
  /** Where the API server is found; none for a directory. Empty until the first look. */
  readonly apiAddresses: () => ReadonlySet<Address>
  /** The last request to the API server was not answered. */
  readonly isLost: () => boolean
  /** Follows the addresses of the other nodes, as long as they are wanted; a directory's are among its facts. */
  readonly followPeers: (options: Pick<PeerNodesOptions, 'isWanted' | 'onChange'>) => PeerNodes
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
  readonly metrics: Pick<Metrics, 'requested'>
  readonly log: Logger
  readonly signal: AbortSignal
  /** Called when the API server is found elsewhere. */
  readonly onApiMoved: () => void
  /** Called whenever a request to it has not been answered. */
  readonly onApiLost: () => void
}

/** Throws an Error when there would be nothing to follow. */
export function checkOrigin({ manifests, kubeconfig, master }: OriginChoice): void {
  if (manifests === undefined) loadKubeConfig(kubeconfig, master)
}

const NONE: ReadonlySet<Address> = new Set()

function openDirectory(directory: string, { log }: OriginOptions): Origin {
  return {
    follow: (cluster, until) => followManifests({ directory, cluster, log, signal: until }),
    recordEvent: (happening) => {
      log.debug({ happening }, 'an Event without an API server')
    },
    endEvents: () => Promise.resolve(),
    listNodeNames: (cluster) => Promise.resolve({ names: cluster.nodeNames, more: 0 }),
    hasNodes: false,
    apiAddresses: () => NONE,
    isLost: () => false,
    followPeers: () => ({ consider: () => undefined, addresses: () => NONE }),
  }
}

/** Throws an Error at once when there is nothing to follow, before the kernel is touched. */
export function openOrigin(choice: OriginChoice, options: OriginOptions): Origin {
  if (choice.manifests !== undefined) return openDirectory(choice.manifests, options)
  const { nodeName, metrics, log, signal, onApiMoved, onApiLost } = options
  // What the client has loaded last is what it speaks to.
  let config: KubeConfig | undefined
  const load = (): KubeConfig => (config = loadKubeConfig(choice.kubeconfig, choice.master))
  let apiAddresses = NONE
  let isLost = false
  const api = openApiClient(load, (request) => {
    metrics.requested(request)
    isLost = request.code === '<error>'
    if (!isLost) return
    addresses.lookAgain()
    onApiLost()
  })
  const onChange = (found: ReadonlySet<Address>): void => {
    apiAddresses = found
    onApiMoved()
  }
  const addresses = followApiAddresses({ config: () => config ?? load(), onChange, log, signal })
  const readPage = openPageReader(signal, keepHeapSmall)
  // They outlive all else: an end, too, is something to be told.
  const eventsEnded = new AbortController()
  const recordEvent = openEvents({ api, nodeName, log, signal: eventsEnded.signal })
  const list = (): Promise<NodeList> => listNodeAddresses({ api, readPage, nodeName, signal })
  return {
    apiAddresses: () => apiAddresses,
    isLost: () => isLost,
    followPeers: (peers) => followPeerNodes({ ...peers, list, log, signal }),
    follow: (cluster, until) => followApiServer({ api, readPage, cluster, nodeName, log, signal: until }),
    recordEvent,
    endEvents: async (timeoutMs) => {
      await recordEvent.flush(timeoutMs)
      eventsEnded.abort()
    },
    listNodeNames: (_cluster, until) => listNodeNames(api, until),
    hasNodes: true,
  }
}
