/** What endpoints see of a client; the packet matrix of the lab asks packets the same. */
import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { parseCidr } from '../../src/model/cidr.ts'
import type { Right } from '../../src/model/claims/claim.ts'
import { type Protocol, virtualServerId } from '../../src/model/virtual-server.ts'
import { type Client, type ClientRules, type Frontend, refusalAt, sightAt } from '../../src/view/client.ts'

const VIP = { IPv4: '203.0.113.1' as Address, IPv6: 'fd00:203::1' as Address }
const RULES: ClientRules = { masqueradeAll: false, knowsPods: true }
const POD: Client = { kind: 'pod', address: '10.244.1.5' as Address }
const NODE: Client = { kind: 'node', address: undefined }
const OUTSIDE: Client = { kind: 'outside', address: '192.0.2.9' as Address }

function frontend(right: Right, parts: Partial<Frontend> = {}, protocol: Protocol = 'TCP'): Frontend {
  const id = virtualServerId(VIP.IPv4, 80, protocol)
  return { id, right, policy: 'Cluster', binding: 'address', ...parts }
}

describe('sightAt', () => {
  const table: readonly (readonly [string, Frontend, Client, Partial<ClientRules>, string])[] = [
    ['a Pod at a cluster IP', frontend('clusterIp'), POD, {}, 'client'],
    [
      'a Pod at a cluster IP, with masqueradeAll',
      frontend('clusterIp'),
      POD,
      { masqueradeAll: true },
      'node',
    ],
    ['the node at a cluster IP', frontend('clusterIp'), NODE, {}, 'node'],
    [
      'the node at a cluster IP, without clusterCIDR',
      frontend('clusterIp'),
      NODE,
      { knowsPods: false },
      'node',
    ],
    ['the world at a cluster IP', frontend('clusterIp'), OUTSIDE, {}, 'node'],
    [
      'the world at a cluster IP, without clusterCIDR',
      frontend('clusterIp'),
      OUTSIDE,
      { knowsPods: false },
      'client',
    ],
    ['the world at a node port', frontend('nodePort'), OUTSIDE, {}, 'node'],
    ['a Pod at an external IP', frontend('externalIp'), POD, {}, 'node'],
    ['the world at a load balancer', frontend('loadBalancer'), OUTSIDE, {}, 'node'],
    [
      'the world at a load balancer, Local',
      frontend('loadBalancer', { policy: 'Local' }),
      OUTSIDE,
      {},
      'client',
    ],
    ['a Pod at a node port, Local', frontend('nodePort', { policy: 'Local' }), POD, {}, 'client'],
    ['the node at a node port, Local', frontend('nodePort', { policy: 'Local' }), NODE, {}, 'node'],
    ['the node at an external IP, Local', frontend('externalIp', { policy: 'Local' }), NODE, {}, 'virtualIp'],
    [
      'the node at an external IP that is a route, Local',
      frontend('externalIp', { policy: 'Local', binding: 'route' }),
      NODE,
      {},
      'virtualIp',
    ],
    [
      'the node at an external IP that is a route, Local, SCTP',
      frontend('externalIp', { policy: 'Local', binding: 'route' }, 'SCTP'),
      NODE,
      {},
      'node',
    ],
    [
      'the node at an IPv6 address that is a route, Local',
      frontend('externalIp', { policy: 'Local', binding: 'route', id: virtualServerId(VIP.IPv6, 80, 'TCP') }),
      NODE,
      {},
      'node',
    ],
    [
      'the node at an external IP that is one of its own, Local',
      frontend('externalIp', { policy: 'Local', binding: undefined }),
      NODE,
      {},
      'node',
    ],
  ]
  for (const [name, at, client, rules, seenAs] of table)
    it(`${name}: ${seenAs}`, () => {
      expect(sightAt(at, client, { ...RULES, ...rules })).to.include({ seenAs })
    })
})

describe('refusalAt', () => {
  const sourceRanges = [parseCidr('192.0.2.0/28')!]
  const nodeIps = ['192.168.50.1' as Address]
  const ask = (at: Frontend, client: Client, ranges = sourceRanges): string | undefined =>
    refusalAt(at, { sourceRanges: ranges }, client, nodeIps)

  it('lets in who is in a range', () => {
    expect(ask(frontend('loadBalancer'), OUTSIDE)).to.equal(undefined)
  })

  it('keeps out who is in none, and says what drops it', () => {
    expect(ask(frontend('loadBalancer'), POD)).to.contain('KUBE-SOURCE-RANGES-FIREWALL')
    expect(ask(frontend('loadBalancer'), NODE)).to.contain('KUBE-SOURCE-RANGES-FIREWALL')
  })

  it('says that it depends, for any client', () => {
    expect(ask(frontend('loadBalancer'), { kind: 'pod', address: undefined })).to.contain('unless')
  })

  it('concerns load balancers only, and no range of everything', () => {
    expect(ask(frontend('externalIp'), POD)).to.equal(undefined)
    expect(ask(frontend('loadBalancer'), POD, [parseCidr('0.0.0.0/0')!])).to.equal(undefined)
    expect(ask(frontend('loadBalancer'), POD, [parseCidr('fd00::/8')!])).to.equal(undefined)
  })
})
