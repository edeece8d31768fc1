import { expect } from 'chai'
import type { Claim } from '../../../src/model/claims/claim.ts'
import { buildClaims } from '../../../src/model/claims/claims.ts'
import type { KernelObject, ObjectKey } from '../../../src/model/kernel-object.ts'
import { Ledger } from '../../../src/model/claims/ledger.ts'
import { parseService } from '../../../src/model/facts/parse-facts.ts'
import { service } from '../../support/builders.ts'
import { mapping } from '../../support/mapping.ts'

function claimsOf(name: string, createdAt: string, port = 80): Claim[] {
  const object = service({ name, metadata: { creationTimestamp: createdAt }, ports: [{ port }] })
  return buildClaims(parseService(object).fact!, [], mapping())
}
const VS = '10.96.0.10:80/TCP' as ObjectKey
const IP = '10.96.0.10' as ObjectKey

const keysOf = (objects: Iterable<KernelObject>): string[] => [...objects].map(({ key }) => key)

describe('Ledger', () => {
  it('names every object that a change may affect', () => {
    const ledger = new Ledger()

    const added = ledger.replace('shop/web', claimsOf('web', '2026-01-01T00:00:00Z'))
    const changed = ledger.replace('shop/web', claimsOf('web', '2026-01-01T00:00:00Z', 81))

    expect(keysOf(added)).to.deep.equal([
      'KUBE-IPVS-IPS 10.96.0.10',
      'KUBE-CLUSTER-IP 10.96.0.10,tcp:80',
      '10.96.0.10:80/TCP',
      '10.96.0.10',
    ])
    expect(keysOf(changed)).to.have.members([
      ...keysOf(added),
      'KUBE-CLUSTER-IP 10.96.0.10,tcp:81',
      '10.96.0.10:81/TCP',
    ])
  })

  it('keeps a shared address until the last Service lets go of it', () => {
    const ledger = new Ledger()
    ledger.replace('shop/a', claimsOf('a', '2026-01-01T00:00:00Z', 80))
    ledger.replace('shop/b', claimsOf('b', '2026-01-01T00:00:00Z', 81))

    ledger.replace('shop/a', [])
    expect(ledger.wanted(IP)?.owner).to.equal('shop/b')
    expect(ledger.wanted(VS)).to.equal(undefined)

    ledger.replace('shop/b', [])
    expect([...ledger.objects()]).to.deep.equal([])
  })

  it('gives a virtual server to the older Service, whichever comes first', () => {
    for (const order of [
      ['young', 'old'],
      ['old', 'young'],
    ]) {
      const ledger = new Ledger()
      for (const name of order) {
        ledger.replace(
          `shop/${name}`,
          claimsOf(name, name === 'old' ? '2025-01-01T00:00:00Z' : '2026-01-01T00:00:00Z'),
        )
      }

      expect(ledger.wanted(VS)?.owner).to.equal('shop/old')
      expect(ledger.conflicts(VS)).to.deep.equal([{ loser: 'shop/young', reason: 'shop/old is older' }])
    }
  })

  it('decides by name between Services of the same age', () => {
    const ledger = new Ledger()
    for (const name of ['b', 'a']) ledger.replace(`shop/${name}`, claimsOf(name, '2026-01-01T00:00:00Z'))

    expect(ledger.wanted(VS)?.owner).to.equal('shop/a')
  })

  it('passes a virtual server on when its Service goes', () => {
    const ledger = new Ledger()
    ledger.replace('shop/old', claimsOf('old', '2025-01-01T00:00:00Z'))
    ledger.replace('shop/young', claimsOf('young', '2026-01-01T00:00:00Z'))

    const affected = ledger.replace('shop/old', [])

    expect(keysOf(affected)).to.include(VS)
    expect(ledger.wanted(VS)?.owner).to.equal('shop/young')
    expect(ledger.conflicts(VS)).to.deep.equal([])
  })

  it('sees no conflict in a shared address', () => {
    const ledger = new Ledger()
    ledger.replace('shop/a', claimsOf('a', '2026-01-01T00:00:00Z', 80))
    ledger.replace('shop/b', claimsOf('b', '2026-01-01T00:00:00Z', 81))

    expect(ledger.conflicts(IP)).to.deep.equal([])
  })

  it('counts the set members of the Service that has the virtual server, and those of the next one after it', () => {
    const loadBalancer = (name: string, createdAt: string, spec: object): Claim[] => {
      const object = service({
        name,
        clusterIP: `10.96.0.${name.charCodeAt(0)}`,
        metadata: { creationTimestamp: createdAt },
        spec: { type: 'LoadBalancer', ...spec },
      })
      const status = { loadBalancer: { ingress: [{ ip: '203.0.113.80' }] } }
      return buildClaims(parseService({ ...object, status }).fact!, [], mapping())
    }
    const ranges = 'KUBE-LOAD-BALANCER-FW 203.0.113.80,tcp:80' as ObjectKey
    const portal = 'KUBE-LOAD-BALANCER 203.0.113.80,tcp:80' as ObjectKey
    const ledger = new Ledger()
    ledger.replace('shop/a', loadBalancer('a', '2026-01-01T00:00:00Z', {}))
    ledger.replace(
      'shop/b',
      loadBalancer('b', '2026-01-02T00:00:00Z', { loadBalancerSourceRanges: ['10.0.0.0/8'] }),
    )

    expect(ledger.wanted(portal)?.owner).to.equal('shop/a')
    expect(ledger.wanted(ranges)).to.equal(undefined)

    expect(keysOf(ledger.replace('shop/a', []))).to.include(ranges)
    expect(ledger.wanted(portal)?.owner).to.equal('shop/b')
    expect(ledger.wanted(ranges)?.owner).to.equal('shop/b')
  })
})
