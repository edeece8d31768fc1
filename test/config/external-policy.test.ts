import { expect } from 'chai'
import { ConfigError } from '../../src/config/config-error.ts'
import { parseExternalPolicy } from '../../src/config/external-policy.ts'
import { formatCidr } from '../../src/model/cidr.ts'

const HEAD = 'apiVersion: kube-ipvs.io/v1alpha1\nkind: ExternalAddressPolicy\n'
const parse = (text: string): Record<string, string[]> =>
  Object.fromEntries([...parseExternalPolicy('f.yaml', text)].map(([name, of]) => [name, of.map(formatCidr)]))

describe('a list of external addresses', () => {
  const readable: readonly (readonly [string, string, Record<string, string[]>])[] = [
    [
      'has networks of both families by namespace',
      `${HEAD}namespaces:\n  shop: [203.0.113.0/24, "2001:db8::/32"]\n  '*': [198.51.100.7/32]`,
      { shop: ['203.0.113.0/24', '2001:db8::/32'], '*': ['198.51.100.7/32'] },
    ],
    ['lets nobody have anything when it is empty', `${HEAD}namespaces: {}`, {}],
    ['may have a namespace without networks', `${HEAD}namespaces: {shop: []}`, { shop: [] }],
    [
      'may be JSON',
      '{"apiVersion":"kube-ipvs.io/v1alpha1","kind":"ExternalAddressPolicy","namespaces":{"a":["10.0.0.1/8"]}}',
      { a: ['10.0.0.0/8'] },
    ],
  ]
  for (const [name, text, expected] of readable) {
    it(name, () => {
      expect(parse(text)).to.deep.equal(expected)
    })
  }

  const faulty: readonly (readonly [string, string, readonly string[]])[] = [
    ['what is no YAML', `${HEAD}namespaces: [`, ['Cannot read f.yaml: line ']],
    [
      'what is something else',
      'a: b',
      ['apiVersion: ', 'kind: ', 'namespaces: ', 'a: there is no such field'],
    ],
    ['a misspelt field', `${HEAD}namespace: {}`, ['namespaces: ', 'namespace: there is no such field']],
    [
      'what is no network, all at once',
      `${HEAD}namespaces: {shop: [203.0.113.1, 300.0.0.0/8, 7], Shop: [], b: 203.0.113.0/24}`,
      [
        'namespaces.shop[0]: expected a network such as 192.0.2.0/24, or 192.0.2.1/32 for one address, got "203.0.113.1"',
        'namespaces.shop[1]: expected a network',
        'namespaces.shop[2]: expected a network such as 192.0.2.0/24, or 192.0.2.1/32 for one address, got 7',
        'namespaces: expected names of namespaces or "*", got "Shop"',
        'namespaces.b: expected a list of networks such as 192.0.2.0/24, got "203.0.113.0/24"',
      ],
    ],
  ]
  for (const [name, text, faults] of faulty) {
    it(`refuses ${name}, and names it`, () => {
      expect(() => parse(text)).to.throw(ConfigError, 'f.yaml')
      try {
        parse(text)
      } catch (error) {
        for (const fault of faults) expect((error as Error).message).to.contain(fault)
      }
    })
  }
})
