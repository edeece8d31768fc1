/** What the running program tells commands, over its local socket. */
import { type Address, familyOf } from '../../model/address.ts'
import { contains, parseCidr } from '../../model/cidr.ts'
import type { LocalTraffic } from '../../kernel/filter/filter.ts'
import { refusalsOf } from '../../model/claims/claims.ts'
import type { Service, ServiceName } from '../../model/facts/facts.ts'
import {
  claimedBy,
  conflictsOf,
  failingKeys,
  type Inspection,
  inspect,
  inspectEach,
  serviceNames,
  virtualServerKeys,
} from '../../loop/inspection.ts'
import type { VirtualServerKey } from '../../model/virtual-server.ts'
import type { Answer, Routes } from '../../serve/http.ts'
import type { Client, ClientRules } from '../../view/client.ts'
import {
  API_VERSION,
  type Explanation,
  type FrontendView,
  type VirtualServerList,
} from '../../view/documents.ts'
import { type Claimed, frontendView } from '../../view/explanation.ts'
import { isAt, isMeant, parseSubject } from '../../view/subject.ts'
import { type Inspected, podsOf, virtualServerView } from '../../view/virtual-server-view.ts'
import { mapInTurns } from '../../waiting/turns.ts'
import type { Current } from '../current.ts'
import { ruleOptions } from '../mapping.ts'
import { answered, jsonAnswer, listAnswer, UnknownError } from './answers.ts'

export interface InspectionInput {
  readonly inspection: Inspection
  readonly current: Pick<Current, 'config' | 'drains'>
}

/** What tells Pods from others, in a family; undefined: nothing. */
function localTraffic(
  { current: { config }, inspection }: InspectionInput,
  address: Address,
): LocalTraffic | undefined {
  const { cluster } = inspection.options
  return ruleOptions({ config, cluster }, familyOf(address)).local
}

/** Where interfaces tell it, an address does not: then those of this node's Pods are. */
function isPod(input: InspectionInput, address: Address): boolean {
  const local = localTraffic(input, address)
  if (local === undefined) return false
  const cidrs =
    local.kind === 'cidr' ? [parseCidr(local.cidr)!] : (input.inspection.options.cluster.node?.podCidrs ?? [])
  return cidrs.some((cidr) => contains(cidr, address))
}

/** The virtual servers that are asked about. Throws an UnknownError when there are none. */
function keysOf(inspection: Inspection, text: string): VirtualServerKey[] {
  if (text === '') return virtualServerKeys(inspection, () => true)
  const subject = parseSubject(text)
  const keys =
    subject.kind === 'address'
      ? virtualServerKeys(inspection, (key) => isAt(subject, key))
      : serviceNames(inspection)
          .filter((name) => isMeant(subject.name, name))
          .flatMap((name) => claimedBy(inspection, name).map(({ key }) => key))
  if (keys.length > 0) return keys
  throw new UnknownError(`There is no Service, and no virtual server, ${text} on this node`)
}

/** Written a part at a time: there may be 100,000 real servers, and the loop must have its turns. */
async function list(
  { inspection, current }: InspectionInput,
  keys: readonly VirtualServerKey[],
): Promise<Answer> {
  const texts = inspectEach(inspection, keys, (one) => JSON.stringify(virtualServerView(one)))
  const head: Omit<VirtualServerList, 'virtualServers'> = {
    ...{ apiVersion: API_VERSION, kind: 'VirtualServerList', source: 'process' },
    node: inspection.options.mapping().nodeName,
    ...(current.drains.size > 0 && { drained: [...current.drains.keys()] }),
  }
  return listAnswer(head, 'virtualServers', texts)
}

/** An address of Services answers ping on every port, and connections only where a Service has one. */
function whyNobody(inspection: Inspection, text: string): string {
  const subject = parseSubject(text)
  if (subject.kind === 'address' && subject.port !== undefined) {
    const { address } = subject
    const others = virtualServerKeys(inspection, (key) => isAt({ kind: 'address', address }, key))
    if (others.length > 0)
      return `No Service has ${text}: connections are refused, though ${address} answers ping. It has ${others.join(', ')}`
  }
  return `There is no Service ${text} that this node serves`
}

/** The Service that is asked about. Throws an UnknownError when it is none, or may be several. */
function serviceOf({ inspection }: InspectionInput, text: string): Service {
  const subject = parseSubject(text)
  const owners =
    subject.kind === 'service'
      ? serviceNames(inspection).filter((name) => isMeant(subject.name, name))
      : virtualServerKeys(inspection, (key) => isAt(subject, key)).flatMap(
          (key) => inspection.ledger.wanted(key)?.owner ?? [],
        )
  const names = [...new Set<ServiceName>(owners)]
  if (names.length > 1) throw new UnknownError(`${text} may be ${names.join(', ')}: name one of them`)
  const service = names[0] === undefined ? undefined : inspection.options.cluster.service(names[0])
  if (service === undefined) throw new UnknownError(whyNobody(inspection, text))
  return service
}

/** The address of a Pod that is an endpoint. Throws an UnknownError when none is. */
function addressOfPod({ inspection }: InspectionInput, name: string): Address {
  const { cluster } = inspection.options
  for (const service of serviceNames(inspection))
    for (const [address, { pod }] of podsOf(cluster.slicesOf(service)))
      if (pod !== undefined && isMeant(name, pod)) return address
  throw new UnknownError(`No endpoint is Pod ${name}: give its IP address`)
}

/** `node`, this node's name, an IP address, or a Pod that is an endpoint; nothing: any Pod. */
function clientOf(input: InspectionInput, from: string): Client {
  const { nodeName, neighbourhood } = input.inspection.options.mapping()
  if (from === '') return { kind: 'pod', address: undefined }
  if (from === 'node' || from === nodeName) return { kind: 'node', address: undefined }
  const subject = parseSubject(from)
  const address = subject.kind === 'address' ? subject.address : addressOfPod(input, subject.name)
  const isNodes = neighbourhood.interfaceAddresses.has(address) || neighbourhood.nodeIps.includes(address)
  return { kind: isNodes ? 'node' : isPod(input, address) ? 'pod' : 'outside', address }
}

const CLIENTS = { node: 'a process on this node', pod: 'a Pod', outside: 'a client that is no Pod' }

/** Where nothing says which addresses are Pods, one that is given may be anybody's. */
function describeClient(input: InspectionInput, { kind, address }: Client): string {
  if (address === undefined) return CLIENTS[kind]
  const isAnybody = kind === 'outside' && localTraffic(input, address) === undefined
  return `${isAnybody ? 'a client' : CLIENTS[kind]}, ${address}`
}

function rulesFor(input: InspectionInput, address: Address): ClientRules {
  const { masqueradeAll } = input.current.config
  return { masqueradeAll, knowsPods: localTraffic(input, address) !== undefined }
}

async function explain(input: InspectionInput, text: string, from: string): Promise<Answer> {
  const { inspection } = input
  const service = serviceOf(input, text)
  const client = clientOf(input, from)
  const options = inspection.options.mapping()
  const { slices, refusals } = inspection.mapper.check(service.name, options)
  const subject = parseSubject(text)
  const keys = claimedBy(inspection, service.name)
    .map(({ key }) => key)
    .filter((key) => subject.kind === 'service' || isAt(subject, key))
  const isIts = (one: Inspected): one is Claimed => one.claim?.owner === service.name
  const inspected = (await inspect(inspection, keys, (one) => one)).filter(isIts)
  const isOfFamily = ({ id }: Claimed): boolean =>
    client.address === undefined || familyOf(client.address) === familyOf(id.address)
  const view = (claimed: Claimed): FrontendView =>
    frontendView(claimed, {
      ...{ service, slices, options, client },
      rules: rulesFor(input, claimed.id.address),
    })
  const document: Explanation = {
    ...{ apiVersion: API_VERSION, kind: 'Explanation', source: 'process' },
    ...{ node: options.nodeName, service: service.name, client: describeClient(input, client) },
    // One at a time: each may have thousands of endpoints.
    frontends: await mapInTurns(inspected.filter(isOfFamily), view, 1),
    notServed: [
      ...refusalsOf(service, options),
      ...refusals.map((refusal) => `endpoint ${refusal}`),
      ...conflictsOf(inspection, service.name),
    ],
  }
  return jsonAnswer(JSON.stringify(document))
}

/** What commands ask. `of` and `from` are as people write them. */
export function inspectionRoutes(input: InspectionInput): Routes {
  const { inspection } = input
  const of = (query: URLSearchParams): string => query.get('of') ?? ''
  return {
    '/v1/virtual-servers': (query) => answered(async () => list(input, keysOf(inspection, of(query)))),
    '/v1/failing-virtual-servers': () => answered(async () => list(input, failingKeys(inspection))),
    '/v1/explanation': (query) => answered(async () => explain(input, of(query), query.get('from') ?? '')),
  }
}
