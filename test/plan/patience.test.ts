import { expect } from 'chai'
import { Patience } from '../../src/plan/patience.ts'

const many = (prefix = 'key'): string[] => Array.from({ length: 100 }, (_, i) => `${prefix}-${i}`)

describe('Patience', () => {
  it('holds many deletions while something is made, until there has been quiet', () => {
    const patience = new Patience<string>()
    expect(patience.hold(many('a'), true, 1_000)).to.equal(true)
    expect(patience.dueAt).to.equal(1_500)
    expect(patience.hold(many('b'), true, 1_400)).to.equal(true)
    expect(patience.dueAt).to.equal(1_900)

    expect(patience.release()).to.deep.equal([...many('a'), ...many('b')])
    expect(patience.isHolding).to.equal(false)
    expect(patience.dueAt).to.equal(Infinity)
    expect(patience.hold([...many('a'), ...many('b')], false, 1_900)).to.equal(false)
  })

  it('does not hold a few, nor any while nothing is made', () => {
    const patience = new Patience<string>()
    expect(patience.hold(many().slice(1), true, 0)).to.equal(false)
    expect(patience.hold(many(), false, 0)).to.equal(false)
    expect(patience.isHolding).to.equal(false)
  })

  it('adds what comes to what is held, also when nothing more is made', () => {
    const patience = new Patience<string>()
    patience.hold(many(), true, 0)
    expect(patience.hold(['one'], false, 100)).to.equal(true)
    expect(patience.release()).to.deep.equal([...many(), 'one'])
  })

  it('holds nothing for more than ten seconds, however much is made', () => {
    const patience = new Patience<string>()
    for (let now = 0; now < 10_000; now += 400) {
      expect(patience.hold(many(), true, now), `${now}`).to.equal(true)
      expect(patience.dueAt).to.equal(Math.min(now + 500, 10_000))
    }
    const held = patience.release()
    expect(patience.hold(held, true, 10_000)).to.equal(false)
    expect(patience.hold(many(), true, 10_100), 'a new wait').to.equal(true)
    expect(patience.dueAt).to.equal(10_600)
  })
})
