import { expect } from 'chai'
import { BINDINGS, type Bound } from '../../src/model/binding.ts'
import type { Claim } from '../../src/model/claims/claim.ts'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import { addressOf, type ObjectKey } from '../../src/model/kernel-object.ts'
import { objectOf, type Operation } from '../../src/model/operation.ts'
import type { VirtualServerKey } from '../../src/model/virtual-server.ts'
import { planDrain } from '../../src/plan/drain.ts'
import { planChanges } from '../../src/plan/plan.ts'
import { Coverage } from '../support/coverage.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { type Random, withRandom } from '../support/random.ts'
import { addressSet, allObjects, allWanted, claimsFor, wantedIn } from '../support/states.ts'

const STATES = 3_000
const ADDRESSES = ['10.96.0.1', '10.96.0.2', '10.96.0.3', '[fd00::1]']
const REALS = ['1', '2', '3', '4', '5']

/** Random virtual servers as ipvsadm text: few of everything, so that two of them often overlap. */
function randomText(random: Random, weights: readonly number[]): string {
  const lines: string[] = []
  for (const address of ADDRESSES.filter(() => random.chance(0.6))) {
    for (const option of ['-t', '-u', '--sctp-service'].filter(() => random.chance(0.6))) {
      const settings = random.pick(['-s rr', '-s lc', '-s dh', '-s rr -p 600', '-s sh -b sh-fallback'])
      lines.push(`-A ${option} ${address}:80 ${settings}`)
      for (const real of REALS.filter(() => random.chance(0.5))) {
        const target = address.startsWith('[') ? `[fd00:1::${real}]` : `10.244.0.${real}`
        const method = weights.length > 1 ? random.pick(['-m', '-m', '-g']) : '-m'
        lines.push(`-a ${option} ${address}:80 -r ${target}:8080 ${method} -w ${random.pick(weights)}`)
      }
    }
  }
  return lines.join('\n')
}

interface World {
  readonly kernel: FakeKernel
  readonly claims: ReadonlyMap<ObjectKey, Claim>
  readonly foreign: ReturnType<typeof addressSet>
}

function randomWorld(random: Random): World {
  const kernel = new FakeKernel(randomText(random, [0, 1, 1, 7]))
  for (const { id, realServers } of kernel.state.virtualServers.values()) {
    for (const { key } of realServers.values()) {
      if (random.chance(0.5)) kernel.setConnections(id.key, key, { active: random.int(3) })
    }
  }
  const { addresses } = kernel.state
  for (const address of addresses.keys()) addresses.set(address, random.pick(['address', 'route', 'both']))
  return {
    kernel,
    claims: claimsFor(
      randomText(random, [1]),
      random.chance(0.3) ? ['10.244.0.1:8080', '10.244.0.2:8080'] : [],
      random.pick(BINDINGS),
    ),
    foreign: addressSet(...(random.chance(0.2) ? ['10.96.0.3'] : [])),
  }
}

function planAll(world: World, isExcluded = false): Operation[] {
  const { claims, kernel, foreign } = world
  return planChanges(allObjects(claims, kernel.state), {
    wanted: (key) => claims.get(key),
    known: kernel.state,
    foreign,
    isExcluded: () => isExcluded,
  })
}

const KINDS = [
  'createVirtualServer',
  'updateVirtualServer',
  'deleteVirtualServer',
  'createRealServer',
  'updateRealServer',
  'deleteRealServer',
  'bindAddress',
  'unbindAddress',
  'addSetMember',
  'deleteSetMember',
]

describe(`the laws of planning, on ${STATES} random pairs of states`, () => {
  it('every operation is legal in the order given, and a second plan is empty', () =>
    withRandom(async (random) => {
      const coverage = new Coverage()
      for (let i = 0; i < STATES; i++) {
        const world = randomWorld(random)
        const operations = planAll(world)

        const refusals = await world.kernel.execute(operations)

        for (const { kind } of operations) coverage.note(kind)
        if (operations.length === 0) coverage.note('nothing to do')
        expect([...refusals.values()]).to.deep.equal([])
        expect(planAll(world).map(formatOperation)).to.deep.equal([])
      }
      coverage.expectAll(...KINDS)
    }))

  it('nothing is made on an address of somebody else, and it is not unbound', () =>
    withRandom((random) => {
      const coverage = new Coverage()
      for (let i = 0; i < STATES; i++) {
        const world = randomWorld(random)
        const touching = (operations: readonly Operation[]): Operation[] =>
          operations
            .filter((operation) => world.foreign.has(addressOf(objectOf(operation))!))
            .filter(({ kind }) => kind === 'unbindAddress' || !kind.startsWith('delete'))

        for (const { kind } of touching(planAll({ ...world, foreign: addressSet() }))) coverage.note(kind)
        expect(touching(planAll(world))).to.deep.equal([])
      }
      // Were it not his, all this would have been done to it.
      coverage.expectAll('addSetMember', 'bindAddress', 'unbindAddress')
      coverage.expectAll('createVirtualServer', 'updateVirtualServer', 'createRealServer', 'updateRealServer')
    }))

  it('no virtual server on an excluded address is deleted that is not proven to be ours', () =>
    withRandom((random) => {
      const coverage = new Coverage()
      for (let i = 0; i < STATES; i++) {
        const world = randomWorld(random)
        const { virtualServers } = world.kernel.state
        const doubtful = new Set([...virtualServers.keys()].filter(() => random.chance(0.5)))
        for (const [key, known] of virtualServers)
          virtualServers.set(key, { ...known, isProven: !doubtful.has(key) })
        const deleted = (isExcluded: boolean): VirtualServerKey[] =>
          planAll(world, isExcluded).flatMap((operation) =>
            operation.kind === 'deleteVirtualServer' ? [operation.of.key] : [],
          )

        const otherwise = deleted(false)
        if (otherwise.some((key) => doubtful.has(key))) coverage.note('would have been deleted')
        if (otherwise.some((key) => !doubtful.has(key))) coverage.note('is deleted')
        expect(deleted(true)).to.deep.equal(otherwise.filter((key) => !doubtful.has(key)))
      }
      coverage.expectAll('would have been deleted', 'is deleted')
    }))

  it('what is made comes before what is broken, and never leaves a bound address without its virtual servers', () =>
    withRandom(async (random) => {
      const coverage = new Coverage()
      for (let i = 0; i < STATES; i++) {
        const world = randomWorld(random)
        const { state } = world.kernel
        for (const operation of planAll(world)) {
          await world.kernel.execute([operation])
          if (operation.kind === 'bindAddress') {
            coverage.note('bound')
            for (const { id } of allWanted(world.claims).filter(
              (virtualServer) => virtualServer.id.address === operation.address,
            )) {
              expect(state.virtualServers.has(id.key), `${id.key} when its address is bound`).to.equal(true)
            }
          }
          if (operation.kind === 'deleteVirtualServer') coverage.note('deleted')
          for (const { id } of state.virtualServers.values()) {
            const isOurs =
              state.addresses.has(id.address) || state.setMembers.has(`KUBE-IPVS-IPS ${id.address}` as never)
            expect(
              isOurs || state.setMembers.has(`KUBE-6-IPVS-IPS ${id.address}` as never),
              `${id.key} is known as ours`,
            ).to.equal(true)
          }
        }
      }
      coverage.expectAll('bound', 'deleted')
    }))

  it('an address that is wanted is never unbound before it is bound in another way', () =>
    withRandom(async (random) => {
      const coverage = new Coverage()
      for (let i = 0; i < STATES; i++) {
        const world = randomWorld(random)
        const { addresses } = world.kernel.state
        const wasBound = [...addresses.keys()].filter((address) => world.claims.has(address))
        for (const operation of planAll(world)) {
          await world.kernel.execute([operation])
          if ('address' in operation) coverage.note(`${operation.kind} as ${operation.binding}`)
          expect([...addresses.keys()]).to.include.members(wasBound)
        }
        const wanted = [...world.claims.values()].flatMap((claim) =>
          claim.kind === 'address' && !world.foreign.has(claim.key)
            ? [[claim.key, claim.binding] as const]
            : [],
        )
        const left = wanted.map(([address]): [string, Bound | undefined] => [address, addresses.get(address)])
        expect(left).to.deep.equal(wanted)
      }
      for (const binding of BINDINGS)
        coverage.expectAll(`bindAddress as ${binding}`, `unbindAddress as ${binding}`)
    }))

  it('an open connection is never cut, but by its virtual server, UDP or dh', () =>
    withRandom(async (random) => {
      const coverage = new Coverage()
      for (let i = 0; i < STATES; i++) {
        const world = randomWorld(random)
        const operations = planAll(world)
        for (const operation of operations) {
          if (operation.kind !== 'deleteRealServer') continue
          const scheduler = wantedIn(world.claims, operation.of.key)?.settings.scheduler
          coverage.note(operation.of.protocol === 'UDP' ? 'UDP' : 'dh')
          expect(operation.of.protocol === 'UDP' || scheduler === 'dh').to.equal(true)
        }
        if (operations.some(({ kind }) => kind === 'updateRealServer')) coverage.note('quiesced or raised')
        await world.kernel.execute(operations)
      }
      coverage.expectAll('UDP', 'dh', 'quiesced or raised')
    }))

  it('after every drain has run out, exactly what is wanted is left', () =>
    withRandom(async (random) => {
      const coverage = new Coverage()
      for (let i = 0; i < STATES; i++) {
        const world = { ...randomWorld(random), foreign: addressSet() }
        const { kernel, claims } = world
        await kernel.execute(planAll(world))
        const ids = [...kernel.state.virtualServers.values()].map(({ id }) => id)
        const observed = await kernel.readRealServers(ids)
        for (const of of ids) {
          const wanted = wantedIn(claims, of.key)
          const input = {
            of,
            wanted: wanted && { ...wanted, lingering: new Set<never>() },
            observed: observed.get(of.key)!,
          }
          const first = planDrain({ ...input, goneSince: new Map(), now: 0, deadlineMs: 10 })
          const last = planDrain({ ...input, goneSince: first.draining, now: 10, deadlineMs: 10 })
          if (first.left > 0) coverage.note('waited')
          if (first.operations.length > 0) coverage.note('idle')
          await kernel.execute(last.operations)
        }

        const wanted = new Map(
          allWanted(claims).map((virtualServer) => [
            virtualServer.id.key,
            { ...virtualServer, isProven: true, realServers: new Map(virtualServer.realServers) },
          ]),
        )
        const expected = new FakeKernel()
        for (const [key, virtualServer] of wanted) expected.state.virtualServers.set(key, virtualServer)
        expect(sorted(kernel.toString())).to.deep.equal(sorted(expected.toString()))
      }
      coverage.expectAll('waited', 'idle')
    }))
})

function sorted(text: string): string[] {
  return text.split('\n').sort()
}
