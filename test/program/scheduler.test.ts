import { expect } from 'chai'
import { SchedulerChoice } from '../../src/program/scheduler.ts'
import { complaints, recordingLog } from '../support/log.ts'

describe('SchedulerChoice', () => {
  function choose(available: readonly string[]) {
    const { log, lines } = recordingLog()
    const asked: string[] = []
    const changes: string[] = []
    const refusals: string[] = []
    const choice = new SchedulerChoice({
      initial: 'rr',
      isAvailable: (name) => {
        asked.push(name)
        return Promise.resolve(available.includes(name))
      },
      onSwitch: (name) => changes.push(name),
      onRefusal: (reason) => refusals.push(reason),
      log,
    })
    return { choice, lines, asked, changes, refusals }
  }

  it('switches to a scheduler that the kernel has', async () => {
    const { choice, changes } = choose(['lc'])
    await choice.want('lc')

    expect(choice.current).to.equal('lc')
    expect(changes).to.deep.equal(['lc'])
  })

  it('asks the kernel nothing about the one in use', async () => {
    const { choice, asked, changes } = choose([])
    await choice.want('rr')

    expect(asked).to.deep.equal([])
    expect(changes).to.deep.equal([])
  })

  it('keeps the one in use when the kernel lacks the other, and says so with the remedy', async () => {
    const { choice, lines, changes, refusals } = choose([])
    await choice.want('wlcc')
    await choice.want('wlcc')
    choice.stop()

    expect(choice.current).to.equal('rr')
    expect(changes).to.deep.equal([])
    expect(refusals).to.deep.equal([
      'The scheduler "wlcc" is not available, rr stays: load it with "modprobe ip_vs_wlcc"',
    ])
    expect(complaints(lines)).to.deep.equal(['the scheduler "wlcc" is not available'])
    expect(lines.at(-1)!.remedy).to.equal('load it with "modprobe ip_vs_wlcc"')
  })

  it('ends where the last wish was, however fast they come', async () => {
    const { choice, changes } = choose(['lc', 'wrr'])
    await Promise.all(['lc', 'nope', 'wrr'].map((name) => choice.want(name)))

    expect(choice.current).to.equal('wrr')
    expect(changes).to.deep.equal(['lc', 'wrr'])
  })

  it('forgets a wish for what is not there when it is taken back', async () => {
    const { choice, refusals } = choose([])
    await choice.want('nope')
    await choice.want('rr')
    await choice.want('nope')
    choice.stop()

    expect(choice.current).to.equal('rr')
    expect(refusals).to.have.length(2)
  })
})
