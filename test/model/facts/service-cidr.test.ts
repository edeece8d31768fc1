import { expect } from 'chai'
import { formatCidr } from '../../../src/model/cidr.ts'
import { parseServiceCidr } from '../../../src/model/facts/service-cidr.ts'

/** As the API server sends it. */
const serviceCidr = (cidrs: unknown, name: unknown = 'kubernetes'): object => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'ServiceCIDR',
  metadata: { name, resourceVersion: '7', finalizers: ['networking.k8s.io/service-cidr-finalizer'] },
  spec: { cidrs },
  status: { conditions: [{ type: 'Ready', status: 'True', reason: '', message: '' }] },
})

describe('parseServiceCidr', () => {
  it('keeps what the proxy uses', () => {
    expect(parseServiceCidr(serviceCidr(['10.96.0.0/12', 'fd00:96::/112']))).to.deep.equal({
      name: 'kubernetes',
      fact: {
        name: 'kubernetes',
        cidrs: [
          { family: 'IPv4', address: '10.96.0.0', prefix: 12 },
          { family: 'IPv6', address: 'fd00:96::', prefix: 112 },
        ],
      },
      problems: [],
    })
  })

  it('keeps the networks of an object that is being deleted, or is not ready: they may be in use', () => {
    const leaving = {
      metadata: { name: 'more', deletionTimestamp: '2026-01-01T00:00:00Z' },
      spec: { cidrs: ['10.112.0.0/16'] },
      status: { conditions: [{ type: 'Ready', status: 'False', reason: 'Terminating' }] },
    }

    expect(parseServiceCidr(leaving).fact!.cidrs.map(formatCidr)).to.deep.equal(['10.112.0.0/16'])
  })

  const parts: readonly [string, unknown[], string[], string[]][] = [
    ['clears host bits', ['10.96.0.1/12'], ['10.96.0.0/12'], []],
    [
      'leaves out what is no network, and says so',
      ['10.96.0.0/12', '10.96.0.0', 7],
      ['10.96.0.0/12'],
      [
        'spec.cidrs[1] is "10.96.0.0", expected a network such as 192.0.2.0/24',
        'spec.cidrs[2] is 7, expected a string',
      ],
    ],
    [
      'and of the other family',
      ['fd00::/129', 'fd00:96::/112'],
      ['fd00:96::/112'],
      ['spec.cidrs[0] is "fd00::/129", expected a network such as 192.0.2.0/24'],
    ],
  ]
  for (const [name, cidrs, kept, faults] of parts) {
    it(name, () => {
      const { fact, problems } = parseServiceCidr(serviceCidr(cidrs))

      expect(fact!.cidrs.map(formatCidr)).to.deep.equal(kept)
      expect(problems).to.deep.equal(
        faults.map((fault) => `Cannot use a part of ServiceCIDR kubernetes: ${fault}`),
      )
    })
  }

  const unusable: readonly [string, unknown, string][] = [
    ['no networks', serviceCidr(undefined), 'spec.cidrs is missing, expected one or two networks'],
    ['an empty list', serviceCidr([]), 'spec.cidrs is [], expected one or two networks'],
    ['null', serviceCidr(null), 'spec.cidrs is null, expected one or two networks'],
    ['something else', serviceCidr('10.96.0.0/12'), 'spec.cidrs is "10.96.0.0/12", expected a list'],
    ['no spec', { metadata: { name: 'kubernetes' } }, 'spec.cidrs is missing, expected one or two networks'],
  ]
  for (const [name, object, problem] of unusable) {
    it(`cannot use one with ${name}`, () => {
      expect(parseServiceCidr(object)).to.deep.equal({
        name: 'kubernetes',
        unusable: true,
        problems: [`Cannot use ServiceCIDR kubernetes: ${problem}`],
      })
    })
  }

  for (const object of [null, 7, 'text', [], {}, serviceCidr(['10.96.0.0/12'], 7)]) {
    it(`survives ${JSON.stringify(object).slice(0, 60)}`, () => {
      expect(parseServiceCidr(object)).to.deep.include({ name: '', unusable: true })
    })
  }
})
