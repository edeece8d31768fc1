import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { ApiError, loadKubeConfig, openApiClient } from '../../src/source/api-client.ts'
import { type Happening, openEvents, type RecordEvent } from '../../src/source/events.ts'
import { ApiServer } from '../support/api-server.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'

const MINUTE = 60_000
const STARTING: Happening = {
  type: 'Normal',
  reason: 'Starting',
  action: 'StartKubeProxy',
  regarding: { kind: 'Node', name: 'node-1' },
  note: '',
}
const refused = (name: string): Happening => ({
  type: 'Warning',
  reason: 'ExternalAddressRefused',
  action: 'ServeVirtualServer',
  regarding: { kind: 'Service', name, namespace: 'shop' },
  note: 'Not served: 127.0.0.1 is a loopback address',
})

interface Sent {
  readonly method: string
  readonly path: string
  readonly body: Record<string, unknown>
}

/** A recorder on a stand-in client that fails as told, with a clock of its own. */
function recorder(failures: Error[] = []) {
  const sent: Sent[] = []
  const pauses: number[] = []
  const abort = new AbortController()
  const { log, lines } = recordingLog()
  const clock = { now: Date.UTC(2026, 0, 1) }
  const api = {
    send: (method: string, path: string, body: object): Promise<unknown> => {
      const failure = failures.shift()
      if (failure !== undefined) return Promise.reject(failure)
      sent.push({ method, path, body: body as Sent['body'] })
      return Promise.resolve({})
    },
  }
  const record: RecordEvent = openEvents({
    api,
    nodeName: 'node-1',
    log,
    signal: abort.signal,
    now: () => clock.now,
    pause: (ms) => {
      pauses.push(ms)
      return Promise.resolve()
    },
  })
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 200; i++) await Promise.resolve()
  }
  return { record, sent, pauses, clock, lines, abort, settle }
}

describe('openEvents', () => {
  it('writes an Event as the API wants it', async () => {
    const { record, sent, settle } = recorder()
    record(refused('web'))
    await settle()

    const [{ method, path, body }] = sent as [Sent]
    expect([method, path]).to.deep.equal(['POST', '/apis/events.k8s.io/v1/namespaces/shop/events'])
    const { metadata, ...rest } = body as { metadata: { name: string; namespace: string } }
    expect(metadata.name).to.match(/^web\.[0-9a-f]{16}$/)
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

  it('has Events of a Node in the namespace default, and cuts what is too long between characters', async () => {
    const { record, sent, settle } = recorder()
    record({ ...STARTING, note: `${'a'.repeat(1_023)}ü` })
    await settle()

    expect(sent[0]!.path).to.contain('/namespaces/default/')
    expect(sent[0]!.body.note).to.equal('a'.repeat(1_023))
  })

  it('counts what happens again, tells it now and then, and begins anew after quiet minutes', async () => {
    const { record, sent, clock, settle } = recorder()
    for (let i = 0; i < 5; i++) record(STARTING)
    await settle()
    expect(sent.map(({ method }) => method)).to.deep.equal(['POST'])

    clock.now += MINUTE
    record(STARTING)
    await settle()
    const { metadata } = sent[0]!.body as { metadata: { name: string } }
    expect(sent[1]).to.deep.equal({
      method: 'PATCH',
      path: `/apis/events.k8s.io/v1/namespaces/default/events/${metadata.name}`,
      body: { series: { count: 6, lastObservedTime: '2026-01-01T00:01:00.000000Z' } },
    })

    clock.now += 6 * MINUTE
    record(STARTING)
    await settle()
    expect(sent.map(({ method }) => method)).to.deep.equal(['POST', 'PATCH', 'POST'])
  })

  it('drops what happens too often to one object, and to no other', async () => {
    const { record, sent, clock, lines, settle } = recorder()
    for (let i = 0; i < 40; i++) record({ ...refused('web'), note: String(i) })
    record(refused('other'))
    await settle()
    expect(sent).to.have.length(26)
    expect(lines.filter(({ msg }) => msg.startsWith('dropped an Event'))).to.have.length(15)

    clock.now += 5 * MINUTE
    for (const note of ['a', 'b']) record({ ...refused('web'), note })
    await settle()
    expect(sent).to.have.length(27)
  })

  it('tries again, with growing pauses, while the API server is away', async () => {
    const away = [new Error('ECONNREFUSED'), new ApiError('unavailable', 503), new ApiError('slower', 429)]
    const { record, sent, pauses, lines, settle } = recorder(away)
    record(STARTING)
    await settle()

    expect(sent).to.have.length(1)
    expect(pauses).to.deep.equal([1_000, 2_000, 4_000])
    expect(complaints(lines)).to.deep.equal([])
  })

  it('gives up on one that is refused, and on all when we may not', async () => {
    const { record, sent, lines, settle } = recorder([
      new ApiError('invalid', 422),
      new ApiError('exists', 409),
      new ApiError('forbidden', 403),
    ])
    for (const name of ['a', 'b', 'c', 'd']) record(refused(name))
    await settle()
    record(refused('e'))
    await settle()

    expect(sent).to.deep.equal([])
    expect(complaints(lines)).to.deep.equal(['we may not write Events: there will be none'])
    expect(lines.at(-1)!.remedy).to.contain('deploy/base/rbac.yaml')
  })

  it('does not pile up, and sends nothing after the end', async () => {
    const forever = Array.from({ length: 1_000 }, () => new Error('ECONNREFUSED'))
    const { record, abort, lines, sent, settle } = recorder(forever)
    abort.abort()
    record(STARTING)
    await settle()
    expect(sent).to.deep.equal([])

    const other = recorder(forever)
    for (let i = 0; i < 150; i++) other.record(refused(`s${i}`))
    expect(other.lines.filter(({ msg }) => msg.endsWith('too many wait to be sent')).length).to.be.greaterThan(48)
    other.abort.abort()
    expect(lines).to.deep.equal([])
  })

  it('is understood by an API server', async () => {
    const server = await ApiServer.start()
    const abort = new AbortController()
    const file = join(mkdtempSync(join(tmpdir(), 'kube-ipvs-')), 'kubeconfig')
    writeFileSync(file, server.kubeconfig())
    const record = openEvents({
      api: openApiClient(() => loadKubeConfig(file)),
      nodeName: 'node-1',
      log: recordingLog().log,
      signal: abort.signal,
    })
    record(STARTING)
    record(refused('web'))
    record({ ...refused('web'), note: 'ü'.repeat(2_000) })

    await eventually(() => expect(server.events).to.have.length(3))
    expect(server.refusedEvents).to.deep.equal([])
    abort.abort()
    await server.close()
  })
})
