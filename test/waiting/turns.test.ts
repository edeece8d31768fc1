import { expect } from 'chai'
import { oneAtATime } from '../../src/waiting/turns.ts'
import { sleep } from '../../src/waiting/sleep.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('oneAtATime', () => {
  it('begins no task before the one before has ended, and tells each what came of its own', async () => {
    const inTurn = oneAtATime()
    const told: string[] = []
    const task = (name: string) => async () => {
      told.push(`${name} begins`)
      await sleep(1, new AbortController().signal)
      told.push(`${name} ends`)
      if (name === 'second') throw new Error('The second fails')
      return name
    }

    const [first, second, third] = ['first', 'second', 'third'].map((name) => inTurn(task(name)))

    expect(((await rejectionOf(second!)) as Error).message).to.equal('The second fails')
    expect([await first, await third]).to.deep.equal(['first', 'third'])
    expect(told).to.deep.equal(
      ['first', 'second', 'third'].flatMap((name) => [`${name} begins`, `${name} ends`]),
    )
  })
})
