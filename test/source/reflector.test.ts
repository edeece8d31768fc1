import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Collection } from '../../src/model/facts/cluster.ts'
import type { Parsed, Service } from '../../src/model/facts/facts.ts'
import { parseService } from '../../src/model/facts/parse-facts.ts'
import { loadKubeConfig, openApiClient } from '../../src/source/api-client.ts'
import { openPageReader } from '../../src/source/pages/page-reader.ts'
import { reflect } from '../../src/source/reflector.ts'
import { ApiServer } from '../support/api-server.ts'
import { service } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'
import { recordedAnswer } from '../support/recorded-api.ts'
import { withRandom } from '../support/random.ts'

/** What the reflector says, call by call. */
class Calls implements Collection<Service> {
  readonly all: string[] = []
  readonly names = new Set<string>()

  readonly foreseen: string[] = []

  foresee(objects: Iterable<Parsed<Service>>): void {
    for (const { name } of objects) this.foreseen.push(name)
  }
  replace(objects: Iterable<Parsed<Service>>): void {
    this.names.clear()
    for (const { name } of objects) this.names.add(name)
    this.all.push(`replace ${[...this.names].sort().join(' ')}`)
  }
  put({ name }: Parsed<Service>): void {
    this.names.add(name)
    this.all.push(`put ${name}`)
  }
  remove(name: string): void {
    this.names.delete(name)
    this.all.push(`remove ${name}`)
  }
}

describe('reflect', () => {
  let server: ApiServer
  let calls: Calls
  let folder: string
  let abort: AbortController
  let running: Promise<void>
  let pauses: number[]
  let lines: ReturnType<typeof recordingLog>['lines']

  beforeEach(async () => {
    server = await ApiServer.start()
    server.load(
      'services',
      [service({ name: 'a' }), service({ name: 'b' }), service({ name: 'c' })] as never,
      10,
    )
    calls = new Calls()
    pauses = []
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    abort = new AbortController()
  })
  afterEach(async () => {
    abort.abort()
    await running
    await server.close()
    rmSync(folder, { recursive: true })
  })

  function start({
    tokenFile,
    optional = false,
    pauseDivisor = 50,
  }: {
    readonly tokenFile?: string
    readonly optional?: boolean
    /** Pauses take so much less than they should. */
    readonly pauseDivisor?: number
  } = {}): void {
    const file = join(folder, 'kubeconfig')
    writeFileSync(file, server.kubeconfig(tokenFile))
    const recording = recordingLog()
    lines = recording.lines
    const readPage = openPageReader(abort.signal)
    running = reflect({
      api: openApiClient(() => loadKubeConfig(file)),
      path: '/api/v1/services',
      selectors: { labelSelector: '!service.kubernetes.io/service-proxy-name' },
      readPage: (body) => readPage('services', body),
      parse: parseService,
      collection: calls,
      optional,
      log: recording.log,
      signal: abort.signal,
      random: () => 0,
      sleep: async (ms) => {
        pauses.push(ms)
        await new Promise((resolve) => setTimeout(resolve, ms / pauseDivisor))
      },
    })
  }
  const watching = () => eventually(() => expect(server.watching).to.equal(1))
  const seen = (...expected: string[]) => eventually(() => expect(calls.all).to.deep.equal(expected))
  const lists = (): number => server.requests.filter(({ url }) => !url.searchParams.has('watch')).length
  const isList = (url: URL): boolean => !url.searchParams.has('watch')
  const isWatch = (url: URL): boolean => url.searchParams.has('watch')

  it('lists, then watches from the version of the list', async () => {
    start()
    await watching()
    server.put('services', service({ name: 'd' }))
    server.delete('services', 'shop/a')

    await seen('replace shop/a shop/b shop/c', 'put shop/d', 'remove shop/a')
    const [list, watch] = server.requests
    expect(list!.url.searchParams.get('labelSelector')).to.equal('!service.kubernetes.io/service-proxy-name')
    expect(watch!.url.searchParams.get('resourceVersion')).to.equal('10')
    expect(watch!.url.searchParams.get('allowWatchBookmarks')).to.equal('true')
    expect(complaints(lines)).to.deep.equal([])
  })

  it('reads every page, and replaces once', async () => {
    server.load('services', Array.from({ length: 1_100 }, (_, i) => service({ name: `s${i}` })) as never)
    start()
    await watching()

    expect(calls.all).to.have.length(1)
    expect(calls.names.size).to.equal(1_103)
    // 100, twice 500, and the rest.
    expect(lists()).to.equal(4)
  })

  it('asks for fewer objects at a time when they are large', async () => {
    const metadata = { annotations: { notes: 'x'.repeat(20_000) } }
    server.load(
      'services',
      Array.from({ length: 150 }, (_, i) => service({ name: `s${i}`, metadata })) as never,
    )
    start()
    await watching()

    expect(calls.names.size).to.equal(153)
    const limits = server.requests.flatMap(({ url }) => url.searchParams.get('limit') ?? [])
    expect(limits[0]).to.equal('100')
    for (const limit of limits.slice(1)) expect(Number(limit)).to.be.within(20, 30)
  })

  it('joins the recorded pages of a real API server', async () => {
    for (const page of [1, 2, 3])
      server.faults.push({ matches: isList, ...recordedAnswer(`services.page-${page}`) })
    start()
    await watching()

    const names = 'kubernetes dns elsewhere empty external headless signalling sticky web web-lb web-nodeport'
    expect(calls.all).to.have.length(1)
    expect([...calls.names].map((name) => name.split('/')[1]).join(' ')).to.equal(names)
    expect(server.requests.at(-1)!.url.searchParams.get('resourceVersion')).to.equal('334')
  })

  it('goes on from the last version after an ordinary end, without a new list and without a complaint', async () => {
    start()
    await watching()
    server.put('services', service({ name: 'd' }))
    await seen('replace shop/a shop/b shop/c', 'put shop/d')

    server.endWatches()
    await eventually(() => expect(server.requests.filter(({ url }) => isWatch(url))).to.have.length(2))
    server.put('services', service({ name: 'e' }))

    await seen('replace shop/a shop/b shop/c', 'put shop/d', 'put shop/e')
    expect(server.requests.at(-1)!.url.searchParams.get('resourceVersion')).to.equal('11')
    expect(lists()).to.equal(1)
    expect(complaints(lines)).to.deep.equal([])
  })

  it('goes on from a bookmark', async () => {
    start()
    await watching()
    server.put('endpointslices', service({ name: 'somewhere-else' }))
    server.bookmark()
    server.endWatches()

    await eventually(() =>
      expect(server.requests.at(-1)!.url.searchParams.get('resourceVersion')).to.equal('11'),
    )
    expect(calls.all).to.deep.equal(['replace shop/a shop/b shop/c'])
  })

  it('takes an object that arrives twice', async () => {
    start()
    await watching()
    server.put('services', service({ name: 'd' }))
    await seen('replace shop/a shop/b shop/c', 'put shop/d')
    server.cutWatches(JSON.stringify({ type: 'MODIFIED', object: service({ name: 'x' }) }))

    await eventually(() => expect(server.requests.filter(({ url }) => isWatch(url))).to.have.length(2))
    await watching()
    server.put('services', service({ name: 'd' }))

    await seen('replace shop/a shop/b shop/c', 'put shop/d', 'put shop/d')
    expect(lists()).to.equal(1)
  })

  for (const form of ['status', 'event'] as const) {
    it(`lists anew when its version is too old (410 as ${form}), in one replacement`, async () => {
      server.expiredForm = form
      start()
      await watching()
      server.delete('services', 'shop/a')
      await seen('replace shop/a shop/b shop/c', 'remove shop/a')
      server.cutWatches()
      server.put('services', service({ name: 'd' }))
      server.delete('services', 'shop/b')
      server.compact()

      await eventually(() => expect(calls.all.at(-1)).to.equal('replace shop/c shop/d'))
      await watching()
    })
  }

  it('starts the list over when a page has expired', async () => {
    server.load('services', Array.from({ length: 600 }, (_, i) => service({ name: `s${i}` })) as never)
    server.faults.push({
      matches: (url) => url.searchParams.has('continue'),
      status: 410,
      body: { kind: 'Status', metadata: { continue: 'other' }, message: 'too old', code: 410 },
    })
    start()
    await watching()

    expect(calls.all).to.have.length(1)
    expect(calls.names.size).to.equal(603)
  })

  const failures: readonly [string, number, Record<string, string>?][] = [
    ['a list that is refused', 403],
    ['an overloaded server', 429],
    ['a broken server', 500],
    ['a server that is not ready', 503],
  ]
  for (const [name, status] of failures) {
    it(`deletes nothing because of ${name} (${status}), and tries again`, async () => {
      start()
      await watching()
      server.faults.push({ matches: isList, status }, { matches: isWatch, status })
      server.cutWatches()
      server.put('services', service({ name: 'd' }))
      server.compact()

      await eventually(() => expect(server.faults).to.have.length(0))
      await eventually(() =>
        expect([...calls.names].sort().join(' ')).to.equal('shop/a shop/b shop/c shop/d'),
      )
      expect(calls.all.filter((call) => call.startsWith('remove'))).to.deep.equal([])
    })
  }

  it('says what to grant when it may not read', async () => {
    server.faults.push({ matches: isList, status: 403 })
    start()
    await watching()

    expect(lines.find(({ level }) => level >= 40)!.remedy).to.equal(
      'grant list and watch on services (deploy/base/rbac.yaml)',
    )
  })

  describe('an optional resource', () => {
    const said = (): unknown[] => lines.map(({ level, msg, remedy }) => [level, msg, remedy])
    const NOW = [30, 'the API server lets us read this resource now', undefined]
    const absences: readonly [string, number, unknown[]][] = [
      [
        'that the API server does not have',
        404,
        [30, 'the API server does not have this resource: going on without', undefined],
      ],
      [
        'that we may not list',
        403,
        [
          40,
          'may not read this resource: going on without',
          'grant list and watch on services (deploy/base/rbac.yaml)',
        ],
      ],
    ]
    for (const [name, status, line] of absences) {
      it(`${name} is an empty list, said once, and asked for again less and less often`, async () => {
        for (let i = 0; i < 3; i++) server.faults.push({ matches: isList, status })
        start({ optional: true })

        await seen('replace ')
        await seen('replace ', 'replace shop/a shop/b shop/c')
        await watching()
        expect(pauses).to.deep.equal([10_000, 20_000, 40_000])
        expect(said()).to.deep.equal([line, NOW])
      })
    }

    it('is asked for every ten minutes in the long run', async () => {
      for (let i = 0; i < 9; i++) server.faults.push({ matches: isList, status: 404 })
      start({ optional: true, pauseDivisor: 100_000 })
      await watching()

      expect(pauses.slice(5)).to.deep.equal([320_000, 600_000, 600_000, 600_000])
    })

    it('that has been listed stays as it is, whatever the API server says then', async () => {
      start({ optional: true })
      await watching()
      for (const status of [403, 404]) server.faults.push({ matches: isList, status })
      server.cutWatches()
      server.put('services', service({ name: 'd' }))
      server.compact()

      await eventually(() => expect(calls.all.at(-1)).to.equal('replace shop/a shop/b shop/c shop/d'))
      expect(calls.all).not.to.include('replace ')
    })

    it('is done without when the API server never lists it, and taken when it does', async () => {
      for (let i = 0; i < 8; i++) server.faults.push({ matches: isList, status: 500 })
      start({ optional: true, pauseDivisor: 10_000 })
      await watching()

      expect(calls.all).to.deep.equal(['replace ', 'replace shop/a shop/b shop/c'])
      expect(lines.filter(({ level }) => level === 40).map(({ msg }) => msg)).to.deep.equal([
        'lost the API server: retrying',
        'cannot read this resource: going on without, until it can be read',
      ])
    })

    for (const status of [401, 429, 500, 503]) {
      it(`is not taken for absent because of a ${status}`, async () => {
        server.faults.push({ matches: isList, status }, { matches: isList, status })
        start({ optional: true })
        await watching()

        expect(calls.all).to.deep.equal(['replace shop/a shop/b shop/c'])
      })
    }
  })

  for (const status of [403, 404]) {
    it(`a resource that is not optional is never empty because of a ${status}`, async () => {
      server.faults.push({ matches: isList, status })
      start()
      await watching()

      expect(calls.all).to.deep.equal(['replace shop/a shop/b shop/c'])
    })
  }

  it('does not use a list that was cut off', async () => {
    server.faults.push({ matches: isList, cutAfter: 0.5 }, { matches: isList, cutAfter: 0.99 })
    start()

    await seen('replace shop/a shop/b shop/c')
    expect(lists()).to.equal(3)
    expect(complaints(lines)).to.deep.equal(['lost the API server: retrying'])
  })

  it('waits as long as the server asks', async () => {
    server.faults.push({ matches: isList, status: 429, headers: { 'Retry-After': '1' } })
    start()
    await watching()

    expect(pauses).to.deep.equal([1_000])
  })

  it('reads its credentials again after a 401', async () => {
    const tokenFile = join(folder, 'token')
    writeFileSync(tokenFile, server.token)
    start({ tokenFile })
    await watching()
    server.token = 'token-2'
    writeFileSync(tokenFile, server.token)
    server.endWatches()
    await eventually(() => expect(server.requests.at(-1)!.status).to.equal(200))
    await watching()
    server.put('services', service({ name: 'd' }))

    await seen('replace shop/a shop/b shop/c', 'put shop/d')
    expect(lists()).to.equal(1)
    expect(complaints(lines)).to.deep.equal([])
  })

  it('says what is wrong once, with the remedy, while credentials stay invalid', async () => {
    server.token = 'other'
    start()
    server.token = 'nobody-has-this'

    await eventually(() => expect(server.requests.length).to.be.greaterThan(5))
    const [line, ...more] = lines.filter(({ level }) => level >= 40)
    expect(more).to.deep.equal([])
    expect(line!.remedy).to.match(/credentials are not valid/)
  })

  it('does not ask in a busy loop when every watch ends at once', async () => {
    start()
    await watching()
    for (let i = 0; i < 20; i++) server.faults.push({ matches: isWatch, endsAtOnce: true })
    const before = server.requests.length
    server.endWatches()
    await eventually(() => expect(server.requests.length - before).to.be.at.least(5))

    expect(pauses.length).to.be.at.least(server.requests.length - before - 1)
    expect(new Set(pauses)).to.deep.equal(new Set([1_000]))
  })

  it('loses nothing in 40 random faults', () =>
    withRandom(async (random) => {
      start()
      await watching()
      for (let i = 0; i < 40; i++) {
        const name = `r${random.int(8)}`
        if (random.chance(0.3)) server.delete('services', `shop/${name}`)
        else server.put('services', service({ name }))
        const act = random.pick<() => void>([
          () => server.endWatches(),
          () => server.cutWatches(JSON.stringify({ type: 'DELETED', object: service({ name: 'c' }) })),
          () => {
            // One at a time: the pauses between attempts double.
            if (server.faults.length === 0)
              server.faults.push({ matches: isWatch, status: random.pick([401, 429, 500]) })
            server.endWatches()
          },
          () => server.bookmark(),
          () => {
            server.expiredForm = random.pick(['status', 'event'])
            server.compact()
          },
        ])
        act()
        await new Promise((resolve) => setTimeout(resolve, random.int(100)))
      }

      await eventually(
        () =>
          expect([...calls.names].sort()).to.deep.equal(
            server
              .objects('services')
              .map(({ metadata: { namespace, name } }) => `${namespace}/${name}`)
              .sort(),
          ),
        20_000,
      )
    })).timeout(60_000)
})
