import { expect } from 'chai'
import { netlinkErrorOf } from '../../src/kernel/explain.ts'
import { executeInRuns, type Wire } from '../../src/kernel/runs.ts'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import type { Operation } from '../../src/model/operation.ts'
import { ipvsIpsMember } from '../../src/model/sets.ts'
import type { VirtualServerId } from '../../src/model/virtual-server.ts'
import { NetlinkError, type Refusals } from '../../src/netlink/error.ts'
import { operation } from '../contract/kernel.contract.ts'
import { rejectionOf } from '../support/rejection.ts'

const VIP = '10.96.0.10' as never
const OTHER = '10.96.0.11' as never
const add: Operation = { kind: 'addSetMember', member: ipvsIpsMember(VIP) }
const create = operation('-A -t 10.96.0.10:80 -s rr')
const createReal = operation('-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1')
const remove = operation('-D -t 10.96.0.11:80')
const bind: Operation = { kind: 'bindAddress', address: VIP, binding: 'address' }
const bindOther: Operation = { kind: 'bindAddress', address: OTHER, binding: 'address' }
const unbind: Operation = { kind: 'unbindAddress', address: OTHER, binding: 'address' }
const forget: Operation = { kind: 'deleteFlows', of: (create as { of: VirtualServerId }).of }

/** What has been asked for, a run each. */
type Run = readonly [Wire, ...string[]]

/** Takes note of runs, and refuses what it is told to. */
function recorder(refused: readonly Operation[] = []) {
  const runs: Run[] = []
  const executeRun = (wire: Wire, run: readonly Operation[]): Promise<Refusals> => {
    runs.push([wire, ...run.map(formatOperation)])
    const places = [...run.keys()].filter((i) => refused.includes(run[i]!))
    return Promise.resolve(new Map(places.map((i) => [i, new NetlinkError('Cannot', 12)])))
  }
  return { runs, executeRun }
}

describe('executeInRuns', () => {
  it('sends what is consecutive on one wire together, and nothing out of order', async () => {
    const { runs, executeRun } = recorder()

    await executeInRuns([add, create, createReal, bind, unbind, forget, remove, add], executeRun)

    expect(runs.map(([wire, ...lines]) => [wire, lines.length])).to.deep.equal([
      ['set', 1],
      ['ipvs', 2],
      ['address', 2],
      ['flow', 1],
      ['ipvs', 1],
      ['set', 1],
    ])
    expect(runs.flatMap(([, ...lines]) => lines)).to.deep.equal(
      [add, create, createReal, bind, unbind, forget, remove, add].map(formatOperation),
    )
  })

  it('places refusals in what was asked, across wires', async () => {
    const plan = [add, create, createReal, bind, unbind, forget, remove]
    for (const [place, refused] of plan.entries()) {
      const refusals = await executeInRuns(plan, recorder([refused]).executeRun)

      expect([...refusals.keys()], formatOperation(refused)).to.deep.equal([place])
    }
  })

  it('places refusals in what was asked, across batches of 5,000', async () => {
    const { runs, executeRun } = recorder([remove])
    const plan = Array.from({ length: 12_000 }, () => createReal)
    for (const place of [0, 4_999, 5_000, 11_999]) plan[place] = remove

    const refusals = await executeInRuns(plan, executeRun)

    expect([...refusals.keys()]).to.deep.equal([0, 4_999, 5_000, 11_999])
    expect(runs.map((run) => run.length - 1)).to.deep.equal([5_000, 5_000, 2_000])
  })

  it('says what was refused in words, and keeps the reason', async () => {
    const refusals = await executeInRuns([add, create], recorder([create]).executeRun)

    expect(refusals.get(1)!.message).to.equal(
      'Cannot create virtual server 10.96.0.10:80/TCP: the kernel is out of memory',
    )
    expect(netlinkErrorOf(refusals.get(1))).to.include({ code: 'ENOMEM' })
  })

  it('says what an errno of the subsystem itself means', async () => {
    const full = new NetlinkError('Cannot', 4352, { meaning: 'the set is full' })
    const refusals = await executeInRuns([add], () => Promise.resolve(new Map([[0, full]])))

    expect(refusals.get(0)!.message).to.equal('Cannot add to set KUBE-IPVS-IPS: 10.96.0.10: the set is full')
    expect(netlinkErrorOf(refusals.get(0))).to.equal(full)
  })

  it('attempts nothing after a run of which it cannot say what became', async () => {
    const asked: Wire[] = []
    const lost = (wire: Wire): Promise<Refusals> => {
      asked.push(wire)
      return wire === 'ipvs' ? Promise.reject(new Error('lost')) : Promise.resolve(new Map())
    }

    const error = await rejectionOf(executeInRuns([add, create, bind], lost))

    expect(error).to.include({ message: 'lost' })
    expect(asked).to.deep.equal(['set', 'ipvs'])
  })

  describe('before the rules are there', () => {
    const plan = [add, unbind, bind, bindOther, remove]
    const before: readonly Run[] = [
      ['set', formatOperation(add)],
      ['address', formatOperation(unbind)],
    ]

    it('binds no address, and does nothing that comes after: everything before goes ahead', async () => {
      const { runs, executeRun } = recorder([bindOther])
      const rules = Promise.withResolvers<undefined>()
      const executed = executeInRuns(plan, executeRun, rules.promise)
      await new Promise(setImmediate)
      expect(runs).to.deep.equal(before)

      rules.resolve(undefined)
      expect([...(await executed).keys()]).to.deep.equal([3])
      expect(runs.slice(2)).to.deep.equal([
        ['address', formatOperation(bind), formatOperation(bindOther)],
        ['ipvs', formatOperation(remove)],
      ])
    })

    it('waits for nothing when there is no address to bind', async () => {
      const { runs, executeRun } = recorder()

      await executeInRuns([add, unbind, create], executeRun, new Promise(() => undefined))

      expect(runs).to.have.length(3)
    })

    it('throws why they will not be, and binds nothing', async () => {
      const { runs, executeRun } = recorder()

      const error = await rejectionOf(executeInRuns(plan, executeRun, Promise.reject(new Error('stopped'))))

      expect(error).to.include({ message: 'stopped' })
      expect(runs).to.deep.equal(before)
    })
  })
})
