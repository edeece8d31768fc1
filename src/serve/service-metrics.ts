/** Metrics of Services, a series for each virtual server: which have them, and their text. */
import { type Counter, type Gauge, Registry } from 'prom-client'
import type { VirtualServerKey } from '../model/virtual-server.ts'
import { breathe, mapAtLeisure } from '../waiting/turns.ts'
import { makers } from './metric-makers.ts'

/** What the kernel has counted since it made the virtual server; from clients (in) and to them (out). */
export interface ServiceTraffic {
  readonly connections: number
  readonly inPackets: number
  readonly outPackets: number
  readonly inBytes: number
  readonly outBytes: number
}

/** A virtual server of a Service. */
export interface ServiceSample {
  readonly namespace: string
  readonly service: string
  /** Name of the Service's port; empty where it has none. */
  readonly port: string
  readonly key: VirtualServerKey
  readonly traffic: ServiceTraffic
  readonly realServers: number
  readonly draining: number
}

const byteCount = ({ traffic }: Pick<ServiceSample, 'traffic'>): number => traffic.inBytes + traffic.outBytes

/**
 * The virtual servers with most bytes since they were made; equal ones in the order of their keys. A sum only grows, so a
 * series goes when another virtual server has overtaken it, and not with each pause of its clients, as it would with rates.
 */
export function withMostTraffic<Candidate extends Pick<ServiceSample, 'traffic' | 'key'>>(
  candidates: readonly Candidate[],
  most: number,
): Candidate[] {
  const order = (a: Candidate, b: Candidate): number =>
    byteCount(b) - byteCount(a) || (a.key < b.key ? -1 : 1)
  return [...candidates].sort(order).slice(0, most)
}

const LABELS = ['namespace', 'service', 'port', 'virtual_server'] as const
type Label = (typeof LABELS)[number]
type Directed = Label | 'direction'

interface ServiceMetrics {
  readonly registry: Registry
  readonly connections: Counter<Label>
  readonly packets: Counter<Directed>
  readonly bytes: Counter<Directed>
  readonly realServers: Gauge<Label>
  readonly draining: Gauge<Label>
  readonly leftOut: Gauge
}

/**
 * A series of a counter is the kernel's own counter: it outlives this process, and begins at 0 with a virtual server that
 * is made anew. Nothing is added up here.
 */
function makeMetrics(): ServiceMetrics {
  const registry = new Registry()
  const { counter, gauge } = makers(registry)
  const since = 'a virtual server of a Service since the kernel has it'
  const directed: Directed[] = [...LABELS, 'direction']
  return {
    registry,
    connections: counter('kube_ipvs_service_connections_total', `Connections to ${since}`, [...LABELS]),
    packets: counter(
      'kube_ipvs_service_packets_total',
      `Packets through ${since}, from clients (in) and to them (out)`,
      directed,
    ),
    bytes: counter(
      'kube_ipvs_service_bytes_total',
      `Bytes through ${since}, from clients (in) and to them (out)`,
      directed,
    ),
    realServers: gauge(
      'kube_ipvs_service_real_servers',
      'Real servers of a virtual server of a Service, without those that drain',
      [...LABELS],
    ),
    draining: gauge(
      'kube_ipvs_service_draining_real_servers',
      'Real servers of a virtual server of a Service that wait for their last connections',
      [...LABELS],
    ),
    leftOut: gauge(
      'kube_ipvs_service_metrics_left_out',
      'Virtual servers of Services without metrics of their own, as --service-metrics is smaller',
    ),
  }
}

function note(metrics: ServiceMetrics, sample: ServiceSample): void {
  const { namespace, service, port, key, traffic } = sample
  const labels = { namespace, service, port, virtual_server: key }
  metrics.connections.inc(labels, traffic.connections)
  metrics.packets.inc({ ...labels, direction: 'in' }, traffic.inPackets)
  metrics.packets.inc({ ...labels, direction: 'out' }, traffic.outPackets)
  metrics.bytes.inc({ ...labels, direction: 'in' }, traffic.inBytes)
  metrics.bytes.inc({ ...labels, direction: 'out' }, traffic.outBytes)
  metrics.realServers.set(labels, sample.realServers)
  metrics.draining.set(labels, sample.draining)
}

/** The text of a scrape; `leftOut` virtual servers of Services have no series. They are made anew for each: who has one may be another. */
export async function formatServiceMetrics(
  samples: readonly ServiceSample[],
  leftOut: number,
): Promise<string> {
  const metrics = makeMetrics()
  metrics.leftOut.set(leftOut)
  await mapAtLeisure(samples, (sample) => {
    note(metrics, sample)
  })
  const texts: string[] = []
  for (const { name } of metrics.registry.getMetricsAsArray()) {
    texts.push(await metrics.registry.getSingleMetricAsString(name))
    await breathe()
  }
  return `${texts.join('\n')}\n`
}
