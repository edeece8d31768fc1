/** What this process may do. */
import { readFileSync } from 'node:fs'

/** linux/capability.h */
const NUMBERS = { NET_ADMIN: 12n, NET_RAW: 13n, SYS_ADMIN: 21n } as const

/** Whether a capability is effective, by the text of /proc/self/status. */
export function hasCapability(
  name: keyof typeof NUMBERS,
  status = readFileSync('/proc/self/status', 'utf8'),
): boolean {
  const [, mask = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(status) ?? []
  return (BigInt(`0x${mask}`) & (1n << NUMBERS[name])) !== 0n
}
