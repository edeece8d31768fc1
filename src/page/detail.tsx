/** One virtual server: what the kernel refuses of it, and its real servers with their Pods. */
import type { VNode } from 'preact'
import type { FailureView, RealServerView, StatusDetail } from '../view/documents.ts'
import { schedulerOf, weightOf } from '../view/tables.ts'
import { State } from './state.tsx'
import { count } from './words.ts'

const HEADS = ['Real server', 'Pod', 'Node', 'State', 'Weight', 'Active', 'Inactive'] as const

function RealServer({ real }: { readonly real: RealServerView }): VNode {
  const { realServer, pod, node, state, connections, drainEndsInSeconds: end } = real
  return (
    <tr>
      <td class="name">{realServer}</td>
      <td class="name">{pod ?? '–'}</td>
      <td class="name">{node ?? '–'}</td>
      <td>
        <State state={state} more={end === undefined ? '' : `, ${end} s at most`} />
      </td>
      <td class="number">{weightOf(real.weight)}</td>
      <td class="number">{connections === undefined ? '–' : count(connections.active)}</td>
      <td class="number">{connections === undefined ? '–' : count(connections.inactive)}</td>
    </tr>
  )
}

function Failures({ failures }: { readonly failures: readonly FailureView[] }): VNode | null {
  if (failures.length === 0) return null
  return (
    <div class="banner">
      <ul>
        {failures.map(({ object, reason, retryInSeconds }) => (
          <li key={object}>
            {object}: {reason} (tried again in {retryInSeconds} s)
          </li>
        ))}
      </ul>
    </div>
  )
}

interface DetailProps {
  readonly name: string
  /** Undefined: it is on its way; a text: why there is none. */
  readonly detail: StatusDetail | string | undefined
}

export function Detail({ name, detail }: DetailProps): VNode {
  if (detail === undefined) return <p class="quiet">Asking the kernel …</p>
  if (typeof detail === 'string') return <p class="banner">{detail}</p>
  const { virtualServer: view, realServers } = detail
  const shown = view.realServers.length
  return (
    <>
      <Failures failures={view.failures} />
      <p class="quiet">
        Scheduler {schedulerOf(view.scheduler)}.{' '}
        {shown < realServers && `${count(shown)} of ${count(realServers)} real servers are shown.`}
        {realServers === 0 && 'No real server: connections are refused.'}
      </p>
      {realServers > 0 && (
        <table>
          <caption class="hidden">Real servers of {name}</caption>
          <thead>
            <tr>
              {HEADS.map((label, i) => (
                <th key={label} scope="col" class={i > 3 ? 'number' : undefined}>
                  {label}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {view.realServers.map((real) => (
              <RealServer key={real.realServer} real={real} />
            ))}
          </tbody>
        </table>
      )}
    </>
  )
}
