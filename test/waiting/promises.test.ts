import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import { together } from '../../src/waiting/promises.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('together', () => {
  it('returns what each promises', async () => {
    expect(await together([Promise.resolve(1), Promise.resolve('two')])).to.deep.equal([1, 'two'])
  })

  it('throws the first error, when nothing is under way any more', async () => {
    let isOver = false
    const slow = setImmediate().then(() => {
      isOver = true
    })

    const error = await rejectionOf(together([slow, Promise.reject(new Error('refused'))]))

    expect([isOver, (error as Error).message]).to.deep.equal([true, 'refused'])
  })
})
