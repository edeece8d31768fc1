/** What a test wants, and what it finds, in ipvsadm's words. */
import { parseAddress } from '../../src/model/address.ts'
import type { Binding } from '../../src/model/binding.ts'
import type { Claim, Title, WantedVirtualServer } from '../../src/model/claims/claim.ts'
import {
  type KernelObject,
  type KernelState,
  type ObjectKey,
  objectsOf,
} from '../../src/model/kernel-object.ts'
import { ipvsIpsMember } from '../../src/model/sets.ts'
import type { RealServerKey, VirtualServerKey } from '../../src/model/virtual-server.ts'
import { parseIpvsadm } from './ipvsadm-text.ts'

/** Claims of one Service on every virtual server in the text, on their addresses and set members. */
export function claimsFor(
  text: string,
  lingering: readonly string[] = [],
  binding: Binding = 'address',
  owner = 'shop/web',
): Map<ObjectKey, Claim> {
  const claims = new Map<ObjectKey, Claim>()
  for (const virtualServer of parseIpvsadm(text).values()) {
    const vip = virtualServer.id.address
    const title: Title = { owner, right: 'clusterIp', createdAt: 0, vip }
    const member = ipvsIpsMember(vip)
    claims.set(member, { kind: 'setMember', key: member, ...title, about: undefined })
    const { key } = virtualServer.id
    const wanted = { ...virtualServer, lingering: new Set(lingering as RealServerKey[]) }
    claims.set(key, { kind: 'virtualServer', key, ...title, virtualServer: wanted })
    claims.set(vip, { kind: 'address', key: vip, binding, ...title })
  }
  return claims
}

/** The virtual server that is claimed under a key. */
export function wantedIn(
  claims: ReadonlyMap<ObjectKey, Claim>,
  key: VirtualServerKey,
): WantedVirtualServer | undefined {
  const claim = claims.get(key)
  return claim?.kind === 'virtualServer' ? claim.virtualServer : undefined
}

/** Every virtual server that is claimed. */
export function allWanted(claims: ReadonlyMap<ObjectKey, Claim>): WantedVirtualServer[] {
  return [...claims.values()].flatMap((claim) =>
    claim.kind === 'virtualServer' ? [claim.virtualServer] : [],
  )
}

/** Everything that is claimed or known, each once. */
export function allObjects(
  claims: ReadonlyMap<ObjectKey, Claim>,
  known: KernelState,
): Iterable<KernelObject> {
  const objects: KernelObject[] = [...claims.values(), ...objectsOf(known)]
  return new Map(objects.map((object) => [object.key, object])).values()
}

export function addressSet(...texts: readonly string[]): Set<NonNullable<ReturnType<typeof parseAddress>>> {
  return new Set(texts.map((text) => parseAddress(text)!))
}
