import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { addressOf } from '../../src/model/kernel-object.ts'
import {
  bitmapMember,
  ipvsIpsMember,
  portMember,
  setName,
  setsOf,
  splitSetMember,
} from '../../src/model/sets.ts'

const VIP = '203.0.113.80' as Address
const VIP6 = 'fd00:203::80' as Address

describe('sets', () => {
  it('are 17 for each family, and the kernel takes their names', () => {
    const names = (['IPv4', 'IPv6'] as const).flatMap(setsOf).map(({ name }) => name)

    expect(new Set(names).size).to.equal(34)
    expect(names.filter((name) => name.length > 31)).to.deep.equal([])
  })

  it('have the names of kube-proxy, cut where it cuts them', () => {
    expect(setName('KUBE-CLUSTER-IP', 'IPv6')).to.equal('KUBE-6-CLUSTER-IP')
    expect(setName('KUBE-LOAD-BALANCER-SOURCE-CIDR', 'IPv6')).to.equal('KUBE-6-LOAD-BALANCER-SOURCE-CID')
    expect(setName('KUBE-NODE-PORT-LOCAL-SCTP-HASH', 'IPv6')).to.equal('KUBE-6-NODE-PORT-LOCAL-SCTP-HAS')
  })

  const members = [
    [ipvsIpsMember(VIP6), 'KUBE-6-IPVS-IPS fd00:203::80', VIP6],
    [portMember('KUBE-CLUSTER-IP', VIP, 'SCTP', 80), 'KUBE-CLUSTER-IP 203.0.113.80,sctp:80', VIP],
    [
      portMember('KUBE-LOAD-BALANCER-SOURCE-CIDR', VIP6, 'UDP', 53, 'fd00::/8'),
      'KUBE-6-LOAD-BALANCER-SOURCE-CID fd00:203::80,udp:53,fd00::/8',
      VIP6,
    ],
    [bitmapMember('KUBE-NODE-PORT-TCP', 'IPv4', 30_080), 'KUBE-NODE-PORT-TCP 30080', undefined],
  ] as const
  for (const [member, text, address] of members) {
    it(`${text} is about ${address ?? 'no address'}`, () => {
      expect(member).to.equal(text)
      expect(addressOf({ kind: 'setMember', key: member })).to.equal(address)
      expect(Object.values(splitSetMember(member)).join(' ')).to.equal(text)
    })
  }
})
