import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { openAlarm } from '../../src/waiting/alarm.ts'

const FILE = join(import.meta.dirname, '../../src/waiting/alarm.ts')
/** Timers are early by less than a ms, and late by as much as the machine likes. */
const EARLY_MS = 2

describe('an alarm', () => {
  let end: AbortController
  beforeEach(() => {
    end = new AbortController()
  })
  const timed = async (act: () => Promise<void>): Promise<number> => {
    const started = performance.now()
    await act()
    return performance.now() - started
  }
  // The alarm's own timers keep no process alive: mocha waits with one of its own.
  const wait = (alarm: ReturnType<typeof openAlarm>, least: number, most: number): Promise<number> =>
    timed(() => alarm.wait(least, most, end.signal))

  it('waits as long as it may when nobody rings', async () => {
    expect(await wait(openAlarm(), 20, 200)).to.be.at.least(200 - EARLY_MS)
  })

  it('ends when it is rung, but not too soon', async () => {
    const alarm = openAlarm()
    const waiting = wait(alarm, 200, 60_000)
    alarm.ring()

    expect(await waiting).to.be.within(200 - EARLY_MS, 10_000)
  })

  it('ends at once when it is rung late', async () => {
    const alarm = openAlarm()
    const waiting = wait(alarm, 0, Infinity)
    await sleep(100)
    alarm.ring()

    expect(await waiting).to.be.within(100 - EARLY_MS, 10_000)
  })

  it('remembers a ring for one wait', async () => {
    const alarm = openAlarm()
    alarm.ring()
    alarm.ring()

    expect(await wait(alarm, 0, 60_000)).to.be.below(10_000)
    expect(await wait(alarm, 0, 200)).to.be.at.least(200 - EARLY_MS)
  })

  for (const [when, least] of [
    ['in the time that it has to wait', 60_000],
    ['later', 0],
  ] as const) {
    it(`ends with the signal, ${when}`, async () => {
      const waiting = wait(openAlarm(), least, 60_000)
      end.abort()

      expect(await waiting).to.be.below(10_000)
      expect(await wait(openAlarm(), least, 60_000)).to.be.below(10_000)
    })
  }

  it('takes a time that no timer does', async () => {
    const waiting = wait(openAlarm(), 0, 2 ** 40)
    const first = await Promise.race([waiting, sleep(100, 'still waiting')])
    end.abort()

    expect(first).to.equal('still waiting')
  })

  it('keeps no process alive', () => {
    const program = `import { openAlarm } from '${FILE}'
      void openAlarm().wait(60_000, 120_000, new AbortController().signal)
      void openAlarm().wait(0, 120_000, new AbortController().signal)`

    execFileSync(process.execPath, ['--input-type=module', '-e', program], { timeout: 20_000 })
  })
})
