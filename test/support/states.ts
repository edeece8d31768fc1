/** What a test wants, and what it finds, in ipvsadm's words. */
import { parseAddress } from '../../src/model/address.ts'
import type { Claim, WantedVirtualServer } from '../../src/model/claims/claims.ts'
import type { ObjectKey } from '../../src/model/kernel-object.ts'
import { ipvsIpsMember } from '../../src/model/sets.ts'
import type { RealServerKey } from '../../src/model/virtual-server.ts'
import { parseIpvsadm } from './ipvsadm-text.ts'

/** Claims of one Service on every virtual server in the text, on their addresses and set members. */
export function claimsFor(
  text: string,
  lingering: readonly string[] = [],
  owner = 'shop/web',
): Map<ObjectKey, Claim> {
  const claims = new Map<ObjectKey, Claim>()
  for (const virtualServer of parseIpvsadm(text).values()) {
    const vip = virtualServer.id.address
    const set = (key: ObjectKey, wanted?: WantedVirtualServer): void => {
      claims.set(key, {
        key,
        owner,
        right: 'clusterIp',
        createdAt: 0,
        about: undefined,
        vip,
        virtualServer: wanted,
      })
    }
    set(ipvsIpsMember(vip))
    set(virtualServer.id.key, { ...virtualServer, lingering: new Set(lingering as RealServerKey[]) })
    set(vip)
  }
  return claims
}

export function addressSet(...texts: readonly string[]): Set<NonNullable<ReturnType<typeof parseAddress>>> {
  return new Set(texts.map((text) => parseAddress(text)!))
}
