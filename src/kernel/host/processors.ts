/** The machine's processors. */
import { readFileSync } from 'node:fs'
import { cpus } from 'node:os'

const ONLINE = '/sys/devices/system/cpu/online'

/** How many processors are in a list such as `0-3,8` (the kernel's admin-guide/cputopology.rst). */
export function countListed(list: string): number {
  const lengths = list.split(',').map((range) => {
    const [first, last = first] = range.split('-').map(Number)
    return last! - first! + 1
  })
  return lengths.reduce((sum, length) => sum + length, 0)
}

/** Those that are online, whichever of them this process may use. os.cpus() also asks each of them for its state. */
export function countProcessors(online = ONLINE): number {
  try {
    return countListed(readFileSync(online, 'utf8'))
  } catch {
    return cpus().length
  }
}
