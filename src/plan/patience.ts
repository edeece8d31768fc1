/**
 * Many deletions wait while more is being made. The kernel keeps deleted real servers for up to two minutes in a list that
 * every later creation scans (`ip_vs_trash_get_dest`, net/netfilter/ipvs/ip_vs_ctl.c): with 110,000 in it, as many
 * creations took 40 s in the lab instead of 1.4.
 */

/** Fewer objects than this are deleted at once. */
const MANY = 100
/** For so long nothing has been made: no more will come. */
const QUIET_MS = 500
/** No longer than this. */
const LONGEST_MS = 10_000

export class Patience<Key> {
  readonly #held = new Set<Key>()
  #since: number | undefined
  #dueAt = Infinity

  /** When what is held may go ahead; Infinity while there is none. */
  get dueAt(): number {
    return this.#dueAt
  }

  get isHolding(): boolean {
    return this.#held.size > 0
  }

  /** Holds these deletions, unless they may go ahead: they are few, nothing is made, or others have waited too long. */
  hold(deletions: readonly Key[], isMaking: boolean, now: number): boolean {
    if (this.#mayGoAhead(deletions.length, isMaking, now)) {
      if (!this.isHolding) this.#since = undefined
      return false
    }
    this.#since ??= now
    this.#dueAt = Math.min(now + QUIET_MS, this.#since + LONGEST_MS)
    for (const key of deletions) this.#held.add(key)
    return true
  }

  #mayGoAhead(count: number, isMaking: boolean, now: number): boolean {
    if (count + this.#held.size < MANY || !(isMaking || this.isHolding)) return true
    return this.#since !== undefined && now >= this.#since + LONGEST_MS
  }

  /** Hands out what was held. */
  release(): Key[] {
    const keys = [...this.#held]
    this.#held.clear()
    this.#dueAt = Infinity
    return keys
  }
}
