/** Documents as text, for people: columns that line up, nothing cut off. */
import type {
  Difference,
  DrainedService,
  DrainList,
  EndpointView,
  Explanation,
  FailureView,
  FrontendView,
  HandDrainView,
  RealServerView,
  SeenAs,
  VirtualServerList,
  VirtualServerView,
} from './documents.ts'

/** Rows of cells as lines; the last cell of a row is not padded. */
export function formatColumns(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = []
  for (const row of rows)
    for (const [i, { length }] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, length)
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join('  ')
      .trimEnd(),
  )
}

export const ROLES = {
  clusterIp: 'cluster IP',
  nodePort: 'node port',
  externalIp: 'external IP',
  loadBalancer: 'load balancer',
} as const

function failureLines(failures: readonly FailureView[], indent: string): string[] {
  return failures.map(({ object, reason, retryInSeconds }) => {
    const retry = retryInSeconds > 0 ? `tried again in ${retryInSeconds} s` : 'tried again now'
    return `${indent}! ${object}: ${reason} (${retry})`
  })
}

/** `1`, or `1 (kernel: 0)` where the two are not the same. */
export function weightOf({ wanted, programmed }: RealServerView['weight']): string {
  if (wanted === undefined) return String(programmed ?? '-')
  if (programmed === wanted) return String(wanted)
  return `${wanted} (kernel: ${programmed ?? 'none'})`
}

export function stateOfReal({ state, drainedAs, drainEndsInSeconds }: RealServerView): string {
  const byHand = drainedAs === undefined ? '' : ', drained by hand'
  const end = drainEndsInSeconds === undefined ? '' : `, ${drainEndsInSeconds} s at most`
  return `${state}${byHand}${end}`
}

export function schedulerOf({ wanted, programmed }: VirtualServerView['scheduler']): string {
  if (wanted === undefined || programmed === undefined || wanted === programmed)
    return wanted ?? programmed ?? '-'
  return `${wanted} (kernel: ${programmed})`
}

function virtualServerRows(view: VirtualServerView): string[][] {
  const { virtualServer, service, port, role, state, scheduler, realServers } = view
  const name = service === undefined ? '-' : port === undefined ? service : `${service}:${port}`
  return [
    [virtualServer, name, role === undefined ? '' : ROLES[role], schedulerOf(scheduler), '', state],
    ...realServers.map((real) => [
      `  -> ${real.realServer}`,
      real.pod ?? '',
      real.node ?? '',
      weightOf(real.weight),
      real.connections === undefined ? '' : `${real.connections.active} + ${real.connections.inactive}`,
      stateOfReal(real),
    ]),
  ]
}

const HEAD = [
  ['VIRTUAL SERVER', 'SERVICE', 'ROLE', 'SCHEDULER', '', 'STATE'],
  ['  -> REAL SERVER', 'POD', 'NODE', 'WEIGHT', 'ACTIVE + INACTIVE', 'STATE'],
]

/** What `kube-ipvs get` prints. */
export function formatVirtualServers({ virtualServers, drained = [] }: VirtualServerList): string[] {
  const failing = virtualServers.flatMap(({ failures }) => failureLines(failures, ''))
  return [
    ...formatColumns([...HEAD, ...virtualServers.flatMap(virtualServerRows)]),
    ...(failing.length > 0 ? ['', 'Failing:', ...new Set(failing)] : []),
    ...(drained.length > 0
      ? ['', `Drained by hand: ${drained.join(', ')} ("kube-ipvs drain" says more)`]
      : []),
  ]
}

const SEEN: Readonly<Record<SeenAs, string>> = {
  client: "the client's own address",
  node: "the node's address",
  virtualIp: 'the virtual IP itself',
}

function endpointRow({ endpoint, pod, node, isIn, reason, seenAs }: EndpointView): string[] {
  const verdict = isIn ? `in: it sees ${SEEN[seenAs!]}` : `out: ${reason!}`
  return [`    ${endpoint}`, pod ?? '', node ?? '', verdict]
}

function frontendLines(view: FrontendView): string[] {
  const { virtualServer, port, role, state, policy, scheduler, refused, clientAddress, endpoints } = view
  return [
    `${virtualServer}${port === undefined ? '' : ` (${port})`}, ${ROLES[role]}: ${state}`,
    ...failureLines(view.failures, '  '),
    ...(refused === undefined ? [] : [`  ${refused}`]),
    `  endpoints see ${SEEN[clientAddress.seenAs]}: ${clientAddress.reason}`,
    `  scheduler ${scheduler} chooses among these endpoints (traffic policy ${policy}):`,
    ...formatColumns(endpoints.map(endpointRow)),
    ...view.notes.map((note) => `  note: ${note}`),
  ]
}

/** What `kube-ipvs explain` prints. */
export function formatExplanation({ service, node, client, frontends, notServed }: Explanation): string[] {
  return [
    `Service ${service} on node ${node}, asked by ${client}`,
    ...frontends.flatMap((frontend) => ['', ...frontendLines(frontend)]),
    ...(notServed.length === 0 ? [] : ['', 'Not served:', ...notServed.map((text) => `  ${text}`)]),
  ]
}

/** What `kube-ipvs diff` prints: as `kube-ipvs plan` does, and what is somebody else's. */
export function formatDifference({ changes, foreign, blocked, drained }: Difference): string[] {
  const count = changes.length + blocked.length
  const verdict = count === 1 ? '1 difference' : `${count} differences`
  return [
    ...changes,
    ...blocked.map((sentence) => `# ${sentence}`),
    ...drained.map((name) => `# drained by hand, until "kube-ipvs undrain ${name}"`),
    ...(foreign.length === 0 ? [] : ['# not ours, and left alone:', ...foreign.map((key) => `#   ${key}`)]),
    count === 0 ? '# no difference: the kernel is as the API wants it' : `# ${verdict}`,
  ]
}

function drainedServiceLine({ service, endpointsLeft, refusing }: DrainedService): string {
  if (refusing.length > 0)
    return `  ${service}: no endpoint is left, NEW CONNECTIONS ARE REFUSED: ${refusing.join(', ')}`
  return `  ${service}: ${endpointsLeft} ${endpointsLeft === 1 ? 'endpoint is' : 'endpoints are'} left`
}

function drainLines({ drained, since, services }: HandDrainView): string[] {
  return [
    `${drained}: no new connections since ${since}; open ones go on`,
    ...(services.length === 0 ? ['  no Service has an endpoint there now'] : []),
    ...services.map(drainedServiceLine),
  ]
}

/** What `kube-ipvs drain` and `undrain` print. */
export function formatDrains({ node, drains }: DrainList): string[] {
  if (drains.length === 0) return [`Nothing is drained by hand on node ${node}`]
  return [
    `Drained by hand on node ${node}, until "kube-ipvs undrain" or until kube-ipvs starts anew:`,
    ...drains.flatMap(drainLines),
  ]
}
