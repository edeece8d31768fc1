import { expect } from 'chai'
import {
  addressBytes,
  addressFromBytes,
  familyOf,
  formatSocketAddress,
  parseAddress,
} from '../../src/model/address.ts'
import { withRandom } from '../support/random.ts'

describe('parseAddress', () => {
  const cases: readonly {
    readonly name: string
    readonly text: string
    readonly expected: string | undefined
  }[] = [
    { name: 'a plain IPv4 address', text: '10.96.0.1', expected: '10.96.0.1' },
    { name: 'leading zeros as decimal', text: '010.096.000.001', expected: '10.96.0.1' },
    { name: 'an octet above 255', text: '10.0.0.256', expected: undefined },
    { name: 'three octets', text: '10.0.1', expected: undefined },
    { name: 'five octets', text: '10.0.0.1.1', expected: undefined },
    { name: 'a trailing dot', text: '10.0.0.1.', expected: undefined },
    { name: 'a hexadecimal octet', text: '0x0a.0.0.1', expected: undefined },
    { name: 'a number', text: '167772161', expected: undefined },
    { name: 'a shortened IPv6 address', text: 'fd00::1', expected: 'fd00::1' },
    { name: 'a full IPv6 address in capitals', text: 'FD00:0:0:0:0:0:0:1', expected: 'fd00::1' },
    { name: 'one zero group, which stays', text: 'fd00:1:0:2:3:4:5:6', expected: 'fd00:1:0:2:3:4:5:6' },
    {
      name: 'the first of two longest zero runs shortened',
      text: '1:0:0:2:3:0:0:4',
      expected: '1::2:3:0:0:4',
    },
    { name: 'an IPv4-mapped address as IPv4', text: '::ffff:10.0.0.1', expected: '10.0.0.1' },
    { name: 'a zone', text: 'fe80::1%eth0', expected: undefined },
    { name: 'brackets', text: '[fd00::1]', expected: undefined },
    { name: 'a prefix', text: '10.0.0.0/8', expected: undefined },
    { name: 'surrounding spaces', text: ' 10.0.0.1', expected: undefined },
    { name: 'an empty text', text: '', expected: undefined },
    { name: 'a name', text: 'None', expected: undefined },
  ]
  for (const { name, text, expected } of cases) {
    it(`${expected === undefined ? 'rejects' : 'accepts'} ${name}`, () => {
      expect(parseAddress(text)).to.equal(expected)
    })
  }

  it('is its own inverse over bytes, for 2,000 random addresses of both families', () =>
    withRandom((random) => {
      for (let i = 0; i < 2_000; i++) {
        const length = random.pick([4, 16])
        const bytes = Array.from({ length }, () => (random.chance(0.5) ? 0 : random.int(256)))
        const address = addressFromBytes(Uint8Array.from(bytes))

        expect(parseAddress(address)).to.equal(address)
        expect(addressBytes(address)).to.deep.equal(bytes)
        expect(familyOf(address)).to.equal(length === 4 ? 'IPv4' : 'IPv6')
      }
    }))
})

describe('formatSocketAddress', () => {
  it('puts an IPv6 address in brackets', () => {
    expect(formatSocketAddress(parseAddress('fd00::1')!, 80)).to.equal('[fd00::1]:80')
    expect(formatSocketAddress(parseAddress('10.0.0.1')!, 80)).to.equal('10.0.0.1:80')
  })
})
