/** What an operator drains by hand: until it is undone, or this process ends. */
import type { Logger } from 'pino'
import { type Inspection, serviceNames } from '../../loop/inspection.ts'
import { type Address, parseAddress } from '../../model/address.ts'
import { buildClaims } from '../../model/claims/claims.ts'
import type { Endpoint, Service, ServiceName } from '../../model/facts/facts.ts'
import { splitServiceName } from '../../model/facts/facts.ts'
import type { Metrics } from '../../serve/metrics.ts'
import { type Answer, PLAIN, type Routes } from '../../serve/http.ts'
import { API_VERSION, type DrainedService, type DrainList, type HandDrainView } from '../../view/documents.ts'
import { isMeant } from '../../view/subject.ts'
import type { Current } from '../current.ts'
import { answered, jsonAnswer, UnknownError } from '../report/answers.ts'

export interface DrainsInput {
  readonly inspection: Pick<Inspection, 'options' | 'ledger' | 'mapper'>
  readonly current: Pick<Current, 'drains'>
  readonly metrics: Pick<Metrics, 'setDrainedByHand'>
  readonly log: Logger
}

/** An endpoint of a Service, and the name of its Pod. */
interface Published {
  readonly service: ServiceName
  readonly address: Address
  /** `namespace/name`. */
  readonly pod: string | undefined
}

function* published({ inspection }: DrainsInput): Generator<Published> {
  const { cluster } = inspection.options
  for (const service of serviceNames(inspection))
    for (const { endpoints } of cluster.slicesOf(service))
      for (const endpoint of endpoints) yield publishedAs(service, endpoint)
}

function publishedAs(service: ServiceName, { address, pod }: Endpoint): Published {
  const { namespace } = splitServiceName(service)
  return { service, address, pod: pod === undefined ? undefined : `${namespace}/${pod}` }
}

/** Whatever is drained under this name. */
function isDrainedAs(drained: string): (endpoint: Published) => boolean {
  return ({ address, pod }) => address === drained || pod === drained
}

/** The name under which a Pod, or an address, is drained. Throws an UnknownError when it is no endpoint, or may be several. */
function nameOf(input: DrainsInput, text: string): string {
  const address = parseAddress(text)
  const names = new Set<string>()
  for (const endpoint of published(input)) {
    if (address !== undefined && endpoint.address === address) return address
    if (endpoint.pod !== undefined && isMeant(text, endpoint.pod)) names.add(endpoint.pod)
  }
  if (names.has(text)) return text
  const [name, ...others] = names
  if (others.length > 0) throw new UnknownError(`${text} may be ${[...names].join(', ')}: name one of them`)
  if (name === undefined)
    throw new UnknownError(
      `No endpoint of a Service is "${text}": name a Pod (namespace/name, or name) or its IP address`,
    )
  return name
}

/** The drain that is meant. Throws an UnknownError when there is none, or several. */
function drainOf({ current: { drains } }: DrainsInput, text: string): string {
  const names = [...drains.keys()].filter((name) => name === parseAddress(text) || isMeant(text, name))
  if (names.length > 1) throw new UnknownError(`${text} may be ${names.join(', ')}: name one of them`)
  if (names[0] !== undefined) return names[0]
  const all = drains.size === 0 ? 'nothing' : [...drains.keys()].join(', ')
  throw new UnknownError(`"${text}" is not drained by hand under that name. Drained: ${all}`)
}

/** How many real servers the virtual servers of a Service will have: of each, so many may be chosen. */
function leftOf(
  { inspection: { mapper, options } }: DrainsInput,
  service: Service,
): DrainedService | undefined {
  const mapping = options.mapping()
  const { slices } = mapper.check(service.name, mapping)
  const left = buildClaims(service, slices, mapping)
    .filter((claim) => claim.kind === 'virtualServer')
    .map(({ key, virtualServer }) => ({ virtualServer: key, realServers: virtualServer.realServers.size }))
  if (left.length === 0) return undefined
  return {
    service: service.name,
    endpointsLeft: Math.min(...left.map(({ realServers }) => realServers)),
    refusing: left.filter(({ realServers }) => realServers === 0).map(({ virtualServer }) => virtualServer),
  }
}

function drainView(input: DrainsInput, drained: string): HandDrainView {
  const { cluster } = input.inspection.options
  const isIts = isDrainedAs(drained)
  const services = new Set<ServiceName>()
  for (const endpoint of published(input)) if (isIts(endpoint)) services.add(endpoint.service)
  return {
    drained,
    since: input.current.drains.get(drained)!.toISOString(),
    services: [...services].flatMap((name) => {
      const service = cluster.service(name)
      const left = service && leftOf(input, service)
      return left === undefined ? [] : [left]
    }),
  }
}

function drainList(input: DrainsInput): Answer {
  const document: DrainList = {
    ...{ apiVersion: API_VERSION, kind: 'DrainList', source: 'process' },
    node: input.inspection.options.mapping().nodeName,
    drains: [...input.current.drains.keys()].map((drained) => drainView(input, drained)),
  }
  return jsonAnswer(JSON.stringify(document))
}

/** What is drained from now on. Its Services are mapped anew. */
function change(input: DrainsInput, name: string, drains: ReadonlyMap<string, Date>): void {
  const { inspection, current, metrics } = input
  current.drains = drains
  metrics.setDrainedByHand(drains.size)
  const isIts = isDrainedAs(name)
  const addresses = [...published(input)].filter(isIts).map(({ address }) => address)
  inspection.options.cluster.markServedAt(new Set(addresses))
  inspection.options.doorbell.ring()
}

function drain(input: DrainsInput, text: string): Answer {
  const { current, log } = input
  const drained = nameOf(input, text)
  if (!current.drains.has(drained)) {
    change(input, drained, new Map([...current.drains, [drained, new Date()]]))
    log.warn({ drained }, 'drained by hand, until it is undone or this process ends')
  }
  return drainList(input)
}

function undrain(input: DrainsInput, text: string): Answer {
  const { current, log } = input
  const drained = drainOf(input, text)
  change(input, drained, new Map([...current.drains].filter(([name]) => name !== drained)))
  log.info({ drained }, 'not drained by hand any more')
  return drainList(input)
}

const POST_ONLY: Answer = { status: 405, type: PLAIN, body: 'This changes something: POST it\n' }

/** What `kube-ipvs drain` and `undrain` ask. */
export function drainRoutes(input: DrainsInput): Routes {
  const of = (query: URLSearchParams): string => query.get('of') ?? ''
  return {
    '/v1/drains': () => answered(() => drainList(input)),
    '/v1/drain': (query, method) => (method === 'POST' ? answered(() => drain(input, of(query))) : POST_ONLY),
    '/v1/undrain': (query, method) =>
      method === 'POST' ? answered(() => undrain(input, of(query))) : POST_ONLY,
  }
}
