import { expect } from 'chai'
import { Doorbell } from '../../src/waiting/doorbell.ts'

describe('Doorbell', () => {
  const never = new AbortController().signal
  const isOver = async (promise: Promise<void>): Promise<boolean> => {
    let over = false
    void promise.then(() => (over = true))
    await new Promise((resolve) => setTimeout(resolve, 10))
    return over
  }

  it('wakes who waits', async () => {
    const bell = new Doorbell()
    const waiting = bell.wait(Infinity, never)

    expect(await isOver(waiting)).to.equal(false)
    bell.ring()
    expect(await isOver(waiting)).to.equal(true)
  })

  it('remembers a ring, once', async () => {
    const bell = new Doorbell()
    bell.ring()
    bell.ring()

    expect(await isOver(bell.wait(Infinity, never))).to.equal(true)
    const abort = new AbortController()
    const waiting = bell.wait(Infinity, abort.signal)
    expect(await isOver(waiting)).to.equal(false)
    abort.abort()
    expect(await isOver(waiting)).to.equal(true)
  })

  it('wakes when the time is over, and does not wait for a time that is past', async () => {
    const bell = new Doorbell()

    expect(await isOver(bell.wait(1, never))).to.equal(true)
    expect(await isOver(bell.wait(-5, never))).to.equal(true)
  })

  it('leaves no listener behind', async () => {
    const bell = new Doorbell()
    const { signal } = new AbortController()
    const warnings: Error[] = []
    const note = (warning: Error): void => void warnings.push(warning)
    process.on('warning', note)
    for (let i = 0; i < 50; i++) await bell.wait(0.1, signal)
    await new Promise(setImmediate)
    process.off('warning', note)

    expect(warnings).to.deep.equal([])
  })
})
