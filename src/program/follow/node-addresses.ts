/** Follows the addresses of the node's interfaces. */
import type { Logger } from 'pino'
import { followNodeAddresses } from '../../kernel/link/node-addresses.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import type { Multicast, Socket } from '../../netlink/socket.ts'
import type { Current } from '../current.ts'

export interface FollowedAddresses {
  readonly addon: Socket & Multicast
  readonly current: Pick<Current, 'nodeAddresses'>
  readonly cluster: Pick<Cluster, 'markExposed'>
  /** An interface that comes may be on a bridge. */
  readonly tendBridges: () => Promise<void>
  /** Has the health-check node ports listen where the node is now. */
  readonly readdress: () => void
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Resolves when they have been read once. Until the signal aborts. */
export async function followAddresses(followed: FollowedAddresses): Promise<void> {
  const { addon, current, cluster, tendBridges, readdress, log, signal } = followed
  await followNodeAddresses({
    ...{ addon, log, signal },
    onChange: (addresses) => {
      current.nodeAddresses = addresses
      void tendBridges()
      cluster.markExposed()
      readdress()
    },
  })
}
