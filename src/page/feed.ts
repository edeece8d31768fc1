/** What the page knows of the node: asked for every two seconds, and at once when the question is another. */
import type { StatusDetail, StatusSummary, StatusTable } from '../view/documents.ts'
import { MAX_ROWS, type Order, type Sort } from '../view/status-table.ts'

const INTERVAL_MS = 2_000
const PATIENCE_MS = 10_000

export interface Question {
  readonly search: string
  readonly sort: Sort
  readonly order: Order
  readonly offset: number
  /** The virtual server whose real servers are shown. */
  readonly open: string | undefined
}

export interface News {
  readonly summary: StatusSummary
  readonly table: StatusTable
  /** Of the one that is open, or why there is none. */
  readonly detail: StatusDetail | string | undefined
  /** In ms since the epoch. */
  readonly at: number
}

export interface Feed {
  readonly news: News | undefined
  /** Since when there is no answer, in ms since the epoch, and why. */
  readonly failure: { readonly since: number; readonly reason: string } | undefined
}

async function get<Document>(path: string, signal: AbortSignal): Promise<Document> {
  const response = await fetch(path, { signal })
  if (response.ok) return (await response.json()) as Document
  throw new Error((await response.text()).trim())
}

function tablePath({ search, sort, order, offset }: Question): string {
  const query = new URLSearchParams({ search, sort, order, offset: String(offset), limit: String(MAX_ROWS) })
  return `v1/virtual-servers?${query.toString()}`
}

async function ask(question: Question, signal: AbortSignal): Promise<News> {
  const { open } = question
  const key = new URLSearchParams({ key: open ?? '' }).toString()
  const [summary, table, detail] = await Promise.all([
    get<StatusSummary>('v1/summary', signal),
    get<StatusTable>(tablePath(question), signal),
    open === undefined
      ? undefined
      : get<StatusDetail>(`v1/virtual-server?${key}`, signal).catch(
          (error: unknown) => (error as Error).message,
        ),
  ])
  return { summary, table, detail, at: Date.now() }
}

/** Goes on asking until it is stopped; an answer that is late is not waited for when there is another question. */
export class Asker {
  readonly #tell: (feed: Feed) => void
  #feed: Feed = { news: undefined, failure: undefined }
  #question: Question | undefined
  #underWay: AbortController | undefined
  #timer: ReturnType<typeof setTimeout> | undefined
  #isPaused = false

  constructor(tell: (feed: Feed) => void) {
    this.#tell = tell
  }

  ask(question: Question): void {
    this.#question = question
    void this.#askNow()
  }

  pause(isPaused: boolean): void {
    if (isPaused === this.#isPaused) return
    this.#isPaused = isPaused
    if (isPaused) clearTimeout(this.#timer)
    else void this.#askNow()
  }

  async #askNow(): Promise<void> {
    clearTimeout(this.#timer)
    this.#underWay?.abort()
    if (this.#question === undefined) return
    const mine = new AbortController()
    this.#underWay = mine
    const signal = AbortSignal.any([mine.signal, AbortSignal.timeout(PATIENCE_MS)])
    try {
      this.#note(mine, { news: await ask(this.#question, signal), failure: undefined })
    } catch (error) {
      const { news, failure } = this.#feed
      const since = failure?.since ?? Date.now()
      this.#note(mine, { news, failure: { since, reason: (error as Error).message } })
    }
  }

  #note(from: AbortController, feed: Feed): void {
    if (from !== this.#underWay) return
    this.#feed = feed
    this.#tell(feed)
    if (!this.#isPaused) this.#timer = setTimeout(() => void this.#askNow(), INTERVAL_MS)
  }
}
