import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { loadKubeConfig, openApiClient } from '../../src/source/api-client.ts'
import { type Happening, openEvents } from '../../src/source/events.ts'
import { ApiServer } from '../support/api-server.ts'
import { eventually } from '../support/eventually.ts'
import { recordingLog } from '../support/log.ts'

const MINUTE = 60_000
const START = Date.UTC(2026, 0, 1)

const STARTING: Happening = {
  type: 'Normal',
  reason: 'Starting',
  action: 'StartKubeProxy',
  regarding: { kind: 'Node', name: 'node-1' },
  note: '',
}
const refused = (name: string, note: string): Happening => ({
  type: 'Warning',
  reason: 'ExternalAddressRefused',
  action: 'ServeVirtualServer',
  regarding: { kind: 'Service', name, namespace: 'shop' },
  note,
})

describe('openEvents, on the wire', () => {
  let server: ApiServer
  let folder: string
  let abort: AbortController
  beforeEach(async () => {
    server = await ApiServer.start()
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    abort = new AbortController()
  })
  afterEach(async () => {
    abort.abort()
    await server.close()
    rmSync(folder, { recursive: true })
  })

  function open(now: () => number) {
    const file = join(folder, 'kubeconfig')
    writeFileSync(file, server.kubeconfig())
    const api = openApiClient(() => loadKubeConfig(file))
    const { log, lines } = recordingLog()
    return { record: openEvents({ api, nodeName: 'node-1', log, signal: abort.signal, now }), lines }
  }

  it('is understood by an API server, as Events and as series', async () => {
    let now = START
    const { record, lines } = open(() => now)
    const long = refused('web', 'ü'.repeat(2_000))
    for (const happening of [STARTING, refused('web', 'Not served'), long]) record(happening)
    await eventually(() => expect(server.events).to.have.length(3))

    now += MINUTE
    record(long)
    await eventually(() => expect(server.events[2]!.series?.count).to.equal(2))
    expect(server.events[2]).to.deep.include({ note: 'ü'.repeat(512), reason: 'ExternalAddressRefused' })

    server.events.length = 0
    now += MINUTE
    record(long)
    await eventually(() => expect(server.events.map(({ series }) => series?.count)).to.deep.equal([3]))
    expect(lines).to.deep.equal([])
  })

  it('goes on when the API server comes back', async () => {
    server.dead = true
    const { record } = open(Date.now)
    record(STARTING)
    await record.flush(200)
    expect(server.events).to.deep.equal([])

    server.dead = false
    await record.flush(10_000)
    expect(server.events.map(({ reason }) => reason)).to.deep.equal(['Starting'])
  })
})
