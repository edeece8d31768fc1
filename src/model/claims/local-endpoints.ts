/** What a Service has on this node: for health checks, and for what is said where it has nothing. */
import { type Family, familyOf } from '../address.ts'
import { type EndpointSlice, isExposed, type Service } from '../facts/facts.ts'
import type { MappingOptions } from './claim.ts'
import { collectBackends, type EndpointPolicy, isLocal, selectBackends } from './endpoints.ts'

/** The distinct addresses of local ready endpoints, by family: what a health-check node port answers. */
export function localEndpoints(
  service: Service,
  slices: Iterable<EndpointSlice>,
  { nodeName, families }: Pick<MappingOptions, 'nodeName' | 'families'>,
): ReadonlyMap<Family, number> {
  const published = [...slices]
  const count = (family: Family): number =>
    new Set(
      service.ports
        .flatMap((port) => collectBackends(published, port, family))
        .filter((backend) => backend.endpoint.ready && isLocal(backend, { nodeName }))
        .map(({ realServer: { address } }) => address),
    ).size
  const served = service.clusterIps.map(familyOf).filter((family) => families.has(family))
  return new Map(served.map((family) => [family, count(family)]))
}

/** A kind of traffic, and the family in which it finds no endpoint on this node. */
export interface LocalLack {
  readonly traffic: 'internal' | 'external'
  readonly family: Family
}

/** The traffic that a Service wants to keep on this node, which has no endpoint for it while other nodes have. */
export function localLacks(
  service: Service,
  slices: Iterable<EndpointSlice>,
  options: Pick<MappingOptions, 'nodeName' | 'zone' | 'families'>,
): LocalLack[] {
  const traffics = [
    ...(service.internalTrafficPolicy === 'Local' ? (['internal'] as const) : []),
    ...(service.externalTrafficPolicy === 'Local' && isExposed(service) ? (['external'] as const) : []),
  ]
  if (traffics.length === 0) return []
  const published = [...slices]
  const isLacking = (family: Family): boolean =>
    service.ports.some((port) => {
      const backends = collectBackends(published, port, family)
      const count = (policy: EndpointPolicy): number =>
        selectBackends(backends, policy, options).inService.length
      return count('Cluster') > 0 && count('Local') === 0
    })
  return service.clusterIps
    .map(familyOf)
    .filter((family) => options.families.has(family) && isLacking(family))
    .flatMap((family) => traffics.map((traffic) => ({ traffic, family })))
}
