/** Networks that cluster IPs are allocated from (networking.k8s.io/v1, KEP-1880; Kubernetes 1.33 and later). */
import type { Parsed, ServiceCidr } from './facts.ts'
import { fault, list, record, usableItems } from './json.ts'
import { cidr, metadata, parsing } from './parse-object.ts'

/** A network that cannot be read costs only itself. Never throws. */
export function parseServiceCidr(object: unknown): Parsed<ServiceCidr> {
  const { name } = metadata(object, { namespaced: false })
  return parsing('ServiceCIDR', name, () => {
    const { cidrs } = record(record(object).spec)
    const networks = list(cidrs, 'spec.cidrs')
    if (networks.length === 0) fault('spec.cidrs', cidrs, 'one or two networks')
    const { items, faults } = usableItems(networks, 'spec.cidrs', cidr)
    const problems = faults.map((message) => `Cannot use a part of ServiceCIDR ${name}: ${message}`)
    return { fact: { name, cidrs: items }, problems }
  })
}
