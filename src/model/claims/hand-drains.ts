/** Endpoints that an operator has taken out of service on this node. */
import type { Endpoint, EndpointSlice } from '../facts/facts.ts'
import { splitServiceName } from '../facts/facts.ts'

/** As they were named: Pods as `namespace/name`, and IP addresses. */
export type HandDrains = Pick<ReadonlySet<string>, 'has' | 'size'>

/** Under which name an endpoint is drained; undefined: it is not. */
function drainedAs({ address, pod }: Endpoint, namespace: string, drains: HandDrains): string | undefined {
  const name = `${namespace}/${pod ?? ''}`
  if (drains.has(address)) return address
  return drains.has(name) ? name : undefined
}

/**
 * Slices in which what is drained by hand serves no more. It is published all the same: open connections go on, without
 * a deadline.
 */
export function drainByHand(slices: Iterable<EndpointSlice>, drains: HandDrains): Iterable<EndpointSlice> {
  if (drains.size === 0) return slices
  return [...slices].map((slice) => {
    const { namespace } = splitServiceName(slice.service)
    const isDrained = (endpoint: Endpoint): boolean => drainedAs(endpoint, namespace, drains) !== undefined
    if (!slice.endpoints.some(isDrained)) return slice
    return { ...slice, endpoints: slice.endpoints.map((endpoint) => drained(endpoint, namespace, drains)) }
  })
}

function drained(endpoint: Endpoint, namespace: string, drains: HandDrains): Endpoint {
  const name = drainedAs(endpoint, namespace, drains)
  return name === undefined ? endpoint : { ...endpoint, ready: false, serving: false, drainedAs: name }
}
