import { expect } from 'chai'
import { buildClaims, type MappingOptions } from '../../src/model/claims.ts'
import { parseService } from '../../src/model/parse-facts.ts'
import { service } from '../support/builders.ts'
import { mapping } from '../support/mapping.ts'

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
})
