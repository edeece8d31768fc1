import { expect } from 'chai'
import { type Address, parseAddress } from '../../../src/model/address.ts'
import { isNodePortWildcard, nodePortAddresses } from '../../../src/model/claims/node-ports.ts'

const parse = (texts: readonly string[]): Address[] => texts.map((text) => parseAddress(text)!)

/** A dual-stack node with two networks, and all that is local to it. */
const NODE = ['127.0.0.1', '192.0.2.9', '10.20.30.51', '100.200.201.1', '169.254.7.7']
  .concat(['::1', 'fe80::1', '2001:db8::1', '2001:db8:0:1::2'])
  .concat(['172.17.0.1'])
const NODE_IPS = ['10.20.30.51', '2001:db8::1', '192.0.2.9']

const ALL_IPV4 = ['10.20.30.51', '100.200.201.1', '169.254.7.7', '172.17.0.1', '192.0.2.9']
const ALL_IPV6 = ['2001:db8:0:1::2', '2001:db8::1']

describe('nodePortAddresses', () => {
  const cases: readonly {
    readonly name: string
    readonly selection: readonly string[]
    readonly addresses?: readonly string[]
    readonly nodeIps?: readonly string[]
    readonly expected: readonly string[]
  }[] = [
    { name: 'all of both families', selection: [], expected: [...ALL_IPV4, ...ALL_IPV6] },
    {
      name: 'one address beside loopback',
      selection: [],
      addresses: ['1.2.3.4', '127.0.0.1'],
      expected: ['1.2.3.4'],
    },
    {
      name: 'nothing of loopback alone',
      selection: [],
      addresses: ['127.0.0.1', '127.6.7.8', '127.0.0.0', '127.255.255.255', '::1'],
      expected: [],
    },
    { name: 'nothing of a node without interfaces', selection: [], addresses: [], expected: [] },
    {
      name: 'no IPv6 link-local address, from the first to the last',
      selection: [],
      addresses: ['fe80::', 'febf:ffff::1', 'fe7f::1', 'fec0::1', '1000::'],
      expected: ['1000::', 'fe7f::1', 'fec0::1'],
    },
    {
      name: 'an address of two interfaces once',
      selection: [],
      addresses: ['8.8.8.8', '192.168.0.1', '8.8.8.8'],
      expected: ['192.168.0.1', '8.8.8.8'],
    },
    {
      name: 'a network, and all of the family without one',
      selection: ['10.20.30.0/24'],
      expected: ['10.20.30.51', ...ALL_IPV6],
    },
    {
      name: 'several networks of IPv6, and all of IPv4',
      selection: ['2001:db8::/64', '2001:db8:0:1::/64', '2001:db8:0:2::/64'],
      expected: [...ALL_IPV4, ...ALL_IPV6],
    },
    {
      name: 'networks of both families',
      selection: ['100.200.201.0/24', '10.20.0.0/16', '2001:db8::/64'],
      expected: ['10.20.30.51', '100.200.201.1', '2001:db8::1'],
    },
    {
      name: 'networks that overlap',
      selection: ['10.20.30.0/24', '10.0.0.0/8', '10.20.30.51/32', '10.20.30.51/32', '::1/128'],
      expected: ['10.20.30.51'],
    },
    {
      name: 'no network that matches',
      selection: ['10.20.31.0/24', 'fd00::/8'],
      expected: [],
    },
    {
      name: 'all of a family by its widest network',
      selection: ['192.0.2.0/24', '0.0.0.0/0', '2001:db8:0:1::/64'],
      expected: [...ALL_IPV4, '2001:db8:0:1::2'],
    },
    { name: 'no loopback address that is named', selection: ['127.0.0.1/32', '::1/128'], expected: [] },
    { name: 'no loopback network that is named', selection: ['127.0.0.0/8', '::1/128'], expected: [] },
    { name: 'no link-local network that is named', selection: ['fe80::/10', '127.0.0.0/8'], expected: [] },
    {
      name: 'the first node IP of each family',
      selection: ['primary'],
      expected: ['10.20.30.51', '2001:db8::1'],
    },
    {
      name: 'nothing of a family without a node IP',
      selection: ['primary'],
      nodeIps: ['10.20.30.51'],
      expected: ['10.20.30.51'],
    },
    { name: 'nothing without any node IP', selection: ['primary'], nodeIps: [], expected: [] },
    {
      name: 'no node IP that is not on the node',
      selection: ['primary'],
      nodeIps: ['203.0.113.1'],
      expected: [],
    },
    { name: 'no loopback node IP', selection: ['primary'], nodeIps: ['127.0.0.1', '::1'], expected: [] },
  ]
  for (const { name, selection, addresses = NODE, nodeIps = NODE_IPS, expected } of cases) {
    it(`takes ${name}`, () => {
      expect(nodePortAddresses(selection, parse(addresses), parse(nodeIps))).to.deep.equal(expected)
      expect(nodePortAddresses(selection, parse(addresses).reverse(), parse(nodeIps))).to.deep.equal(expected)
    })
  }

  for (const selection of [['10.0.0.1'], ['primary', '10.0.0.0/8'], ['10.0.0.0/8', 'all']]) {
    it(`refuses ${JSON.stringify(selection)}, rather than serve more than was asked for`, () => {
      expect(() => nodePortAddresses(selection, parse(NODE), [])).to.throw(
        /^Cannot use "(10\.0\.0\.1|primary|all)" in nodePortAddresses: expected networks, or "primary" alone$/,
      )
    })
  }
})

describe('isNodePortWildcard', () => {
  const cases: readonly (readonly [selection: readonly string[], ipv4: boolean, ipv6: boolean])[] = [
    [[], true, true],
    [['primary'], false, false],
    [['10.0.0.0/8'], false, true],
    [['fd00::/8'], true, false],
    [['10.0.0.0/8', 'fd00::/8'], false, false],
    [['10.0.0.0/8', '0.0.0.0/0', 'fd00::/8'], true, false],
    [['10.0.0.0/8', '::/0'], false, true],
  ]
  for (const [selection, ipv4, ipv6] of cases) {
    it(`of ${JSON.stringify(selection)}`, () => {
      expect(isNodePortWildcard(selection, 'IPv4')).to.equal(ipv4)
      expect(isNodePortWildcard(selection, 'IPv6')).to.equal(ipv6)
    })
  }
})
