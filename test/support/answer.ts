import type { Answer } from '../../src/serve/http.ts'

/** The whole body of an answer, with what is written a part at a time. */
export async function textOf({ body, more = [] }: Answer): Promise<string> {
  return body + (await Array.fromAsync(more)).join('')
}
