/** When the audit comes, and what fools it not. What it repairs is told in test/scenarios/stories/audit.story. */
import { expect } from 'chai'
import { service, slice } from '../support/builders.ts'
import { Story } from '../support/story.ts'

const both = (): Record<string, unknown> => slice({ endpoints: ['10.244.0.1', '10.244.0.2'] })

describe('audit', () => {
  let story: Story
  afterEach(() => story.stop())

  it('is not fooled by a reading that hides a virtual server', async () => {
    story = new Story()
    await story.list([service()], [both()])
    story.takeExecuted()
    const { kernel } = story
    const key = '10.96.0.10:80/TCP' as never
    const hidden = kernel.state.virtualServers.get(key)!
    let readings = 0
    kernel.beforeCall = (method) => {
      if (method !== 'readTables') return
      readings++
      if (readings === 1) kernel.state.virtualServers.delete(key)
      else kernel.state.virtualServers.set(key, hidden)
    }

    await story.advance(30_000)

    expect(readings).to.equal(2)
    expect(story.takeExecuted()).to.deep.equal([])
    expect(story.takeComplaints()).to.deep.equal([])
  })

  it("does not take for somebody else's work what was deleted since the tables were read", async () => {
    story = new Story()
    await story.list([service(), service({ name: 'new', clusterIP: '10.96.0.11' })], [both()])
    const { kernel } = story
    const reading = Promise.withResolvers<undefined>()
    const readTables = kernel.readTables.bind(kernel)
    kernel.readTables = async () => {
      const tables = await readTables()
      await reading.promise
      return tables
    }
    await story.advance(30_000)
    await story.removeService('shop/web')
    story.takeExecuted()

    reading.resolve(undefined)
    await story.advance(1_000)

    expect(story.takeComplaints()).to.deep.equal([])
    expect(story.takeExecuted()).to.deep.equal([])
  })

  it('need not come before a Service is served again that somebody else has deleted with it', async () => {
    story = new Story()
    await story.list([service()], [both()])
    const before = story.kernel.toString()
    story.kernel.state.virtualServers.clear()
    await story.removeService('shop/web')
    await story.put(service())

    expect(story.kernel.toString()).to.equal(before)
    expect(story.takeComplaints()).to.deep.equal([])
  })

  it('is not fooled by a reading that hides a route', async () => {
    story = new Story()
    story.vipBinding = 'route'
    await story.list([service()], [both()])
    story.takeExecuted()
    const { addresses } = story.kernel.state
    let readings = 0
    story.kernel.beforeCall = (method) => {
      if (method !== 'readTables') return
      readings++
      if (readings === 1) addresses.delete('10.96.0.10' as never)
      else addresses.set('10.96.0.10' as never, 'route')
    }

    await story.advance(30_000)

    expect(readings).to.equal(2)
    expect(story.takeExecuted()).to.deep.equal([])
    expect(story.takeComplaints()).to.deep.equal([])
  })

  for (const [spentMs, pauseMs] of [
    [100, 30_000],
    [1_000, 100_000],
    [60_000, 600_000],
  ] as const) {
    it(`comes again after ${pauseMs / 1_000} s when one takes ${spentMs / 1_000} s of a processor`, async () => {
      story = new Story()
      await story.list([service()], [both()])
      const readings: number[] = []
      story.kernel.beforeCall = (method) => {
        if (method !== 'readTables') return
        readings.push(story.bell.now)
        story.cpuMs += spentMs
      }

      await story.advance(2_000_000)

      const pauses = readings.slice(1).map((at, i) => at - readings[i]!)
      expect(new Set(pauses)).to.deep.equal(new Set([pauseMs]))
    })
  }
})
