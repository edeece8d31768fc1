import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { type Address, parseAddress } from '../../src/model/address.ts'
import { ApiError, loadKubeConfig, openApiClient } from '../../src/source/api-client.ts'
import { openPageReader } from '../../src/source/pages/page-reader.ts'
import {
  followPeerNodes,
  listNodeAddresses,
  type NodeList,
  type PeerNodes,
} from '../../src/source/peer-nodes.ts'
import { ApiServer, type Fault } from '../support/api-server.ts'
import { node } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, type LogLine, recordingLog } from '../support/log.ts'
import { ManualAlarm } from '../support/manual-alarm.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('listNodeAddresses', () => {
  let server: ApiServer
  let folder: string
  let end: AbortController
  beforeEach(async () => {
    server = await ApiServer.start()
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    end = new AbortController()
  })
  afterEach(async () => {
    end.abort()
    await server.close()
    rmSync(folder, { recursive: true })
  })

  const load = (name: string, status: unknown, parts: object = {}): void => {
    server.load('nodes', [{ ...node(name), status, ...parts }] as never)
  }
  const withAddresses = (name: string, ...addresses: readonly string[]): void => {
    load(name, { addresses: addresses.map((address) => ({ type: 'InternalIP', address })) })
  }
  const list = async (): Promise<NodeList> => {
    const file = join(folder, 'kubeconfig')
    writeFileSync(file, server.kubeconfig())
    return listNodeAddresses({
      api: openApiClient(() => loadKubeConfig(file)),
      readPage: openPageReader(end.signal),
      nodeName: 'node-1',
      signal: end.signal,
    })
  }
  const isContinued = (url: URL): boolean => url.searchParams.has('continue')

  it('gives the addresses of all nodes but this one, of both families, each once', async () => {
    withAddresses('node-1', '192.0.2.1', '2001:db8::1')
    load('node-2', {
      addresses: [
        { type: 'InternalIP', address: '192.0.2.2' },
        { type: 'InternalIP', address: '2001:DB8::2' },
        { type: 'ExternalIP', address: '::ffff:203.0.113.2' },
        { type: 'Hostname', address: 'node-2' },
        { type: 'InternalDNS', address: '198.51.100.9' },
      ],
    })
    withAddresses('node-3', '192.0.2.3', '192.0.2.2')

    const { addresses, nodes } = await list()

    expect([...addresses]).to.have.members(['192.0.2.2', '2001:db8::2', '203.0.113.2', '192.0.2.3'])
    expect(nodes).to.equal(3)
  })

  it('gives what this node shares with another one: the other one has it, too', async () => {
    withAddresses('node-1', '192.0.2.1', '192.0.2.9')
    withAddresses('node-2', '192.0.2.9')

    expect([...(await list()).addresses]).to.deep.equal(['192.0.2.9'])
  })

  it('asks for pages of the newest version, as large as they may be, also on a thread', async () => {
    for (let i = 0; i < 400; i++)
      load(
        `node-${i + 2}`,
        { addresses: [{ type: 'InternalIP', address: `10.0.${i >> 8}.${i & 255}` }] },
        { images: 'x'.repeat(15_000) },
      )

    const { addresses, nodes } = await list()

    expect(addresses.size).to.equal(400)
    expect(nodes).to.equal(400)
    const asked = server.requests.map(({ url }) => url.searchParams)
    expect(asked.map((query) => query.get('limit')).slice(0, 2)).to.deep.equal(['100', '35'])
    expect(asked.length).to.be.within(9, 11)
    for (const query of asked) {
      expect(query.has('resourceVersion')).to.equal(false)
      expect(query.has('watch')).to.equal(false)
    }
  })

  const broken: readonly [string, unknown][] = [
    ['no status', undefined],
    ['no list of addresses', { addresses: 'nonsense' }],
    ['null', null],
    ['addresses that are none', { addresses: [{ type: 'InternalIP', address: 'nonsense' }, 7, null] }],
  ]
  for (const [name, status] of broken) {
    it(`is not stopped by a Node with ${name}`, async () => {
      load('node-2', status)
      withAddresses('node-3', '192.0.2.3')

      expect([...(await list()).addresses]).to.deep.equal(['192.0.2.3'])
    })
  }

  describe('when its pages expire', () => {
    const expired = (): Fault => ({
      matches: isContinued,
      status: 410,
      body: { kind: 'Status', message: 'too old', code: 410 },
    })
    beforeEach(() => {
      for (let i = 2; i < 152; i++) withAddresses(`node-${i}`, `10.0.0.${i}`)
    })

    it('begins again', async () => {
      server.faults.push(expired(), expired())

      const { addresses, nodes } = await list()
      expect(addresses.size).to.equal(150)
      // Nothing is counted twice.
      expect(nodes).to.equal(150)
    })

    it('gives up when it happens again and again', async () => {
      server.faults.push(expired(), expired(), expired())

      expect(await rejectionOf(list()))
        .to.be.instanceOf(ApiError)
        .and.to.have.property('status', 410)
      expect(server.requests).to.have.length(6)
    })
  })

  it('is no list when a later page fails', async () => {
    for (let i = 2; i < 152; i++) withAddresses(`node-${i}`, `10.0.0.${i}`)
    server.faults.push({ matches: isContinued, status: 500 })

    expect(await rejectionOf(list())).to.have.property('status', 500)
    expect(server.requests).to.have.length(2)
  })
})

describe('followPeerNodes', () => {
  const setOf = (...texts: readonly string[]): ReadonlySet<Address> =>
    new Set(texts.map((text) => parseAddress(text)!))
  const listOf = (nodes: number, ...texts: readonly string[]): NodeList => ({
    addresses: setOf(...texts),
    nodes,
  })

  let answers: (NodeList | Error)[]
  let lists: number
  let isWanted: boolean
  let sets: string[][]
  let lines: LogLine[]
  let alarm: ManualAlarm
  let end: AbortController
  let peers: PeerNodes
  beforeEach(() => {
    answers = [listOf(3, '192.0.2.2', '192.0.2.3')]
    lists = 0
    isWanted = true
    sets = []
    alarm = new ManualAlarm()
    end = new AbortController()
  })
  afterEach(() => {
    end.abort()
  })

  function start(): void {
    const recording = recordingLog()
    lines = recording.lines
    peers = followPeerNodes({
      list: async () => {
        lists++
        const answer = await Promise.resolve(answers.length > 1 ? answers.shift()! : answers[0]!)
        if (answer instanceof Error) throw answer
        return answer
      },
      isWanted: () => isWanted,
      onChange: (addresses) => sets.push([...addresses]),
      log: recording.log,
      signal: end.signal,
      random: () => 0.5,
      alarm,
    })
  }
  /** The waits so far, in s, without jitter. */
  const seconds = (): number[] => alarm.waits.map(([least]) => least / 1_000 / 1.25)

  it('knows nothing, and asks nothing, until it is wanted', async () => {
    isWanted = false
    start()
    await alarm.next()
    peers.consider()
    await alarm.next()

    expect(lists).to.equal(0)
    expect(peers.addresses()).to.equal(undefined)
    expect(sets).to.deep.equal([])
    expect(alarm.waits[0]).to.deep.equal([0, Infinity])
    expect(alarm.rings).to.equal(1)

    isWanted = true
    await alarm.next()
    expect(peers.addresses()).to.deep.equal(setOf('192.0.2.2', '192.0.2.3'))
    expect(sets).to.deep.equal([['192.0.2.2', '192.0.2.3']])
    expect(lines).to.deep.equal([])
  })

  it('looks when it is asked to consider, where that is the first need', async () => {
    isWanted = false
    const { log } = recordingLog()
    const real = followPeerNodes({
      list: async () => Promise.resolve(listOf(2, '192.0.2.2')),
      isWanted: () => isWanted,
      onChange: (addresses) => sets.push([...addresses]),
      log,
      signal: end.signal,
    })
    isWanted = true
    real.consider()

    await eventually(() => expect(sets).to.deep.equal([['192.0.2.2']]))
  })

  it('has told of an answer by the time that it waits, also of an empty one', async () => {
    answers = [listOf(1)]
    start()
    await alarm.waiting()

    expect(sets).to.deep.equal([[]])
    expect(peers.addresses()).to.deep.equal(setOf())
  })

  it('says only what has changed', async () => {
    answers = [
      listOf(3, '192.0.2.2', '192.0.2.3'),
      listOf(3, '192.0.2.3', '192.0.2.2'),
      listOf(3, '192.0.2.3', '192.0.2.4'),
      listOf(2, '192.0.2.3'),
      listOf(1),
    ]
    start()
    for (let i = 0; i < 5; i++) await alarm.next()

    expect(sets).to.deep.equal([['192.0.2.2', '192.0.2.3'], ['192.0.2.3', '192.0.2.4'], ['192.0.2.3'], []])
  })

  const intervals: readonly [number, number][] = [
    [1, 600],
    [100, 600],
    [101, 606],
    [1_000, 6_000],
    [5_000, 30_000],
  ]
  for (const [nodes, interval] of intervals) {
    it(`looks again after ${interval} s and jitter at ${nodes} nodes, no sooner`, async () => {
      answers = [listOf(nodes, '192.0.2.2')]
      start()
      await alarm.waiting()

      expect(seconds()).to.deep.equal([interval])
      expect(alarm.waits[0]![1]).to.equal(alarm.waits[0]![0])
    })
  }

  it('does not look again when it is not wanted any more, and knows what it knew', async () => {
    start()
    await alarm.waiting()
    isWanted = false
    await alarm.next()
    await alarm.next()

    expect(lists).to.equal(1)
    expect(alarm.waits.slice(1)).to.deep.equal([
      [0, Infinity],
      [0, Infinity],
    ])
    expect(peers.addresses()).to.deep.equal(setOf('192.0.2.2', '192.0.2.3'))
  })

  it('tries again, later each time, and says so once', async () => {
    const failure = new Error('connect ECONNREFUSED')
    answers = [...Array<Error>(12).fill(failure), listOf(3, '192.0.2.2'), failure, failure]
    start()
    for (let i = 0; i < 14; i++) await alarm.next()

    expect(seconds()).to.deep.equal([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600, 600, 1, 2])
    const failed = 'cannot list the Nodes: an external IP may take the address of one, retrying'
    expect(complaints(lines, 30)).to.deep.equal([failed, 'listed the Nodes again', failed])
    // What was known stays.
    expect(sets).to.deep.equal([['192.0.2.2']])
    expect(peers.addresses()).to.deep.equal(setOf('192.0.2.2'))
  })

  it('knows nothing while the first look fails', async () => {
    answers = [new ApiError('API server answered 500', 500)]
    start()
    await alarm.next()

    expect(peers.addresses()).to.equal(undefined)
    expect(sets).to.deep.equal([])
  })

  it('waits as long as the API server asks', async () => {
    answers = [new ApiError('API server answered 429', 429, 30_000)]
    start()
    await alarm.waiting()

    expect(seconds()).to.deep.equal([30])
  })

  it('takes it for no addresses that it may not list, says what to grant, once, and asks again rarely', async () => {
    answers = [new ApiError('API server answered 403', 403)]
    start()
    await alarm.next()
    await alarm.next()

    expect(sets).to.deep.equal([[]])
    expect(peers.addresses()).to.deep.equal(setOf())
    expect(seconds()).to.deep.equal([600, 600, 600])
    const said = lines.filter(({ level }) => level >= 30)
    expect(said.map(({ level, msg, remedy }) => [level, msg, remedy])).to.deep.equal([
      [
        40,
        'may not list the Nodes: an external IP may take the address of one',
        'grant list on nodes (deploy/base/rbac.yaml)',
      ],
    ])

    answers = [listOf(2, '192.0.2.2')]
    await alarm.next()
    expect(sets).to.deep.equal([[], ['192.0.2.2']])
    expect(complaints(lines, 30).at(-1)).to.equal('listed the Nodes again')
  })

  it('keeps what it knew when it may not list any more', async () => {
    answers = [listOf(2, '192.0.2.2'), new ApiError('API server answered 403', 403)]
    start()
    await alarm.waiting()
    await alarm.next()

    expect(peers.addresses()).to.deep.equal(setOf('192.0.2.2'))
    expect(sets).to.have.length(1)
  })

  it('says nothing after its end', async () => {
    const answer = Promise.withResolvers<NodeList>()
    const { log } = recordingLog()
    followPeerNodes({
      list: () => answer.promise,
      isWanted: () => true,
      onChange: (addresses) => sets.push([...addresses]),
      log,
      signal: end.signal,
      alarm,
    })
    end.abort()
    answer.resolve(listOf(2, '192.0.2.2'))
    await eventually(() => expect(alarm.waits).to.have.length(1))

    expect(sets).to.deep.equal([])
  })
})
