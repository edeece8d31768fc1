/** Reads pages of lists on a thread (page-thread.ts), which is there only while there is something to read. */
import { extname, join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Facts, Parsed, Resource } from '../../model/facts/facts.ts'
import { withInternedNames } from '../../model/facts/parse-facts.ts'
import type { Body, PageHead, ReadPage } from './page.ts'

/** Beside this file, or, bundled, beside the program. */
const THREAD = join(import.meta.dirname, `page-thread${extname(import.meta.filename)}`)
/** The next list comes when a watch has been lost, which may be never. */
const IDLE_MS = 2_000

export interface PageRequest {
  readonly resource: Resource
  readonly body: Body
}

/** A head and then facts, as JSON, for each page; or an error. */
export type PageAnswer = { readonly head: PageHead } | { readonly facts: string } | { readonly error: Error }

interface Waiting {
  readonly head: PromiseWithResolvers<PageHead>
  readonly facts: PromiseWithResolvers<string>
}

function expectPage(): Waiting {
  const waiting = { head: Promise.withResolvers<PageHead>(), facts: Promise.withResolvers<string>() }
  // Whoever never gets to the facts has been told by the head.
  waiting.facts.promise.catch(() => undefined)
  return waiting
}

function refuse({ head, facts }: Waiting, error: Error): void {
  head.reject(error)
  facts.reject(error)
}

interface Thread {
  readonly worker: Worker
  /** It takes a while to begin. */
  isReady: boolean
  /** Pages that have not been answered, in order. */
  readonly waiting: Waiting[]
}

function startThread(onEnd: () => void): Thread {
  const worker = new Worker(THREAD)
  const waiting: Waiting[] = []
  const thread: Thread = { worker, waiting, isReady: false }
  worker.on('online', () => {
    thread.isReady = true
  })
  let reason: Error | undefined
  worker.on('message', (answer: PageAnswer) => {
    if ('head' in answer) waiting[0]!.head.resolve(answer.head)
    else if ('facts' in answer) waiting.shift()!.facts.resolve(answer.facts)
    else refuse(waiting.shift()!, answer.error)
  })
  worker.on('error', (error) => {
    reason = error instanceof Error ? error : new Error(String(error))
  })
  worker.on('exit', () => {
    onEnd()
    const error = new Error('the thread that reads lists has ended', { cause: reason })
    for (const page of waiting.splice(0)) refuse(page, error)
  })
  return thread
}

const asIs = <Fact>(fact: Fact): Fact => fact

/** What JSON has made anew for each object gets the same memory. */
const SHARING: { readonly [R in Resource]: (fact: Facts[R]) => Facts[R] } = {
  services: asIs,
  endpointSlices: withInternedNames,
  nodes: asIs,
  serviceCidrs: asIs,
}

function factsOf<R extends Resource>(resource: R, json: string): readonly Parsed<Facts[R]>[] {
  const share: (fact: Facts[R]) => Facts[R] = SHARING[resource]
  const parsed = JSON.parse(json) as readonly Parsed<Facts[R]>[]
  return parsed.map((object) =>
    object.fact === undefined ? object : { ...object, fact: share(object.fact) },
  )
}

export interface ThreadReader {
  /** Starts the thread where there is none; whether it has begun. */
  readonly begin: () => boolean
  readonly read: ReadPage
}

/** Opens a reader, whose thread begins with the first page, and again whenever there is one; it ends with `signal`. */
export function openThreadReader(signal: AbortSignal): ThreadReader {
  let thread: Thread | undefined
  const end = (): void => {
    void thread?.worker.terminate()
    thread = undefined
  }
  let idle: NodeJS.Timeout | undefined
  const endWhenIdle = (): void => {
    clearTimeout(idle)
    idle = setTimeout(() => {
      if (thread === undefined || thread.waiting.length === 0) end()
      else endWhenIdle()
    }, IDLE_MS).unref()
  }
  const current = (): Thread => {
    signal.throwIfAborted()
    endWhenIdle()
    const started = (thread ??= startThread(() => {
      if (thread === started) thread = undefined
    }))
    return started
  }
  signal.addEventListener('abort', end)
  const begin = (): boolean => current().isReady
  const read: ReadPage = async (resource, body) => {
    const page = expectPage()
    const { worker, waiting } = current()
    waiting.push(page)
    worker.postMessage({ resource, body } satisfies PageRequest)
    const head = await page.head.promise
    return { head, facts: page.facts.promise.then((json) => factsOf(resource, json)) }
  }
  return { begin, read }
}
