/** Takes away what is ours on addresses that somebody else must have. */
import { type Address, familyOf } from '../model/address.ts'
import { addressOf, type KernelState, type ObjectKey, objectsOf } from '../model/kernel-object.ts'
import type { Operation } from '../model/operation.ts'
import { setName } from '../model/sets.ts'
import { planChanges } from './plan.ts'

/** What Services have as a cluster IP is not somebody else's: it may be the way to the API server itself. */
function isClusterIp(address: Address, { setMembers }: KernelState): boolean {
  const start = `${setName('KUBE-CLUSTER-IP', familyOf(address))} ${address},`
  return [...setMembers].some((member) => member.startsWith(start))
}

/** What unbinds these addresses, where they are bound and no cluster IPs, and deletes what is ours on them. */
export function planRelease(
  addresses: Iterable<Address>,
  known: KernelState,
  foreign: ReadonlySet<ObjectKey>,
): Operation[] {
  const bound = [...addresses].filter((address) => known.addresses.has(address))
  const ours = new Set(bound.filter((address) => !isClusterIp(address, known)))
  if (ours.size === 0) return []
  const objects = [...objectsOf(known)].filter((object) => {
    const address = addressOf(object)
    return address !== undefined && ours.has(address)
  })
  return planChanges(objects, { wanted: () => undefined, known, foreign, isExcluded: () => false })
}
