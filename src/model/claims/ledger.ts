/** All claims by the kernel object they are on: reference counts, ownership and conflicts in one place. */
import type { Claim, Right, SetMemberClaim, WantedVirtualServer } from './claim.ts'
import type { ServiceName } from '../facts/facts.ts'
import type { KernelObject, ObjectKey } from '../kernel-object.ts'
import type { VirtualServerKey } from '../virtual-server.ts'

/** A Service that does not get a virtual server, as another one, or somebody else, has it. */
export interface Conflict {
  readonly loser: ServiceName
  /** `shop/web is older`. */
  readonly reason: string
}

/** What the winner has an address as, where that decides. */
const RIGHTS: Readonly<Record<Right, string>> = {
  clusterIp: 'it is the cluster IP of',
  nodePort: 'it is a node port of',
  loadBalancer: 'it is a load-balancer IP of',
  externalIp: 'it is an external IP of',
}
/** The stronger right first. */
const STRENGTH = Object.keys(RIGHTS) as readonly Right[]

/** A cluster IP is allocated, an external IP only named: so the right counts before the age. */
function isSenior(a: Claim, b: Claim): boolean {
  const strength = STRENGTH.indexOf(a.right) - STRENGTH.indexOf(b.right)
  if (strength !== 0) return strength < 0
  return a.createdAt === b.createdAt ? a.owner < b.owner : a.createdAt < b.createdAt
}

function reasonOf(winner: Claim, loser: Claim): string {
  return winner.right === loser.right ? `${winner.owner} is older` : `${RIGHTS[winner.right]} ${winner.owner}`
}

function isAbout(claim: Claim, key: VirtualServerKey): claim is SetMemberClaim {
  return claim.kind === 'setMember' && claim.about?.includes(key) === true
}

function isOne(found: Claim | readonly Claim[]): found is Claim {
  return 'owner' in found
}

const NONE: readonly Claim[] = []

export class Ledger {
  readonly #byOwner = new Map<ServiceName, readonly Claim[]>()
  /** Nearly all objects are wanted by one Service: then its claim, without a list around it. */
  readonly #byKey = new Map<ObjectKey, Claim | readonly Claim[]>()

  /** Replaces all claims of a Service (none: it is gone) and returns the objects that may be affected. */
  replace(owner: ServiceName, claims: readonly Claim[]): readonly KernelObject[] {
    const affected = new Map<ObjectKey, KernelObject>()
    const before = this.claimsOf(owner)
    for (const claim of before) {
      affected.set(claim.key, claim)
      this.#set(
        claim.key,
        this.#claimsOn(claim.key).filter((other) => other.owner !== owner),
      )
    }
    let isContested = before.length > 0
    for (const claim of claims) {
      affected.set(claim.key, claim)
      const others = this.#claimsOn(claim.key)
      isContested ||= others.length > 0
      this.#set(
        claim.key,
        others.length === 0 ? [claim] : [...others, claim].sort((a, b) => (isSenior(a, b) ? -1 : 1)),
      )
    }
    if (claims.length > 0) this.#byOwner.set(owner, claims)
    else this.#byOwner.delete(owner)
    if (isContested) this.#addContested(owner, affected)
    return [...affected.values()]
  }

  /**
   * The claim that counts: that of the strongest right, and then of the oldest Service, but a set member about virtual
   * servers counts only for the Service that has one of them. Undefined when nobody wants the object.
   */
  wanted(key: ObjectKey): Claim | undefined {
    return this.#claimsOn(key).find((claim) => this.#counts(claim))
  }

  /** A virtual server as it is wanted; undefined when nobody wants it. */
  virtualServer(key: VirtualServerKey): WantedVirtualServer | undefined {
    const [claim] = this.#claimsOn(key)
    return claim?.kind === 'virtualServer' ? claim.virtualServer : undefined
  }

  /** Everybody but the winner, when the object can only be one Service's: a virtual server. */
  conflicts(key: ObjectKey): Conflict[] {
    const [winner, ...losers] = this.#claimsOn(key)
    if (winner?.kind !== 'virtualServer') return []
    return losers.map((loser) => ({ loser: loser.owner, reason: reasonOf(winner, loser) }))
  }

  /** Somebody wants it. */
  isClaimed(key: ObjectKey): boolean {
    return this.#byKey.has(key)
  }

  /** Everything that somebody wants. */
  *objects(): Generator<KernelObject> {
    for (const found of this.#byKey.values()) yield isOne(found) ? found : found[0]!
  }

  /** Services that claim something. */
  owners(): IterableIterator<ServiceName> {
    return this.#byOwner.keys()
  }

  /** All claims of a Service, in the order in which they are made. */
  claimsOf(owner: ServiceName): readonly Claim[] {
    return this.#byOwner.get(owner) ?? NONE
  }

  #counts(claim: Claim): boolean {
    if (claim.kind !== 'setMember' || claim.about === undefined) return true
    return claim.about.some((one) => this.#claimsOn(one)[0]?.owner === claim.owner)
  }

  /** Where several want a virtual server, another one may have it now: its set members count. */
  #addContested(owner: ServiceName, affected: Map<ObjectKey, KernelObject>): void {
    for (const { kind, key } of [...affected.values()]) {
      if (kind !== 'virtualServer') continue
      for (const { owner: other } of this.#claimsOn(key)) {
        if (other === owner) continue
        for (const claim of this.claimsOf(other)) if (isAbout(claim, key)) affected.set(claim.key, claim)
      }
    }
  }

  #claimsOn(key: ObjectKey): readonly Claim[] {
    const found = this.#byKey.get(key)
    if (found === undefined) return NONE
    return isOne(found) ? [found] : found
  }

  #set(key: ObjectKey, claims: readonly Claim[]): void {
    if (claims.length > 0) this.#byKey.set(key, claims.length === 1 ? claims[0]! : claims)
    else this.#byKey.delete(key)
  }
}
