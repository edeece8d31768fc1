/** What the kernel's ipset says, in words. */
import { NetlinkError } from '../../../netlink/error.ts'

/** IPSET_ERR_HASH_FULL. */
export const SET_IS_FULL = 4352

/** IPSET_ERR_* are errnos of their own (linux/netfilter/ipset/ip_set.h). */
const IPSET_ERRORS: ReadonlyMap<number, string> = new Map([
  // EBUSY: a set that is being dumped cannot be replaced (ip_set_swap, net/netfilter/ipset/ip_set_core.c).
  [16, 'somebody reads the set: see that no "ipset list" waits'],
  [4097, 'the kernel speaks another protocol'],
  [4100, 'rules or other sets ask it'],
  [4102, 'the set has another type'],
  [SET_IS_FULL, 'the set is full'],
])

/** The error of a request about a set, in words where the errno alone does not say it. */
export function explainSetError(error: NetlinkError): Error {
  const words = IPSET_ERRORS.get(error.errno)
  return words === undefined ? error : new Error(`${error.message}: ${words}`, { cause: error })
}

/** The refusal of a change, with the meaning of an errno of ipset's own. */
export function withMeaning(error: NetlinkError, action: string): NetlinkError {
  const meaning = IPSET_ERRORS.get(error.errno)
  if (meaning === undefined) return error
  const { errno, kernelMessage, offset } = error
  return new NetlinkError(action, errno, { kernelMessage, offset, meaning })
}
