import { expect } from 'chai'
import { parseEndpointSlice, parseNode, parseService } from '../../../src/model/facts/parse-facts.ts'
import { endpoint, node, service, slice } from '../../support/builders.ts'

describe('parseService', () => {
  it('keeps what the proxy uses', () => {
    const { name, fact, problems } = parseService({
      ...service({
        spec: {
          type: 'LoadBalancer',
          clusterIPs: ['10.96.0.10', 'fd00::10'],
          externalIPs: ['203.0.113.10', '203.0.113.10'],
          externalTrafficPolicy: 'Local',
          healthCheckNodePort: 30999,
          loadBalancerSourceRanges: [' 10.1.2.3/8 ', 'fd00:1::5/64'],
          sessionAffinity: 'ClientIP',
          sessionAffinityConfig: { clientIP: { timeoutSeconds: 600 } },
          internalTrafficPolicy: 'Local',
        },
        ports: [
          { name: 'http', port: 80 },
          { name: 'dns', port: 53, protocol: 'UDP', nodePort: 30053 },
        ],
      }),
      status: {
        loadBalancer: {
          ingress: [
            { ip: '203.0.113.80', ipMode: 'VIP' },
            { ip: 'fd00:203::80' },
            { ip: '203.0.113.81', ipMode: 'Proxy' },
            { hostname: 'lb.example.org' },
          ],
        },
      },
    })

    expect(name).to.equal('shop/web')
    expect(problems).to.deep.equal([])
    expect(fact).to.deep.equal({
      name: 'shop/web',
      createdAt: Date.UTC(2026, 0, 1),
      essential: false,
      clusterIps: ['10.96.0.10', 'fd00::10'],
      ports: [
        { name: 'http', protocol: 'TCP', port: 80, nodePort: 0 },
        { name: 'dns', protocol: 'UDP', port: 53, nodePort: 30053 },
      ],
      affinitySeconds: 600,
      internalTrafficPolicy: 'Local',
      externalTrafficPolicy: 'Local',
      externalIps: ['203.0.113.10'],
      loadBalancerIps: ['203.0.113.80', 'fd00:203::80'],
      sourceRanges: [
        { family: 'IPv4', address: '10.0.0.0', prefix: 8 },
        { family: 'IPv6', address: 'fd00:1::', prefix: 64 },
      ],
      healthCheckNodePort: 30999,
    })
  })

  const external = { externalTrafficPolicy: 'Local', healthCheckNodePort: 30999 }
  const policies: readonly [string, object, string, number][] = [
    ['a load balancer', { ...external, type: 'LoadBalancer' }, 'Local', 30999],
    ['a NodePort Service, which has no health check', { ...external, type: 'NodePort' }, 'Local', 0],
    ['external IPs', { ...external, externalIPs: ['203.0.113.10'] }, 'Local', 0],
    ['nothing external', external, 'Cluster', 0],
    ['a load balancer with policy Cluster', { type: 'LoadBalancer', healthCheckNodePort: 1 }, 'Cluster', 0],
  ]
  for (const [name, spec, policy, port] of policies) {
    it(`externalTrafficPolicy Local counts for ${name}: ${policy}, health check on ${port}`, () => {
      const { fact } = parseService(service({ spec: spec as Record<string, unknown> }))

      expect(fact).to.include({ externalTrafficPolicy: policy, healthCheckNodePort: port })
    })
  }

  it('leaves out external IPs that are none, and says so; the rest is served', () => {
    const { fact, problems } = parseService({
      ...service({ spec: { externalIPs: ['203.0.113.10', 'nonsense'] } }),
      status: {
        loadBalancer: { ingress: [{ ip: '203.0.113.999' }, { hostname: 'lb.example.org' }, { ip: '' }] },
      },
    })

    expect(fact).to.deep.include({ externalIps: ['203.0.113.10'], loadBalancerIps: [] })
    expect(problems).to.deep.equal([
      'Cannot use a part of Service shop/web: spec.externalIPs[1] is "nonsense", expected an IP address',
      'Cannot use a part of Service shop/web: status.loadBalancer.ingress[0] is "203.0.113.999", expected an IP address',
    ])
  })

  it('refuses a Service with a source range that is none: left out, it would let everybody in', () => {
    const { unusable, problems } = parseService(
      service({ spec: { loadBalancerSourceRanges: ['10.0.0.0/8', '10.0.0.0/40'] } }),
    )

    expect(unusable).to.equal(true)
    expect(problems).to.deep.equal([
      'Cannot use Service shop/web: spec.loadBalancerSourceRanges[1] is "10.0.0.0/40", expected a network such as 192.0.2.0/24',
    ])
  })

  const ignored: readonly [string, Parameters<typeof service>[0]][] = [
    ['a headless Service', { clusterIP: 'None', spec: { clusterIPs: ['None'] } }],
    ['one that waits for its address', { clusterIP: '' }],
    [
      'an ExternalName Service, even with a cluster IP',
      { spec: { type: 'ExternalName', externalName: 'example.org' } },
    ],
    [
      'one for another proxy',
      { metadata: { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } } },
    ],
    [
      'one for another proxy, whatever the value',
      { metadata: { labels: { 'service.kubernetes.io/service-proxy-name': '' } } },
    ],
    [
      'a headless one that has the label of headless ones, too',
      { clusterIP: 'None', metadata: { labels: { 'service.kubernetes.io/headless': '' } } },
    ],
  ]
  for (const [name, parts] of ignored) {
    it(`ignores ${name}`, () => {
      expect(parseService(service(parts))).to.deep.equal({ name: 'shop/web', problems: [] })
    })
  }

  for (const value of ['', 'true', 'false']) {
    it(`serves one that is labelled headless ("${value}") and has a cluster IP: the label is for slices`, () => {
      const labels = { 'service.kubernetes.io/headless': value }

      expect(parseService(service({ metadata: { labels } })).fact).to.include({ name: 'shop/web' })
    })
  }

  const faulty: readonly [string, Parameters<typeof service>[0], string][] = [
    ['a port of 0', { ports: [{ port: 0 }] }, 'spec.ports[0].port is 0, expected a number from 1 to 65535'],
    [
      'a port of 65536',
      { ports: [{ port: 80 }, { port: 65_536 }] },
      'spec.ports[1].port is 65536, expected a number from 1 to 65535',
    ],
    [
      'a port that is text',
      { ports: [{ port: 'http' }] },
      'spec.ports[0].port is "http", expected a number from 1 to 65535',
    ],
    [
      'an unknown protocol',
      { ports: [{ port: 80, protocol: 'ICMP' }] },
      'spec.ports[0].protocol is "ICMP", expected TCP, UDP, SCTP',
    ],
    [
      'the same port twice',
      {
        ports: [
          { name: 'a', port: 80 },
          { name: 'b', port: 80 },
        ],
      },
      'spec.ports[1] repeats 80/TCP',
    ],
    ['ports that are no list', { spec: { ports: 80 } }, 'spec.ports is 80, expected a list'],
    [
      'an impossible cluster IP',
      { clusterIP: '10.96.0.300' },
      'spec.clusterIP is "10.96.0.300", expected an IP address',
    ],
    [
      'two cluster IPs of one family',
      { spec: { clusterIPs: ['10.0.0.1', '10.0.0.2'] } },
      'spec.clusterIPs is ["10.0.0.1","10.0.0.2"], expected one address per family',
    ],
    [
      'an unknown affinity',
      { spec: { sessionAffinity: 'Cookie' } },
      'spec.sessionAffinity is "Cookie", expected None, ClientIP',
    ],
    [
      'an affinity beyond a day',
      {
        spec: {
          sessionAffinity: 'ClientIP',
          sessionAffinityConfig: { clientIP: { timeoutSeconds: 86_401 } },
        },
      },
      'spec.sessionAffinityConfig.clientIP.timeoutSeconds is 86401, expected a number from 1 to 86400',
    ],
    [
      'an unknown traffic policy',
      { spec: { internalTrafficPolicy: 'Zone' } },
      'spec.internalTrafficPolicy is "Zone", expected Cluster, Local',
    ],
  ]
  for (const [name, parts, message] of faulty) {
    it(`refuses ${name}, naming the field`, () => {
      expect(parseService(service(parts))).to.deep.equal({
        name: 'shop/web',
        unusable: true,
        problems: [`Cannot use Service shop/web: ${message}`],
      })
    })
  }

  it('gives ClientIP affinity three hours unless told', () => {
    expect(parseService(service({ spec: { sessionAffinity: 'ClientIP' } })).fact?.affinitySeconds).to.equal(
      10_800,
    )
  })

  it('takes a Service without namespace for one of "default"', () => {
    const { name } = parseService({
      kind: 'Service',
      metadata: { name: 'kubernetes' },
      spec: { clusterIP: '10.96.0.1' },
    })

    expect(name).to.equal('default/kubernetes')
  })

  it("knows the API server's Service and the cluster's DNS", () => {
    const essential = [
      service({ namespace: 'default', name: 'kubernetes' }),
      service({
        namespace: 'kube-system',
        name: 'kube-dns',
        metadata: { labels: { 'k8s-app': 'kube-dns' } },
      }),
      service({ namespace: 'other', name: 'kubernetes' }),
    ].map((object) => parseService(object).fact?.essential)

    expect(essential).to.deep.equal([true, true, false])
  })

  const nonsense: readonly unknown[] = [
    undefined,
    null,
    7,
    'text',
    [],
    {},
    { metadata: null },
    { metadata: { name: 7 } },
    { spec: [] },
  ]
  for (const object of nonsense) {
    it(`survives ${JSON.stringify(object)}`, () => {
      expect(parseService(object).problems).to.have.length(1)
    })
  }
})

describe('parseEndpointSlice', () => {
  const special: readonly (readonly [string, string | undefined])[] = [
    ['127.0.0.1', 'a loopback address'],
    ['127.8.8.8', 'a loopback address'],
    ['::1', 'a loopback address'],
    ['169.254.169.254', 'a link-local address'],
    ['169.254.1.1', 'a link-local address'],
    ['fe80::1', 'a link-local address'],
    ['fe80:0:0:0:0:0:0:1', 'a link-local address'],
    ['0.0.0.0', 'the unspecified address'],
    ['0.0.0.9', 'the unspecified address'],
    ['::', 'the unspecified address'],
    ['224.0.0.251', 'a multicast address'],
    ['239.1.1.1', 'a multicast address'],
    ['ff02::fb', 'a multicast address'],
    ['255.255.255.255', 'the broadcast address'],
    ['127.000.000.001', 'a loopback address'],
    ['10.244.0.7', undefined],
    ['192.168.50.1', undefined],
    ['126.255.255.255', undefined],
    ['fd00::1', undefined],
    ['2001:db8::ff02:1', undefined],
  ]
  for (const [address, is] of special) {
    it(`${address}: ${is === undefined ? 'served' : `refused, as it is ${is}`}`, () => {
      const addressType = address.includes(':') ? 'IPv6' : 'IPv4'
      const other = addressType === 'IPv6' ? 'fd00:10:244::9' : '10.244.0.9'
      const { fact, problems } = parseEndpointSlice(slice({ addressType, endpoints: [address, other] }))

      expect(problems).to.deep.equal([])
      expect(fact!.endpoints).to.have.length(is === undefined ? 2 : 1)
      expect(fact!.refused.map((text) => text.replace(/^\S+ is /, ''))).to.deep.equal(
        is === undefined ? [] : [is],
      )
    })
  }

  it('knows its age', () => {
    const metadata = { ...(slice().metadata as object), creationTimestamp: '2026-01-01T00:00:00Z' }
    expect(parseEndpointSlice({ ...slice(), metadata }).fact!.createdAt).to.equal(Date.UTC(2026, 0))
  })

  it('keeps what the proxy uses', () => {
    const { fact, problems } = parseEndpointSlice(
      slice({
        endpoints: [
          endpoint('10.244.0.7', {
            conditions: { ready: false, serving: true, terminating: true },
            hints: { forZones: [{ name: 'a' }], forNodes: [{ name: 'node-1' }] },
            targetRef: { kind: 'Pod', namespace: 'shop', name: 'web-5d8f' },
          }),
        ],
      }),
    )

    expect(problems).to.deep.equal([])
    expect(fact).to.deep.equal({
      name: 'shop/web-1',
      createdAt: 0,
      service: 'shop/web',
      family: 'IPv4',
      ports: [{ name: 'http', protocol: 'TCP', port: 8080 }],
      refused: [],
      endpoints: [
        {
          address: '10.244.0.7',
          ready: false,
          serving: true,
          terminating: true,
          nodeName: 'node-2',
          pod: 'web-5d8f',
          zoneHints: ['a'],
          nodeHints: ['node-1'],
        },
      ],
      triggeredAt: 0,
    })
  })

  it('reads when the change happened that it publishes', () => {
    const triggered = (time: unknown): number =>
      parseEndpointSlice({
        ...slice(),
        metadata: {
          name: 'web-1',
          namespace: 'shop',
          labels: { 'kubernetes.io/service-name': 'web' },
          annotations: { 'endpoints.kubernetes.io/last-change-trigger-time': time },
        },
      }).fact!.triggeredAt

    expect(triggered('2026-01-01T00:00:01.5Z')).to.equal(Date.UTC(2026, 0, 1, 0, 0, 1, 500))
    expect(triggered('2026-01-01T00:00:01.123456789Z')).to.equal(Date.UTC(2026, 0, 1, 0, 0, 1, 123))
    for (const none of ['', 'yesterday', 7, undefined]) expect(triggered(none)).to.equal(0)
  })

  it('takes endpoints and ports that are null for none', () => {
    const { fact } = parseEndpointSlice(slice({ endpoints: null, ports: null }))

    expect(fact).to.include({ name: 'shop/web-1' })
    expect(fact?.endpoints).to.deep.equal([])
    expect(fact?.ports).to.deep.equal([])
  })

  it('takes missing conditions for ready, serving and not terminating', () => {
    const { fact } = parseEndpointSlice(
      slice({
        endpoints: [
          endpoint('10.0.0.1', { conditions: undefined }),
          endpoint('10.0.0.2', { conditions: { ready: null } }),
        ],
      }),
    )

    expect(
      fact?.endpoints.map(({ ready, serving, terminating }) => [ready, serving, terminating]),
    ).to.deep.equal([
      [true, true, false],
      [true, true, false],
    ])
  })

  it('leaves out what cannot be used, and uses the rest', () => {
    const { fact, problems } = parseEndpointSlice(
      slice({
        ports: [{ name: 'http', port: 8080 }, { name: 'all' }, { name: 'bad', port: 99_999 }],
        endpoints: ['10.0.0.1', 'nonsense', 'fd00::1', endpoint('10.0.0.2', { addresses: [] })],
      }),
    )

    expect(fact?.ports.map(({ name }) => name)).to.deep.equal(['http'])
    expect(fact?.endpoints.map(({ address }) => address)).to.deep.equal(['10.0.0.1'])
    expect(problems).to.deep.equal(
      [
        'ports[1].port is missing, expected a number from 1 to 65535',
        'ports[2].port is 99999, expected a number from 1 to 65535',
        'endpoints[1].addresses[0] is "nonsense", expected an IP address',
        'endpoints[2].addresses[0] is "fd00::1", expected an IPv4 address',
        'endpoints[3].addresses[0] is missing, expected a string',
      ].map((fault) => `Cannot use a part of EndpointSlice shop/web-1: ${fault}`),
    )
  })

  it('ignores slices of type FQDN, without a Service, and of headless Services', () => {
    const headless = slice()
    ;(headless.metadata as { labels: object }).labels = {
      'kubernetes.io/service-name': 'web',
      'service.kubernetes.io/headless': '',
    }
    const objects = [
      slice({ addressType: 'FQDN', endpoints: ['10.0.0.1'] }),
      { metadata: { name: 'x' } },
      headless,
    ]

    expect(objects.map((object) => parseEndpointSlice(object).fact)).to.deep.equal([
      undefined,
      undefined,
      undefined,
    ])
    expect(objects.flatMap((object) => parseEndpointSlice(object).problems)).to.deep.equal([])
  })
})

describe('parseNode', () => {
  it('reads the zone', () => {
    expect(parseNode(node('node-1', 'a')).fact).to.deep.include({ name: 'node-1', zone: 'a' })
    expect(parseNode(node('node-1')).fact).to.deep.include({ name: 'node-1', zone: undefined })
  })

  it('reads its addresses, internal ones first, and the networks of its Pods', () => {
    const { fact, problems } = parseNode({
      metadata: { name: 'node-1' },
      spec: { podCIDRs: ['10.244.1.0/24', 'fd00:10:244:1::/64', 'nonsense'] },
      status: {
        addresses: [
          { type: 'Hostname', address: 'node-1' },
          { type: 'ExternalIP', address: '198.51.100.7' },
          { type: 'InternalIP', address: '192.168.50.1' },
          { type: 'InternalIP', address: 'fd00:192:168:50::1' },
        ],
      },
    })

    expect(fact).to.deep.include({
      addresses: ['192.168.50.1', 'fd00:192:168:50::1', '198.51.100.7'],
      podCidrs: [
        { family: 'IPv4', address: '10.244.1.0', prefix: 24 },
        { family: 'IPv6', address: 'fd00:10:244:1::', prefix: 64 },
      ],
    })
    expect(problems).to.have.length(1)
  })

  it('reads how its annotation wants virtual IPs to be bound, and says what is no way', () => {
    const asked = (value: unknown) =>
      parseNode({ metadata: { name: 'node-1', annotations: { 'kube-ipvs.io/vip-binding': value } } })
    expect(asked('route').fact!.vipBinding).to.equal('route')
    expect(asked('address').fact!.vipBinding).to.equal('address')
    expect(asked('')).to.deep.include({ problems: [] })
    expect(asked('').fact!.vipBinding).to.equal(undefined)
    expect(asked('routes').fact!.vipBinding).to.equal(undefined)
    expect(asked('routes').problems).to.deep.equal([
      'Cannot use a part of Node node-1: kube-ipvs.io/vip-binding is "routes", expected address or route',
    ])
  })

  it('reads the scheduler that its annotation asks for', () => {
    const asked = (annotations?: object): string | undefined =>
      parseNode({ metadata: { name: 'node-1', annotations } }).fact!.scheduler

    expect(asked({ 'kube-ipvs.io/scheduler': 'lc' })).to.equal('lc')
    expect(asked({ 'kube-ipvs.io/scheduler': '' })).to.equal(undefined)
    expect(asked()).to.equal(undefined)
  })

  it('is leaving when it is being deleted, or the autoscaler is about to delete it', () => {
    const isLeaving = (metadata: object, taints?: object[]): boolean =>
      parseNode({ metadata: { name: 'node-1', ...metadata }, spec: { taints } }).fact!.leaving

    expect(isLeaving({})).to.equal(false)
    expect(isLeaving({}, [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }])).to.equal(false)
    expect(isLeaving({}, [{ key: 'ToBeDeletedByClusterAutoscaler', effect: 'PreferNoSchedule' }])).to.equal(
      true,
    )
    expect(isLeaving({ deletionTimestamp: '2026-01-01T00:00:00Z' })).to.equal(true)
  })
})
