import { expect } from 'chai'
import { applyPlan, isAsWanted, isSkipped } from '../../src/kernel/apply.ts'
import { netlinkErrorOf } from '../../src/kernel/explain.ts'
import type { Binding } from '../../src/model/binding.ts'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import type { Operation } from '../../src/model/operation.ts'
import type { Refusals } from '../../src/netlink/error.ts'
import { operation } from '../contract/kernel.contract.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { rejectionOf } from '../support/rejection.ts'

const bind = (address: string, binding: Binding = 'address'): Operation => ({
  kind: 'bindAddress',
  address: address as never,
  binding,
})
const unbind = (address: string, binding: Binding = 'address'): Operation => ({
  kind: 'unbindAddress',
  address: address as never,
  binding,
})
const PLAN = [
  operation('-A -t 10.96.0.10:80 -s nosuch'),
  operation('-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1'),
  operation('-A -t 10.96.0.11:80 -s rr'),
  operation('-a -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 1'),
  bind('10.96.0.10'),
  bind('10.96.0.11'),
]

/** The kernel is asked for these operations in one call each. */
function recordCalls(kernel: FakeKernel): string[][] {
  const calls: string[][] = []
  const execute = kernel.execute.bind(kernel)
  kernel.execute = (operations) => {
    if (operations.length > 0) calls.push(operations.map(formatOperation))
    return execute(operations)
  }
  return calls
}

/** What became of each operation of a plan. */
function told(plan: readonly Operation[], refusals: Refusals): string[] {
  return plan.map((planned, place) => {
    const refusal = refusals.get(place)
    const outcome = isSkipped(refusal) ? 'skipped' : (netlinkErrorOf(refusal)?.code ?? 'done')
    return `${formatOperation(planned)}: ${outcome}`
  })
}

describe('applyPlan', () => {
  it('carries on after a failure, but does not attempt what depends on it', async () => {
    const kernel = new FakeKernel()

    const refusals = await applyPlan(kernel, PLAN)

    expect(told(PLAN, refusals)).to.deep.equal([
      '-A -t 10.96.0.10:80 -s nosuch: ENOENT',
      '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1: skipped',
      '-A -t 10.96.0.11:80 -s rr: done',
      '-a -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 1: done',
      'addr add 10.96.0.10/32 dev kube-ipvs0: skipped',
      'addr add 10.96.0.11/32 dev kube-ipvs0: done',
    ])
    expect([...kernel.state.addresses.keys()]).to.deep.equal(['10.96.0.11'])
  })

  it('asks for no address of a virtual server that was refused, and for everything else in order', async () => {
    const kernel = new FakeKernel()
    const calls = recordCalls(kernel)

    await applyPlan(kernel, PLAN)

    expect(calls).to.deep.equal([
      PLAN.slice(0, 4).map(formatOperation),
      ['addr add 10.96.0.11/32 dev kube-ipvs0'],
    ])
  })

  it('asks for no real server, behind an address, of a virtual server that was refused', async () => {
    const kernel = new FakeKernel()
    const calls = recordCalls(kernel)
    const plan = [PLAN[0]!, bind('10.96.0.12'), PLAN[1]!, PLAN[2]!, PLAN[3]!]

    const refusals = await applyPlan(kernel, plan)

    expect(calls[1]).to.deep.equal([plan[1]!, plan[3]!, plan[4]!].map(formatOperation))
    expect(told(plan, refusals)).to.deep.equal([
      '-A -t 10.96.0.10:80 -s nosuch: ENOENT',
      'addr add 10.96.0.12/32 dev kube-ipvs0: done',
      '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1: skipped',
      '-A -t 10.96.0.11:80 -s rr: done',
      '-a -t 10.96.0.11:80 -r 10.244.0.1:8080 -m -w 1: done',
    ])
  })

  it('asks for all in one call when there is no address to bind', async () => {
    const kernel = new FakeKernel()
    const calls = recordCalls(kernel)

    await applyPlan(kernel, PLAN.slice(0, 4))

    expect(calls).to.have.length(1)
  })

  it('tells of a refusal at its place in the plan, wherever something was skipped before it', async () => {
    const kernel = new FakeKernel()
    const plan = [...PLAN, unbind('10.96.0.99'), bind('10.96.0.11'), operation('-D -t 10.96.0.99:9')]

    const refusals = await applyPlan(kernel, plan)

    expect(told(plan, refusals).slice(4)).to.deep.equal([
      'addr add 10.96.0.10/32 dev kube-ipvs0: skipped',
      'addr add 10.96.0.11/32 dev kube-ipvs0: done',
      'addr del 10.96.0.99/32 dev kube-ipvs0: EADDRNOTAVAIL',
      'addr add 10.96.0.11/32 dev kube-ipvs0: EEXIST',
      '-D -t 10.96.0.99:9: ESRCH',
    ])
    expect([...refusals.keys()].sort((a, b) => a - b)).to.deep.equal([0, 1, 4, 6, 7, 8])
  })

  it('skips nothing for a virtual server whose settings could not be changed, or that could not be deleted', async () => {
    const kernel = new FakeKernel('-A -t 10.96.0.10:80 -s rr', [])
    kernel.refuse = ({ kind }) => (kind === 'deleteVirtualServer' ? 'ENOMEM' : undefined)
    const plan = [
      operation('-E -t 10.96.0.10:80 -s nosuch'),
      operation('-D -t 10.96.0.10:80'),
      operation('-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1'),
      bind('10.96.0.10'),
    ]

    expect(told(plan, await applyPlan(kernel, plan)).map((line) => line.split(': ')[1])).to.deep.equal([
      'ENOENT',
      'ENOMEM',
      'done',
      'done',
    ])
  })

  it('says of what was skipped on what it depends, and why that failed', async () => {
    const refusals = await applyPlan(new FakeKernel(), PLAN)

    for (const place of [1, 4]) {
      const skipped = refusals.get(place)!
      expect(skipped.message).to.equal('It depends on virtual server 10.96.0.10:80/TCP')
      expect(skipped.cause).to.equal(refusals.get(0))
    }
  })

  it('changes a real server, and unbinds an address, though the virtual server could not be created', async () => {
    const kernel = new FakeKernel('', ['10.96.0.10'])
    const plan = [
      PLAN[0]!,
      operation('-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0'),
      bind('10.96.0.12'),
      unbind('10.96.0.10'),
    ]

    expect(told(plan, await applyPlan(kernel, plan)).map((line) => line.split(': ')[1])).to.deep.equal([
      'ENOENT',
      'ESRCH',
      'done',
      'done',
    ])
  })

  it('leaves an address bound as it is when it cannot be bound in another way, and does all else', async () => {
    const kernel = new FakeKernel('', ['10.96.0.10', '10.96.0.11', '10.96.0.12'])
    kernel.refuse = (operation) =>
      operation.kind === 'bindAddress' && operation.address === ('10.96.0.10' as never)
        ? 'ENETDOWN'
        : undefined
    const plan = [
      bind('10.96.0.10', 'route'),
      bind('10.96.0.11', 'route'),
      unbind('10.96.0.10'),
      unbind('10.96.0.11'),
      unbind('10.96.0.12'),
    ]

    expect(told(plan, await applyPlan(kernel, plan)).map((line) => line.replace(/.*: /, ''))).to.deep.equal([
      'ENETDOWN',
      'done',
      'skipped',
      'done',
      'done',
    ])
    expect([...kernel.state.addresses]).to.deep.equal([
      ['10.96.0.10', 'address'],
      ['10.96.0.11', 'route'],
    ])
  })

  it('binds no address before the rules stand, and waits with nothing else', async () => {
    const kernel = new FakeKernel()
    const rules = Promise.withResolvers<undefined>()
    kernel.rulesReady = rules.promise
    const applied = applyPlan(kernel, PLAN)
    await new Promise(setImmediate)
    expect([...kernel.state.virtualServers.keys()]).to.deep.equal(['10.96.0.11:80/TCP'])
    expect([...kernel.state.addresses.keys()]).to.deep.equal([])

    rules.resolve(undefined)
    await applied
    expect([...kernel.state.addresses.keys()]).to.deep.equal(['10.96.0.11'])
  })

  it('throws when the kernel cannot say what became of the operations', async () => {
    const kernel = new FakeKernel()
    kernel.beforeCall = () => {
      throw new Error('lost')
    }

    expect(String(await rejectionOf(applyPlan(kernel, PLAN)))).to.equal('Error: lost')
  })
})

describe('isAsWanted', () => {
  it('holds for a route that is there: nobody else makes one with our number', async () => {
    const kernel = new FakeKernel()
    const route = bind('10.96.0.10', 'route')
    await kernel.execute([route])
    const [error] = [...(await kernel.execute([route])).values()]
    expect(isAsWanted(route, error!)).to.equal(true)
  })

  const cases: readonly { readonly what: Operation; readonly given: string; readonly gone: boolean }[] = [
    { what: operation('-D -t 10.96.0.10:80'), given: '', gone: true },
    { what: operation('-d -t 10.96.0.10:80 -r 10.244.0.1:8080'), given: '', gone: true },
    {
      what: operation('-d -t 10.96.0.10:80 -r 10.244.0.1:8080'),
      given: '-A -t 10.96.0.10:80 -s rr',
      gone: true,
    },
    { what: unbind('10.96.0.10'), given: '', gone: true },
    { what: operation('-E -t 10.96.0.10:80 -s rr'), given: '', gone: false },
    { what: operation('-e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 0'), given: '', gone: false },
    { what: operation('-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1'), given: '', gone: false },
    { what: bind('10.96.0.10'), given: '-A -t 10.96.0.10:80 -s rr', gone: false },
  ]
  for (const { what, given, gone } of cases) {
    it(`${gone ? 'holds for' : 'does not hold for'} ${formatOperation(what)}, refused with ${given || 'nothing'} there`, async () => {
      const refusals = await new FakeKernel(given).execute([what])

      expect(isAsWanted(what, refusals.get(0)!)).to.equal(gone)
    })
  }

  it('does not hold for a deletion that is refused for another reason', async () => {
    const kernel = new FakeKernel('-A -t 10.96.0.10:80 -s rr')
    kernel.refuse = () => 'ENOMEM'
    const deletion = operation('-D -t 10.96.0.10:80')

    expect(isAsWanted(deletion, (await kernel.execute([deletion])).get(0)!)).to.equal(false)
  })
})
