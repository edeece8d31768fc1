/** What a round says of objects that the kernel refuses, and that it says when it refuses them no longer. */
import { expect } from 'chai'
import { service, slice } from '../support/builders.ts'
import { Story } from '../support/story.ts'

const VIP = '10.96.0.10'

/** A story in which the kernel refuses some kinds of operations, and what was said of addresses, call by call. */
function refusing(...kinds: readonly string[]) {
  const said: Record<string, string>[] = []
  const story = new Story(undefined, {
    onAddressesRefused: (reasons) => said.push(Object.fromEntries(reasons)),
  })
  const refuse = (...now: readonly string[]): void => {
    story.kernel.refuse = ({ kind }) => (now.includes(kind) ? 'ENOBUFS' : undefined)
  }
  refuse(...kinds)
  const failing = async (): Promise<string | undefined> =>
    /^kube_ipvs_failing_objects (\d+)$/m.exec(await story.metrics.registry.metrics())?.[1]
  return { story, said, refuse, failing }
}

describe('what the kernel refuses', () => {
  it('is counted until it takes it', async () => {
    const { story, refuse, failing } = refusing('createVirtualServer')
    await story.list([service()], [slice({ endpoints: ['10.244.0.1'] })])
    // The virtual server, and its address, which is not bound without it.
    expect(await failing()).to.equal('2')

    refuse()
    await story.advance(1_000)
    expect(await failing()).to.equal('0')
    await story.stop()
  })

  it('is told of addresses that are wanted, with the reason, and that it is over', async () => {
    const { story, said, refuse } = refusing('bindAddress')
    await story.list([service()], [slice()])
    expect(Object.keys(said.at(-1)!)).to.deep.equal([VIP])
    expect(said.at(-1)![VIP]).to.contain(VIP)

    refuse()
    await story.advance(1_000)
    expect(said.at(-1)).to.deep.equal({})
    const calls = said.length
    await story.put(service({ name: 'other', clusterIP: '10.96.0.11' }))
    expect(said).to.have.lengthOf(calls)
    await story.stop()
  })

  it('is not told of addresses that nobody wants, nor of other objects', async () => {
    const { story, said, refuse, failing } = refusing('createVirtualServer')
    await story.list([service()], [slice()])
    expect(Object.keys(said.at(-1)!)).to.deep.equal([VIP])

    refuse()
    await story.advance(1_000)
    refuse('unbindAddress', 'deleteVirtualServer')
    await story.removeService('shop/web')
    expect(await failing()).to.equal('2')
    expect(said.at(-1)).to.deep.equal({})
    await story.stop()
  })
})
