import { expect } from 'chai'
import { parseAddress } from '../../src/model/address.ts'
import { parseCidr } from '../../src/model/cidr.ts'
import { refusalOf } from '../../src/model/refusal.ts'

const NEIGHBOURHOOD = {
  nodeIps: ['192.168.50.1', 'fd00:192:168:50::1'].map((text) => parseAddress(text)!),
  podCidrs: ['10.244.0.0/16', 'fd00:10:244::/48'].map((text) => parseCidr(text)!),
  apiServers: [parseAddress('192.168.50.250')!],
}

describe('refusalOf', () => {
  const cases: readonly [string, string | undefined][] = [
    ['203.0.113.10', undefined],
    ['192.168.50.2', undefined],
    ['fd00:203::10', undefined],
    ['10.96.0.10', undefined],
    ['192.168.50.1', '192.168.50.1 is an address of this node'],
    ['fd00:192:168:50::1', 'fd00:192:168:50::1 is an address of this node'],
    ['192.168.50.250', '192.168.50.250 is an address of the API server'],
    ['10.244.7.7', '10.244.7.7 belongs to the Pods in 10.244.0.0/16'],
    ['fd00:10:244:9::1', 'fd00:10:244:9::1 belongs to the Pods in fd00:10:244::/48'],
    ['127.0.0.1', '127.0.0.1 is a loopback address'],
    ['::1', '::1 is a loopback address'],
    ['0.0.0.0', '0.0.0.0 is the unspecified address'],
    ['::', ':: is the unspecified address'],
    ['169.254.10.1', '169.254.10.1 is a link-local address'],
    ['fe80::1', 'fe80::1 is a link-local address'],
    ['224.0.0.1', '224.0.0.1 is a multicast address'],
    ['ff02::1', 'ff02::1 is a multicast address'],
    ['255.255.255.255', '255.255.255.255 is the broadcast address'],
  ]
  for (const [address, expected] of cases) {
    it(`${address}: ${expected ?? 'may be served'}`, () => {
      expect(refusalOf(parseAddress(address)!, NEIGHBOURHOOD)).to.equal(expected)
    })
  }
})
