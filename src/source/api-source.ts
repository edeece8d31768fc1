/** Facts from the API server. */
import type { Logger } from 'pino'
import type { Cluster, Collection } from '../model/facts/cluster.ts'
import type { Facts, Resource } from '../model/facts/facts.ts'
import { PARSERS } from '../model/facts/parse-facts.ts'
import { type ApiClient, readJson } from './api-client.ts'
import type { ReadPage } from './pages/page.ts'
import { reflect } from './reflector.ts'

export interface ApiSourceOptions {
  readonly api: ApiClient
  readonly readPage: ReadPage
  readonly cluster: Cluster
  readonly nodeName: string
  readonly log: Logger
  readonly signal: AbortSignal
}

/**
 * Services of another proxy, and slices of headless ones, never reach us. Headless Services do: kube-proxy's field selector
 * for these is not known to API servers before Kubernetes 1.31.
 */
const SERVICES = { labelSelector: '!service.kubernetes.io/service-proxy-name' }
const ENDPOINT_SLICES = { labelSelector: '!service.kubernetes.io/headless' }

/** Keeps the cluster's facts up to date until the signal aborts. */
export async function followApiServer(options: ApiSourceOptions): Promise<void> {
  const { cluster, nodeName, readPage, ...common } = options
  const follow = <R extends Resource>(
    resource: R,
    collection: Collection<Facts[R]>,
    path: string,
    selectors: Readonly<Record<string, string>>,
    optional = false,
  ): Promise<void> =>
    reflect<Facts[R]>({
      ...common,
      ...{ path, selectors, optional },
      collection,
      readPage: (body) => readPage(resource, body),
      parse: PARSERS[resource],
    })
  const thisNode = { fieldSelector: `metadata.name=${nodeName}` }
  await Promise.all([
    follow('services', cluster.services, '/api/v1/services', SERVICES),
    follow(
      'endpointSlices',
      cluster.endpointSlices,
      '/apis/discovery.k8s.io/v1/endpointslices',
      ENDPOINT_SLICES,
    ),
    follow('nodes', cluster.nodes, '/api/v1/nodes', thisNode),
    // Since Kubernetes 1.33; kube-proxy's role has them, and others may not.
    follow('serviceCidrs', cluster.serviceCidrs, '/apis/networking.k8s.io/v1/servicecidrs', {}, true),
  ])
}

const NAMES_LIMIT = 20
/** Nodes are large, and their names are all that is asked for (Kubernetes API concepts, "Metadata-only fetches"). */
const NAMES_ONLY = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json'

/** Some names of Nodes, and how many more there are. Throws as `ApiClient.get`. */
export async function listNodeNames(
  api: ApiClient,
  signal: AbortSignal,
): Promise<{ readonly names: readonly string[]; readonly more: number }> {
  const response = await api.get('/api/v1/nodes', { limit: String(NAMES_LIMIT) }, signal, NAMES_ONLY)
  const { metadata, items } = (await readJson(response)) as {
    metadata?: { remainingItemCount?: number }
    items?: readonly { metadata?: { name?: string } }[]
  }
  const names = (items ?? []).flatMap((item) => item.metadata?.name ?? [])
  return { names, more: metadata?.remainingItemCount ?? 0 }
}
