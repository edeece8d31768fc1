/** The numbers and names of system calls, as the headers of the C library's developers have them. */
import { readFileSync } from 'node:fs'

/** Of x86-64. */
const X86_64 = '/usr/include/x86_64-linux-gnu/asm/unistd_64.h'
/** What all newer architectures have, arm64 among them. */
const GENERIC = '/usr/include/asm-generic/unistd.h'

const read = (file: string): Map<number, string> =>
  new Map(
    [...readFileSync(file, 'utf8').matchAll(/^#define __NR(?:3264)?_(\w+)\s+(\d+)$/gm)].map(
      ([, name, number]) => [Number(number), name!] as const,
    ),
  )

export const syscallNames = (): Map<number, string> => read(X86_64)

/** Of arm64, where one has another name for libseccomp. */
export const arm64Names = (): Set<string> =>
  new Set([...read(GENERIC).values()].map((name) => (name === 'fstatat' ? 'newfstatat' : name)))
