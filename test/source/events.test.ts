import { expect } from 'chai'
import { ApiError } from '../../src/source/api-client.ts'
import { type Happening, openEvents } from '../../src/source/events.ts'
import type { ApiEvent } from '../support/api-server.ts'
import { complaints, recordingLog } from '../support/log.ts'

const SECOND = 1_000
const MINUTE = 60 * SECOND
const START = Date.UTC(2026, 0, 1)
const EVENTS = '/apis/events.k8s.io/v1/namespaces'

const STARTING: Happening = {
  type: 'Normal',
  reason: 'Starting',
  action: 'StartKubeProxy',
  regarding: { kind: 'Node', name: 'node-1' },
  note: '',
}
const refused = (name: string, note = 'Not served: 127.0.0.1 is a loopback address'): Happening => ({
  type: 'Warning',
  reason: 'ExternalAddressRefused',
  action: 'ServeVirtualServer',
  regarding: { kind: 'Service', name, namespace: 'shop' },
  note,
})

/** A clock that stands still until it is advanced. */
class Clock {
  now = START
  readonly pauses: number[] = []
  #timers: { readonly at: number; readonly end: () => void }[] = []

  readonly pause = (ms: number, signal: AbortSignal): Promise<void> => {
    this.pauses.push(ms)
    return new Promise((resolve) => {
      this.#timers.push({ at: this.now + ms, end: resolve })
      signal.addEventListener('abort', () => {
        resolve()
      })
    })
  }

  async advance(ms: number): Promise<void> {
    const end = this.now + ms
    await settle()
    for (let next = this.#next(end); next !== undefined; next = this.#next(end)) {
      this.now = next.at
      next.end()
      await settle()
    }
    this.now = end
  }

  #next(end: number) {
    const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
    this.#timers = this.#timers.filter((timer) => timer !== next)
    return next
  }
}

/** Lets everything happen that waits for no clock. */
async function settle(): Promise<void> {
  for (let i = 0; i < 2_000; i++) await Promise.resolve()
}

interface Sent {
  readonly method: string
  readonly path: string
  readonly body: ApiEvent
}

/** A recorder on a stand-in client that fails as told, with a clock of its own. */
function recorder(failures: (Error | undefined)[] = [], nodeName = 'node-1') {
  const sent: Sent[] = []
  const tried: string[] = []
  const abort = new AbortController()
  const { log, lines } = recordingLog()
  const clock = new Clock()
  const server: { answering?: Promise<undefined> } = {}
  const api = {
    send: async (method: string, path: string, body: object): Promise<unknown> => {
      tried.push(method)
      await server.answering
      const failure = failures.shift()
      if (failure !== undefined) throw failure
      sent.push({ method, path, body: body as ApiEvent })
      return {}
    },
  }
  const { pause } = clock
  const record = openEvents({ api, nodeName, log, signal: abort.signal, now: () => clock.now, pause })
  return { record, sent, tried, clock, lines, abort, server }
}

const methods = (sent: readonly Sent[]): string[] => sent.map(({ method }) => method)
const AWAY = new Error('connect ECONNREFUSED')

describe('openEvents', () => {
  it('writes an Event as the API wants it', async () => {
    const { record, sent } = recorder()
    record(refused('web'))
    await settle()

    const [{ method, path, body }] = sent as [Sent]
    expect([method, path]).to.deep.equal(['POST', `${EVENTS}/shop/events`])
    const { metadata, ...rest } = body
    expect(metadata.name).to.match(/^web\.[0-9a-f]{16}$/)
    const nanoseconds = BigInt(`0x${metadata.name.slice('web.'.length)}`)
    expect(Number(nanoseconds / 1_000_000n)).to.equal(START)
    expect(metadata.namespace).to.equal('shop')
    expect(rest).to.deep.equal({
      apiVersion: 'events.k8s.io/v1',
      kind: 'Event',
      eventTime: '2026-01-01T00:00:00.000000Z',
      reportingController: 'kube-ipvs',
      reportingInstance: 'kube-ipvs-node-1',
      type: 'Warning',
      reason: 'ExternalAddressRefused',
      action: 'ServeVirtualServer',
      regarding: { apiVersion: 'v1', kind: 'Service', name: 'web', namespace: 'shop' },
      note: 'Not served: 127.0.0.1 is a loopback address',
    })
  })

  it('has Events of a Node in the namespace default', async () => {
    const { record, sent } = recorder()
    record(STARTING)
    await settle()

    expect(sent[0]!.path).to.equal(`${EVENTS}/default/events`)
    expect(sent[0]!.body.regarding).to.deep.equal({ apiVersion: 'v1', kind: 'Node', name: 'node-1' })
  })

  const NOTES: readonly [string, string, string][] = [
    ['fits', 'ü'.repeat(512), 'ü'.repeat(512)],
    ['is a byte too long', `${'a'.repeat(1_023)}ü`, 'a'.repeat(1_023)],
    ['is too long by a character of four bytes', `${'a'.repeat(1_021)}\u{1f40b}`, 'a'.repeat(1_021)],
  ]
  for (const [name, note, expected] of NOTES) {
    it(`cuts a note between characters: one that ${name}`, async () => {
      const { record, sent } = recorder()
      record(refused('web', note))
      await settle()

      expect(sent[0]!.body.note).to.equal(expected)
    })
  }

  it('keeps names within the limits of the API', async () => {
    const node = `${'a'.repeat(235)}.${'b'.repeat(17)}`
    const { record, sent } = recorder([], node)
    for (const note of ['1', '2']) record({ ...STARTING, regarding: { kind: 'Node', name: node }, note })
    await settle()

    const names = sent.map(({ body }) => body.metadata.name)
    for (const name of names) expect(name).to.match(/^a{235}\.[0-9a-f]{16}$/)
    expect(sent[0]!.body.reportingInstance).to.equal(`kube-ipvs-${'a'.repeat(118)}`)
  })

  it('gives names that ascend, also within a millisecond', async () => {
    const { record, sent } = recorder()
    for (let i = 0; i < 20; i++) record(refused('web', String(i)))
    await settle()

    const names = sent.map(({ body }) => body.metadata.name)
    expect(names).to.deep.equal([...new Set(names)].sort())
  })

  it('does not give two nodes the same name for an Event of the same time', async () => {
    const names = new Set<string>()
    for (let node = 0; node < 20; node++) {
      const { record, sent } = recorder()
      record(refused('web'))
      await settle()
      names.add(sent[0]!.body.metadata.name)
    }
    expect(names.size).to.be.greaterThan(15)
  })
})

describe('openEvents, when the same happens again', () => {
  it('counts it, and tells it every half minute as long as it goes on', async () => {
    const { record, sent, clock } = recorder()
    for (let second = 0; second < 70; second++) {
      record(STARTING)
      await clock.advance(SECOND)
    }
    await clock.advance(5 * MINUTE)

    const [{ body: event }, ...patches] = sent as [Sent, ...Sent[]]
    const path = `${EVENTS}/default/events/${event.metadata.name}`
    const series = (count: number, time: string) => ({
      method: 'PATCH',
      path,
      body: { series: { count, lastObservedTime: `2026-01-01T00:${time}.000000Z` } },
    })
    expect(event.series).to.equal(undefined)
    expect(patches).to.deep.equal([series(30, '00:29'), series(60, '00:59'), series(70, '01:09')])
  })

  it('counts what is said in one go before it writes', async () => {
    const { record, sent } = recorder()
    for (let i = 0; i < 5; i++) record(STARTING)
    await settle()

    expect(sent.map(({ body }) => body.series)).to.deep.equal([
      { count: 5, lastObservedTime: '2026-01-01T00:00:00.000000Z' },
    ])
  })

  it('tells what has happened during a request after it', async () => {
    const { record, sent, clock, server } = recorder()
    const answer = Promise.withResolvers<undefined>()
    server.answering = answer.promise
    record(STARTING)
    await settle()
    for (let i = 0; i < 3; i++) record(STARTING)
    answer.resolve(undefined)
    await clock.advance(MINUTE)

    expect(sent.map(({ method, body }) => [method, body.series?.count])).to.deep.equal([
      ['POST', undefined],
      ['PATCH', 4],
    ])
  })

  it('is one Event for as long as it goes on', async () => {
    const { record, sent, clock } = recorder()
    for (let i = 0; i < 10; i++) {
      record(STARTING)
      await clock.advance(5 * MINUTE)
    }
    expect(methods(sent)).to.deep.equal(['POST', ...Array<string>(9).fill('PATCH')])
  })

  it('begins anew after six quiet minutes, and not before', async () => {
    const { record, sent, clock } = recorder()
    record(STARTING)
    await clock.advance(6 * MINUTE - 1)
    record(STARTING)
    await clock.advance(6 * MINUTE)
    record(STARTING)
    await settle()

    expect(methods(sent)).to.deep.equal(['POST', 'PATCH', 'POST'])
    expect(sent[2]!.body.metadata.name).not.to.equal(sent[0]!.body.metadata.name)
    expect(sent[2]!.body.eventTime).to.equal('2026-01-01T00:11:59.999000Z')
  })

  it('takes another note for another Event', async () => {
    const { record, sent } = recorder()
    for (const note of ['a', 'b', 'a']) record(refused('web', note))
    await settle()

    expect(sent.map(({ body }) => [body.note, body.series?.count])).to.deep.equal([
      ['a', 2],
      ['b', undefined],
    ])
  })

  it('writes a series anew when the API server has forgotten it', async () => {
    const { record, sent, tried, clock } = recorder([undefined, new ApiError('not found', 404)])
    record(STARTING)
    await clock.advance(MINUTE)
    record(STARTING)
    await settle()

    expect(tried).to.deep.equal(['POST', 'PATCH', 'POST'])
    const [first, again] = sent as [Sent, Sent]
    const series = { count: 2, lastObservedTime: '2026-01-01T00:01:00.000000Z' }
    expect(again.body).to.deep.equal({ ...first.body, series })
  })
})

describe('openEvents, when it is too much', () => {
  it('drops what happens too often to one object, and to no other', async () => {
    const { record, sent, clock, lines } = recorder()
    for (let i = 0; i < 40; i++) record(refused('web', String(i)))
    record(refused('other'))
    await settle()
    expect(sent).to.have.length(26)

    await clock.advance(10 * MINUTE)
    for (const note of ['a', 'b', 'c']) record(refused('web', note))
    await settle()
    expect(sent.slice(26).map(({ body }) => body.note)).to.deep.equal(['a', 'b'])
    expect(lines.map(({ level, msg, dropped }) => ({ level, msg, dropped }))).to.deep.equal([
      { level: 20, msg: 'too many Events of one object: dropping more', dropped: undefined },
      { level: 20, msg: 'dropped Events: there were too many of one object', dropped: 15 },
      { level: 20, msg: 'too many Events of one object: dropping more', dropped: undefined },
    ])
  })

  it('is not confused by a clock that goes back', async () => {
    const { record, sent, clock } = recorder()
    for (let i = 0; i < 20; i++) record(refused('web', String(i)))
    await settle()
    clock.now -= 600 * MINUTE
    for (let i = 0; i < 20; i++) record(refused('web', `again ${i}`))
    record(refused('web', '0'))
    await clock.advance(30 * SECOND)

    expect(methods(sent)).to.deep.equal([...Array<string>(25).fill('POST'), 'PATCH'])
    expect(new Set(sent.slice(0, 25).map(({ body }) => body.metadata.name)).size).to.equal(25)
  })

  it('remembers a bounded number of Events and objects', async () => {
    const { record, sent, clock } = recorder()
    for (let i = 0; i <= 1_000; i++) {
      record(refused(`s${i}`))
      await settle()
    }
    await clock.advance(MINUTE)
    for (const name of ['s0', 's1000']) record(refused(name))
    await settle()

    expect(methods(sent.slice(1_001))).to.deep.equal(['POST', 'PATCH'])
  })

  it('lets a bounded number wait', async () => {
    const { record, clock, lines, sent } = recorder([AWAY])
    record(STARTING)
    await settle()
    for (let i = 0; i < 150; i++) record(refused(`s${i}`))
    expect(lines.map(({ msg }) => msg)).to.deep.equal(
      Array<string>(50).fill('dropped an Event: too many wait to be sent'),
    )

    await clock.advance(MINUTE)
    expect(sent).to.have.length(101)
    record(refused('s149'))
    await settle()
    expect(sent.at(-1)!.body).to.deep.include({
      series: { count: 2, lastObservedTime: '2026-01-01T00:01:00.000000Z' },
    })
  })
})

describe('openEvents, when the API server does not take it', () => {
  it('tries again, with growing pauses, and tells what has happened until then', async () => {
    const away = [AWAY, new ApiError('unavailable', 503), new ApiError('slower', 429, 20 * SECOND), AWAY]
    const { record, sent, clock, lines } = recorder(away)
    record(STARTING)
    await settle()
    record(STARTING)
    await clock.advance(2 * MINUTE)

    expect(sent.map(({ method, body }) => [method, body.series?.count])).to.deep.equal([['POST', 2]])
    for (const [i, seconds] of [1, 2, 20, 8].entries())
      expect(clock.pauses[i]).to.be.within(seconds * SECOND, seconds * SECOND * 1.25)
    expect(complaints(lines)).to.deep.equal([])
  })

  it('does not pause for more than a minute or so', async () => {
    const { record, sent, clock } = recorder(Array<Error>(30).fill(AWAY))
    record(STARTING)
    await clock.advance(40 * MINUTE)

    expect(sent).to.have.length(1)
    expect(Math.max(...clock.pauses)).to.be.within(MINUTE, 1.25 * MINUTE)
  })

  it('gives up on one that the API server never takes, for the others', async () => {
    const { record, sent, clock, lines } = recorder(
      Array<Error>(13).fill(new ApiError('failed calling webhook', 500)),
    )
    record(refused('a'))
    record(refused('b'))
    await clock.advance(20 * MINUTE)

    expect(sent.map(({ body }) => body.regarding.name)).to.deep.equal(['b'])
    expect(lines.map(({ level, msg }) => [level, msg])).to.deep.equal([[20, 'dropped an Event']])
  })

  const REFUSALS: readonly [string, ApiError][] = [
    ['is invalid', new ApiError('API server answered 422: Event is invalid', 422)],
    ['exists', new ApiError('API server answered 409: events "a" already exists', 409)],
    ['has no namespace', new ApiError('API server answered 404: namespaces "shop" not found', 404)],
    [
      'is of a namespace that is being deleted',
      new ApiError('unable to create new content in namespace shop because it is being terminated', 403),
    ],
    ['is beyond a quota', new ApiError('events "a" is forbidden: exceeded quota: objects', 403)],
  ]
  for (const [name, error] of REFUSALS) {
    it(`gives up on one that ${name}`, async () => {
      const { record, sent, clock, lines } = recorder([error])
      record(refused('a'))
      record(refused('b'))
      await settle()

      expect(sent.map(({ body }) => body.regarding.name)).to.deep.equal(['b'])
      expect(lines.map(({ level, msg }) => [level, msg])).to.deep.equal([[20, 'dropped an Event']])
      expect(clock.pauses).to.deep.equal([])
    })
  }

  it('knows its own Event when only the answer was lost', async () => {
    const { record, sent, tried, clock } = recorder([AWAY, new ApiError('already exists', 409)])
    record(STARTING)
    await clock.advance(MINUTE)
    record(STARTING)
    await settle()

    expect(tried).to.deep.equal(['POST', 'POST', 'PATCH'])
    expect(sent[0]!.body.series!.count).to.equal(2)
  })

  it('says once that it may not write Events, with the remedy, and then writes none', async () => {
    const forbidden = new ApiError(
      'User "proxy" cannot create resource "events" in API group "events.k8s.io"',
      403,
    )
    const { record, tried, clock, lines } = recorder([undefined, forbidden])
    record(refused('a'))
    await settle()
    for (const name of ['a', 'b', 'c']) record(refused(name))
    await settle()
    record(refused('d'))
    await clock.advance(10 * MINUTE)

    expect(tried).to.deep.equal(['POST', 'POST'])
    expect(complaints(lines)).to.deep.equal([
      'we may not write Events: there will be none until the next start',
    ])
    expect(lines.at(-1)!.remedy).to.contain('deploy/base/rbac.yaml')
  })
})

describe('openEvents, at the end', () => {
  it('drops what waits, and sends nothing more', async () => {
    const { record, tried, abort, clock, lines } = recorder([AWAY])
    for (const name of ['a', 'b']) record(refused(name))
    await settle()
    abort.abort()
    await settle()
    record(refused('c'))
    await clock.advance(10 * MINUTE)

    expect(tried).to.deep.equal(['POST'])
    expect(lines).to.deep.equal([])
  })

  /** Whether a flush is over. */
  function watched(flush: Promise<void>): { over: boolean } {
    const state = { over: false }
    void flush.then(() => (state.over = true))
    return state
  }

  it('flushes what waits', async () => {
    const { record, sent, clock } = recorder([AWAY])
    record(STARTING)
    const flush = watched(record.flush(MINUTE))
    await settle()
    expect([flush.over, sent.length]).to.deep.equal([false, 0])

    await clock.advance(2 * SECOND)
    expect([flush.over, sent.length]).to.deep.equal([true, 1])
  })

  it('flushes no longer than it may', async () => {
    const { record, sent, clock } = recorder(Array<Error>(100).fill(AWAY))
    record(STARTING)
    const flush = watched(record.flush(5 * SECOND))
    await clock.advance(5 * SECOND - 1)
    expect(flush.over).to.equal(false)

    await clock.advance(1)
    await settle()
    expect([flush.over, sent.length]).to.deep.equal([true, 0])
  })

  it('has nothing to flush', async () => {
    const flush = watched(recorder().record.flush(MINUTE))
    await settle()

    expect(flush.over).to.equal(true)
  })
})
