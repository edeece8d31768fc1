import { expect } from 'chai'
import type { MappingOptions } from '../../../src/model/claims/claim.ts'
import { buildClaims, refusalsOf } from '../../../src/model/claims/claims.ts'
import { localLacks } from '../../../src/model/claims/local-endpoints.ts'
import { parseEndpointSlice, parseService } from '../../../src/model/facts/parse-facts.ts'
import { endpoint, service, slice, UNREADY } from '../../support/builders.ts'
import { mapping } from '../../support/mapping.ts'

function keysOf(object: object, options: Partial<MappingOptions> = {}): string[] {
  return buildClaims(parseService(object).fact!, [], mapping(options)).map(({ key }) => key)
}

describe('buildClaims', () => {
  it('claims nothing of a family that the node cannot serve', () => {
    const dualStack = service({ spec: { clusterIPs: ['10.96.0.10', 'fd00:96::10'] } })

    expect(keysOf(dualStack)).to.include('fd00:96::10').and.include('10.96.0.10')
    expect(keysOf(dualStack, { families: new Set(['IPv4']) })).to.deep.equal([
      'KUBE-IPVS-IPS 10.96.0.10',
      'KUBE-CLUSTER-IP 10.96.0.10,tcp:80',
      '10.96.0.10:80/TCP',
      '10.96.0.10',
    ])
  })

  it('serves externalIPs unless the feature gate AllowServiceExternalIPs is off', () => {
    const external = service({ spec: { externalIPs: ['203.0.113.1', '127.0.0.1'] } })
    const off = { allowExternalIps: false }

    expect(keysOf(external)).to.include('203.0.113.1:80/TCP')
    expect(keysOf(external, off)).to.deep.equal(keysOf(service()))
    expect(refusalsOf(parseService(external).fact!, mapping(off))).to.deep.equal([])
  })
})

describe('localLacks', () => {
  const here = endpoint('10.0.0.1', { nodeName: 'node-1' })
  const elsewhere = endpoint('10.0.0.2')
  const internal = { internalTrafficPolicy: 'Local' }
  const external = { externalTrafficPolicy: 'Local', externalIPs: ['203.0.113.1'] }
  const both = { ...internal, ...external }
  // Scenarios 87 to 93 of kube-proxy, and what is no lack.
  const cases: readonly [string, object, readonly object[], readonly string[]][] = [
    ['internal, an endpoint here', internal, [here, elsewhere], []],
    ['external, an endpoint here', external, [here, elsewhere], []],
    ['both, an endpoint here', both, [here], []],
    ['internal, none here', internal, [elsewhere], ['internal']],
    ['external, none here', external, [elsewhere], ['external']],
    ['both, none here', both, [elsewhere], ['internal', 'external']],
    ['both, none anywhere', both, [], []],
    [
      'both, none that is ready here',
      both,
      [{ ...here, conditions: UNREADY }, elsewhere],
      ['internal', 'external'],
    ],
    ['no policy', {}, [elsewhere], []],
    [
      'external, but not reached from outside',
      { type: 'LoadBalancer', externalTrafficPolicy: 'Local' },
      [elsewhere],
      [],
    ],
  ]
  for (const [name, spec, endpoints, expected] of cases) {
    it(`${name}: ${expected.join(' and ') || 'nothing'} lacks`, () => {
      const published = [parseEndpointSlice(slice({ endpoints: endpoints as never })).fact!]
      const lacks = localLacks(parseService(service({ spec: { ...spec } })).fact!, published, mapping())

      expect(lacks).to.deep.equal(expected.map((traffic) => ({ traffic, family: 'IPv4' })))
    })
  }

  it('tells the families apart', () => {
    const dualStack = service({ spec: { ...internal, clusterIPs: ['10.96.0.10', 'fd00:96::10'] } })
    const published = [
      slice({ endpoints: [here as never] }),
      slice({ name: 'web-6', addressType: 'IPv6', endpoints: ['fd00::2'] }),
    ].map((object) => parseEndpointSlice(object).fact!)

    expect(localLacks(parseService(dualStack).fact!, published, mapping())).to.deep.equal([
      { traffic: 'internal', family: 'IPv6' },
    ])
  })
})
