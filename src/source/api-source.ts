/** Facts from the API server. */
import type { Logger } from 'pino'
import type { Cluster } from '../model/cluster.ts'
import { parseEndpointSlice, parseNode, parseService } from '../model/parse-facts.ts'
import type { ApiClient } from './api-client.ts'
import { reflect } from './reflector.ts'

export interface ApiSourceOptions {
  readonly api: ApiClient
  readonly cluster: Cluster
  readonly nodeName: string
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Services of another proxy, and headless ones where they are labelled, never reach us. */
const SERVICES = {
  labelSelector: '!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless',
}
const ENDPOINT_SLICES = { labelSelector: '!service.kubernetes.io/headless' }

/** Keeps the cluster's facts up to date until the signal aborts. */
export async function followApiServer({ cluster, nodeName, ...common }: ApiSourceOptions): Promise<void> {
  await Promise.all([
    reflect({
      ...common,
      path: '/api/v1/services',
      selectors: SERVICES,
      parse: parseService,
      collection: cluster.services,
    }),
    reflect({
      ...common,
      path: '/apis/discovery.k8s.io/v1/endpointslices',
      selectors: ENDPOINT_SLICES,
      parse: parseEndpointSlice,
      collection: cluster.endpointSlices,
    }),
    reflect({
      ...common,
      path: '/api/v1/nodes',
      selectors: { fieldSelector: `metadata.name=${nodeName}` },
      parse: parseNode,
      collection: cluster.nodes,
    }),
  ])
}
