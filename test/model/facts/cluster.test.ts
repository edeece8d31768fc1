import { expect } from 'chai'
import { Cluster } from '../../../src/model/facts/cluster.ts'
import { parseEndpointSlice, parseNode, parseService } from '../../../src/model/facts/parse-facts.ts'
import { node, service, slice } from '../../support/builders.ts'

type Json = Record<string, unknown>

/** A cluster with one exposed and one other Service, all listed, and what it has called since. */
function listed(own: readonly object[] = [node()]) {
  const calls: string[] = []
  const cluster = new Cluster('node-1', () => undefined, {
    onNodeChange: () => calls.push('node'),
    onServiceChange: () => calls.push('service'),
    onEndpointsChange: () => calls.push('endpoints'),
    since: Date.UTC(2026, 0, 1),
  })
  const exposed = service({ name: 'out', clusterIP: '10.96.0.11', spec: { externalIPs: ['203.0.113.1'] } })
  cluster.services.replace([service(), exposed].map(parseService))
  cluster.endpointSlices.replace([])
  cluster.nodes.replace(own.map(parseNode))
  cluster.serviceCidrs.replace([])
  calls.length = 0
  cluster.takeDirty()
  const put = (object: Json): void => cluster.nodes.put(parseNode(object))
  return { cluster, calls, put }
}

const triggered = (time: string, parts: object = {}): Json => {
  const { metadata, ...rest } = slice(parts) as { metadata: Json }
  const annotations = { 'endpoints.kubernetes.io/last-change-trigger-time': time }
  return { metadata: { ...metadata, annotations }, ...rest }
}

describe('Cluster', () => {
  describe('a list that comes in pages', () => {
    const pages = [[service()], [service({ name: 'db' })]].map((page) => page.map(parseService))

    it('is known as it comes, and nothing is new when it is whole', () => {
      const cluster = new Cluster('node-1', () => undefined)
      for (const page of pages) cluster.services.foresee(page)
      expect(cluster.takeDirty()).to.deep.equal(['shop/web', 'shop/db'])

      cluster.services.replace(pages.flat())
      expect(cluster.takeDirty()).to.deep.equal([])
      expect(cluster.synced).to.equal(false)
    })

    it('has lost what is not in it any more when it is whole', () => {
      const cluster = new Cluster('node-1', () => undefined)
      for (const page of pages) cluster.services.foresee(page)
      cluster.takeDirty()

      cluster.services.replace(pages[1]!)
      expect(cluster.takeDirty()).to.deep.equal(['shop/web'])
      expect(cluster.service('shop/web')).to.equal(undefined)
    })

    it('changes nothing before it is whole when it is not the first one', () => {
      const { cluster } = listed()
      cluster.services.foresee([parseService(service({ name: 'new' }))])
      expect(cluster.takeDirty()).to.deep.equal([])
      expect(cluster.service('shop/new')).to.equal(undefined)
    })
  })

  it('says when an external address is named that none has named before', () => {
    let named = 0
    const cluster = new Cluster('node-1', () => undefined, { onExternalAddressNamed: () => named++ })
    const put = (name: string, externalIPs: string[]): void => {
      cluster.services.put(parseService(service({ name, clusterIP: '10.96.0.9', spec: { externalIPs } })))
    }
    put('a', [])
    expect(named).to.equal(0)
    put('a', ['203.0.113.1'])
    expect(named).to.equal(1)
    put('b', ['203.0.113.1'])
    put('a', ['203.0.113.1'])
    expect(named).to.equal(1)
    put('a', ['203.0.113.1', '203.0.113.2'])
    expect(named).to.equal(2)
    expect([...cluster.externalAddresses()]).to.deep.equal(['203.0.113.1', '203.0.113.2'])
  })

  describe("this node's own object", () => {
    const table: readonly [string, Json, readonly string[], readonly string[]][] = [
      ['is the same', node(), [], []],
      ['has another label', { ...node(), status: { phase: 'Running' } }, [], []],
      [
        'asks for a scheduler',
        withMetadata({ annotations: { 'kube-ipvs.io/scheduler': 'lc' } }),
        ['node'],
        [],
      ],
      [
        'is leaving',
        { ...node(), spec: { taints: [{ key: 'ToBeDeletedByClusterAutoscaler' }] } },
        ['node'],
        [],
      ],
      [
        'has other addresses',
        { ...node(), status: { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] } },
        ['node'],
        ['shop/out'],
      ],
      ['is in another zone', node('node-1', 'b'), ['node'], ['shop/web', 'shop/out']],
      ['is of another node', node('node-2', 'b'), [], []],
      [
        'is of another node that has an address',
        { ...node('node-2'), status: { addresses: [{ type: 'InternalIP', address: '192.168.50.2' }] } },
        [],
        ['shop/out'],
      ],
    ]
    for (const [name, object, calls, dirty] of table) {
      it(`${name}: ${[...calls, ...dirty].join(', ') || 'nothing'} to do`, () => {
        const it = listed()
        it.put(object)

        expect(it.calls).to.deep.equal(calls)
        expect(it.cluster.takeDirty()).to.deep.equal(dirty)
      })
    }

    it('goes on to count when it is gone, by event or from the list', () => {
      const { cluster } = listed([node('node-1', 'a')])
      cluster.nodes.remove('node-1')
      expect(cluster.node?.zone).to.equal('a')
      cluster.nodes.replace([])
      cluster.serviceCidrs.replace([])
      expect(cluster.node?.zone).to.equal('a')
    })
  })

  it('tells of every event of Services and slices', () => {
    const { cluster, calls } = listed()
    cluster.services.put(parseService(service()))
    cluster.endpointSlices.put(parseEndpointSlice(slice()))
    cluster.services.remove('shop/web')
    cluster.endpointSlices.remove('shop/web-1')

    expect(calls).to.deep.equal(['service', 'endpoints', 'service', 'endpoints'])
  })

  it('takes triggers that are newer than its start, each once', () => {
    const { cluster } = listed()
    const put = (object: Json): void => cluster.endpointSlices.put(parseEndpointSlice(object))
    put(triggered('2025-12-31T23:59:59Z', { name: 'old' }))
    put(triggered('2026-01-01T00:00:01Z'))
    put(triggered('2026-01-01T00:00:01Z'))
    put(triggered('2026-01-01T00:00:02Z', { name: 'web-6', addressType: 'IPv6' }))

    expect(cluster.takeTriggers()).to.deep.equal([
      { family: 'IPv4', at: Date.UTC(2026, 0, 1, 0, 0, 1) },
      { family: 'IPv6', at: Date.UTC(2026, 0, 1, 0, 0, 2) },
    ])
    put(triggered('2026-01-01T00:00:01Z'))
    expect(cluster.takeTriggers()).to.deep.equal([])
  })
})

function withMetadata(parts: Json): Json {
  const { metadata, ...rest } = node() as { metadata: Json }
  return { ...rest, metadata: { ...metadata, ...parts } }
}
