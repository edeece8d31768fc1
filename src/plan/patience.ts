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

export interface Deletions {
  /** How many there are, with those that wait already. */
  readonly count: number
  /** Something is being made now, or others wait already. */
  readonly isMaking: boolean
  /** Since when deletions have waited; undefined: they have not. */
  readonly since: number | undefined
  readonly now: number
}

/** Until when deletions have to wait; undefined when they may go ahead. Times are ms of the caller's clock. */
export function holdUntil({ count, isMaking, since, now }: Deletions): number | undefined {
  if (count < MANY || !isMaking) return undefined
  if (since !== undefined && now >= since + LONGEST_MS) return undefined
  return Math.min(now + QUIET_MS, (since ?? now) + LONGEST_MS)
}
