import { constants } from 'node:os'

const ERRNO_NAMES = new Map(Object.entries(constants.errno).map(([name, errno]) => [errno, name]))

/** What is known about a failed request beside its errno. */
export interface NetlinkErrorDetails {
  /** The kernel's own words (extended acknowledgement, NLMSGERR_ATTR_MSG). */
  readonly kernelMessage?: string | undefined
  /** Byte offset in the request that the kernel complains about (NLMSGERR_ATTR_OFFS). */
  readonly offset?: number | undefined
  /** The errno in words, where it is one of the subsystem's own. */
  readonly meaning?: string | undefined
  readonly cause?: unknown
}

/** The kernel, or the socket, refused a request. */
export class NetlinkError extends Error {
  override readonly name = 'NetlinkError'
  /** Positive, as in errno(3). */
  readonly errno: number
  /** For example `EEXIST`. */
  readonly code: string
  readonly kernelMessage: string | undefined
  readonly offset: number | undefined
  readonly meaning: string | undefined

  constructor(action: string, errno: number, details: NetlinkErrorDetails = {}) {
    const code = ERRNO_NAMES.get(errno) ?? `errno ${errno}`
    const words = details.kernelMessage === undefined ? '' : `, the kernel says "${details.kernelMessage}"`
    super(`${action}: ${code}${words}`, 'cause' in details ? { cause: details.cause } : undefined)
    this.errno = errno
    this.code = code
    this.kernelMessage = details.kernelMessage
    this.offset = details.offset
    this.meaning = details.meaning
  }
}

/**
 * What became of messages, or of operations: the reasons of those that were refused, by their place in what was asked,
 * from 0. One that is not here succeeded.
 */
export type Refusals<Reason extends Error = Error> = ReadonlyMap<number, Reason>

/** Bytes that are not what the protocol says they are. */
export class DecodeError extends Error {
  override readonly name = 'DecodeError'
}

function hasCode(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof NetlinkError && codes.includes(error.code)
}

/** The object that was to be created is there. */
export function isAlreadyExists(error: unknown): boolean {
  return hasCode(error, 'EEXIST')
}

/** The object, or the one it belongs to, is not there. IPVS says ESRCH for an unknown virtual server. */
export function isNotFound(error: unknown): boolean {
  return hasCode(error, 'ENOENT', 'ESRCH', 'EADDRNOTAVAIL')
}

/** The kernel changed a table while it was being dumped: the result may be partial (NLM_F_DUMP_INTR). */
export function isInterrupted(error: unknown): boolean {
  return hasCode(error, 'EINTR')
}

/** The process may not do this: it lacks CAP_NET_ADMIN. */
export function isNotPermitted(error: unknown): boolean {
  return hasCode(error, 'EPERM', 'EACCES')
}
