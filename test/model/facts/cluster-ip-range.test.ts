import { expect } from 'chai'
import { parseAddress } from '../../../src/model/address.ts'
import { formatCidr } from '../../../src/model/cidr.ts'
import { clusterIpNetworks } from '../../../src/model/facts/cluster-ip-range.ts'

const KUBERNETES = 'default/kubernetes'

describe('the network of cluster IPs, as the listed ones tell it,', () => {
  const cases: readonly (readonly [string, readonly (readonly [string, string])[], readonly string[]])[] = [
    ['is not known without an API server', [['shop/web', '10.96.0.10']], []],
    ['is one address', [[KUBERNETES, '10.96.0.1']], ['10.96.0.1/32']],
    [
      'holds all of them',
      [
        [KUBERNETES, '10.96.0.1'],
        ['shop/web', '10.96.0.10'],
        ['shop/db', '10.111.9.9'],
      ],
      ['10.96.0.0/12'],
    ],
    [
      'is the same in another order',
      [
        ['shop/db', '10.111.9.9'],
        ['shop/web', '10.96.0.10'],
        [KUBERNETES, '10.96.0.1'],
      ],
      ['10.96.0.0/12'],
    ],
    [
      'is one of each family',
      [
        [KUBERNETES, '10.96.0.1'],
        ['shop/web', 'fd00:10:96::a'],
        ['shop/db', 'fd00:10:96::b'],
        ['shop/db', '10.96.0.2'],
      ],
      ['10.96.0.0/30', 'fd00:10:96::a/127'],
    ],
    [
      'is none where they are too far apart to be of one network',
      [
        [KUBERNETES, '10.96.0.1'],
        ['shop/web', '203.0.113.1'],
        ['shop/db', '10.96.0.2'],
      ],
      [],
    ],
    [
      'is none of IPv6 above the largest',
      [
        [KUBERNETES, 'fd00:10:96::1'],
        ['shop/web', 'fd00:10:97::1'],
      ],
      [],
    ],
  ]
  for (const [name, services, expected] of cases) {
    it(name, () => {
      const listed = services.map(([owner, address]) => [owner, parseAddress(address)!] as const)

      expect(clusterIpNetworks(listed).map(formatCidr)).to.deep.equal(expected)
    })
  }
})
