import { expect } from 'chai'
import type { Cluster } from '../../src/model/cluster.ts'
import { parseEndpointSlice, parseNode, parseService } from '../../src/model/parse-facts.ts'
import { endpoint, node, service, slice, TERMINATING } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { Story } from '../support/story.ts'

/** Services a and b at 10.96.0.1 and 10.96.0.2. */
const A = '10.96.0.1'
const web = (name: string, clusterIP: string, parts: object = {}): Record<string, unknown> =>
  service({ name, clusterIP, ...parts })
const both = (): object[] => [web('a', A), web('b', '10.96.0.2')]
const sliceOf = (name: string, ...addresses: readonly string[]): object =>
  slice({ service: name, name: `${name}-${addresses.join('-')}`, endpoints: addresses })

const MADE = [
  `add KUBE-IPVS-IPS ${A}`,
  `add KUBE-CLUSTER-IP ${A},tcp:80`,
  `-A -t ${A}:80 -s rr`,
  `-a -t ${A}:80 -r 10.244.0.1:8080 -m -w 1`,
  `addr add ${A}/32 dev kube-ipvs0`,
]

describe('Forerunner', () => {
  let story: Story
  afterEach(() => story.stop())

  const list = (resource: 'services' | 'nodes', objects: readonly object[]): void => {
    if (resource === 'nodes') story.cluster.nodes.replace(objects.map(parseNode))
    if (resource === 'nodes') story.cluster.serviceCidrs.replace([])
    else story.cluster.services.replace(objects.map(parseService))
  }
  /** A page of the slices' list. */
  const page = async (...slices: readonly object[]): Promise<void> => {
    story.cluster.endpointSlices.foresee(slices.map(parseEndpointSlice))
    await story.bell.settle()
    story.bell.now += 1_000
  }
  const finish = async (...slices: readonly object[]): Promise<void> => {
    story.cluster.endpointSlices.replace(slices.map(parseEndpointSlice))
    await story.bell.settle()
  }
  const begin = async (services: readonly object[] = both(), kernel = new FakeKernel()): Promise<void> => {
    story = new Story(kernel)
    list('services', services)
    list('nodes', [node()])
    await story.bell.settle()
  }

  it('serves a Service while the rest is listed, and has nothing left to do about it', async () => {
    await begin()
    await page(sliceOf('a', '10.244.0.1'))
    expect(story.takeExecuted(), 'the next page may have more of it').to.deep.equal([])

    await page(sliceOf('b', '10.244.0.2'))
    expect(story.takeExecuted()).to.deep.equal(MADE)
    expect(story.proxy.synced).to.equal(false)

    await finish(sliceOf('a', '10.244.0.1'), sliceOf('b', '10.244.0.2'))
    expect(story.takeExecuted().filter((line) => line.includes(A))).to.deep.equal([])
    expect(story.proxy.synced).to.equal(true)
    expect(story.takeComplaints()).to.deep.equal([])
  })

  it('serves all but the last of several pages that come at once', async () => {
    await begin()
    void page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))

    expect(story.takeExecuted()).to.deep.equal(MADE)
  })

  it('begins once a second: full batches cost less', async () => {
    await begin([...both(), web('c', '10.96.0.3')])
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))
    story.bell.now -= 1
    await page(sliceOf('c', '10.244.0.3'))
    const made = (): string[] => story.takeExecuted().filter((line) => line.startsWith('-A '))
    expect(made()).to.deep.equal([MADE[2]])

    await page(sliceOf('zz', '10.244.0.9'))
    expect(made()).to.deep.equal(['-A -t 10.96.0.2:80 -s rr', '-A -t 10.96.0.3:80 -s rr'])
  })

  it('waits for the last page of a Service whose slices are in several', async () => {
    await begin()
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('a', '10.244.0.3'))
    expect(story.takeExecuted()).to.deep.equal([])

    await page(sliceOf('b', '10.244.0.2'))
    expect(story.kernel.toString()).to.equal(
      [MADE[2], MADE[3], `-a -t ${A}:80 -r 10.244.0.3:8080 -m -w 1`].join('\n'),
    )
  })

  it('does not take anything else for the next page', async () => {
    await begin()
    await page(sliceOf('a', '10.244.0.1'))
    await story.put(node('node-1', 'zone-2'), web('c', '10.96.0.3'))

    expect(story.takeExecuted().filter((line) => line.startsWith('-A '))).to.deep.equal([])
  })

  it('follows what comes late of a Service that it has made', async () => {
    await begin()
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))
    story.takeExecuted()

    await page(sliceOf('a', '10.244.0.3'))
    await page(sliceOf('b', '10.244.0.4'))

    expect(story.takeExecuted()).to.include(`-a -t ${A}:80 -r 10.244.0.3:8080 -m -w 1`)
  })

  it('serves DNS before everything else', async () => {
    const dns = {
      namespace: 'kube-system',
      name: 'kube-dns',
      metadata: { labels: { 'k8s-app': 'kube-dns' } },
    }
    await begin([...both(), service({ ...dns, clusterIP: '10.96.0.53' })])
    await page(sliceOf('b', '10.244.0.2'))
    await page(sliceOf('a', '10.244.0.1'))
    story.takeExecuted()
    story.bell.now -= 1
    await page(slice({ namespace: 'kube-system', service: 'kube-dns', endpoints: ['10.244.0.5'] }))
    await page(sliceOf('zz', '10.244.0.9'))

    const made = story.takeExecuted().filter((line) => line.startsWith('addr '))
    expect(made).to.deep.equal(['10.96.0.53', A].map((address) => `addr add ${address}/32 dev kube-ipvs0`))
  })

  it('has nothing to run ahead of when all is listed before the kernel is read', async () => {
    const kernel = new FakeKernel()
    const read = Promise.withResolvers<undefined>()
    const tables = kernel.readTables()
    kernel.readTables = () => read.promise.then(() => tables)
    const old = { metadata: { creationTimestamp: '2020-01-01T00:00:00Z' } }
    await begin([web('a', A), web('b', '10.96.0.2', old)], kernel)
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))
    story.cluster.endpointSlices.replace(
      [sliceOf('a', '10.244.0.1'), sliceOf('b', '10.244.0.2')].map(parseEndpointSlice),
    )
    read.resolve(undefined)
    await story.bell.settle()

    const made = story.takeExecuted().filter((line) => line.startsWith('-A '))
    expect(made, 'the oldest first').to.deep.equal(['-A -t 10.96.0.2:80 -s rr', `-A -t ${A}:80 -s rr`])
  })

  it('goes by what is listed later, as anybody would', async () => {
    await begin()
    const last = slice({ service: 'a', endpoints: [endpoint('10.244.0.1', { conditions: TERMINATING })] })
    await page(last)
    await page(sliceOf('b', '10.244.0.2'))
    expect(story.kernel.toString()).to.contain('10.244.0.1:8080 -m -w 1')

    await finish(last, sliceOf('a', '10.244.0.3'), sliceOf('b', '10.244.0.2'))
    expect(story.kernel.toString()).to.contain('10.244.0.3:8080 -m -w 1')
    expect(story.kernel.toString()).not.to.contain('10.244.0.1:8080 -m -w 1')
  })

  const WAITING: readonly (readonly [what: string, services: readonly object[]])[] = [
    [
      'a Service with a node port',
      [web('a', A, { ports: [{ name: 'http', port: 80, nodePort: 30_080 }] }), web('b', '10.96.0.2')],
    ],
    [
      'a Service with an external IP',
      [web('a', A, { spec: { externalIPs: ['203.0.113.7'] } }), web('b', '10.96.0.2')],
    ],
    [
      'a cluster IP that another Service has as an external IP',
      [...both(), web('c', '10.96.0.3', { spec: { externalIPs: [A] } })],
    ],
    [
      'a cluster IP that a load balancer has',
      [
        ...both(),
        {
          ...web('c', '10.96.0.3', { spec: { type: 'LoadBalancer' } }),
          status: { loadBalancer: { ingress: [{ ip: A }] } },
        },
      ],
    ],
    ['a Service that is not known', [web('b', '10.96.0.2')]],
  ]
  for (const [what, services] of WAITING) {
    it(`leaves ${what} until all is listed`, async () => {
      await begin(services)
      await page(sliceOf('a', '10.244.0.1'))
      await page(sliceOf('b', '10.244.0.2'))
      await page(sliceOf('zz', '10.244.0.9'))

      expect(story.takeExecuted().filter((line) => line.includes(A))).to.deep.equal([])
    })
  }

  const UNREADY: readonly (readonly [what: string, complete: (cluster: Cluster) => void])[] = [
    ['all Services', (cluster) => cluster.services.replace(both().map(parseService))],
    [
      'this node',
      (cluster) => {
        cluster.nodes.replace([node()].map(parseNode))
        cluster.serviceCidrs.replace([])
      },
    ],
  ]
  for (const [what, complete] of UNREADY) {
    it(`makes nothing before ${what} can be known`, async () => {
      story = new Story()
      story.cluster.services.foresee(both().map(parseService))
      if (what === 'this node') list('services', both())
      else list('nodes', [node()])
      await page(sliceOf('a', '10.244.0.1'))
      await page(sliceOf('b', '10.244.0.2'))
      expect(story.takeExecuted()).to.deep.equal([])

      complete(story.cluster)
      await story.bell.settle()
      await page(sliceOf('c', '10.244.0.3'))
      await page(sliceOf('b', '10.244.0.4'))
      expect(story.takeExecuted()).to.include(MADE[2])
    })
  }

  it('touches nothing that is in the kernel, though it knows of a part of its endpoints only', async () => {
    const text = `-A -t ${A}:80 -s rr\n-a -t ${A}:80 -r 10.244.0.1:8080 -m -w 1\n-a -t ${A}:80 -r 10.244.0.7:8080 -m -w 1`
    await begin(both(), FakeKernel.withClusterIps(text))
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))
    expect(story.takeExecuted().filter((line) => line.includes(A))).to.deep.equal([])

    await finish(sliceOf('a', '10.244.0.1', '10.244.0.7'), sliceOf('b', '10.244.0.2'))
    expect(story.takeExecuted().filter((line) => line.includes(A))).to.deep.equal([])
    expect(story.kernel.toString()).to.include(text)
  })

  it("leaves somebody else's address alone", async () => {
    await begin(both(), new FakeKernel(`-A -t ${A}:443 -s wlc`, []))
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))

    expect(story.takeExecuted()).to.deep.equal([])
  })

  it('makes nothing before the kernel has been read, and reads it again where that has failed', async () => {
    const kernel = new FakeKernel()
    let failures = 0
    kernel.beforeCall = (method) => {
      if (method === 'readTables' && failures++ < 1) throw new Error('lost')
    }
    await begin(both(), kernel)
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))
    expect(story.takeExecuted()).to.deep.equal([])

    await finish(sliceOf('a', '10.244.0.1'), sliceOf('b', '10.244.0.2'))
    expect(story.takeExecuted()).to.include.members(MADE)
    expect(story.takeComplaints()).to.deep.equal([
      'the kernel did not answer as it should: reading all of it: lost',
    ])
  })

  it('stops where the kernel does not answer, and all of it is read before anything is made again', async () => {
    const kernel = new FakeKernel()
    let calls = 0
    kernel.beforeCall = (method) => {
      if (method === 'execute' && ++calls === 2) throw new Error('lost')
    }
    await begin([...both(), web('c', '10.96.0.3')], kernel)
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))
    await page(sliceOf('c', '10.244.0.3'))
    expect(kernel.state.virtualServers.size, 'one was lost, the other is not tried').to.be.lessThan(2)

    await finish(sliceOf('a', '10.244.0.1'), sliceOf('b', '10.244.0.2'), sliceOf('c', '10.244.0.3'))
    expect(story.proxy.synced).to.equal(true)
    expect([...kernel.state.addresses].sort()).to.deep.equal([A, '10.96.0.2', '10.96.0.3'])
    expect(story.takeComplaints()).to.deep.equal([
      'the kernel did not answer as it should: reading all of it: lost',
    ])
  })

  it('tries again what the kernel has refused', async () => {
    const kernel = new FakeKernel()
    kernel.refuse = (operation) => (operation.kind === 'createVirtualServer' ? 'ENOMEM' : undefined)
    await begin(both(), kernel)
    await page(sliceOf('a', '10.244.0.1'))
    await page(sliceOf('b', '10.244.0.2'))
    kernel.refuse = () => undefined
    await finish(sliceOf('a', '10.244.0.1'), sliceOf('b', '10.244.0.2'))
    await story.advance(60_000)

    expect(kernel.state.virtualServers.size).to.equal(2)
    expect(kernel.state.addresses.size).to.equal(2)
  })
})
