/** Modules of the kernel. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'

/** Loads a module, and what it needs. Throws an Error where there is none, or where we may not. */
export async function loadModule(name: string): Promise<void> {
  await promisify(execFile)('modprobe', ['-a', name])
}
