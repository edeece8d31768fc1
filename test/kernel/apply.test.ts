import { expect } from 'chai'
import { applyPlan } from '../../src/kernel/apply.ts'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import type { Operation } from '../../src/model/operation.ts'
import { operation } from '../contract/kernel.contract.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { rejectionOf } from '../support/rejection.ts'

const bind = (address: string): Operation => ({ kind: 'bindAddress', address: address as never })
const PLAN = [
  operation('-A -t 10.96.0.10:80 -s nosuch'),
  operation('-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1'),
  operation('-A -t 10.96.0.11:80 -s rr'),
  operation('-a -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 1'),
  bind('10.96.0.10'),
  bind('10.96.0.11'),
]

const RULED = Promise.resolve()

describe('applyPlan', () => {
  it('carries on after a failure, but does not attempt what depends on it', async () => {
    const kernel = new FakeKernel()

    const refusals = await applyPlan(kernel, PLAN, RULED)

    const told = PLAN.map((planned) => {
      const refusal = refusals.get(planned)
      return [formatOperation(planned), refusal instanceof Error ? 'failed' : (refusal ?? 'done')]
    })
    expect(told).to.deep.equal([
      ['-A -t 10.96.0.10:80 -s nosuch', 'failed'],
      ['-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1', 'skipped'],
      ['-A -t 10.96.0.11:80 -s rr', 'done'],
      ['-a -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 1', 'done'],
      ['addr add 10.96.0.10/32 dev kube-ipvs0', 'skipped'],
      ['addr add 10.96.0.11/32 dev kube-ipvs0', 'done'],
    ])
    expect([...kernel.state.addresses]).to.deep.equal(['10.96.0.11'])
  })

  it('binds no address before the rules stand, and waits with nothing else', async () => {
    const kernel = new FakeKernel()
    const ruled = Promise.withResolvers<undefined>()
    const applied = applyPlan(kernel, PLAN, ruled.promise)
    await new Promise(setImmediate)
    expect([...kernel.state.virtualServers.keys()]).to.deep.equal(['10.96.0.11:80/TCP'])
    expect([...kernel.state.addresses]).to.deep.equal([])

    ruled.resolve(undefined)
    await applied
    expect([...kernel.state.addresses]).to.deep.equal(['10.96.0.11'])
  })

  it('throws when the kernel cannot say what became of the operations', async () => {
    const kernel = new FakeKernel()
    kernel.beforeCall = () => {
      throw new Error('lost')
    }

    expect(String(await rejectionOf(applyPlan(kernel, PLAN, RULED)))).to.equal('Error: lost')
  })
})
