/** Which node this is, whether it serves, and how much there is on it. */
import type { VNode } from 'preact'
import type { StatusSummary } from '../view/documents.ts'
import type { Feed } from './feed.ts'
import { count, formatTime } from './words.ts'

interface HeaderProps {
  readonly feed: Feed
  readonly isPaused: boolean
  readonly togglePause: () => void
}

const NOT_YET = 'Not everything that was listed is in the kernel yet, or a change has waited for too long'

function Badge({ health }: Pick<StatusSummary, 'health'>): VNode {
  const [tone, text] = health.isOk ? ['good', '✓ healthy'] : ['bad', '! not healthy']
  return <span class={`state ${tone}`}>{text}</span>
}

function Reasons({ health: { isOk, reasons } }: Pick<StatusSummary, 'health'>): VNode | null {
  const all = isOk || reasons.length > 0 ? reasons : [NOT_YET]
  if (all.length === 0) return null
  return (
    <div class="banner">
      <ul>
        {all.map((reason) => (
          <li key={reason}>{reason}</li>
        ))}
      </ul>
    </div>
  )
}

function Unreachable({ feed: { failure, news } }: Pick<HeaderProps, 'feed'>): VNode | null {
  if (failure === undefined) return null
  const shown = news === undefined ? '' : `, showing data from ${formatTime(news.at)}`
  return (
    <p class="banner" role="alert">
      Not reachable since {formatTime(failure.since)}
      {shown}: {failure.reason}
    </p>
  )
}

export function Header({ feed, isPaused, togglePause }: HeaderProps): VNode {
  const { news } = feed
  return (
    <header>
      <div class="bar">
        <h1>{news === undefined ? 'kube-ipvs' : `Node ${news.summary.node}`}</h1>
        {news && <Badge health={news.summary.health} />}
        <div class="bar end">
          {news && (
            <span class="quiet">
              kube-ipvs {news.summary.version}, {formatTime(news.at)}
            </span>
          )}
          <button type="button" aria-pressed={isPaused} onClick={togglePause}>
            Pause
          </button>
        </div>
      </div>
      <Unreachable feed={feed} />
      {news && <Reasons health={news.summary.health} />}
    </header>
  )
}

const COUNTS: readonly (readonly [keyof StatusSummary['counts'], string])[] = [
  ['services', 'Services'],
  ['virtualServers', 'Virtual servers'],
  ['realServers', 'Real servers'],
  ['draining', 'Draining'],
  ['failing', 'Failing'],
  ['conflicts', 'Conflicts'],
  ['refused', 'Refused'],
]
const ALARMING: readonly (keyof StatusSummary['counts'])[] = ['failing', 'conflicts', 'refused']

export function Counts({ counts }: Pick<StatusSummary, 'counts'>): VNode {
  return (
    <dl class="card counts">
      {COUNTS.map(([name, label]) => (
        <div key={name} class={ALARMING.includes(name) && counts[name] > 0 ? 'alarming' : undefined}>
          <dt>{label}</dt>
          <dd>{count(counts[name])}</dd>
        </div>
      ))}
    </dl>
  )
}
