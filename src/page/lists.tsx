/** What drains, and what was refused or put right. */
import type { ComponentChildren, VNode } from 'preact'
import type { DrainView, JournalEntry } from '../view/documents.ts'
import { count, formatTime } from './words.ts'

interface ListProps {
  readonly id: string
  readonly title: string
  readonly heads: readonly string[]
  readonly empty: string
  readonly note?: string | undefined
  readonly rows: number
  readonly children: ComponentChildren
}

function List({ id, title, heads, empty, note, rows, children }: ListProps): VNode {
  return (
    <section class="card">
      <h2 id={id}>
        {title} {rows > 0 && <span class="quiet">({count(rows)})</span>}
      </h2>
      {note !== undefined && <p>{note}</p>}
      {rows === 0 ? (
        <p class="quiet">{empty}</p>
      ) : (
        <div class="scroll tall" role="region" aria-labelledby={id} tabIndex={0}>
          <table>
            <thead>
              <tr>
                {heads.map((head) => (
                  <th key={head} scope="col">
                    {head}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>{children}</tbody>
          </table>
        </div>
      )}
    </section>
  )
}

interface DrainsProps {
  readonly drains: readonly DrainView[]
  /** By hand: Pods and addresses. */
  readonly drained: readonly string[]
}

export function Drains({ drains, drained }: DrainsProps): VNode {
  return (
    <List
      id="drains"
      title="Draining"
      heads={['Real server', 'Pod', 'Service', 'Virtual server', 'Deleted']}
      empty="No real server is draining."
      note={
        drained.length > 0 ? `Drained by hand, until "kube-ipvs undrain": ${drained.join(', ')}.` : undefined
      }
      rows={drains.length}
    >
      {drains.map(({ virtualServer, realServer, service, pod, endsInSeconds }) => (
        <tr key={`${virtualServer} ${realServer}`}>
          <td class="name">{realServer}</td>
          <td class="name">{pod ?? '–'}</td>
          <td class="name">{service ?? '–'}</td>
          <td class="name">{virtualServer}</td>
          <td>
            {endsInSeconds === undefined
              ? 'with its last connection'
              : `with its last connection, in ${endsInSeconds} s at most`}
          </td>
        </tr>
      ))}
    </List>
  )
}

const KINDS: Readonly<Record<JournalEntry['kind'], readonly [word: string, tone: string]>> = {
  refusal: ['refused', 'bad'],
  repair: ['repaired', 'busy'],
}

export function Journal({ entries }: { readonly entries: readonly JournalEntry[] }): VNode {
  return (
    <List
      id="journal"
      title="Last refusals and repairs"
      heads={['Time', 'What', 'Object', 'Service', 'Reason']}
      empty="Nothing has been refused or repaired since the program started."
      rows={entries.length}
    >
      {entries.map(({ at, kind, object, service, reason }, i) => (
        <tr key={i}>
          <td class="name">
            <time dateTime={new Date(at).toISOString()}>{formatTime(at)}</time>
          </td>
          <td>
            <span class={`state ${KINDS[kind][1]}`}>{KINDS[kind][0]}</span>
          </td>
          <td>{object}</td>
          <td class="name">{service ?? '–'}</td>
          <td class="reason">{reason}</td>
        </tr>
      ))}
    </List>
  )
}
