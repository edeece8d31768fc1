/** Networks that cluster IPs are allocated from (networking.k8s.io/v1, KEP-1880; Kubernetes 1.33 and later). */
import type { Cidr } from './cidr.ts'
import type { Parsed } from './facts.ts'
import { fault, list, record, usable } from './json.ts'
import { cidr, metadata, parsing } from './parse-object.ts'

export interface ServiceCidr {
  readonly name: string
  /** One per family at most. Cluster IPs may be in it until the object is gone, whatever its conditions say. */
  readonly cidrs: readonly Cidr[]
}

/** A network that cannot be read costs only itself. Never throws. */
export function parseServiceCidr(object: unknown): Parsed<ServiceCidr> {
  const { name } = metadata(object, { namespaced: false })
  return parsing('ServiceCIDR', name, () => {
    const { cidrs } = record(record(object).spec)
    const networks = list(cidrs, 'spec.cidrs')
    if (networks.length === 0) fault('spec.cidrs', cidrs, 'one or two networks')
    const { items, faults } = usable(networks, 'spec.cidrs', cidr)
    const problems = faults.map((message) => `Cannot use a part of ServiceCIDR ${name}: ${message}`)
    return { fact: { name, cidrs: items }, problems }
  })
}
