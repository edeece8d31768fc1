/**
 * A thread of its own reads the pages of long lists: inflating, parsing and trimming tens of MB would hold up everything
 * else, and what they leave behind is gone with the thread. This file is run in it: each page is answered with what it
 * says of its list, and with its facts as JSON, which are a fourth of it; or with the reason why it cannot be read.
 */
import { parentPort } from 'node:worker_threads'
import { parsePage } from './page.ts'
import type { PageAnswer, PageRequest } from './thread-reader.ts'

const say = (answer: PageAnswer): void => {
  parentPort!.postMessage(answer)
}

parentPort!.on('message', ({ resource, body }: PageRequest) => {
  try {
    const { head, facts } = parsePage(resource, body)
    // The next page can be asked for meanwhile.
    say({ head })
    say({ facts: JSON.stringify(facts()) })
  } catch (error) {
    say({ error: error as Error })
  }
})
