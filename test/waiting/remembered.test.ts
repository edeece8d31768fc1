import { expect } from 'chai'
import { remembered } from '../../src/waiting/remembered.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('remembered', () => {
  it('reads once for all who ask meanwhile, and within about two seconds', async () => {
    let now = 0
    let readings = 0
    const ends: PromiseWithResolvers<number>[] = []
    const ask = remembered(
      () => {
        readings++
        const end = Promise.withResolvers<number>()
        ends.push(end)
        return end.promise
      },
      () => now,
    )
    const [first, second] = [ask(), ask()]
    now = 10_000
    const third = ask()
    expect(readings, 'one is under way, however long it takes').to.equal(1)
    ends[0]!.resolve(7)
    expect(await Promise.all([first, second, third])).to.deep.equal([7, 7, 7])

    void ask()
    expect(readings).to.equal(2)
    ends[1]!.resolve(8)
    expect(await ask()).to.equal(8)
    now += 1_000
    expect(await ask()).to.equal(8)
    expect(readings).to.equal(2)
    now += 1_000
    void ask()
    expect(readings).to.equal(3)
  })

  it('reads again after it has failed', async () => {
    let now = 0
    let readings = 0
    const ask = remembered(
      () => {
        readings++
        return readings === 1
          ? Promise.reject<number>(new Error('The first fails'))
          : Promise.resolve(readings)
      },
      () => now,
    )
    expect(((await rejectionOf(ask())) as Error).message).to.equal('The first fails')
    now += 2_000
    expect(await ask()).to.equal(2)
  })
})
