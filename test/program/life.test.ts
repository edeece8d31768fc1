import { expect } from 'chai'
import { type Ending, openLife } from '../../src/program/life.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('openLife', () => {
  function begin() {
    const stop = new AbortController()
    return { stop, life: openLife(stop.signal) }
  }

  const ends: readonly (readonly [string, (begun: ReturnType<typeof begin>) => unknown, Ending])[] = [
    ['when the process is told to stop', ({ stop }) => stop.abort(), 'stopped'],
    ['when it is to start anew', ({ life }) => life.restart(), 'restart'],
    ['when nothing is left to do', ({ life }) => life.end(), 'stopped'],
  ]
  for (const [when, act, ending] of ends) {
    it(`ends ${when}: ${ending}`, () => {
      const begun = begin()
      expect(begun.life.signal.aborted).to.equal(false)
      act(begun)
      expect(begun.life.signal.aborted).to.equal(true)
      expect(begun.life.ending).to.equal(ending)
    })
  }

  it('is over at once when the process was told to stop before', () => {
    expect(openLife(AbortSignal.abort()).signal.aborted).to.equal(true)
  })

  it('ends with the error of a part, which may come before anybody waits for it', async () => {
    const { life } = begin()
    life.fail(new Error('the address is taken'))
    await new Promise(setImmediate)
    expect(await rejectionOf(life.failure)).to.have.property('message', 'the address is taken')
  })

  it('closes what was opened last first, one after the other, and when its signal has aborted', async () => {
    const { life } = begin()
    const closed: string[] = []
    life.atEnd(() => void closed.push(`events, ${String(life.signal.aborted)}`))
    life.atEnd(async () => {
      await new Promise(setImmediate)
      closed.push('kernel')
    })
    await life.end()
    expect(closed).to.deep.equal(['kernel', 'events, true'])
  })
})
