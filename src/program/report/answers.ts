/** Answers of the local socket: a document, or a sentence that says what is wrong. */
import { type Answer, PLAIN } from '../../serve/http.ts'

/** What is asked about is not known here. */
export class UnknownError extends Error {
  override readonly name = 'UnknownError'
}

/** A document as text. */
export function jsonAnswer(body: string): Answer {
  return { status: 200, type: 'application/json', body }
}

/** What goes wrong is an answer: who asks is told, and nobody else. */
export async function answered(ask: () => Answer | Promise<Answer>): Promise<Answer> {
  try {
    return await ask()
  } catch (error) {
    const status = error instanceof UnknownError ? 404 : 500
    return { status, type: PLAIN, body: `${(error as Error).message}\n` }
  }
}
