/** The loop never turns for nothing: rounds are counted, by what they do. */
import { expect } from 'chai'
import { Watchdog } from '../../src/loop/watchdog.ts'
import type { Operation } from '../../src/model/operation.ts'
import { node, service, slice } from '../support/builders.ts'
import { recordingLog } from '../support/log.ts'
import { Story } from '../support/story.ts'

const SERVICES = 150

/** Services from `first` on, and their slices. */
function generation(first: number): { services: object[]; slices: object[] } {
  const numbers = Array.from({ length: SERVICES }, (_, i) => first + i)
  const ip = (network: string, i: number): string => `${network}.${i >> 8}.${i & 255}`
  return {
    services: numbers.map((i) => service({ name: `s${i}`, clusterIP: ip('10.96', i) })),
    slices: numbers.map((i) => slice({ service: `s${i}`, endpoints: [ip('10.244', i)] })),
  }
}

async function rounds(story: Story): Promise<{ all: number; idle: number }> {
  const text = await story.metrics.registry.metrics()
  const count = (name: string): number => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])
  return { all: count('kube_ipvs_loop_rounds_total'), idle: count('kube_ipvs_loop_idle_rounds_total') }
}

/** Replaces all Services by others while the kernel refuses some of the deletions; returns the rounds that it took. */
async function replaceAll(story: Story, refuse: (operation: Operation) => boolean): Promise<number> {
  const [old, fresh] = [generation(1), generation(1_000)]
  await story.list(old.services, old.slices, [node()])
  story.kernel.refuse = (operation) => (refuse(operation) ? 'EBUSY' : undefined)
  const { all: before } = await rounds(story)
  // It is to be tried again while the others wait.
  await story.removeService('shop/s7')
  for (const { metadata } of old.services as { metadata: { name: string } }[])
    story.cluster.services.remove(`shop/${metadata.name}`)
  await story.put(...fresh.services, ...fresh.slices)
  await story.advance(20_000)
  return (await rounds(story)).all - before
}

describe('rounds of the loop', () => {
  const CASES: readonly (readonly [string, (operation: Operation) => boolean])[] = [
    [
      'one virtual server',
      ({ kind, ...of }) => kind === 'deleteVirtualServer' && 'of' in of && of.of.address === '10.96.0.7',
    ],
    ['one address', (operation) => operation.kind === 'unbindAddress' && operation.address === '10.96.0.7'],
    [
      'one member of a set',
      (operation) => operation.kind === 'deleteSetMember' && operation.member.includes(' 10.96.0.7,'),
    ],
    ['every deletion', ({ kind }) => /^(delete|unbind)/.test(kind)],
  ]
  for (const [name, refuse] of CASES) {
    it(`are few when 150 Services are replaced and the kernel does not delete ${name}`, async () => {
      const story = new Story()

      const count = await replaceAll(story, refuse)

      expect(count).to.be.below(200)
      expect((await rounds(story)).idle).to.equal(0)
      story.kernel.refuse = () => undefined
      await story.advance(120_000)
      expect(
        [...story.kernel.state.virtualServers.values()].filter(({ id }) => id.address.startsWith('10.96.0.')),
      ).to.have.length(0)
      await story.stop()
    })
  }

  it('are as few when deletions that wait are joined by one that fails while its real servers drain', async () => {
    const story = new Story()
    const { services, slices } = generation(1)
    await story.list(services, slices, [node()])
    story.kernel.setConnections('10.96.0.7:80/TCP', '10.244.0.7:8080', { active: 1 })
    await story.put(slice({ service: 's7', endpoints: [] }))
    story.kernel.setConnections('10.96.0.7:80/TCP', '10.244.0.7:8080', {})
    const before = (await rounds(story)).all
    await replaceAll(story, ({ kind }) => kind === 'deleteRealServer' || kind === 'deleteVirtualServer')

    expect((await rounds(story)).all - before).to.be.below(300)
    await story.stop()
  })
})

describe('Watchdog', () => {
  const turn = (watchdog: Watchdog, count: number, wantedMs = 0): number[] =>
    Array.from({ length: count }, () => watchdog.rest(wantedMs))

  it('makes a loop rest that does nothing a hundred times, says so once, and counts', () => {
    const { log, lines } = recordingLog('debug')
    const counted: boolean[] = []
    const watchdog = new Watchdog({ log, metrics: { turned: (isIdle) => counted.push(isIdle) } })

    expect(turn(watchdog, 100)).to.deep.equal(Array<number>(100).fill(0))
    expect(turn(watchdog, 50)).to.deep.equal(Array<number>(50).fill(1_000))
    expect(lines).to.have.length(1)
    expect(counted.filter(Boolean)).to.have.length(50)
  })

  it('leaves one alone that does something, or rests by itself', () => {
    const { log, lines } = recordingLog('debug')
    const watchdog = new Watchdog({ log, metrics: { turned: () => undefined } })

    for (let i = 0; i < 1_000; i++) {
      expect(watchdog.rest(0)).to.equal(0)
      if (i % 50 === 0) watchdog.noteProgress()
    }
    for (let i = 0; i < 1_000; i++) expect(watchdog.rest(i % 50)).to.equal(i % 50)
    expect(lines).to.deep.equal([])
  })
})
