/** Answers to commands and the status page: a document, or a sentence that says what is wrong. */
import { type Answer, PLAIN } from '../../serve/http.ts'

/** What is asked makes no sense, or is not there: the answer has a status of its own. */
export class RequestError extends Error {
  override readonly name: string = 'RequestError'
  readonly status: number

  constructor(status: number, message: string) {
    super(message)
    this.status = status
  }
}

/** What is asked about is not known here. */
export class UnknownError extends RequestError {
  override readonly name = 'UnknownError'

  constructor(message: string) {
    super(404, message)
  }
}

/** A document as text. */
export function jsonAnswer(body: string): Answer {
  return { status: 200, type: 'application/json', body }
}

async function* listParts(
  first: IteratorResult<string>,
  rest: AsyncIterator<string>,
): AsyncGenerator<string> {
  for (let next = first, comma = ''; next.done !== true; next = await rest.next(), comma = ',')
    yield `${comma}${next.value}`
  yield ']}'
}

/**
 * A document whose last field is a list, which may be long: its head without the list, and the items as text, which are
 * written as they come. What the first one throws is thrown.
 */
export async function listAnswer(head: object, field: string, items: AsyncIterator<string>): Promise<Answer> {
  const begin = `${JSON.stringify(head).slice(0, -1)},"${field}":[`
  return { ...jsonAnswer(begin), more: listParts(await items.next(), items) }
}

/** What goes wrong is an answer: who asks is told, and nobody else. */
export async function answered(ask: () => Answer | Promise<Answer>): Promise<Answer> {
  try {
    return await ask()
  } catch (error) {
    const status = error instanceof RequestError ? error.status : 500
    return { status, type: PLAIN, body: `${(error as Error).message}\n` }
  }
}
