import { expect } from 'chai'
import { type Address, parseAddress } from '../../../src/model/address.ts'
import { parseCidr } from '../../../src/model/cidr.ts'
import { parseService } from '../../../src/model/facts/parse-facts.ts'
import { type ExternalKind, type Neighbourhood, refusalOf } from '../../../src/model/claims/refusal.ts'
import { type Links, surroundingsOf } from '../../../src/model/claims/surroundings.ts'
import { service } from '../../support/builders.ts'
import { NOBODY } from '../../support/mapping.ts'

const ip = (text: string): Address => parseAddress(text)!
const cidr = (text: string) => parseCidr(text)!
const WEB = parseService(service({ metadata: { creationTimestamp: '2026-01-02T00:00:00Z' } })).fact!
const [BEFORE, AFTER] = ['2026-01-01T00:00:00Z', '2026-01-03T00:00:00Z'].map((text) => Date.parse(text)) as [
  number,
  number,
]

const LINKS: Links = {
  gateways: new Map([
    [ip('192.168.50.254'), 'eth0'],
    [ip('fe80::1'), 'eth0'],
  ]),
  neighbours: new Map([
    [ip('192.168.50.2'), { link: 'eth0', lladdr: '02:00:00:00:00:02' }],
    [ip('192.168.50.60'), { link: 'eth0', lladdr: '02:00:00:00:00:60' }],
    [ip('192.168.50.70'), { link: 'eth0', lladdr: '02:00:00:00:00:02' }],
    [ip('10.0.2.15'), { link: 'eth1', lladdr: '02:00:00:00:00:61' }],
  ]),
  routes: ['10.244.1.7/32', '10.0.0.0/8', 'fd00:10:244:1::/64'].map(cidr),
}
const PEERS = new Set(['192.168.50.2', 'fd00:192:168:50::2'].map(ip))
const POD_CIDRS = ['10.244.1.0/24', 'fd00:10:244:1::/64', '10.245.0.0/24'].map(cidr)

const NEIGHBOURHOOD: Neighbourhood = {
  ...NOBODY,
  nodeIps: ['192.168.50.1', 'fd00:192:168:50::1'].map(ip),
  interfaceAddresses: new Set([ip('10.0.2.15')]),
  apiServers: new Set([ip('192.168.50.250')]),
  serviceCidrs: ['10.96.0.0/16', 'fd00:10:96::/108'].map(cidr),
  clusterIpOwner: (address) => (address === '10.97.0.10' ? 'kube-system/kube-dns' : undefined),
  publisher: (address) =>
    ({
      '192.168.50.71': { name: 'shop/db-1', createdAt: BEFORE },
      '192.168.50.72': { name: 'shop/db-2', createdAt: AFTER },
    })[address as string],
  isPeer: (address) => PEERS.has(address),
  surroundings: surroundingsOf(LINKS, PEERS, POD_CIDRS, () => true),
}

describe('refusalOf', () => {
  /** Of an external IP; and of a load balancer's, where that is another. */
  const cases: readonly (readonly [string, string | undefined, (string | undefined)?])[] = [
    ['203.0.113.10', undefined],
    ['fd00:203::10', undefined],
    ['192.168.50.1', 'an address of this node'],
    ['fd00:192:168:50::1', 'an address of this node'],
    ['192.168.50.250', 'an address of the API server'],
    ['10.97.0.10', 'the cluster IP of kube-system/kube-dns'],
    ['10.97.0.11', undefined],
    ['10.96.200.1', 'in 10.96.0.0/16, from which cluster IPs are taken'],
    ['fd00:10:96::77', 'in fd00:10:96::/108, from which cluster IPs are taken'],
    ['192.168.50.2', 'an address of another node'],
    ['fd00:192:168:50::2', 'an address of another node'],
    ['192.168.50.254', 'a gateway of this node on eth0'],
    ['10.244.1.9', 'in 10.244.1.0/24, from which Pods have their addresses'],
    ['fd00:10:244:1::9', 'in fd00:10:244:1::/64, from which Pods have their addresses'],
    ['10.245.0.9', undefined],
    ['192.168.50.60', 'in use by a neighbour on eth0 (02:00:00:00:00:60)', undefined],
    ['192.168.50.70', undefined],
    ['10.0.2.15', undefined],
    ['192.168.50.71', 'an endpoint in shop/db-1', undefined],
    ['192.168.50.72', undefined],
    ['127.0.0.1', 'a loopback address'],
    ['127.255.255.254', 'a loopback address'],
    ['::1', 'a loopback address'],
    ['0.0.0.0', 'the unspecified address'],
    ['0.1.2.3', 'the unspecified address'],
    ['::', 'the unspecified address'],
    ['169.254.10.1', 'a link-local address'],
    ['fe80::1', 'a link-local address'],
    ['febf::1', 'a link-local address'],
    ['fec0::1', undefined],
    ['224.0.0.1', 'a multicast address'],
    ['239.255.255.255', 'a multicast address'],
    ['240.0.0.1', undefined],
    ['ff02::1', 'a multicast address'],
    ['255.255.255.255', 'the broadcast address'],
  ]
  const refusal = (address: string, kind: ExternalKind, neighbourhood = NEIGHBOURHOOD): string | undefined =>
    refusalOf(ip(address), kind, WEB, neighbourhood)
  const sentence = (address: string, has: string | undefined) => has && `${address} is ${has}`

  for (const [address, external, ...balancer] of cases) {
    it(`${address}: ${external ?? 'may be served'}`, () => {
      expect(refusal(address, 'externalIp')).to.equal(sentence(address, external))
      const expected = balancer.length > 0 ? balancer[0] : external
      expect(refusal(address, 'loadBalancer')).to.equal(sentence(address, expected))
    })
  }

  describe('with a list of what namespaces may use', () => {
    const policy = new Map([
      ['shop', ['192.168.50.0/24', '10.96.0.0/12'].map(cidr)],
      ['*', ['203.0.113.0/24', 'fd00:203::/64'].map(cidr)],
      ['other', ['198.51.100.0/24'].map(cidr)],
    ])
    const listed: readonly (readonly [string, string | undefined])[] = [
      ['203.0.113.10', undefined],
      ['fd00:203::10', undefined],
      ['198.51.100.1', 'in no network that namespace shop may use (ExternalAddressPolicy)'],
      ['192.168.50.60', undefined],
      ['192.168.50.71', undefined],
      ['192.168.50.254', 'a gateway of this node on eth0'],
      ['192.168.50.2', 'an address of another node'],
      ['10.96.0.1', 'in 10.96.0.0/16, from which cluster IPs are taken'],
    ]
    for (const [address, expected] of listed) {
      it(`${address}: ${expected ?? 'may be served'}`, () => {
        expect(refusal(address, 'externalIp', { ...NEIGHBOURHOOD, policy })).to.equal(
          sentence(address, expected),
        )
      })
    }

    it('that is empty, nobody may use anything', () => {
      const nothing = { ...NOBODY, policy: new Map() }
      expect(refusal('203.0.113.10', 'loadBalancer', nothing)).to.match(/in no network/)
      expect(refusal('203.0.113.10', 'externalIp', nothing)).to.match(/in no network/)
    })
  })
})
