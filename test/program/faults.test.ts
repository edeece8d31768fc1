import { expect } from 'chai'
import { openFaultJudge, reportAddressFaults } from '../../src/program/report/faults.ts'
import type { Address, Family } from '../../src/model/address.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { parseService } from '../../src/model/facts/parse-facts.ts'
import { type FaultKind, ProxyHealth } from '../../src/serve/health.ts'
import type { Happening } from '../../src/source/events.ts'
import { service } from '../support/builders.ts'
import { recordingLog } from '../support/log.ts'

const BOTH = ['10.0.0.0/8', 'fd00::/8']

/** A load balancer of both families, for clients of these networks only. */
function balancer(name: string, ranges: readonly string[], ips = ['203.0.113.1', 'fd00:203::1']): object {
  const clusterIPs = ['10.96.0.10', 'fd00:96::10']
  const spec = { type: 'LoadBalancer', clusterIPs, loadBalancerSourceRanges: ranges }
  return { ...service({ name, spec }), status: { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } } }
}

/** Everything that faults are told to. */
function setUp(objects: readonly object[]) {
  const cluster = new Cluster('node-1', () => undefined)
  cluster.services.replace(objects.map((object) => parseService(object)))
  const { log, lines } = recordingLog('info')
  const events: Happening[] = []
  const found = new Map<FaultKind, ReadonlyMap<string, string>>()
  const kernel = { setFaults: new Map<string, Error>() }
  let rung = 0
  const faults = openFaultJudge({
    ...{ families: ['IPv4', 'IPv6'], kernel, cluster, log },
    health: { faults: (kind, reasons) => found.set(kind, reasons) },
    rulesBell: { ring: () => rung++ },
    recordEvent: (event) => events.push(event),
  })
  return {
    ...{ cluster, kernel, faults, events, found },
    look: (complaints: readonly (readonly [Family, string])[] = []) => faults.judge(new Map(complaints)),
    said: () => lines.map(({ level, msg, family, services }) => [level, msg, family, services]),
    rung: () => rung,
  }
}

const textOf = (found: ReadonlyMap<string, string> | undefined): string[] => [...(found?.values() ?? [])]

describe('openFaultJudge', () => {
  it('says nothing when all is well', () => {
    const { look, said, events, found, faults, rung } = setUp([balancer('web', BOTH)])
    look()
    faults.onSetsRead()

    expect([said(), events, rung()]).to.deep.equal([[], [], 0])
    expect([...found].map(([kind, { size }]) => [kind, size])).to.deep.equal([
      ['rules', 0],
      ['sets', 0],
      ['sourceRanges', 0],
    ])
  })

  it('tells health of rules and of sets', () => {
    const { look, kernel, found } = setUp([balancer('web', [])])
    kernel.setFaults.set('KUBE-CLUSTER-IP', new Error('of another type'))
    look([['IPv6', 'no ip6tables']])

    expect(found.get('rules')).to.deep.equal(new Map([['IPv6', 'no ip6tables']]))
    expect(found.get('sets')).to.deep.equal(new Map([['KUBE-CLUSTER-IP', 'of another type']]))
    expect(textOf(found.get('sourceRanges'))).to.deep.equal([])
  })

  it('a family in which no Service has a cluster IP does not count, until one has', () => {
    const { look, kernel, found, cluster } = setUp([
      service({ name: 'four' }),
      // Whoever writes an external IP must not make a family count.
      service({ name: 'outside', clusterIP: '10.96.0.12', spec: { externalIPs: ['fd00:203::1'] } }),
    ])
    kernel.setFaults.set('KUBE-6-CLUSTER-IP', new Error('no sets for IPv6'))
    look([['IPv6', 'no ip6tables']])
    expect([textOf(found.get('rules')), textOf(found.get('sets'))]).to.deep.equal([[], []])

    cluster.services.put(parseService(service({ name: 'six', clusterIP: 'fd00:96::11' })))
    look([['IPv6', 'no ip6tables']])
    expect([textOf(found.get('rules')), textOf(found.get('sets'))]).to.deep.equal([
      ['no ip6tables'],
      ['no sets for IPv6'],
    ])
  })

  it('names each Service whose source ranges are not enforced once, and says once that they are again', () => {
    const { look, said, events, found, cluster } = setUp([
      balancer('web', BOTH),
      balancer('open', []),
      balancer('everybody', ['0.0.0.0/0', '10.0.0.0/8']),
      balancer('six', ['fd00::/8']),
      balancer('pending', BOTH, []),
    ])
    look([['IPv4', 'no iptables']])
    look([['IPv4', 'no iptables']])
    cluster.services.put(parseService(balancer('new', BOTH)))
    look([['IPv4', 'locked']])
    expect(textOf(found.get('sourceRanges'))).to.deep.equal([
      'Source ranges of shop/web, shop/new are not enforced for IPv4: everybody may get through: locked',
    ])
    look()
    look()

    expect(said()).to.deep.equal([
      [50, 'source ranges are not enforced', 'IPv4', 'shop/web'],
      [50, 'source ranges are not enforced', 'IPv4', 'shop/new'],
      [30, 'source ranges are enforced again', 'IPv4', undefined],
    ])
    expect(
      events.map(({ type, reason, regarding, note }) => [type, reason, regarding.name, note]),
    ).to.deep.equal([
      [
        'Warning',
        'SourceRangesNotEnforced',
        'web',
        'loadBalancerSourceRanges are not enforced for IPv4: everybody may get through: no iptables',
      ],
      [
        'Warning',
        'SourceRangesNotEnforced',
        'new',
        'loadBalancerSourceRanges are not enforced for IPv4: everybody may get through: locked',
      ],
    ])
    expect(textOf(found.get('sourceRanges'))).to.deep.equal([])
  })

  it('says it again when it happens again', () => {
    const { look, said } = setUp([balancer('web', BOTH)])
    look([['IPv6', 'no ip6tables']])
    look()
    look([['IPv6', 'no ip6tables']])

    expect(said().map(([, msg]) => msg)).to.deep.equal([
      'source ranges are not enforced',
      'source ranges are enforced again',
      'source ranges are not enforced',
    ])
  })

  for (const [set, effect] of [
    ['KUBE-6-LOAD-BALANCER-FW', 'everybody gets through'],
    // Names have 31 characters at most.
    ['KUBE-6-LOAD-BALANCER-SOURCE-CID', 'nobody gets through'],
    ['KUBE-6-LOAD-BALANCER-SOURCE-IP', 'the node itself does not get through'],
  ] as const) {
    it(`without the set ${set}: ${effect}`, () => {
      const { look, kernel, events } = setUp([balancer('web', BOTH)])
      kernel.setFaults.set(set, new Error('of another type'))
      look()

      expect(events.map(({ note }) => note)).to.deep.equal([
        `loadBalancerSourceRanges are not enforced for IPv6: ${effect}: of another type`,
      ])
    })
  }

  it('no other set keeps ranges from being enforced', () => {
    const { look, kernel, said } = setUp([balancer('web', BOTH)])
    kernel.setFaults.set('KUBE-CLUSTER-IP', new Error('of another type'))
    look()

    expect(said()).to.deep.equal([])
  })

  it('names ten, and how many more', () => {
    const names = Array.from({ length: 12 }, (_, i) => `web-${i}`)
    const { look, said, events } = setUp(names.map((name) => balancer(name, BOTH)))
    look([['IPv4', 'no iptables']])

    const listed = names.slice(0, 10).map((name) => `shop/${name}`)
    expect(said()).to.deep.equal([
      [50, 'source ranges are not enforced', 'IPv4', `${listed.join(', ')} and 2 more`],
    ])
    expect(events).to.have.length(12)
  })

  it('has the rules looked at while a set cannot be used, and once when all can again', () => {
    const { kernel, faults, look, rung } = setUp([])
    kernel.setFaults.set('KUBE-CLUSTER-IP', new Error('of another type'))
    faults.onSetsRead()
    expect(rung()).to.equal(1)
    look()
    kernel.setFaults.clear()
    faults.onSetsRead()
    expect(rung()).to.equal(2)
    look()
    faults.onSetsRead()

    expect(rung()).to.equal(2)
  })
})

describe('reportAddressFaults', () => {
  const [CLUSTER, OTHER, EXTERNAL] = ['10.96.0.10', 'fd00:96::10', '203.0.113.1'] as Address[]
  const isClusterIp = (address: Address): boolean => address !== EXTERNAL
  let time: number
  let health: ProxyHealth
  beforeEach(() => {
    time = 0
    health = new ProxyHealth({
      ...{ families: ['IPv4'], isNodeEligible: () => true, staleAfterMs: () => 60_000 },
      now: () => new Date(time),
    })
    health.updated()
  })
  const after = (ms: number): readonly string[] => {
    time += ms
    return health.lastingFaults
  }

  it('a cluster IP that stays unbound makes the node unhealthy', () => {
    const failing = new Map([
      [CLUSTER!, 'EPERM'],
      [OTHER!, 'EINVAL'],
    ])
    reportAddressFaults(health, failing, isClusterIp)

    expect(after(59_999)).to.deep.equal([])
    expect(after(1)).to.deep.equal(['10.96.0.10: EPERM', 'fd00:96::10: EINVAL'])
    reportAddressFaults(health, new Map([[OTHER!, 'EINVAL']]), isClusterIp)
    expect(after(0)).to.deep.equal(['fd00:96::10: EINVAL'])
    reportAddressFaults(health, new Map(), isClusterIp)
    expect(health.healthy).to.equal(true)
  })

  it('an external address does not: whoever writes it must not take nodes off', () => {
    reportAddressFaults(health, new Map([[EXTERNAL!, 'EINVAL']]), isClusterIp)

    expect(after(3_600_000)).to.deep.equal([])
    expect(health.healthy).to.equal(true)
  })
})
