/** Metrics of Services, a series for each virtual server: which have them, and their text. */
import type { VirtualServerKey } from '../model/virtual-server.ts'
import { mapInTurns } from '../waiting/turns.ts'

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

interface ServiceMetric {
  readonly name: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
  /** Values, each with the labels that it has beside those of the virtual server. */
  readonly values: (sample: ServiceSample) => readonly (readonly [labels: string, value: number])[]
}

const IN = ',direction="in"'
const OUT = ',direction="out"'

/**
 * A series of a counter is the kernel's own counter: it outlives this process, and begins at 0 with a virtual server that
 * is made anew. Nothing is added up here.
 */
const METRICS: readonly ServiceMetric[] = [
  {
    name: 'kube_ipvs_service_connections_total',
    type: 'counter',
    help: 'Connections to a virtual server of a Service since the kernel has it',
    values: ({ traffic }) => [['', traffic.connections]],
  },
  {
    name: 'kube_ipvs_service_packets_total',
    type: 'counter',
    help: 'Packets through a virtual server of a Service since the kernel has it, from clients (in) and to them',
    values: ({ traffic }) => [
      [IN, traffic.inPackets],
      [OUT, traffic.outPackets],
    ],
  },
  {
    name: 'kube_ipvs_service_bytes_total',
    type: 'counter',
    help: 'Bytes through a virtual server of a Service since the kernel has it, from clients (in) and to them',
    values: ({ traffic }) => [
      [IN, traffic.inBytes],
      [OUT, traffic.outBytes],
    ],
  },
  {
    name: 'kube_ipvs_service_real_servers',
    type: 'gauge',
    help: 'Real servers of a virtual server of a Service, without those that drain',
    values: ({ realServers }) => [['', realServers]],
  },
  {
    name: 'kube_ipvs_service_draining_real_servers',
    type: 'gauge',
    help: 'Real servers of a virtual server of a Service that wait for their last connections',
    values: ({ draining }) => [['', draining]],
  },
]

const LEFT_OUT = 'kube_ipvs_service_metrics_left_out'

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

const escaped = (value: string): string =>
  value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')

function labelsOf({ namespace, service, port, key }: ServiceSample): string {
  const labels = { namespace, service, port, virtual_server: key }
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${escaped(value)}"`)
    .join(',')
}

const headOf = (name: string, type: string, help: string): string[] => [
  `# HELP ${name} ${help}`,
  `# TYPE ${name} ${type}`,
]

/** The text of a scrape (Prometheus, version 0.0.4); `leftOut` virtual servers of Services have no series. */
export async function formatServiceMetrics(
  samples: readonly ServiceSample[],
  leftOut: number,
): Promise<string> {
  const labelled = await mapInTurns(samples, (sample) => ({ sample, labels: labelsOf(sample) }))
  const lines: string[] = []
  for (const { name, type, help, values } of METRICS) {
    const texts = await mapInTurns(labelled, ({ sample, labels }) =>
      values(sample)
        .map(([more, value]) => `${name}{${labels}${more}} ${value}`)
        .join('\n'),
    )
    lines.push(...headOf(name, type, help), ...texts)
  }
  const help = 'Virtual servers of Services without metrics of their own, as --service-metrics is smaller'
  return [...lines, ...headOf(LEFT_OUT, 'gauge', help), `${LEFT_OUT} ${leftOut}`, ''].join('\n')
}
