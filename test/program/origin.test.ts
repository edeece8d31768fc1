/** Where facts come from; and Events, of which the last are sent before the end. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parseService } from '../../src/model/facts/parse-facts.ts'
import { openFacts } from '../../src/program/facts.ts'
import { type Life, openLife } from '../../src/program/life.ts'
import { checkOrigin } from '../../src/program/origin.ts'
import { nodeEvents } from '../../src/program/report/node-events.ts'
import { ApiServer } from '../support/api-server.ts'
import { service } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'

const STOPPED = { reason: 'Stopped', action: 'Stop', note: '' }

describe('checkOrigin', () => {
  it('takes a directory at its word, and looks at a kubeconfig', () => {
    checkOrigin({ manifests: '/nowhere', kubeconfig: '/nowhere' })
    expect(() => {
      checkOrigin({ kubeconfig: '/nowhere' })
    }).to.throw('/nowhere')
  })
})

describe('openFacts', () => {
  let server: ApiServer
  let folder: string
  let stop: AbortController
  let life: Life
  let lines: ReturnType<typeof recordingLog>['lines']
  beforeEach(async () => {
    server = await ApiServer.start()
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    stop = new AbortController()
    life = openLife(stop.signal)
  })
  afterEach(async () => {
    await life.end()
    await server.close()
    rmSync(folder, { recursive: true })
  })

  function open(choice: { manifests?: string } = {}) {
    const kubeconfig = join(folder, 'kubeconfig')
    writeFileSync(kubeconfig, server.kubeconfig())
    const recording = recordingLog()
    lines = recording.lines
    const metrics = { requested: () => undefined }
    const facts = openFacts({
      ...{ nodeName: 'node-1', choice: { kubeconfig, ...choice }, metrics, life, log: recording.log },
      // Asked for routes only when there is something to look for.
      addon: {} as never,
    })
    return { ...facts, recordNodeEvent: nodeEvents(facts.origin.recordEvent, 'node-1') }
  }

  it('sends the last Events when the program is stopped', async () => {
    const { recordNodeEvent } = open()
    stop.abort()
    recordNodeEvent(STOPPED)
    await life.end()

    expect(server.events.map(({ type, reason, regarding }) => [type, reason, regarding.name])).to.deep.equal([
      ['Normal', 'Stopped', 'node-1'],
    ])
  })

  it('is not held up by an API server that is dead: the Events are dropped', async () => {
    const { recordNodeEvent } = open()
    server.dead = true
    recordNodeEvent(STOPPED)
    const end = life.end()
    const first = await Promise.race([
      end.then(() => 'the end'),
      new Promise((resolve) => setTimeout(resolve, 15_000, 'patience')),
    ])
    expect(first).to.equal('the end')

    server.dead = false
    recordNodeEvent(STOPPED)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(server.events).to.deep.equal([])
  })

  it('has facts of the API server, and wakes whoever follows them', async () => {
    const { cluster, doorbell, origin } = open()
    const woken = doorbell.wait(10_000, life.signal)
    void origin.follow(cluster, life.signal)
    await woken
    await eventually(() => expect(cluster.synced).to.equal(true))
    expect(origin.hasNodes).to.equal(true)
    expect(origin.isLost()).to.equal(false)
  })

  it('knows that the API server is lost, and rings', async () => {
    const { origin, cluster, doorbell } = open()
    server.dead = true
    void origin.follow(cluster, life.signal)
    // It rings for other things, too.
    do await doorbell.wait(600_000, life.signal)
    while (!origin.isLost())
  })

  it('of a directory: Events are for who debugs, nobody else has Nodes, and nothing is waited for', async () => {
    const { origin, recordNodeEvent } = open({ manifests: folder })
    recordNodeEvent(STOPPED)
    await life.end()

    expect([origin.hasNodes, origin.isLost(), [...origin.apiAddresses()]]).to.deep.equal([false, false, []])
    expect(server.requests).to.deep.equal([])
    expect(lines.map(({ level, msg }) => [level, msg])).to.deep.equal([
      [20, 'an Event without an API server'],
    ])
  })

  it('looks around as soon as a Service names an external address', async () => {
    const { cluster, lookout } = open({ manifests: folder })
    expect(lookout.isDone, 'there is nothing to look for').to.equal(true)
    cluster.services.put(parseService(service({ spec: { externalIPs: ['203.0.113.1'] } })))

    expect(lookout.isDone).to.equal(false)
    // What it reads the routes with is missing here: that it says so shows that it has looked.
    await eventually(() =>
      expect(complaints(lines)).to.deep.equal([
        'cannot read the routes and neighbours of the node: those known before count',
      ]),
    )
  })
})
