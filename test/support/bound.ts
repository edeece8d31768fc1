/** Virtual IPs that are bound, in words: how, where it is not only as an address. */
import type { Address } from '../../src/model/address.ts'
import type { Bound } from '../../src/model/binding.ts'

export function boundLines(addresses: ReadonlyMap<Address, Bound>): string[] {
  return [...addresses].map(([address, bound]) => (bound === 'address' ? address : `${address} ${bound}`))
}
