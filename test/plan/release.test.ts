import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import { planRelease } from '../../src/plan/release.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { addressSet } from '../support/states.ts'

const API = '192.168.50.100'
const LEFT = `-A -t ${API}:443 -s rr\n-a -t ${API}:443 -r 10.244.1.11:8080 -m -w 1\n-A -t 10.96.0.51:443 -s rr`
const release = (
  kernel: FakeKernel,
  addresses: readonly string[],
  foreign: readonly string[] = [],
): string[] => planRelease(addresses as Address[], kernel.state, addressSet(...foreign)).map(formatOperation)

describe('planRelease', () => {
  it('unbinds an address, and deletes what is ours on it', () => {
    expect(release(new FakeKernel(LEFT), [API])).to.deep.equal([
      `addr del ${API}/32 dev kube-ipvs0`,
      `-D -t ${API}:443`,
      `del KUBE-IPVS-IPS ${API}`,
    ])
  })

  it('leaves a cluster IP alone: it may be the way to the API server', () => {
    expect(release(FakeKernel.withClusterIps(LEFT), ['10.96.0.51'])).to.deep.equal([])
  })

  it('has nothing to do with what is not bound', () => {
    expect(release(new FakeKernel(LEFT), ['192.168.50.99', 'fd00::1'])).to.deep.equal([])
    expect(release(new FakeKernel(LEFT, []), [API])).to.deep.equal([])
  })

  it('leaves an address bound on which somebody else has virtual servers', () => {
    expect(release(new FakeKernel(LEFT), [API], [API])).not.to.include(`addr del ${API}/32 dev kube-ipvs0`)
  })
})
