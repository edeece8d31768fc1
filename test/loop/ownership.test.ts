/** What is ours goes with its Service, also where ipvs.excludeCIDRs covers it; what is somebody else's stays. */
import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { node, service, slice } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { parseIpvsadm } from '../support/ipvsadm-text.ts'
import { Story } from '../support/story.ts'

const KEEPALIVED = '-A -t 192.168.50.1:6443 -s wlc\n-A -t 198.51.100.1:80 -s wlc'
const old = (): object => ({
  ...service({
    name: 'old',
    clusterIP: '10.96.0.101',
    ports: [
      { name: 'http', port: 80, nodePort: 30_801, protocol: 'TCP' },
      { name: 'dns', port: 53, nodePort: 30_802, protocol: 'UDP' },
    ],
    spec: { type: 'LoadBalancer', externalIPs: ['203.0.113.102'] },
  }),
  status: { loadBalancer: { ingress: [{ ip: '203.0.113.101' }] } },
})
const endpoints = (): object => slice({ service: 'old', endpoints: ['10.244.1.11', '10.244.2.11'] })
const everywhere = { isExcluded: () => true }

describe('with excludeCIDRs that cover everything', () => {
  let story: Story
  afterEach(() => story.stop())

  const rest = ({ kernel }: Story): string[] => [
    ...kernel.toString().split('\n').sort(),
    ...kernel.state.addresses.keys(),
    ...kernel.state.setMembers,
  ]

  it('a Service that is deleted is gone, and its cluster IP is free for another one', async () => {
    story = new Story(new FakeKernel(KEEPALIVED, []), everywhere)
    await story.list([old()], [endpoints()], [node()])
    await story.removeService('shop/old')
    expect(rest(story)).to.deep.equal(KEEPALIVED.split('\n'))

    const fresh = service({ name: 'new', namespace: 'b', clusterIP: '10.96.0.101', ports: [{ port: 8080 }] })
    await story.put(fresh)
    expect(story.kernel.toString()).not.to.contain('10.244.')
  })

  it('so are its node ports, also after a restart while it was there', async () => {
    const before = new Story(new FakeKernel(KEEPALIVED, []), everywhere)
    await before.list([old()], [endpoints()], [node()])
    await before.stop()
    story = new Story(before.kernel, everywhere)
    await story.list([old()], [endpoints()], [node()])
    await story.removeService('shop/old')

    expect(rest(story)).to.deep.equal(KEEPALIVED.split('\n'))
  })

  it('what a Service left on an address of ours goes, though it was deleted before the start', async () => {
    const before = new Story(new FakeKernel(KEEPALIVED, []), everywhere)
    await before.list([old()], [endpoints()], [node()])
    await before.stop()
    story = new Story(before.kernel, everywhere)
    await story.list([], [], [node()])

    // By their ports alone these might be somebody else's.
    const left = ['-A -t 192.168.50.1:30801 -s rr', '-A -u 192.168.50.1:30802 -s rr']
    expect(
      story.kernel
        .toString()
        .split('\n')
        .filter((line) => line.startsWith('-A '))
        .sort(),
    ).to.deep.equal([...KEEPALIVED.split('\n'), ...left].sort())
    expect([...story.kernel.state.addresses.keys(), ...story.kernel.state.setMembers]).to.deep.equal([])
  })

  it("what nobody wants, and may be somebody else's, stays, however often it is looked at", async () => {
    story = new Story(new FakeKernel('-A -t 10.96.0.99:80 -s rr'), everywhere)
    await story.list([], [], [node()])
    for (const edited of ['-A -t 10.96.0.99:80 -s wrr', '-A -t 10.96.0.99:80 -s lc']) {
      for (const [key, server] of parseIpvsadm(edited)) story.kernel.state.virtualServers.set(key, server)
      await story.advance(31_000)
      expect(story.kernel.toString()).to.equal(edited)
    }
    expect(story.takeComplaints().join()).to.contain('was changed by somebody else')
  })

  it('what an endpoint left in a set goes with it', async () => {
    story = new Story(new FakeKernel('', []), everywhere)
    const local = { addresses: ['10.244.1.11'], nodeName: 'node-1', conditions: { ready: true } }
    await story.list([old()], [slice({ service: 'old', endpoints: [local] })], [node()])
    expect([...story.kernel.state.setMembers].join()).to.contain('KUBE-LOOP-BACK 10.244.1.11')
    await story.put(slice({ service: 'old', endpoints: [] }))

    expect([...story.kernel.state.setMembers].join()).not.to.contain('KUBE-LOOP-BACK')
  })
})

describe('an address that a Service and somebody else share, with excludeCIDRs', () => {
  let story: Story
  afterEach(() => story.stop())
  const shared = '203.0.113.102'
  const his = `-A -t ${shared}:6443 -s wlc`

  it('a virtual server that he makes later stays', async () => {
    story = new Story(new FakeKernel('', []), { isExcluded: (address) => address === shared })
    await story.list([old()], [endpoints()], [node()])
    const theirs = new FakeKernel(his, []).state.virtualServers
    for (const [key, virtualServer] of theirs)
      story.kernel.state.virtualServers.set(key, { ...virtualServer })
    await story.advance(300_000)

    expect(story.kernel.toString()).to.contain(his).and.contain(`-A -t ${shared}:80`)
    await story.removeService('shop/old')
    expect(story.kernel.toString()).to.equal(his)
  })

  it('also over a restart, and goes where nothing is excluded', async () => {
    for (const isExcluded of [true, false]) {
      const first = new Story(new FakeKernel('', []), { isExcluded: () => isExcluded })
      await first.list([old()], [endpoints()], [node()])
      await first.stop()
      for (const [key, theirs] of new FakeKernel(his, []).state.virtualServers)
        first.kernel.state.virtualServers.set(key, theirs)
      story = new Story(first.kernel, { isExcluded: () => isExcluded })
      await story.list([old()], [endpoints()], [node()])

      expect(story.kernel.toString().includes(his)).to.equal(isExcluded)
      expect(story.kernel.toString()).to.contain(`-A -t ${shared}:80`)
      if (isExcluded) await story.stop()
    }
  })
})

describe('a virtual server of somebody else on a node port', () => {
  let story: Story
  afterEach(() => story.stop())
  const foreign = '-A -t 192.168.50.1:30801 -s wlc'

  it('stays his for good, and its port is in no set of ours', async () => {
    story = new Story(new FakeKernel(foreign, []))
    await story.list([old()], [endpoints()], [node()])
    await story.advance(300_000)

    expect(story.kernel.toString()).to.contain(foreign).and.not.contain('192.168.50.1:30801 -r')
    expect([...story.kernel.state.setMembers]).not.to.include('KUBE-NODE-PORT-TCP 30801')
    await story.removeService('shop/old')
    expect(story.kernel.toString()).to.equal(foreign)
  })

  for (const other of ['192.168.40.1', '192.168.60.1'])
    it(`is his also where the port is ours on ${other}`, async () => {
      story = new Story(new FakeKernel(foreign, []))
      story.nodeAddresses = ['192.168.50.1', other] as Address[]
      await story.list([old()], [endpoints()], [node()])
      await story.advance(300_000)

      expect(story.kernel.toString()).to.contain(foreign).and.contain(`-A -t ${other}:30801 -s rr`)
      expect([...story.kernel.state.setMembers]).to.include('KUBE-NODE-PORT-TCP 30801')
      await story.removeService('shop/old')
      await story.advance(60_000)
      expect(story.kernel.toString()).to.equal(foreign)
    })

  it('is taken over when he leaves, though he has others on the address', async () => {
    story = new Story(new FakeKernel(`${foreign}\n${KEEPALIVED}`, []))
    await story.list([old()], [endpoints()], [node()])
    story.kernel.state.virtualServers.delete('192.168.50.1:30801/TCP' as never)
    await story.advance(60_000)

    expect(story.kernel.toString()).to.contain('-a -t 192.168.50.1:30801 -r 10.244.1.11:8080 -m -w 1')
    expect([...story.kernel.state.setMembers]).to.include('KUBE-NODE-PORT-TCP 30801')
  })
})
