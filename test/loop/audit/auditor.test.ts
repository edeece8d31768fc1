import { expect } from 'chai'
import { Auditor } from '../../../src/loop/audit/auditor.ts'
import { objectOf, project } from '../../../src/model/operation.ts'
import type { Difference } from '../../../src/plan/audit.ts'
import { operation } from '../../contract/kernel.contract.ts'
import { FakeKernel } from '../../support/fake-kernel.ts'
import { rejectionOf } from '../../support/rejection.ts'

const WEB = '-A -t 10.96.0.10:80 -s rr\n-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1'

/** Begins an audit, and resolves when the tables have been read. */
const begin = (auditor: Auditor): Promise<void> =>
  new Promise((resolve) => {
    auditor.begin(resolve)
  })

/** Goes on to the end. */
async function finish(auditor: Auditor): Promise<{ differences: Difference[]; steps: number }> {
  const differences: Difference[] = []
  let steps = 0
  for (; auditor.underWay; steps++) differences.push(...(await auditor.step()))
  return { differences, steps }
}

describe('Auditor', () => {
  let kernel: FakeKernel
  let auditor: Auditor

  beforeEach(async () => {
    kernel = FakeKernel.withClusterIps(WEB)
    auditor = new Auditor(kernel)
    await auditor.readAll()
  })

  it('finds nothing where nothing has been changed', async () => {
    await begin(auditor)

    expect((await finish(auditor)).differences).to.deep.equal([])
  })

  it('has nothing to do while the tables are on their way', async () => {
    const reading = begin(auditor)

    expect([auditor.underWay, auditor.isReady]).to.deep.equal([true, false])
    expect(await auditor.step()).to.deep.equal([])
    await reading
    expect(auditor.isReady).to.equal(true)
  })

  describe('of what changes while the tables are on their way, or being compared', () => {
    const created = operation('-A -t 10.96.0.11:80 -s rr')
    const bound = { kind: 'bindAddress', address: '10.96.0.11' as never, binding: 'address' } as const
    const changes = [created, operation('-E -t 10.96.0.10:80 -s lc'), bound]

    async function audit(note: boolean): Promise<string[]> {
      await begin(auditor)
      for (const change of changes) {
        await kernel.execute([change])
        project(auditor.known, change)
        if (note) auditor.noteChange(objectOf(change).key)
      }
      return (await finish(auditor)).differences.map(({ object, found }) => `${object.key}: ${found}`)
    }

    it('takes none that is ours for one of somebody else', async () => {
      expect(await audit(true)).to.deep.equal([])
      expect(auditor.known.virtualServers.size).to.equal(2)
    })

    it('would, were it not told', async () => {
      expect(await audit(false)).to.deep.equal([
        '10.96.0.10:80/TCP: virtual server has other settings',
        '10.96.0.11:80/TCP: virtual server is missing',
        '10.96.0.11: address is missing',
      ])
    })
  })

  it('compares a large table in several steps', async () => {
    for (let i = 0; i < 2_500; i++)
      project(kernel.state, {
        kind: 'bindAddress',
        address: `10.97.${i >> 8}.${i & 255}` as never,
        binding: 'address',
      })
    await begin(auditor)
    const { differences, steps } = await finish(auditor)

    expect(differences).to.have.length(2_500)
    expect(steps).to.be.within(4, 9)
  })

  it('throws what the reading has thrown, at the next step, and has then ended', async () => {
    kernel.beforeCall = () => {
      throw new Error('lost')
    }
    await begin(auditor)

    expect(String(await rejectionOf(auditor.step()))).to.equal('Error: lost')
    expect(auditor.underWay).to.equal(false)
  })

  it('forgets an audit when all is read anew', async () => {
    const begun = begin(auditor)
    await auditor.readAll()
    expect(auditor.underWay).to.equal(false)

    // Its tables come late, and are not compared.
    await Promise.race([begun, new Promise(setImmediate)])
    expect(auditor.underWay).to.equal(false)
  })
})
