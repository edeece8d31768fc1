/** Whatever comes first, and whatever comes between: the kernel ends as a fresh start on the last facts leaves it. */
import { expect } from 'chai'
import { parseEndpointSlice, parseService } from '../../src/model/facts/parse-facts.ts'
import { endpoint, service, slice, TERMINATING, UNREADY } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { Random, withRandom } from '../support/random.ts'
import { Story } from '../support/story.ts'

describe('Proxy, whatever the order of events', () => {
  const SERVICES = ['a', 'b', 'c']

  /** A random history of each object; the last of each is what counts. */
  function histories(random: Random): object[][] {
    const serviceHistories = SERVICES.map((name, i) =>
      Array.from({ length: 1 + random.int(3) }, () =>
        service({
          name,
          clusterIP: `10.96.0.${1 + random.int(2) + i}`,
          metadata: { creationTimestamp: `2026-01-0${1 + random.int(3)}T00:00:00Z` },
          ports: [{ name: 'http', port: random.pick([80, 81]) }],
        }),
      ),
    )
    const sliceHistories = SERVICES.flatMap((name) =>
      ['1', '2'].map((part) =>
        Array.from({ length: 1 + random.int(3) }, () =>
          slice({
            name: `${name}-${part}`,
            service: name,
            endpoints: ['1', '2', '3', '4']
              .filter(() => random.chance(0.5))
              .map((last) =>
                endpoint(`10.244.0.${last}`, { conditions: random.pick([undefined, UNREADY, TERMINATING]) }),
              ),
          }),
        ),
      ),
    )
    return [...serviceHistories, ...sliceHistories]
  }

  /** Picks the next event of a random history, until all are told. */
  function interleave(random: Random, all: readonly (readonly object[])[]): object[] {
    const isOpen = (history: readonly object[]): boolean => history.length > 0
    const events: object[] = []
    for (
      let open = all.map((history) => [...history]).filter(isOpen);
      open.length > 0;
      open = open.filter(isOpen)
    )
      events.push(random.pick(open).shift()!)
    return events
  }

  async function play(events: readonly object[], settleAfter: (i: number) => boolean): Promise<string> {
    const story = new Story()
    await story.list()
    for (const [i, event] of events.entries()) {
      if (settleAfter(i)) await story.put(event)
      else void story.put(event)
    }
    await story.bell.settle()
    await story.advance(10_000)
    await story.stop()
    const { addresses, setMembers } = story.kernel.state
    return [...story.kernel.toString().split('\n').sort(), ...[...addresses, ...setMembers].sort()].join('\n')
  }

  it('ends in the same state in 1,000 random interleavings', () =>
    withRandom(async (random) => {
      let different = 0
      for (let i = 0; i < 100; i++) {
        const all = histories(random)
        const expected = await play(all.flat(), () => true)
        for (let j = 0; j < 10; j++) {
          const events = interleave(random, all)
          if (JSON.stringify(events) !== JSON.stringify(all.flat())) different++
          expect(await play(events, () => random.chance(0.5))).to.equal(expected)
        }
      }
      expect(different, 'orders other than the first').to.be.greaterThan(900)
    })).timeout(60_000)

  it('is the same for 500 lists that come in pieces, after attempts that were given up', () =>
    withRandom(async (random) => {
      let foreseenInVain = 0
      for (let i = 0; i < 500; i++) {
        // Some Services have no slice.
        const all = histories(random).filter(() => random.chance(0.8))
        // The others are gone by the time the list is whole.
        const last = all.map((history) => history.at(-1)!).filter(() => random.chance(0.8))
        const isSlice = (object: object): boolean => 'addressType' in object
        const services = new Map(all.flat().map((object) => [object, parseService(object)]))
        const endpointSlices = new Map(all.flat().map((object) => [object, parseEndpointSlice(object)]))

        const story = new Story()
        const { cluster } = story
        const listed = last.filter((object) => !isSlice(object))
        const replace = (): void => {
          cluster.services.replace(listed.map((object) => services.get(object)!))
          cluster.nodes.replace([])
          cluster.serviceCidrs.replace([])
        }
        const isEarly = random.chance(0.5)
        if (isEarly) replace()
        for (const object of interleave(random, all)) {
          if (isSlice(object)) cluster.endpointSlices.foresee([endpointSlices.get(object)!])
          else cluster.services.foresee([services.get(object)!])
          if (random.chance(0.5)) await story.advance(500)
        }
        await story.bell.settle()
        expect(story.executedKinds(), 'before all is listed').to.deep.equal([])
        if (cluster.serviceCount > listed.length) foreseenInVain++
        if (!isEarly) replace()
        cluster.endpointSlices.replace(last.filter(isSlice).map((object) => endpointSlices.get(object)!))
        await story.advance(10_000)
        await story.stop()

        const clean = new Story()
        await clean.list(listed, last.filter(isSlice))
        await clean.advance(10_000)
        await clean.stop()
        expect(story.kernel.toString().split('\n').sort()).to.deep.equal(
          clean.kernel.toString().split('\n').sort(),
        )
        expect([...story.kernel.state.addresses.keys()].sort()).to.deep.equal(
          [...clean.kernel.state.addresses.keys()].sort(),
        )
        expect([...story.kernel.state.setMembers].sort()).to.deep.equal(
          [...clean.kernel.state.setMembers].sort(),
        )
      }
      expect(foreseenInVain).to.be.greaterThan(50)
    })).timeout(60_000)

  it('converges after being killed in the middle of 300 random plans', () =>
    withRandom(async (random) => {
      let killed = 0
      for (let i = 0; i < 300; i++) {
        const before = histories(random).map((history) => history.at(-1)!)
        const after = histories(random).map((history) => history.at(-1)!)
        const kernel = new FakeKernel()
        const tell = async (story: Story, objects: object[]): Promise<void> => {
          await story.list(
            objects.filter((object) => !('addressType' in object)),
            objects.filter((object) => 'addressType' in object),
          )
        }
        const old = new Story(kernel)
        await tell(old, before)
        let budget = random.int(12)
        kernel.refuse = () => (budget-- > 0 ? undefined : 'EPERM')
        for (const object of after) void old.put(object)
        await old.bell.settle()
        if (budget < 0) killed++
        await old.stop()

        kernel.refuse = () => undefined
        const fresh = new Story(kernel)
        await tell(fresh, after)
        await fresh.advance(10_000)
        await fresh.stop()

        const clean = new Story()
        await tell(clean, after)
        await clean.stop()
        expect(kernel.toString().split('\n').sort()).to.deep.equal(clean.kernel.toString().split('\n').sort())
        expect([...kernel.state.addresses.keys()].sort()).to.deep.equal(
          [...clean.kernel.state.addresses.keys()].sort(),
        )
        expect([...kernel.state.setMembers].sort()).to.deep.equal([...clean.kernel.state.setMembers].sort())
      }
      expect(killed).to.be.greaterThan(50)
    })).timeout(60_000)
})
