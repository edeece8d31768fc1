import { expect } from 'chai'
import { Queue, type State } from '../../src/loop/queue.ts'
import type { KernelObject, ObjectKey } from '../../src/model/kernel-object.ts'
import { Coverage } from '../support/coverage.ts'
import { type Random, withRandom } from '../support/random.ts'

const object = (name: string): KernelObject => ({ kind: 'address', key: name as never })
const objects = (count: number, prefix = 'x'): KernelObject[] =>
  Array.from({ length: count }, (_, i) => object(`${prefix}${i}`))
const keysOf = (of: Iterable<KernelObject>): string[] => [...of].map(({ key }) => key)
const everything = (): boolean => true
const nothing = (): boolean => false

/** A queue, and its clock. */
function open(): { readonly queue: Queue; readonly clock: { now: number } } {
  const clock = { now: 0 }
  return { queue: new Queue(() => clock.now), clock }
}

describe('Queue', () => {
  /** What brings an object into each state. */
  const into: Readonly<Record<State, (queue: Queue) => void>> = {
    ready: (queue) => {
      queue.add(object('a'))
    },
    held: (queue) => {
      for (const one of [object('a'), ...objects(99), object('made')]) queue.add(one)
      queue.next((key) => (key as string) === 'made')
      queue.begin('made' as ObjectKey)
      queue.succeed('made' as ObjectKey)
    },
    retry: (queue) => {
      queue.refuse(object('a'), 'full')
    },
    underWay: (queue) => {
      queue.add(object('a'))
      queue.begin('a' as ObjectKey)
    },
  }
  const transitions: readonly {
    readonly from: State
    readonly what: string
    readonly act: (queue: Queue) => unknown
    readonly to: State | undefined
  }[] = [
    { from: 'ready', what: 'is added', act: (queue) => queue.add(object('a')), to: 'ready' },
    { from: 'ready', what: 'begins', act: (queue) => queue.begin('a' as ObjectKey), to: 'underWay' },
    { from: 'ready', what: 'is refused', act: (queue) => queue.refuse(object('a'), 'full'), to: 'ready' },
    { from: 'ready', what: 'succeeds', act: (queue) => queue.succeed('a' as ObjectKey), to: 'ready' },
    { from: 'held', what: 'is added', act: (queue) => queue.add(object('a')), to: 'ready' },
    { from: 'held', what: 'begins', act: (queue) => queue.begin('a' as ObjectKey), to: 'held' },
    { from: 'held', what: 'is refused', act: (queue) => queue.refuse(object('a'), 'full'), to: 'held' },
    { from: 'retry', what: 'is added', act: (queue) => queue.add(object('a')), to: 'ready' },
    { from: 'retry', what: 'begins', act: (queue) => queue.begin('a' as ObjectKey), to: 'retry' },
    { from: 'retry', what: 'is refused', act: (queue) => queue.refuse(object('a'), 'full'), to: 'retry' },
    { from: 'retry', what: 'is woken early', act: (queue) => queue.wake(), to: 'retry' },
    { from: 'underWay', what: 'begins', act: (queue) => queue.begin('a' as ObjectKey), to: 'underWay' },
    { from: 'underWay', what: 'is added', act: (queue) => queue.add(object('a')), to: 'underWay' },
    { from: 'underWay', what: 'succeeds', act: (queue) => queue.succeed('a' as ObjectKey), to: undefined },
    { from: 'underWay', what: 'is refused', act: (queue) => queue.refuse(object('a'), 'full'), to: 'retry' },
    { from: 'underWay', what: 'is interrupted', act: (queue) => queue.interrupt(), to: 'ready' },
  ]
  for (const { from, what, act, to } of transitions) {
    it(`an object that is ${from} and ${what} is ${to ?? 'gone'}`, () => {
      const { queue } = open()
      into[from](queue)
      expect(queue.stateOf('a' as ObjectKey)).to.equal(from)

      act(queue)

      expect(queue.stateOf('a' as ObjectKey)).to.equal(to)
    })
  }

  for (const [how, end] of [
    ['succeeds', (queue: Queue) => queue.succeed('a' as ObjectKey)],
    ['is refused', (queue: Queue) => queue.refuse(object('a'), 'full')],
  ] as const) {
    it(`an object that is added while it is under way is ready when it ${how}`, () => {
      const { queue } = open()
      into.underWay(queue)
      queue.add(object('a'))

      end(queue)

      expect(queue.stateOf('a' as ObjectKey)).to.equal('ready')
    })
  }

  it('gives what is wanted in the order of making, then what is not in the reverse order', () => {
    const { queue } = open()
    for (const one of [...objects(3, 'made'), ...objects(3, 'broken')]) queue.add(one)

    const wanted = (key: ObjectKey): boolean => key.startsWith('made')

    expect(keysOf(queue.ready(wanted))).to.deep.equal([
      'made0',
      'made1',
      'made2',
      'broken2',
      'broken1',
      'broken0',
    ])
    expect(keysOf(queue.next(wanted)), 'a few').to.deep.equal(keysOf(queue.ready(wanted)))
  })

  it('puts what becomes ready again behind what is', () => {
    const { queue } = open()
    for (const one of [object('a'), object('b')]) queue.add(one)
    queue.begin('a' as ObjectKey)
    queue.interrupt()

    expect(keysOf(queue.ready(everything))).to.deep.equal(['b', 'a'])
  })

  describe('holds deletions', () => {
    it('while something is made, until there has been quiet', () => {
      const { queue, clock } = open()
      clock.now = 1_000
      const made = (key: ObjectKey): boolean => key.startsWith('made')
      for (const one of [...objects(100, 'a'), object('made')]) queue.add(one)
      expect(keysOf(queue.next(made))).to.deep.equal(['made'])
      expect([queue.count('held'), queue.wakeAt]).to.deep.equal([100, 1_500])

      clock.now = 1_400
      for (const one of objects(100, 'b')) queue.add(one)
      expect(keysOf(queue.next(made))).to.deep.equal(['made'])
      expect([queue.count('held'), queue.wakeAt]).to.deep.equal([200, 1_900])

      clock.now = 1_899
      queue.wake()
      expect(queue.count('held')).to.equal(200)
      clock.now = 1_900
      queue.begin('made' as ObjectKey)
      queue.wake()
      expect([queue.count('held'), queue.count('ready'), queue.wakeAt]).to.deep.equal([0, 200, Infinity])
      expect(queue.next(made)).to.have.length(200)
    })

    it('that are many, and only while something is made', () => {
      const { queue } = open()
      for (const one of [...objects(99), object('made')]) queue.add(one)
      expect(queue.next((key) => (key as string) === 'made')).to.have.length(100)
      queue.add(object('another'))
      expect(queue.next(nothing)).to.have.length(101)
    })

    it('with what comes later, also when nothing more is made', () => {
      const { queue } = open()
      into.held(queue)
      queue.add(object('one'))

      expect(queue.next(nothing)).to.deep.equal([])
      expect(queue.count('held')).to.equal(101)
    })

    it('for no more than ten seconds, however much is made', () => {
      const { queue, clock } = open()
      const made = (key: ObjectKey): boolean => key.startsWith('made')
      for (const one of [...objects(100), object('made')]) queue.add(one)
      for (; clock.now < 10_000; clock.now += 400) {
        queue.wake()
        expect(keysOf(queue.next(made)), `${clock.now}`).to.deep.equal(['made'])
        expect(queue.wakeAt).to.equal(Math.min(clock.now + 500, 10_000))
      }
      queue.wake()
      expect(queue.next(made)).to.have.length(101)

      clock.now = 10_100
      for (const one of objects(100, 'later')) queue.add(one)
      for (const { key } of queue.next(nothing)) queue.begin(key)
      for (const one of [...objects(100, 'last'), object('made again')]) queue.add(one)
      expect(keysOf(queue.next(made)), 'a new wait').to.deep.equal(['made again'])
      expect(queue.wakeAt).to.equal(10_600)
    })

    it('but not those whose time to be tried again has come', () => {
      const { queue, clock } = open()
      queue.add(object('bad'))
      queue.begin('bad' as ObjectKey)
      queue.refuse(object('bad'), 'busy')
      clock.now = 100
      queue.wake()
      for (const one of [...objects(100), object('made')]) queue.add(one)

      expect(keysOf(queue.next((key) => (key as string) === 'made'))).to.deep.equal(['made', 'bad'])
    })
  })

  describe('tries again what was refused', () => {
    it('after 100 ms, doubling to a minute', () => {
      const { queue } = open()
      const pauses = Array.from({ length: 12 }, () => {
        queue.refuse(object('a'), 'full')
        return queue.wakeAt
      })

      expect(pauses.slice(0, 3)).to.deep.equal([100, 200, 400])
      expect(pauses.slice(-3)).to.deep.equal([51_200, 60_000, 60_000])
    })

    it('each for itself', () => {
      const { queue, clock } = open()
      queue.refuse(object('a'), 'full')
      clock.now = 100
      queue.refuse(object('a'), 'full')
      queue.refuse(object('b'), 'full')
      expect(queue.wakeAt).to.equal(200)
      clock.now = 200
      queue.wake()
      expect(keysOf(queue.ready(everything))).to.deep.equal(['b'])
      clock.now = 300
      queue.wake()
      expect(keysOf(queue.ready(everything))).to.deep.equal(['b', 'a'])
    })

    it('and says a reason once, and again when it changes', () => {
      const { queue } = open()
      const isNew = ['x', 'x', 'y', 'y', 'x'].map((reason) => queue.refuse(object('a'), reason))

      expect(isNew).to.deep.equal([true, false, true, false, true])
      expect([...queue.failures()].map(({ object: { key }, reason }) => [key, reason])).to.deep.equal([
        ['a', 'x'],
      ])
    })

    it('and begins anew after a success', () => {
      const { queue, clock } = open()
      const tryOnce = (): void => {
        queue.add(object('a'))
        queue.begin('a' as ObjectKey)
      }
      for (let i = 0; i < 5; i++) {
        tryOnce()
        queue.refuse(object('a'), 'full')
      }
      tryOnce()
      expect(queue.failing, 'while it is tried').to.equal(1)
      expect(queue.succeed('a' as ObjectKey)).to.equal(true)
      expect([queue.failing, queue.wakeAt]).to.deep.equal([0, Infinity])
      tryOnce()
      expect(queue.succeed('a' as ObjectKey), 'it had not failed').to.equal(false)
      clock.now = 1_000
      expect(queue.refuse(object('a'), 'full'), 'news again').to.equal(true)
      expect(queue.wakeAt).to.equal(1_100)
    })

    it('and says a reason again after a success that came while it was added anew', () => {
      const { queue } = open()
      queue.refuse(object('a'), 'full')
      for (const end of ['succeed', 'refuse'] as const) {
        queue.add(object('a'))
        queue.begin('a' as ObjectKey)
        queue.add(object('a'))
        if (end === 'succeed') queue.succeed('a' as ObjectKey)
        else expect(queue.refuse(object('a'), 'full')).to.equal(true)
      }
    })

    it('as many as one Service may make fail', () => {
      const { queue, clock } = open()
      for (; clock.now < 250_000; clock.now++) queue.refuse(object(`a${clock.now}`), 'full')

      expect(queue.wakeAt).to.equal(100)
    })
  })
})

describe('the laws of the queue, on random histories', () => {
  const STATES: readonly State[] = ['ready', 'held', 'retry', 'underWay']
  const ALL = objects(160)

  /** One thing that may happen to a queue; returns the objects that have to be planned because of it. */
  function happen(random: Random, queue: Queue, clock: { now: number }): readonly KernelObject[] {
    const one = random.pick(ALL)
    switch (random.int(7)) {
      case 0: {
        const added = ALL.filter(() => random.chance(0.5))
        for (const each of added) queue.add(each)
        return added
      }
      case 1:
        queue.add(one)
        return [one]
      case 2:
        clock.now += random.int(3_000)
        queue.wake()
        return []
      case 3:
        for (const { key } of queue.next((key) => Number(key.slice(1)) % 3 === 0))
          if (random.chance(0.7)) queue.begin(key)
        return []
      case 4:
        queue.interrupt()
        return []
      case 5:
        for (const each of ALL)
          if (queue.stateOf(each.key) === 'underWay' && random.chance(0.5)) queue.succeed(each.key)
        return []
      default:
        for (const each of ALL)
          if (queue.stateOf(each.key) === 'underWay' && random.chance(0.5))
            queue.refuse(each, random.pick(['x', 'y']))
        return []
    }
  }

  it('every object is in one state, and none is forgotten, planned twice at a time or kept waiting for ever', () =>
    withRandom((random) => {
      const coverage = new Coverage()
      for (let i = 0; i < 100; i++) {
        const { queue, clock } = open()
        const forgotten = new Set<string>()
        for (let step = 0; step < 40; step++) {
          for (const { key } of happen(random, queue, clock)) forgotten.add(key)
          const states = ALL.map(({ key }) => queue.stateOf(key))
          for (const state of STATES) {
            const count = states.filter((one) => one === state).length
            expect(queue.count(state), state).to.equal(count)
            if (count > 0) coverage.note(state)
          }
          expect(queue.failing).to.equal([...queue.failures()].length)
          const isWaiting = queue.count('held') + queue.count('retry') > 0
          expect(queue.wakeAt < Infinity, 'what waits is woken').to.equal(isWaiting)
          expect(queue.wakeAt).to.be.at.most(isWaiting ? clock.now + 60_000 : Infinity)
        }
        // In the end everything succeeds: then each object has been planned after it was last added.
        for (let turn = 0; turn < 50 && forgotten.size > 0; turn++) {
          for (const { key } of ALL) if (queue.succeed(key)) coverage.note('recovered')
          clock.now += 60_000
          queue.wake()
          for (const { key } of queue.next(everything)) {
            expect(queue.begin(key)).to.equal(true)
            expect(queue.begin(key), 'twice at a time').to.equal(false)
          }
          for (const key of forgotten)
            if (queue.stateOf(key as ObjectKey) === undefined) forgotten.delete(key)
        }
        expect([...forgotten]).to.deep.equal([])
      }
      coverage.expectAll(...STATES, 'recovered')
    }))
})
