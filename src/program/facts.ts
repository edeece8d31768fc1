/** The facts of the cluster, where they come from, and who else has the addresses in them. */
import type { Logger } from 'pino'
import { readLinksOnce } from '../kernel/link/routes.ts'
import { Cluster } from '../model/facts/cluster.ts'
import type { Socket } from '../netlink/socket.ts'
import { openAlarm } from '../waiting/alarm.ts'
import { Doorbell } from '../waiting/doorbell.ts'
import type { Life } from './life.ts'
import { Lookout } from './lookout.ts'
import { openOrigin, type Origin, type OriginChoice, type OriginOptions } from './origin.ts'

/** So long the end waits for Events that the API server has not taken yet. */
const LAST_EVENTS_MS = 1_000

export interface FollowedFacts {
  /** Rung by every change of the facts, and when the API server is lost. */
  readonly doorbell: Doorbell
  readonly cluster: Cluster
  readonly origin: Origin
  /** Who else has external addresses. */
  readonly lookout: Lookout
}

export interface FactsOptions {
  readonly nodeName: string
  readonly choice: OriginChoice
  readonly addon: Socket
  readonly metrics: OriginOptions['metrics']
  readonly life: Life
  readonly log: Logger
}

/** Throws an Error when there is nowhere to have facts from. They come when the origin is followed. */
export function openFacts({ nodeName, choice, addon, metrics, life, log }: FactsOptions): FollowedFacts {
  const { signal } = life
  const doorbell = new Doorbell()
  const ring = (): void => {
    doorbell.ring()
  }
  const cluster = new Cluster(nodeName, ring, { since: Date.now() })
  const onApiMoved = (): void => {
    cluster.markExposed()
  }
  const origin = openOrigin(choice, { nodeName, metrics, log, signal, onApiMoved, onApiLost: ring })
  life.atEnd(() => origin.endEvents(LAST_EVENTS_MS))
  const lookout = openLookout(addon, origin, { cluster, log, signal })
  return { doorbell, cluster, origin, lookout }
}

/** Opens what looks for other owners of external addresses, and lets it run. */
function openLookout(
  addon: Socket,
  origin: Origin,
  { cluster, log, signal }: { readonly cluster: Cluster; readonly log: Logger; readonly signal: AbortSignal },
): Lookout {
  const alarm = openAlarm()
  const peers = origin.followPeers({
    isWanted: () => cluster.externalAddresses().size > 0,
    onChange: () => {
      alarm.ring()
    },
  })
  const lookout = new Lookout({ cluster, peers, alarm, log, signal, readLinks: () => readLinksOnce(addon) })
  const lookAgain = (): void => {
    lookout.lookAgain()
  }
  cluster.listen({ onExternalAddressNamed: lookAgain, onNodeChange: lookAgain })
  void lookout.run()
  // Some may have been named already.
  lookAgain()
  return lookout
}
