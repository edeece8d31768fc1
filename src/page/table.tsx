/** The table of virtual servers: sorted by its heads, a page at a time; one may be open. */
import { Fragment, type VNode } from 'preact'
import type { StatusRow, StatusTable } from '../view/documents.ts'
import { ROLES } from '../view/tables.ts'
import { formatNumber } from '../view/top.ts'
import { Detail } from './detail.tsx'
import { MAX_ROWS, type Order, type Sort } from '../view/status-table.ts'
import type { News, Question } from './feed.ts'
import { State } from './state.tsx'
import { count, counted, inAndOut } from './words.ts'

interface Head {
  readonly label: string
  /** In a second line. */
  readonly note?: string
  /** Without it, nothing is sorted by it. */
  readonly column?: Sort
  readonly isNumber?: boolean
}

const HEADS: readonly Head[] = [
  { label: 'Service', column: 'service' },
  { label: 'Virtual server' },
  { label: 'Role' },
  { label: 'State', column: 'state' },
  { label: 'Real servers', column: 'realServers', isNumber: true },
  { label: 'Connections/s', note: 'new', column: 'connections', isNumber: true },
  { label: 'Packets/s', note: 'in / out', column: 'packets', isNumber: true },
  { label: 'Bytes/s', note: 'in / out', column: 'bytes', isNumber: true },
]

interface TableProps {
  readonly news: News
  readonly question: Question
  readonly change: (parts: Partial<Question>) => void
}

const ARROWS: Readonly<Record<Order, string>> = { ascending: '▲', descending: '▼' }

/** Names begin with A; of everything else the most, or the worst, is looked for. */
function nextOrder(column: Sort, { sort, order }: Question): Order {
  if (sort === column) return order === 'ascending' ? 'descending' : 'ascending'
  return column === 'service' ? 'ascending' : 'descending'
}

function HeadCell({ head, question, change }: Omit<TableProps, 'news'> & { readonly head: Head }): VNode {
  const { label, note, column, isNumber } = head
  const kind = isNumber === true ? 'number' : undefined
  if (column === undefined)
    return (
      <th scope="col" class={kind}>
        {label}
      </th>
    )
  const order = question.sort === column ? question.order : undefined
  const sort = (): void => {
    change({ sort: column, order: nextOrder(column, question), offset: 0 })
  }
  return (
    <th scope="col" class={kind} aria-sort={order ?? 'none'}>
      <button type="button" onClick={sort}>
        {label}{' '}
        <span class="arrow" aria-hidden="true">
          {order === undefined ? '' : ARROWS[order]}
        </span>
        {note !== undefined && <small>{note}</small>}
      </button>
    </th>
  )
}

/** `3`, or `2, 1 missing, 1 draining`. */
function realServersOf({ realServers: { programmed, missing, draining } }: StatusRow): string {
  const others = Object.entries({ missing, draining }).filter(([, some]) => some > 0)
  return [count(programmed), ...others.map(([what, some]) => `${count(some)} ${what}`)].join(', ')
}

interface RowProps {
  readonly row: StatusRow
  readonly isOpen: boolean
  readonly toggle: () => void
}

function Row({ row, isOpen, toggle }: RowProps): VNode {
  const { virtualServer, service, port, role, state, rates } = row
  const name = service === undefined ? 'no Service' : port === undefined ? service : `${service}:${port}`
  return (
    <tr class={isOpen ? 'opened' : undefined}>
      <td class="name">
        <button type="button" class="expand" aria-expanded={isOpen} onClick={toggle}>
          <span aria-hidden="true">{isOpen ? '▾' : '▸'}</span>
          {name}
          <span class="hidden">, {virtualServer}: real servers</span>
        </button>
      </td>
      <td class="name">{virtualServer}</td>
      <td class="name">{role === undefined ? '' : ROLES[role]}</td>
      <td>
        <State state={state} />
      </td>
      <td class="number">{realServersOf(row)}</td>
      <td class="number">{rates === undefined ? '–' : formatNumber(rates.connections)}</td>
      <td class="number">{inAndOut(rates, 'Packets')}</td>
      <td class="number">{inAndOut(rates, 'Bytes')}</td>
    </tr>
  )
}

function Pager({ table, change }: { readonly table: StatusTable } & Pick<TableProps, 'change'>): VNode {
  const { offset, matching, rows } = table
  const turn = (to: number) => (): void => {
    change({ offset: Math.max(0, to) })
  }
  return (
    <nav class="bar end" aria-label="Pages">
      <span class="quiet">
        {rows.length === 0 ? 'none' : `${count(offset + 1)} to ${count(offset + rows.length)}`}
      </span>
      <button type="button" disabled={offset === 0} onClick={turn(offset - MAX_ROWS)}>
        Previous
      </button>
      <button type="button" disabled={offset + MAX_ROWS >= matching} onClick={turn(offset + MAX_ROWS)}>
        Next
      </button>
    </nav>
  )
}

function Rows({ news, question, change }: TableProps): VNode {
  const { table, detail } = news
  return (
    <tbody>
      {table.rows.map((row) => {
        const { virtualServer } = row
        const isOpen = question.open === virtualServer
        const toggle = (): void => {
          change({ open: isOpen ? undefined : virtualServer })
        }
        const isKnown = typeof detail !== 'object' || detail.virtualServer.virtualServer === virtualServer
        const known = isKnown ? detail : undefined
        return (
          <Fragment key={virtualServer}>
            <Row {...{ row, isOpen, toggle }} />
            {isOpen && (
              <tr class="detail">
                <td colSpan={HEADS.length}>
                  <Detail name={virtualServer} detail={known} />
                </td>
              </tr>
            )}
          </Fragment>
        )
      })}
    </tbody>
  )
}

/** What is younger is live for people. */
const OLD_SECONDS = 5

/** Only how many match is said aloud: rates would never end. */
export function Table(props: TableProps): VNode {
  const { table } = props.news
  const { matching, total, ageSeconds } = table
  return (
    <>
      <div class="bar">
        <p role="status" class="quiet">
          {matching === total
            ? counted(total, 'virtual server')
            : `${count(matching)} of ${count(total)} match`}
        </p>
        {ageSeconds >= OLD_SECONDS && <p class="quiet">as of {ageSeconds} s ago</p>}
        <Pager table={table} change={props.change} />
      </div>
      <div class="scroll" role="region" aria-label="Virtual servers" tabIndex={0}>
        <table>
          <caption class="hidden">Virtual servers, with what they serve a second</caption>
          <thead>
            <tr>
              {HEADS.map((head) => (
                <HeadCell key={head.label} head={head} question={props.question} change={props.change} />
              ))}
            </tr>
          </thead>
          <Rows {...props} />
        </table>
      </div>
    </>
  )
}
