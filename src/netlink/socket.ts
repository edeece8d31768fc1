/** The one place that loads the addon. */
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import type { MulticastAddon, NetlinkAddon } from '../../native/index.d.ts'

/** Bytes in, bytes out: the seam below which there is only the kernel. */
export type Socket = NetlinkAddon

/** Notifications of the kernel, that is, messages that nobody asked for. */
export type Multicast = MulticastAddon

/** The program runs from src/ or, bundled, from dist/: the addon lies beside either, at the package's root. */
function packageRoot(): string {
  let folder = import.meta.dirname
  while (!existsSync(join(folder, 'native', 'binding.gyp'))) {
    const parent = dirname(folder)
    if (parent === folder) throw new Error(`Cannot find the folder native above ${import.meta.dirname}`)
    folder = parent
  }
  return folder
}

/** Loads the addon: a prebuilt one, or the one that `npm run build` has compiled. */
export function loadAddon(): Socket & Multicast {
  const load = createRequire(import.meta.url)('node-gyp-build') as (folder: string) => Socket & Multicast
  return load(join(packageRoot(), 'native'))
}
