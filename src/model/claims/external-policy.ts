/** Which networks the Services of each namespace may have external and load-balancer IPs in. */
import type { Address } from '../address.ts'
import { type Cidr, contains } from '../cidr.ts'

/** Stands for every namespace. */
export const EVERYBODY = '*'

/** Networks by namespace, and for everybody. */
export type ExternalPolicy = ReadonlyMap<string, readonly Cidr[]>

/** The address is in a network of this namespace, which the operator has named. */
export function isNamed(policy: ExternalPolicy, namespace: string, address: Address): boolean {
  return policy.get(namespace)?.some((network) => contains(network, address)) === true
}

/** The address is in a network of this namespace, or of everybody. */
export function isAllowed(policy: ExternalPolicy, namespace: string, address: Address): boolean {
  return isNamed(policy, namespace, address) || isNamed(policy, EVERYBODY, address)
}
