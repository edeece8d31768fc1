/** The status page: what is on this node, and how it goes. It only reads. */
import { render, type VNode } from 'preact'
import { useEffect, useRef, useState } from 'preact/hooks'
import { Asker, type Feed, type Question } from './feed.ts'
import { Counts, Header } from './header.tsx'
import { Drains, Journal } from './lists.tsx'
import { Plots } from './plots.tsx'
import { Table } from './table.tsx'

/** After the last letter. */
const TYPING_MS = 200
const FIRST: Question = { search: '', sort: 'service', order: 'ascending', offset: 0, open: undefined }

function Search({ search }: { readonly search: (text: string) => void }): VNode {
  const field = useRef<HTMLInputElement>(null)
  const timer = useRef<ReturnType<typeof setTimeout>>(undefined)
  useEffect(() => {
    const focus = (event: KeyboardEvent): void => {
      if (event.key !== '/' || event.target instanceof HTMLInputElement) return
      event.preventDefault()
      field.current?.focus()
    }
    document.addEventListener('keydown', focus)
    return () => {
      document.removeEventListener('keydown', focus)
    }
  }, [])
  const typed = (): void => {
    clearTimeout(timer.current)
    timer.current = setTimeout(() => {
      search(field.current!.value)
    }, TYPING_MS)
  }
  return (
    <div class="search">
      <label for="search">Search</label>
      <input
        ref={field}
        id="search"
        type="search"
        maxLength={200}
        autoComplete="off"
        spellcheck={false}
        placeholder="Service, virtual IP or Pod"
        onInput={typed}
      />
      <kbd aria-hidden="true">/</kbd>
    </div>
  )
}

/** Asks while the page can be seen, and is not paused. */
function useFeed(question: Question, isPaused: boolean): Feed {
  const [feed, setFeed] = useState<Feed>({ news: undefined, failure: undefined })
  const [asker] = useState(() => new Asker(setFeed))
  useEffect(() => {
    asker.ask(question)
  }, [question])
  useEffect(() => {
    const look = (): void => {
      asker.pause(isPaused || document.hidden)
    }
    look()
    document.addEventListener('visibilitychange', look)
    return () => {
      document.removeEventListener('visibilitychange', look)
    }
  }, [isPaused])
  return feed
}

const STANDING_STILL =
  'Rates stand still, as the kernel counts nothing: net.ipv4.vs.run_estimation is 0 on this node.'

function Page(): VNode {
  const [question, setQuestion] = useState(FIRST)
  const [isPaused, setPaused] = useState(false)
  const feed = useFeed(question, isPaused)
  const change = (parts: Partial<Question>): void => {
    setQuestion((before) => ({ ...before, ...parts }))
  }
  const togglePause = (): void => {
    setPaused(!isPaused)
  }
  const search = (text: string): void => {
    change({ search: text, offset: 0 })
  }
  const { news } = feed
  useEffect(() => {
    if (news !== undefined) document.title = `${news.summary.node}: kube-ipvs`
  }, [news?.summary.node])
  return (
    <>
      <Header {...{ feed, isPaused, togglePause }} />
      <main>
        {news && <Counts counts={news.summary.counts} />}
        {news && <Plots samples={news.summary.history} />}
        <section class="card">
          <div class="bar">
            <h2>Virtual servers</h2>
            <Search search={search} />
          </div>
          {news?.summary.ratesStandStill && <p>{STANDING_STILL}</p>}
          {news && <Table {...{ news, question, change }} />}
        </section>
        {news && <Drains drains={news.summary.drains} drained={news.summary.drained} />}
        {news && <Journal entries={news.summary.journal} />}
      </main>
    </>
  )
}

render(<Page />, document.getElementById('page')!)
