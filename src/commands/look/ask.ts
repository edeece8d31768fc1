/** Asks the running program over its local socket. */
import { request } from 'node:http'
import { text } from 'node:stream/consumers'
import type { DrainList } from '../../view/documents.ts'

/** A program that says nothing for so long is frozen, or too busy to wait for. */
const SILENCE_MS = 5_000

/** Nobody answers: what is asked for has to be found in another way. */
export class NoAnswerError extends Error {
  override readonly name = 'NoAnswerError'
  /** It has heard the question. */
  readonly isLate: boolean

  constructor(message: string, isLate = false) {
    super(message)
    this.isLate = isLate
  }
}

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such socket: kube-ipvs does not run here, or has another --local-socket',
  ECONNREFUSED: 'its process has ended',
  EACCES: 'run this as root',
  EPERM: 'run this as root',
}

interface Answered {
  readonly status: number
  readonly body: string
}

interface Asked {
  readonly socketPath: string
  readonly path: string
  readonly method: 'GET' | 'POST'
}

async function send(asking: Asked, silenceMs: number): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const asked = request({ ...asking, timeout: silenceMs }, (response) => {
      text(response).then((body) => {
        resolve({ status: response.statusCode!, body })
      }, reject)
    })
    asked.on('timeout', () => asked.destroy(new Error(`it said nothing for ${silenceMs / 1_000} s`)))
    asked.on('error', reject)
    asked.end()
  })
}

type Query = Readonly<Record<string, string>>

/** The document at a path. Throws NoAnswerError, or an Error with what the program says. */
export async function ask<Document>(
  socketPath: string,
  path: string,
  query: Query,
  silenceMs = SILENCE_MS,
): Promise<Document> {
  return exchange({ socketPath, path, method: 'GET' }, query, silenceMs)
}

/** Has the program change something, and returns the document that it answers. Throws as `ask`. */
export async function change<Document>(socketPath: string, path: string, query: Query): Promise<Document> {
  return exchange<Document>({ socketPath, path, method: 'POST' }, query, SILENCE_MS).catch(
    (error: unknown) => {
      if (error instanceof NoAnswerError && error.isLate)
        throw new Error(`${error.message}; it may still do it when it goes on`, { cause: error })
      throw error
    },
  )
}

async function exchange<Document>(
  { socketPath, path, method }: Asked,
  query: Query,
  silenceMs: number,
): Promise<Document> {
  if (socketPath === '') throw new NoAnswerError('--local-socket is empty')
  const url = `${path}?${String(new URLSearchParams(query))}`
  const answered = await send({ socketPath, path: url, method }, silenceMs).catch((cause: unknown) => {
    const { code = '', message } = cause as NodeJS.ErrnoException
    const reason = REASONS[code] ?? message
    throw new NoAnswerError(`kube-ipvs does not answer on ${socketPath}: ${reason}`, code === '')
  })
  if (answered.status !== 200) throw new Error(answered.body.trim())
  return JSON.parse(answered.body) as Document
}

/** What the running program keeps out of service by hand: what the API wants is otherwise. Nothing where it does not answer. */
export async function askForDrained(socketPath: string): Promise<string[]> {
  try {
    const { drains } = await ask<DrainList>(socketPath, '/v1/drains', {})
    return drains.map(({ drained }) => drained)
  } catch (error) {
    // A release that knows no drains has none.
    if (error instanceof NoAnswerError || (error as Error).message.startsWith('404 ')) return []
    throw error
  }
}
