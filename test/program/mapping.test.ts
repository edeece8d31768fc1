import { expect } from 'chai'
import { type Config, defaultConfig } from '../../src/config/config.ts'
import { mappingOptions, ruleOptions } from '../../src/program/mapping.ts'
import { parseAddress } from '../../src/model/address.ts'
import { parseCidr } from '../../src/model/cidr.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { ALONE } from '../../src/model/claims/surroundings.ts'
import { parseEndpointSlice, parseNode } from '../../src/model/facts/parse-facts.ts'
import { endpoint, slice } from '../support/builders.ts'

const cidrs = (...texts: readonly string[]) => texts.map((text) => parseCidr(text)!)

/** A node with addresses and networks of Pods, and an API server elsewhere. */
function clusterOf(): Cluster {
  const cluster = new Cluster('node-1', () => undefined)
  cluster.nodes.put(
    parseNode({
      metadata: { name: 'node-1', labels: { 'topology.kubernetes.io/zone': 'a' } },
      spec: { podCIDRs: ['10.244.1.0/24', 'fd00:10:244:1::/64'] },
      status: { addresses: [{ type: 'InternalIP', address: '192.168.50.1' }] },
    }),
  )
  cluster.endpointSlices.put(
    parseEndpointSlice(
      slice({ namespace: 'default', service: 'kubernetes', endpoints: [endpoint('192.168.50.250')] }),
    ),
  )
  return cluster
}

const input = (config: Partial<Config> = {}, cluster = clusterOf()) => ({
  config: { ...defaultConfig(), ...config },
  cluster,
  nodeName: 'node-1',
  families: new Set(['IPv4', 'IPv6'] as const),
  scheduler: 'rr',
  vipBinding: 'address' as const,
  nodeAddresses: ['192.168.50.1', '10.0.2.15', '127.0.0.1'].map((text) => parseAddress(text)!),
  apiAddresses: new Set([parseAddress('192.168.50.99')!]),
  surroundings: ALONE,
  policy: undefined,
  drains: new Set<string>(),
})

describe('mappingOptions', () => {
  it('knows the place of the node and its neighbours', () => {
    const options = mappingOptions(input({ clusterCidrs: cidrs('10.244.0.0/16') }))

    expect(options).to.deep.include({ nodeName: 'node-1', zone: 'a', scheduler: 'rr' })
    expect(options.neighbourhood).to.deep.include({
      nodeIps: ['192.168.50.1'],
      apiServers: new Set(['192.168.50.250', '192.168.50.99']),
    })
    expect(
      options.neighbourhood.surroundings.podCidrs,
      'clusterCIDR says nothing of addresses',
    ).to.deep.equal([])
  })

  it('looks at the addresses of the node again only when they, the configuration or the Node are others', () => {
    const given = input()
    const first = mappingOptions(given)
    const again = mappingOptions({ ...given, scheduler: 'wlc' })
    const readdressed = mappingOptions({ ...given, nodeAddresses: given.nodeAddresses.slice(1) })
    const reconfigured = mappingOptions({
      ...given,
      config: { ...given.config, nodePortAddresses: ['primary'] },
    })

    expect(again.neighbourhood.interfaceAddresses).to.equal(first.neighbourhood.interfaceAddresses)
    expect(again.scheduler).to.equal('wlc')
    expect(readdressed.nodePortAddresses).to.deep.equal(['10.0.2.15'])
    expect(reconfigured.nodePortAddresses).to.deep.equal(['192.168.50.1'])
  })

  const selections: readonly [readonly string[], readonly string[]][] = [
    [[], ['10.0.2.15', '192.168.50.1']],
    [['primary'], ['192.168.50.1']],
    [['10.0.0.0/8'], ['10.0.2.15']],
  ]
  for (const [nodePortAddresses, expected] of selections) {
    it(`serves node ports on [${nodePortAddresses.join()}]: ${expected.join()}`, () => {
      expect(mappingOptions(input({ nodePortAddresses })).nodePortAddresses).to.deep.equal(expected)
    })
  }
})

describe('ruleOptions', () => {
  const cases: readonly [string, Partial<Config>, object | undefined, object | undefined][] = [
    ['ClusterCIDR without networks', {}, undefined, undefined],
    [
      'ClusterCIDR of one family',
      { clusterCidrs: cidrs('10.244.0.0/16') },
      { kind: 'cidr', cidr: '10.244.0.0/16' },
      undefined,
    ],
    [
      'NodeCIDR',
      { detectLocalMode: 'NodeCIDR' },
      { kind: 'cidr', cidr: '10.244.1.0/24' },
      { kind: 'cidr', cidr: 'fd00:10:244:1::/64' },
    ],
    [
      'BridgeInterface',
      { detectLocalMode: 'BridgeInterface', bridgeInterface: 'cni0' },
      { kind: 'interface', name: 'cni0' },
      { kind: 'interface', name: 'cni0' },
    ],
    [
      'InterfaceNamePrefix',
      { detectLocalMode: 'InterfaceNamePrefix', interfaceNamePrefix: 'veth' },
      { kind: 'interfacePrefix', prefix: 'veth' },
      { kind: 'interfacePrefix', prefix: 'veth' },
    ],
  ]
  for (const [name, config, ipv4, ipv6] of cases) {
    it(`tells traffic from Pods by ${name}`, () => {
      expect(ruleOptions(input(config), 'IPv4').local).to.deep.equal(ipv4)
      expect(ruleOptions(input(config), 'IPv6').local).to.deep.equal(ipv6)
    })
  }

  it('does not know the networks of a node that has not been listed', () => {
    const cluster = new Cluster('node-1', () => undefined)

    expect(ruleOptions(input({ detectLocalMode: 'NodeCIDR' }, cluster), 'IPv4').local).to.equal(undefined)
  })

  const selections: readonly (readonly [
    title: string,
    selection: readonly string[],
    ipv4: readonly string[] | undefined,
    ipv6: readonly string[] | undefined,
  ])[] = [
    ['all addresses', [], undefined, undefined],
    [
      'networks of one family',
      ['192.168.50.9/24', '10.0.0.0/8'],
      ['192.168.50.0/24', '10.0.0.0/8'],
      undefined,
    ],
    ['a network of everything', ['0.0.0.0/0', '10.0.0.0/8', 'fd00::/8'], undefined, ['fd00::/8']],
    ['the primary address, unknown for IPv6', ['primary'], ['192.168.50.1/32'], undefined],
  ]
  for (const [title, nodePortAddresses, ipv4, ipv6] of selections) {
    it(`node ports on ${title}`, () => {
      expect(ruleOptions(input({ nodePortAddresses }), 'IPv4').nodePorts).to.deep.equal(ipv4)
      expect(ruleOptions(input({ nodePortAddresses }), 'IPv6').nodePorts).to.deep.equal(ipv6)
    })
  }

  it('node ports on an address that the configuration says, before any Node does', () => {
    const options = input({ nodePortAddresses: ['primary'], bindAddress: parseAddress('fd00::7')! })
    expect(ruleOptions(options, 'IPv6').nodePorts).to.deep.equal(['fd00::7/128'])
  })
})
