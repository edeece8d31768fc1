/** Families of addresses as the kernel numbers them (linux/socket.h). */
import type { Family } from '../model/address.ts'

export const AF_UNSPEC = 0
export const AF_INET = 2
export const AF_INET6 = 10

/** The kernel's number of a family. */
export function familyNumber(family: Family): number {
  return family === 'IPv6' ? AF_INET6 : AF_INET
}
