/** A copy of this folder as a fresh clone would be, with its packages installed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { cpSync, lstatSync, mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'

/** What git would have, and the packages that npm has installed: the compiler's output is not among them. */
export function cleanFolder(place: string): string {
  const files = execFileSync('git', ['ls-files', '-co', '--exclude-standard'], { encoding: 'utf8' })
  for (const file of files.trim().split('\n')) {
    mkdirSync(dirname(join(place, file)), { recursive: true })
    if (lstatSync(file, { throwIfNoEntry: false }))
      cpSync(file, join(place, file), { verbatimSymlinks: true })
  }
  if (spawnSync('cp', ['-al', 'node_modules', place]).status !== 0)
    execFileSync('cp', ['-a', 'node_modules', place])
  // Newer than the lock file, or they would be installed once more.
  execFileSync('touch', [join(place, 'node_modules/.package-lock.json')])
  return place
}
