import { once } from 'node:events'
import { expect } from 'chai'
import type { Body } from '../../../src/source/pages/page.ts'
import { openPageReader } from '../../../src/source/pages/page-reader.ts'
import { service } from '../../support/builders.ts'
import { rejectionOf } from '../../support/rejection.ts'
import { noteThreads } from '../../support/threads.ts'

/** A page of one Service, which says whether another page follows. */
const page = (name: string, isLast = false): Body => {
  const metadata = { resourceVersion: '7', continue: isLast ? '' : 'more' }
  return { bytes: Buffer.from(JSON.stringify({ metadata, items: [service({ name })] })), isZipped: false }
}

describe('openPageReader', () => {
  let abort: AbortController
  const { started: threads, turn } = noteThreads()

  beforeEach(() => {
    abort = new AbortController()
  })
  afterEach(() => {
    abort.abort()
  })

  it('has no thread for lists of up to eight pages, however many there are', async () => {
    let longOnes = 0
    const read = openPageReader(abort.signal, () => longOnes++)
    for (let i = 0; i < 24; i++) await read('services', page('web', i % 8 === 7))
    for (let i = 0; i < 8; i++) await read('endpointSlices', page('web'))
    await turn()
    expect(threads).to.deep.equal([])
    expect(longOnes).to.equal(0)
  })

  it('counts the pages of all lists that are read together', async () => {
    const read = openPageReader(abort.signal)
    for (let i = 0; i < 3; i++) await read('services', page('web', i === 2))
    for (let i = 0; i < 4; i++) {
      await read('services', page('web'))
      await read('endpointSlices', page('web'))
    }
    await turn()
    expect(threads).to.deep.equal([])
    await read('endpointSlices', page('web'))
    await turn()
    expect(threads).to.have.length(1)
  })

  it('begins a thread for the ninth page, and waits for none: a page is read where it can be at once', async () => {
    const read = openPageReader(abort.signal)
    for (let i = 0; i < 9; i++) await read('services', page('web'))
    await turn()
    expect(threads).to.have.length(1)
    const [thread] = threads
    let asked = 0
    const post = thread!.postMessage.bind(thread)
    thread!.postMessage = (message: unknown) => {
      asked++
      post(message)
    }
    await once(thread!, 'online')
    for (const name of ['a', 'b']) {
      const { head, facts } = await read('services', page(name))
      expect(head.objects).to.equal(1)
      expect((await facts).map((parsed) => parsed.name)).to.deep.equal([`shop/${name}`])
    }
    expect(asked).to.equal(2)
  })

  it('says that a list is long when the thread reads it: what Node loads for the thread is loaded by then', async () => {
    const said: number[] = []
    const read = openPageReader(abort.signal, () => said.push(threads.length))
    for (let i = 0; i < 9; i++) await read('services', page('web'))
    await turn()
    expect(said).to.deep.equal([])
    await once(threads[0]!, 'online')
    await read('services', page('web'))
    expect(said).to.deep.equal([1])
  })

  it('asks for the next page before the facts of one are parsed', async () => {
    const read = openPageReader(abort.signal)
    const { facts } = await read('services', page('web'))
    let isParsed = false
    void facts.then(() => (isParsed = true))
    await Promise.resolve()
    expect(isParsed).to.equal(false)
    await facts
  })

  it('reads nothing after its end', async () => {
    const read = openPageReader(abort.signal)
    abort.abort()
    expect(await rejectionOf(read('services', page('web')))).to.have.property('name', 'AbortError')
  })
})
