import { once } from 'node:events'
import { mock } from 'node:test'
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import type { Resource } from '../../../src/model/facts/facts.ts'
import { parseEndpointSlice, parseService } from '../../../src/model/facts/parse-facts.ts'
import type { Body, ReadPage } from '../../../src/source/pages/page.ts'
import { openPageReader } from '../../../src/source/pages/page-reader.ts'
import { openThreadReader } from '../../../src/source/pages/thread-reader.ts'
import { endpoint, service, slice } from '../../support/builders.ts'
import { rejectionOf } from '../../support/rejection.ts'
import { noteThreads } from '../../support/threads.ts'

const plain = (text: string): Body => ({ bytes: Buffer.from(text), isZipped: false })
const zipped = (text: string): Body => ({ bytes: gzipSync(text), isZipped: true })
const listOf = (items: readonly unknown[] | null, metadata = {}): string =>
  JSON.stringify({ metadata, items })

const factsOf = async (read: ReadPage, resource: Resource, body: Body) => (await read(resource, body)).facts

const BROKEN: readonly Body[] = [plain('{"items":[{"meta'), { bytes: Buffer.from('no gzip'), isZipped: true }]

const READERS: Readonly<Record<string, (signal: AbortSignal) => ReadPage>> = {
  openPageReader,
  openThreadReader: (signal) => openThreadReader(signal).read,
}

for (const [name, open] of Object.entries(READERS)) {
  describe(`a page from ${name}`, () => {
    let abort: AbortController

    beforeEach(() => {
      abort = new AbortController()
    })
    afterEach(() => {
      abort.abort()
    })

    it('says what a page says of its list', async () => {
      const read = open(abort.signal)
      const items = [service({ name: 'a' }), service({ name: 'b' })]
      const text = listOf(items, { resourceVersion: '7', continue: 'more' })
      const { head } = await read('services', plain(text))
      expect(head).to.deep.equal({
        resourceVersion: '7',
        continue: 'more',
        objects: 2,
        length: text.length,
      })
      const last = await read('services', plain(listOf(null, { resourceVersion: '7', continue: '' })))
      expect(last.head.continue).to.equal(undefined)
      expect(await last.facts).to.deep.equal([])
    })

    it('gives the facts that an event would give, of compressed pages, too', async () => {
      const read = open(abort.signal)
      const unusable = service({ name: 'broken', spec: { clusterIP: 'nowhere' } })
      const services = [
        service({ name: 'wéb' }),
        unusable,
        service({ name: 'headless', spec: { clusterIP: 'None' } }),
      ]
      const slices = [
        slice({
          endpoints: [endpoint('10.244.0.1', { hints: { forZones: [{ name: 'a' }] } }), '10.244.0.2'],
        }),
        slice({ addressType: 'FQDN' }),
      ]
      for (const body of [plain, zipped]) {
        expect(await factsOf(read, 'services', body(listOf(services)))).to.deep.equal(
          services.map(parseService),
        )
        expect(await factsOf(read, 'endpointSlices', body(listOf(slices)))).to.deep.equal(
          slices.map(parseEndpointSlice),
        )
      }
    })

    it('refuses what is no page, and reads the next one', async () => {
      const read = open(abort.signal)
      for (const body of BROKEN) expect(await rejectionOf(read('services', body))).to.be.an('error')
      expect(await factsOf(read, 'services', plain(listOf([])))).to.deep.equal([])
    })
  })
}

describe('openThreadReader', () => {
  let abort: AbortController
  const { started: threads, turn } = noteThreads()

  beforeEach(() => {
    abort = new AbortController()
  })
  afterEach(() => {
    abort.abort()
    mock.timers.reset()
  })
  const open = async (): Promise<ReadPage> => {
    const { begin, read } = openThreadReader(abort.signal)
    expect(begin()).to.equal(false)
    await turn()
    return read
  }

  it('answers each of many pages with its own', async () => {
    const { read } = openThreadReader(abort.signal)
    const names = Array.from({ length: 50 }, (_, i) => `s${i}`)
    const pages = await Promise.all(
      names.map((name) => factsOf(read, 'services', plain(listOf([service({ name })])))),
    )
    expect(pages.map(([parsed]) => parsed?.name)).to.deep.equal(names.map((name) => `shop/${name}`))
    expect(threads).to.have.length(1)
  })

  it('keeps its thread when it has refused a page', async () => {
    const { read } = openThreadReader(abort.signal)
    for (const body of BROKEN) expect(await rejectionOf(read('services', body))).to.be.an('error')
    expect(await factsOf(read, 'services', plain(listOf([])))).to.deep.equal([])
    expect(threads).to.have.length(1)
  })

  it('says when the thread has begun', async () => {
    const { begin, read } = openThreadReader(abort.signal)
    begin()
    await factsOf(read, 'services', plain(listOf([])))
    expect(begin()).to.equal(true)
  })

  it('says so when the thread has ended, and starts another one', async () => {
    const read = await open()
    const [thread] = threads
    const lost = rejectionOf(read('services', plain(listOf([service({ name: 'a' })]))))
    await thread!.terminate()
    expect(await lost).to.match(/the thread that reads lists has ended/)
    expect(await factsOf(read, 'services', plain(listOf([])))).to.deep.equal([])
    expect(threads).to.have.length(2)
  })

  it('has no thread when nothing has been read for a while, and another one when there is something to read', async () => {
    mock.timers.enable({ apis: ['setTimeout'] })
    const read = await open()
    const ended = once(threads[0]!, 'exit')
    mock.timers.tick(1_900)
    await factsOf(read, 'services', plain(listOf([])))
    mock.timers.tick(1_900)
    await factsOf(read, 'services', plain(listOf([])))
    expect(threads).to.have.length(1)
    mock.timers.tick(2_000)
    await ended
    await factsOf(read, 'services', plain(listOf([])))
    expect(threads).to.have.length(2)
  })

  it('has no thread after its end', async () => {
    const read = await open()
    const ended = once(threads[0]!, 'exit')
    abort.abort()
    await ended
    expect(await rejectionOf(read('services', plain(listOf([]))))).to.have.property('name', 'AbortError')
    expect(() => openThreadReader(abort.signal).begin()).to.throw('aborted')
    expect(threads).to.have.length(1)
  })
})
