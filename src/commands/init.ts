/** `--init-only`: what needs full privileges. Afterwards CAP_NET_ADMIN and CAP_NET_RAW are enough. */
import type { Logger } from 'pino'
import type { Config } from '../config/config.ts'
import { supportedFamilies } from '../kernel/host/families.ts'
import { loadNamespaceSchedulers } from '../kernel/ipvs/schedulers.ts'
import { loadAddon } from '../netlink/socket.ts'
import { chooseConnReuse, openBridges, openKernel, setUpNode } from '../program/node-setup.ts'
import type { Command } from './command.ts'
import { readConfig } from './configuration.ts'

/** Sets what the configuration asks for of the kernel and the node. */
async function initialize(config: Config, log: Logger): Promise<void> {
  const families = await supportedFamilies()
  const kernel = await openKernel({ addon: loadAddon(), families }, log)
  try {
    await setUpNode(kernel, config, log)
    await openBridges(families, log)()
    // The node's scheduler may be switched to one of them later, where nobody may load modules.
    await loadNamespaceSchedulers()
  } finally {
    kernel.close()
  }
  await chooseConnReuse(log)
  log.info('the node is prepared')
}

export const INIT: Command = {
  name: 'init',
  description: 'do what needs full privileges, and exit: then NET_ADMIN and NET_RAW are enough',
  flag: { name: 'init-only', kind: 'flag' },
  run: async (context) => {
    const { loaded } = await readConfig(context)
    await initialize(loaded.config, context.log)
    return 'stopped'
  },
}
