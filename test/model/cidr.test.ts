import { expect } from 'chai'
import {
  type Address,
  addressBytes,
  addressFromBytes,
  familyOf,
  parseAddress,
} from '../../src/model/address.ts'
import { contains, formatCidr, formatNetwork, parseCidr } from '../../src/model/cidr.ts'
import { type Random, withRandom } from '../support/random.ts'

const cidr = (text: string) => parseCidr(text)!

function randomAddress(random: Random): Address {
  const length = random.pick([4, 16])
  return addressFromBytes(Uint8Array.from({ length }, () => (random.chance(0.5) ? 0 : random.int(256))))
}

/** All bits of an address, as text. */
const bitsOf = (address: Address): string =>
  addressBytes(address)
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('')

describe('parseCidr', () => {
  const cases: readonly {
    readonly name: string
    readonly text: string
    readonly expected: string | undefined
  }[] = [
    { name: 'an IPv4 network', text: '10.96.0.0/12', expected: '10.96.0.0/12' },
    { name: 'one address', text: '192.0.2.1/32', expected: '192.0.2.1/32' },
    { name: 'all of IPv4', text: '0.0.0.0/0', expected: '0.0.0.0/0' },
    { name: 'all of IPv6', text: '::/0', expected: '::/0' },
    { name: 'an IPv6 network in capitals', text: 'FD00:0::/8', expected: 'fd00::/8' },
    { name: 'host bits, which it clears', text: '10.1.2.3/12', expected: '10.0.0.0/12' },
    { name: 'host bits within a byte', text: '192.0.2.255/27', expected: '192.0.2.224/27' },
    { name: 'host bits of IPv6', text: 'fd00::abcd/121', expected: 'fd00::ab80/121' },
    { name: 'host bits of everything', text: '10.0.0.1/0', expected: '0.0.0.0/0' },
    { name: 'surrounding spaces', text: ' 10.0.0.0/8\t', expected: '10.0.0.0/8' },
    { name: 'leading zeros as decimal', text: '010.0.0.0/08', expected: '10.0.0.0/8' },
    { name: 'an IPv4-mapped network as IPv4', text: '::ffff:10.1.0.0/104', expected: '10.0.0.0/8' },
    { name: 'all of mapped IPv4', text: '::ffff:0:0/96', expected: '0.0.0.0/0' },
    { name: 'more than all of mapped IPv4', text: '::ffff:10.0.0.0/95', expected: undefined },
    { name: 'a prefix of IPv6 on IPv4', text: '10.0.0.0/33', expected: undefined },
    { name: 'a prefix above 128', text: 'fd00::/129', expected: undefined },
    { name: 'a prefix above 128 on mapped IPv4', text: '::ffff:10.0.0.0/129', expected: undefined },
    { name: 'an address without prefix', text: '10.0.0.1', expected: undefined },
    { name: 'an empty prefix', text: '10.0.0.1/', expected: undefined },
    { name: 'a netmask', text: '10.0.0.0/255.0.0.0', expected: undefined },
    { name: 'a negative prefix', text: '10.0.0.0/-1', expected: undefined },
    { name: 'a signed prefix', text: '10.0.0.0/+8', expected: undefined },
    { name: 'two prefixes', text: '10.0.0.0/8/8', expected: undefined },
    { name: 'a space inside', text: '10.0.0.0 /8', expected: undefined },
    { name: 'a zone', text: 'fe80::%eth0/64', expected: undefined },
    { name: 'three octets', text: '10.0.0/24', expected: undefined },
    { name: 'a name', text: 'primary', expected: undefined },
    { name: 'an empty text', text: '', expected: undefined },
  ]
  for (const { name, text, expected } of cases) {
    it(`${expected === undefined ? 'rejects' : 'accepts'} ${name}`, () => {
      const parsed = parseCidr(text)
      expect(parsed && formatCidr(parsed)).to.equal(expected)
      if (parsed !== undefined) expect(parsed.family).to.equal(familyOf(parsed.address))
    })
  }

  it('keeps the bits of the prefix and no other, for 2,000 random networks', () =>
    withRandom((random) => {
      for (let i = 0; i < 2_000; i++) {
        const address = randomAddress(random)
        const bits = bitsOf(address)
        const prefix = random.int(bits.length + 1)
        // The text of a mapped address means another family; a table above says so.
        if (parseAddress(address) !== address) continue

        const network = cidr(`${address}/${prefix}`)

        expect(bitsOf(network.address)).to.equal(bits.slice(0, prefix).padEnd(bits.length, '0'))
        expect(parseCidr(formatCidr(network))).to.deep.equal(network)
      }
    }))
})

describe('contains', () => {
  const cases: readonly (readonly [network: string, address: string, expected: boolean])[] = [
    ['10.0.0.0/8', '10.255.255.255', true],
    ['10.0.0.0/8', '11.0.0.0', false],
    ['192.0.2.224/27', '192.0.2.223', false],
    ['192.0.2.1/32', '192.0.2.1', true],
    ['192.0.2.1/32', '192.0.2.0', false],
    ['0.0.0.0/0', '255.255.255.255', true],
    ['0.0.0.0/0', 'fd00::1', false],
    ['::/0', 'fd00::1', true],
    ['::/0', '10.0.0.1', false],
    ['fe80::/10', 'febf::1', true],
    ['fe80::/10', 'fec0::1', false],
    ['::ffff:10.0.0.0/104', '10.1.2.3', true],
  ]
  for (const [network, address, expected] of cases) {
    it(`says that ${address} is ${expected ? '' : 'not '}in ${network}`, () => {
      expect(contains(cidr(network), parseAddress(address)!)).to.equal(expected)
    })
  }

  it('is what clearing host bits says, for 2,000 random pairs', () =>
    withRandom((random) => {
      let inside = 0
      for (let i = 0; i < 2_000; i++) {
        const [one, other] = [randomAddress(random), randomAddress(random)]
        if (familyOf(one) !== familyOf(other)) continue
        if (parseAddress(one) !== one || parseAddress(other) !== other) continue
        const prefix = random.int(12)
        const expected = formatCidr(cidr(`${one}/${prefix}`)) === formatCidr(cidr(`${other}/${prefix}`))

        expect(contains(cidr(`${one}/${prefix}`), other), `${one}/${prefix} ${other}`).to.equal(expected)
        if (expected) inside++
      }
      expect(inside).to.be.within(50, 1_900)
    }))
})

describe('formatNetwork', () => {
  it('leaves out the prefix of a single address', () => {
    const texts = ['192.0.2.1/32', 'fd00::1/128', 'fd00::/32', '10.0.0.0/8', '0.0.0.0/0']
    expect(texts.map((text) => formatNetwork(cidr(text)))).to.deep.equal([
      '192.0.2.1',
      'fd00::1',
      'fd00::/32',
      '10.0.0.0/8',
      '0.0.0.0/0',
    ])
  })
})
