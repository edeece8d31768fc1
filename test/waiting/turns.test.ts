import { expect } from 'chai'
import { leisure, mapAtLeisure, oneAtATime, oneAtATimeUpTo } from '../../src/waiting/turns.ts'
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
  it('waits as long as parts took, once that is a slice, and not for what others took', async () => {
    let now = 0
    const atLeisure = leisure(() => now)
    const work = (ms: number) => (): number => (now += ms)
    let hasGoneOn = false
    const first = atLeisure(work(1)).then(() => (hasGoneOn = true))
    for (let i = 0; i < 5; i++) await Promise.resolve()
    expect(hasGoneOn, 'less than a slice').to.equal(true)
    await first

    now += 1_000
    const before = performance.now()
    await atLeisure(work(30))
    expect(performance.now() - before).to.be.within(28, 500)
  })

  it('waits no longer than 50 ms', async () => {
    let now = 0
    const before = performance.now()
    await leisure(() => now)(() => (now += 100_000))
    expect(performance.now() - before).to.be.below(50_000)
  })

  it('maps a list in slices, with everything else between them', async () => {
    let others = 0
    const count = setInterval(() => others++, 1)
    const doubled = await mapAtLeisure([1, 2, 3, 4, 5, 6, 7, 8], (value) => {
      const end = performance.now() + 3
      while (performance.now() < end);
      return value * 2
    })
    clearInterval(count)

    expect(doubled).to.deep.equal([2, 4, 6, 8, 10, 12, 14, 16])
    expect(others).to.be.above(7)
  })
})

describe('oneAtATimeUpTo', () => {
  it('takes so many who wait, and refuses one more', async () => {
    const inTurn = oneAtATimeUpTo(2)
    const gate = Promise.withResolvers<string>()
    const taken = [1, 2, 3].map(() => inTurn(() => gate.promise)!)
    expect(inTurn(() => gate.promise)).to.equal(undefined)

    gate.resolve('done')
    expect(await Promise.all(taken)).to.deep.equal(['done', 'done', 'done'])
    expect(await inTurn(() => Promise.resolve('again'))).to.equal('again')
  })
})
