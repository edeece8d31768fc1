/** In which order the first sync goes. What it leads to is told in test/scenarios/stories/first-sync.story. */
import { expect } from 'chai'
import { service, slice } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { Story } from '../support/story.ts'

describe('the first sync', () => {
  let story: Story
  afterEach(() => story.stop())

  it('programs the API server and DNS before everything else', async () => {
    story = new Story()
    const many = Array.from({ length: 2_000 }, (_, i) =>
      service({ name: `s${i}`, clusterIP: `10.97.${i >> 8}.${i & 255}` }),
    )
    const essential = [
      service({ namespace: 'default', name: 'kubernetes', clusterIP: '10.96.0.1' }),
      service({
        namespace: 'kube-system',
        name: 'kube-dns',
        clusterIP: '10.96.0.53',
        metadata: { labels: { 'k8s-app': 'kube-dns' } },
      }),
    ]
    const batches: number[] = []
    story.kernel.beforeCall = (method) => {
      if (method === 'execute') batches.push(story.kernel.executed.length)
    }
    await story.list([...many, ...essential])

    const lines = story.takeExecuted()
    const bound = lines.filter((line) => line.startsWith('addr'))
    expect(bound.slice(0, 2)).to.deep.equal([
      'addr add 10.96.0.1/32 dev kube-ipvs0',
      'addr add 10.96.0.53/32 dev kube-ipvs0',
    ])
    expect(lines.indexOf(bound[1]!), 'within the first batch').to.be.lessThan(batches[2]!)
  })

  it('maps after what has to be known before anything is mapped', async () => {
    const order: string[] = []
    story = new Story(new FakeKernel(), {
      onNodeListed: () => order.push('listed'),
      onServiceMapped: () => order.push('mapped'),
    })
    await story.list([service()], [slice({ endpoints: ['10.244.0.1'] })])
    expect(order).to.deep.equal(['listed', 'mapped'])
  })

  describe('of many Services', () => {
    const COUNT = 900
    /** Services that share one load-balancer IP, each with a port of its own. */
    const sharing = (): Record<string, unknown>[] =>
      Array.from({ length: COUNT }, (_, i) => ({
        ...service({
          name: `s${i}`,
          clusterIP: `10.97.${i >> 8}.${i & 255}`,
          ports: [{ name: 'http', port: 1_000 + i, protocol: 'TCP' }],
          metadata: { creationTimestamp: `2026-01-01T00:${String(59 - (i % 60)).padStart(2, '0')}:00Z` },
          spec: { type: 'LoadBalancer' },
        }),
        status: { loadBalancer: { ingress: [{ ip: '203.0.113.7' }] } },
      }))

    it('maps the oldest first, so that no virtual server is taken from its Service', async () => {
      story = new Story()
      const claims = sharing().map((object, i) => {
        const port = { name: 'http', port: 80, protocol: 'TCP' }
        const spec = object.spec as object
        return i % 2 === 0 ? { ...object, spec: { ...spec, ports: [port] } } : object
      })
      const oldest = { ...claims[58], metadata: { ...(claims[58]!.metadata as object), name: 'zz-oldest' } }
      const created = { metadata: { ...oldest.metadata, creationTimestamp: '2020-01-01T00:00:00Z' } }
      const endpoints = [
        ...claims.map((_, i) => slice({ service: `s${i}`, endpoints: ['10.244.0.1'] })),
        slice({ service: 'zz-oldest', endpoints: ['10.244.0.9'] }),
      ]
      await story.list([...claims, { ...oldest, ...created }], endpoints)

      const onShared = story.takeExecuted().filter((line) => line.includes(' 203.0.113.7:80 '))
      expect(onShared).to.deep.equal([
        '-A -t 203.0.113.7:80 -s rr',
        '-a -t 203.0.113.7:80 -r 10.244.0.9:8080 -m -w 1',
      ])
    })
  })
})
