/** The health-check node ports of this node's Services. */
import type { Logger } from 'pino'
import { type Family, familyOf } from '../../model/address.ts'
import { drainByHand } from '../../model/claims/hand-drains.ts'
import { localEndpoints } from '../../model/claims/local-endpoints.ts'
import { isNodePortWildcard } from '../../model/claims/node-ports.ts'
import type { Cluster } from '../../model/facts/cluster.ts'
import { type ServiceName, splitServiceName } from '../../model/facts/facts.ts'
import { HealthNodePorts, type ServiceHealth } from '../../serve/health-node-ports.ts'
import type { ProxyHealth } from '../../serve/health.ts'
import type { RecordEvent } from '../../source/events.ts'
import type { Current } from '../current.ts'
import type { Life } from '../life.ts'
import { addressesOf } from '../mapping.ts'

export interface HealthNodePortsInput {
  readonly nodeName: string
  readonly families: ReadonlySet<Family>
  readonly cluster: Cluster
  readonly current: Pick<Current, 'config' | 'nodeAddresses' | 'drains'>
  readonly health: Pick<ProxyHealth, 'healthy' | 'lastingFaults'>
  readonly recordEvent: RecordEvent
  readonly life: Life
  readonly log: Logger
}

export interface OpenHealthNodePorts {
  /** Listens, or not, as a Service asks for now. */
  readonly update: (name: ServiceName) => void
  /** Listens anew where the addresses of the node are others. */
  readonly readdress: () => void
}

export function openHealthNodePorts(input: HealthNodePortsInput): OpenHealthNodePorts {
  const { cluster, current, health, recordEvent, life, log } = input
  const ports = new HealthNodePorts({
    addresses: (family) => healthAddresses(cluster, current, family),
    isHealthy: () => health.healthy,
    faults: () => health.lastingFaults,
    onFailure: (service, note) => {
      recordEvent({
        type: 'Warning',
        reason: 'FailedToStartServiceHealthcheck',
        action: 'Listen',
        regarding: { kind: 'Service', ...splitServiceName(service) },
        note,
      })
    },
    log,
  })
  life.atEnd(() => {
    ports.close()
  })
  return {
    update: (name) => {
      ports.update(name, healthOf(input, name))
    },
    readdress: () => {
      ports.readdress()
    },
  }
}

/** The addresses on which the health-check node ports of a family listen. */
export function healthAddresses(
  cluster: Pick<Cluster, 'node'>,
  { config, nodeAddresses }: Pick<Current, 'config' | 'nodeAddresses'>,
  family: Family,
): readonly string[] {
  if (isNodePortWildcard(config.nodePortAddresses, family)) return [family === 'IPv4' ? '0.0.0.0' : '::']
  const { nodePortAddresses } = addressesOf(config, cluster.node, nodeAddresses)
  return nodePortAddresses.filter((address) => familyOf(address) === family)
}

/** What the port of a Service is to say; undefined where it has none. */
function healthOf(
  { cluster, current, nodeName, families }: HealthNodePortsInput,
  name: ServiceName,
): ServiceHealth | undefined {
  const service = cluster.service(name)
  const port = service?.healthCheckNodePort ?? 0
  if (service === undefined || port === 0) return undefined
  const slices = drainByHand(cluster.slicesOf(name), current.drains)
  return { port, localEndpoints: localEndpoints(service, slices, { nodeName, families }) }
}
