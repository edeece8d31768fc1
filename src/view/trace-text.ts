/** A trace as text, for people. */
import type { RuleStepView, Trace, VirtualServerView } from './documents.ts'
import { formatColumns, stateOfReal, weightOf } from './tables.ts'

function section(title: string, rows: readonly (readonly string[])[], more = 0): string[] {
  const lines = rows.length === 0 ? ['none'] : formatColumns(rows)
  return ['', title, ...[...lines, ...(more > 0 ? [`and ${more} more`] : [])].map((line) => `  ${line}`)]
}

/** Without the comment, which says what the set's name says. */
function ruleRow({ at, rule, effect }: RuleStepView): string[] {
  return [at, effect, rule.replace(/-m comment --comment ("[^"]*"|\S+) ?/, '')]
}

function virtualServerRows({ virtualServer, service, state, realServers }: VirtualServerView): string[][] {
  return [
    [virtualServer, service ?? '', '', state],
    ...realServers.map((real) => [
      `-> ${real.realServer}`,
      real.pod ?? '',
      weightOf(real.weight),
      stateOfReal(real),
    ]),
  ]
}

const ends = (seconds: number | undefined): string => (seconds === undefined ? '' : `ends in ${seconds} s`)

/** What `kube-ipvs trace` prints. */
export function formatTrace(trace: Trace): string[] {
  const { packet, rules, virtualServer, connections, flows, more, conclusions } = trace
  const connectionRows = connections.map(({ client, realServer, pod, state, expiresInSeconds }) => [
    `${client} -> ${realServer}`,
    ...[pod ?? '', state, ends(expiresInSeconds)],
  ])
  const flowRows = flows.map(({ client, realServer, isAnswered, sees, expiresInSeconds }) => [
    `${client} -> ${realServer}`,
    ...[`which sees ${sees}`, isAnswered ? 'answered' : 'not answered', ends(expiresInSeconds)],
  ])
  return [
    packet,
    ...section('Our rules that apply to its first packet:', rules.map(ruleRow)),
    ...section('Virtual server:', virtualServer === undefined ? [] : virtualServerRows(virtualServer)),
    ...section('Connections of IPVS:', connectionRows, more.connections),
    ...section('Connection tracking:', flowRows, more.flows),
    '',
    ...conclusions.map((sentence) => `=> ${sentence}`),
  ]
}
