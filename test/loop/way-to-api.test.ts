/** A start that cannot reach the API server unbinds its address, if somebody has bound it, and then lists. */
import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { service } from '../support/builders.ts'
import { Story } from '../support/story.ts'

const API = '192.168.50.100' as Address
const LEFT = `-A -t ${API}:6443 -s rr\n-a -t ${API}:6443 -r 10.244.1.11:8080 -m -w 1\n-A -t 10.96.0.1:443 -s rr`

describe('the way to the API server', () => {
  let lost = new Set<Address>()
  const begin = (kernel: FakeKernel): Story => new Story(kernel, { addressesToFree: () => lost })
  beforeEach(() => {
    lost = new Set()
  })

  it('is freed as soon as a request has failed, and nothing else is', async () => {
    const story = begin(new FakeKernel(LEFT))
    await story.bell.settle()
    expect(story.takeExecuted()).to.deep.equal([])
    lost.add(API)
    story.bell.ring()
    await story.bell.settle()

    expect(story.kernel.toString()).to.equal('-A -t 10.96.0.1:443 -s rr')
    expect([...story.kernel.state.addresses.keys()]).to.deep.equal(['10.96.0.1'])
    expect(story.takeComplaints()).to.deep.equal([
      'the address of the API server is bound on this node: unbinding it',
    ])
    await story.list([service()])
    expect(story.kernel.toString()).to.equal('-A -t 10.96.0.10:80 -s rr')
    await story.stop()
  })

  it('is not a cluster IP, without which Pods would not reach it', async () => {
    const story = begin(FakeKernel.withClusterIps('-A -t 10.96.0.1:443 -s rr'))
    lost.add('10.96.0.1' as Address)
    await story.bell.settle()
    story.bell.ring()
    await story.bell.settle()

    expect(story.takeExecuted()).to.deep.equal([])
    await story.stop()
  })

  it('is tried again when the kernel does not answer', async () => {
    const story = begin(new FakeKernel(LEFT))
    await story.bell.settle()
    let isDeaf = true
    story.kernel.beforeCall = (method) => {
      if (isDeaf && method === 'execute') throw new Error('no answer')
    }
    lost.add(API)
    story.bell.ring()
    await story.bell.settle()
    isDeaf = false
    story.bell.ring()
    await story.bell.settle()

    expect([...story.kernel.state.addresses.keys()]).not.to.include(API)
    await story.stop()
  })
})
