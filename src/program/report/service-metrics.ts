/** What a scrape is told of Services: read from the kernel when somebody asks, and at no other time. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import type { ServiceMetricsChoice } from '../../config/service-metrics.ts'
import type { Counted, Ipvs } from '../../kernel/ipvs/ipvs.ts'
import { countRealServers, type Inspection, servedOn } from '../../loop/inspection.ts'
import { splitServiceName } from '../../model/facts/facts.ts'
import { formatServiceMetrics, type ServiceSample, withMostTraffic } from '../../serve/service-metrics.ts'
import { remembered } from '../../waiting/remembered.ts'
import { mapAtLeisure } from '../../waiting/turns.ts'

export interface ServiceMetricsInput {
  readonly inspection: Pick<Inspection, 'options' | 'ledger' | 'auditor'>
  readonly ipvs: Pick<Ipvs, 'readCounters'>
  readonly log: Logger
  /** Monotonic, in ms. */
  readonly now: () => number
}

type Candidate = Omit<ServiceSample, 'realServers' | 'draining'>

/** A virtual server that a Service of a chosen namespace has; undefined for any other. */
function candidateOf(
  { inspection }: ServiceMetricsInput,
  { namespaces }: ServiceMetricsChoice,
  counted: Counted,
): Candidate | undefined {
  const served = servedOn(inspection, counted.id)
  if (served === undefined) return undefined
  const { namespace, name } = splitServiceName(served.service)
  if (namespaces.size > 0 && !namespaces.has(namespace)) return undefined
  return { namespace, service: name, port: served.port, key: counted.id.key, traffic: counted.stats.total }
}

async function read(choice: ServiceMetricsChoice, input: ServiceMetricsInput): Promise<string> {
  const { inspection, ipvs } = input
  const all = await mapAtLeisure(await ipvs.readCounters(), (counted) => candidateOf(input, choice, counted))
  const candidates = all.filter((candidate) => candidate !== undefined)
  const shown = withMostTraffic(candidates, choice.most)
  const samples = await mapAtLeisure(shown, (candidate) => ({
    ...candidate,
    ...countRealServers(inspection, candidate.key),
  }))
  return formatServiceMetrics(samples, candidates.length - samples.length)
}

/** A scrape ends after 10 s, as Prometheus has it, and everything else is wanted then. */
const LIMIT_MS = 5_000

async function late(): Promise<never> {
  await sleep(LIMIT_MS, undefined, { ref: false })
  throw new Error(`the kernel has not told all within ${LIMIT_MS / 1_000} s`)
}

/**
 * Returns what reads the text of a scrape; undefined where nobody wants it. Scrapes within two seconds share a reading. Where the
 * kernel cannot be read the text is empty, which is logged once, until it can be read again.
 */
export function openServiceMetrics(
  choice: ServiceMetricsChoice | undefined,
  input: ServiceMetricsInput,
): (() => Promise<string>) | undefined {
  if (choice === undefined) return undefined
  const { log, now } = input
  let isTold = false
  const readOrTell = async (): Promise<string> => {
    try {
      const text = await Promise.race([read(choice, input), late()])
      if (isTold) log.info('metrics of Services are there again')
      isTold = false
      return text
    } catch (err) {
      if (!isTold) log.error({ err }, 'cannot read what the kernel counts: there are no metrics of Services')
      isTold = true
      return ''
    }
  }
  return remembered(readOrTell, now)
}
