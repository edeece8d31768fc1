import { expect } from 'chai'
import { SchedulerChoice } from '../src/scheduler.ts'
import { complaints, recordingLog } from './support/log.ts'

describe('SchedulerChoice', () => {
  function choose(available: readonly string[]) {
    const { log, lines } = recordingLog()
    const asked: string[] = []
    let changes = 0
    const choice = new SchedulerChoice({
      initial: 'rr',
      isAvailable: (name) => {
        asked.push(name)
        return Promise.resolve(available.includes(name))
      },
      changed: () => changes++,
      log,
    })
    return { choice, lines, asked, changes: () => changes }
  }

  it('switches to a scheduler that the kernel has', async () => {
    const { choice, changes } = choose(['lc'])
    await choice.want('lc')

    expect(choice.current).to.equal('lc')
    expect(changes()).to.equal(1)
  })

  it('asks the kernel nothing about the one in use', async () => {
    const { choice, asked, changes } = choose([])
    await choice.want('rr')

    expect(asked).to.deep.equal([])
    expect(changes()).to.equal(0)
  })

  it('keeps the one in use when the kernel lacks the other, and says so with the remedy', async () => {
    const { choice, lines, changes } = choose([])
    await choice.want('wlcc')
    choice.stop()

    expect(choice.current).to.equal('rr')
    expect(changes()).to.equal(0)
    expect(complaints(lines)).to.deep.equal(['the scheduler "wlcc" is not available'])
    expect(lines.at(-1)!.remedy).to.equal('load it with "modprobe ip_vs_wlcc"')
  })
})
