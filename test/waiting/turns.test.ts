import { expect } from 'chai'
import { leisure, mapAtLeisure, oneAtATime } from '../../src/waiting/turns.ts'
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

describe('leisure', () => {
  function work(ms: number): void {
    const end = performance.now() + ms
    while (performance.now() < end);
  }

  it('waits as long as a slice took, and not after less than a slice', async () => {
    let now = 0
    const giveWay = leisure(() => now)
    now += 1
    let hasGoneOn = false
    const going = giveWay().then(() => (hasGoneOn = true))
    await Promise.resolve()
    await Promise.resolve()
    expect(hasGoneOn).to.equal(true)
    await going

    now += 30
    const before = performance.now()
    await giveWay()
    expect(performance.now() - before).to.be.above(28)
  })

  it('maps a list in slices, with everything else between them', async () => {
    let others = 0
    const count = setInterval(() => others++, 1)
    const doubled = await mapAtLeisure([1, 2, 3, 4, 5, 6, 7, 8], (value) => {
      work(3)
      return value * 2
    })
    clearInterval(count)

    expect(doubled).to.deep.equal([2, 4, 6, 8, 10, 12, 14, 16])
    expect(others).to.be.above(7)
  })
})
