import { expect } from 'chai'
import { type Batch, runBatches } from '../../src/loop/batches.ts'
import { Queue } from '../../src/loop/queue.ts'
import { type KernelObject, type ObjectKey, objectsOf } from '../../src/model/kernel-object.ts'
import type { OperationKind } from '../../src/model/operation.ts'
import type { Plan } from '../../src/plan/plan.ts'
import { service, slice } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { claimsFor } from '../support/states.ts'
import { Story } from '../support/story.ts'
import { WiredKernel } from '../support/wired-kernel.ts'

/** Enough for several batches of 2,000 operations, none of which ends where a Service does. */
const SERVICES = 240
const PORTS = 10

const nameOf = (i: number): string => `s${i}`
const addressOf = (i: number): string => `10.96.${i >> 8}.${i & 255}`

function services(first: number, count: number): object[] {
  const ports = Array.from({ length: PORTS }, (_, port) => ({ name: `p${port}`, port: 80 + port }))
  return Array.from({ length: count }, (_, i) =>
    service({ name: nameOf(first + i), clusterIP: addressOf(first + i), ports }),
  )
}

function slices(first: number, count: number): object[] {
  const ports = Array.from({ length: PORTS }, (_, port) => ({ name: `p${port}`, port: 8080 + port }))
  return Array.from({ length: count }, (_, i) =>
    slice({ service: nameOf(first + i), name: nameOf(first + i), endpoints: ['10.244.0.1'], ports }),
  )
}

/** Each wire in turn is the slow one: what may overlap is all that keeps the order then. */
const SLOW_WIRES = ['set', 'ipvs', 'address'] as const

describe('batches on wires that do not wait for each other', () => {
  for (const slow of SLOW_WIRES) {
    const start = async (): Promise<{ readonly kernel: WiredKernel; readonly story: Story }> => {
      const kernel = new WiredKernel()
      kernel.turns[slow] = 20
      const story = new Story(kernel.inner, { wires: kernel })
      await story.list(services(0, SERVICES), slices(0, SERVICES))
      return { kernel, story }
    }

    it(`make everything in order, and together, when ${slow} is slow`, async () => {
      const { kernel, story } = await start()

      expect(kernel.faults).to.deep.equal([])
      expect(story.proxy.synced).to.equal(true)
      expect(kernel.inner.state.addresses.size).to.equal(SERVICES)
      expect(kernel.atOnce, 'batches on their way together').to.be.greaterThan(1)
      await story.stop()
    })

    it(`replace Services in order when ${slow} is slow`, async () => {
      const { kernel, story } = await start()
      const gone = SERVICES / 2
      for (let i = 0; i < gone; i++) story.cluster.services.remove(`shop/${nameOf(i)}`)
      await story.put(...services(SERVICES, gone), ...slices(SERVICES, gone))
      await story.advance(20_000)

      expect(kernel.faults).to.deep.equal([])
      expect(kernel.inner.state.addresses.size).to.equal(SERVICES)
      await story.stop()
    })
  }
})

describe('runBatches', () => {
  /** What the kernel has, what is wanted, and in which order the objects come: 100 objects of many operations are a batch. */
  interface Case {
    readonly name: string
    readonly slow: (typeof SLOW_WIRES)[number]
    readonly has?: readonly string[]
    readonly wants: readonly string[]
    readonly order: (claims: Objects, gone: Objects) => KernelObject[]
  }
  interface Objects {
    readonly members: readonly KernelObject[]
    readonly virtualServers: readonly KernelObject[]
    readonly addresses: readonly KernelObject[]
  }
  const textOf = (addresses: readonly string[]): string =>
    addresses
      .map((address) => {
        const real = Array.from({ length: 50 }, (_, i) => `-a -t ${address}:80 -r 10.244.0.${i}:8080 -m -w 1`)
        return [`-A -t ${address}:80 -s rr`, ...real].join('\n')
      })
      .join('\n')
  const sorted = (objects: Iterable<KernelObject>): Objects => {
    const of = Map.groupBy(objects, ({ kind }) => kind)
    return {
      members: of.get('setMember') ?? [],
      virtualServers: of.get('virtualServer') ?? [],
      addresses: of.get('address') ?? [],
    }
  }
  const fifty = Array.from({ length: 50 }, (_, i) => addressOf(i))
  const ninetyEight = Array.from({ length: 49 }, (_, i) => addressOf(i))
  const GONE = '10.97.0.1'
  const cases: readonly Case[] = [
    {
      name: 'addresses wait for the virtual servers of the batch before',
      slow: 'set',
      wants: fifty,
      order: (made) => [...made.members, ...made.virtualServers, ...made.addresses],
    },
    {
      name: 'what is deleted waits for the batch before, though both begin with set members',
      slow: 'address',
      has: [GONE],
      wants: [...ninetyEight, '10.96.1.0'],
      order: (made, gone) => [
        ...made.members.slice(0, 49),
        ...made.virtualServers.slice(0, 49),
        ...gone.addresses,
        ...made.addresses.slice(0, 1),
        ...made.members.slice(49),
        ...gone.virtualServers,
      ],
    },
  ]
  for (const { name, slow, has = [], wants, order } of cases) {
    it(`${name}, when ${slow} is slow`, async () => {
      const kernel = new WiredKernel(new FakeKernel(textOf(has)))
      kernel.turns[slow] = 20
      const claims = claimsFor(textOf(wants))
      const { state } = kernel.inner
      const input = {
        wanted: (key: ObjectKey) => claims.get(key),
        ...{ known: structuredClone(state), foreign: new Set<never>(), isExcluded: () => false },
      }
      const queue = new Queue(() => 0)
      const objects = order(sorted(claims.values()), sorted(objectsOf(state)))
      for (const object of objects) queue.add(object)
      let batches = 0
      await runBatches(objects.values(), Infinity, {
        queue,
        planObjects: (plan, planned) => {
          plan.add(planned, input)
        },
        apply: async ({ operations }) => {
          batches++
          await kernel.execute(operations)
        },
        now: () => 0,
      })

      expect(batches, 'or nothing could overlap').to.equal(2)
      expect(kernel.faults).to.deep.equal([])
    })
  }

  const objects: KernelObject[] = Array.from({ length: 500 }, (_, i) => ({
    kind: 'address',
    key: addressOf(i) as never,
  }))
  const open = (): Queue => {
    const queue = new Queue(() => 0)
    for (const object of objects) queue.add(object)
    return queue
  }
  const planObjects = (): void => undefined

  it('gives no object to two batches', async () => {
    const queue = open()
    const batches: Batch[] = []
    const apply = (batch: Batch): Promise<void> => {
      batches.push(batch)
      return Promise.resolve()
    }
    const run = (): Promise<void> =>
      runBatches(objects.values(), Infinity, { queue, planObjects, apply, now: () => 0 })
    await Promise.all([run(), run()])

    const planned = batches.flatMap((batch) => batch.objects.map(({ key }) => key))
    expect(planned).to.have.members(objects.map(({ key }) => key))
    expect(new Set(planned).size).to.equal(planned.length)
  })

  it('lets a batch that only makes wait for one before it that breaks', async () => {
    const queue = open()
    const plans: readonly OperationKind[][] = [['deleteVirtualServer'], ['addSetMember']]
    let underWay = 0
    let atOnce = 0
    let next = 0
    await runBatches(objects.values(), Infinity, {
      queue,
      planObjects: (plan) => {
        const kind = plans[Math.min(next++, 1)]![0]!
        Object.defineProperty(plan, 'length', { value: 2_000 })
        plan.operations = () => [{ kind } as never]
        atOnce = next === 2 ? 0 : atOnce
      },
      apply: async ({ operations }) => {
        underWay++
        if (next <= 2) atOnce = Math.max(atOnce, underWay)
        for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
        underWay--
        expect(operations).to.have.length(1)
      },
      now: () => 0,
    })

    expect(atOnce, 'while the second batch is on its way').to.equal(1)
  })

  it('ends after the batch with which it became late', async () => {
    const queue = open()
    let now = 0
    const batches: Batch[] = []
    const many = { kind: 'bindAddress', address: addressOf(0) } as never
    const plan = (plan: Plan): void => {
      // Enough for a batch.
      Object.assign(plan, { operations: () => [many] })
      Object.defineProperty(plan, 'length', { value: 2_000 })
    }
    const apply = (batch: Batch): Promise<void> => {
      batches.push(batch)
      now += 300
      return Promise.resolve()
    }
    await runBatches(objects.values(), 500, { queue, planObjects: plan, apply, now: () => now })

    expect(batches.map((batch) => batch.objects.length)).to.deep.equal([100, 100])
    expect([queue.count('underWay'), queue.count('ready')]).to.deep.equal([200, 300])
  })

  it('throws what a batch throws, when nothing is on its way any more', async () => {
    const queue = open()
    const ended: string[] = []
    const applied = [
      async (): Promise<void> => {
        await new Promise(setImmediate)
        ended.push('first')
        throw new Error('no answer')
      },
      async (): Promise<void> => {
        for (let turn = 0; turn < 20; turn++) await new Promise(setImmediate)
        ended.push('second')
      },
    ]
    const error: unknown = await runBatches(objects.slice(0, 150).values(), Infinity, {
      queue,
      planObjects: (plan) => {
        Object.defineProperty(plan, 'length', { value: 2_000 })
        plan.operations = () => [{ kind: 'addSetMember' } as never]
      },
      apply: () => applied.shift()!(),
      now: () => 0,
    }).catch((reason: unknown) => reason)

    expect(ended).to.deep.equal(['first', 'second'])
    expect((error as Error).message).to.equal('no answer')
  })
})
