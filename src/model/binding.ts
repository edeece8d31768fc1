/** How a virtual IP is made one of the node's own. */
import type { Address } from './address.ts'

/** As an address on kube-ipvs0, or as a route of table `local` on lo. */
export type Binding = 'address' | 'route'

/** In which ways it is: in both, while it is switched from one to the other. */
export type Bound = Binding | 'both'

export const BINDINGS: readonly Binding[] = ['address', 'route']

/** Of our routes (linux/rtnetlink.h, rtm_protocol): nobody else is known to have this number. */
export const ROUTE_PROTOCOL = 73

export function isBinding(value: unknown): value is Binding {
  return value === 'address' || value === 'route'
}

/** `bound` is undefined for an address that is not bound at all. */
export function isBoundAs(binding: Binding, bound: Bound | undefined): boolean {
  return bound === binding || bound === 'both'
}

const OTHER = { address: 'route', route: 'address' } as const

/** Notes that an address is bound, beside what is known of it. */
export function addBinding(addresses: Map<Address, Bound>, address: Address, binding: Binding): void {
  const isBoth = isBoundAs(OTHER[binding], addresses.get(address))
  addresses.set(address, isBoth ? 'both' : binding)
}

/** Notes that an address is not bound in this way any more. */
export function removeBinding(addresses: Map<Address, Bound>, address: Address, binding: Binding): void {
  if (isBoundAs(OTHER[binding], addresses.get(address))) addresses.set(address, OTHER[binding])
  else addresses.delete(address)
}
