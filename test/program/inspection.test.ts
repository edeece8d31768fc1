/** What the running program tells of itself: the answers of its local socket, on the loop and a fake kernel. */
import { expect } from 'chai'
import { defaultConfig } from '../../src/config/config.ts'
import { inspectionRoutes } from '../../src/program/report/inspection.ts'
import type { Answer } from '../../src/serve/http.ts'
import type { Explanation, State, VirtualServerList, VirtualServerView } from '../../src/view/documents.ts'
import { formatExplanation, formatVirtualServers } from '../../src/view/tables.ts'
import { textOf } from '../support/answer.ts'
import { endpoint, node, service, slice, STOPPING, TERMINATING, UNREADY } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { Story } from '../support/story.ts'

const pod = (name: string): Record<string, unknown> => ({
  targetRef: { kind: 'Pod', name, namespace: 'shop' },
})
const web = (parts: Parameters<typeof service>[0] = {}): object => service(parts)

describe('the answers to commands', () => {
  let story: Story
  afterEach(() => story.stop())

  async function tell(kernel: FakeKernel, services: object[], slices: object[], own = node()): Promise<void> {
    story = new Story(kernel)
    await story.list(services, slices, [own])
  }
  async function answer(path: string, query: Record<string, string>): Promise<Answer> {
    const config = { ...defaultConfig(), clusterCidrs: [] }
    const routes = inspectionRoutes({
      inspection: story.proxy.inspection,
      current: { config, drains: story.current.drains },
    })
    const answered = await routes[path]!(new URLSearchParams(query), 'GET')
    return { ...answered, body: await textOf(answered) }
  }
  async function get(of = ''): Promise<readonly VirtualServerView[]> {
    const { body, status } = await answer('/v1/virtual-servers', { of })
    expect(status, body).to.equal(200)
    return (JSON.parse(body) as VirtualServerList).virtualServers
  }
  async function explain(of: string, from = ''): Promise<Explanation> {
    const { body, status } = await answer('/v1/explanation', { of, from })
    expect(status, body).to.equal(200)
    return JSON.parse(body) as Explanation
  }
  const statesOf = (views: readonly VirtualServerView[]): Record<string, State> =>
    Object.fromEntries(views.map(({ virtualServer, state }) => [virtualServer, state]))

  it('get: who has a virtual server, its Pods, weights and connections', async () => {
    const endpoints = [endpoint('10.244.2.1', pod('web-a')), endpoint('10.244.2.2')]
    await tell(new FakeKernel(), [web()], [slice({ endpoints })])
    story.kernel.setConnections('10.96.0.10:80/TCP', '10.244.2.1:8080', { active: 3, inactive: 1 })

    expect(await get('shop/web')).to.deep.equal([
      {
        virtualServer: '10.96.0.10:80/TCP',
        service: 'shop/web',
        port: 'http',
        role: 'clusterIp',
        state: 'programmed',
        scheduler: { wanted: 'rr', programmed: 'rr' },
        failures: [],
        realServers: [
          {
            realServer: '10.244.2.1:8080',
            pod: 'shop/web-a',
            node: 'node-2',
            state: 'programmed',
            weight: { wanted: 1, programmed: 1 },
            connections: { active: 3, inactive: 1 },
          },
          {
            realServer: '10.244.2.2:8080',
            node: 'node-2',
            state: 'programmed',
            weight: { wanted: 1, programmed: 1 },
            connections: { active: 0, inactive: 0 },
          },
        ],
      },
    ])
  })

  it('get: by name, address, port and protocol; a word that nobody knows is an error that names it', async () => {
    const other = web({ name: 'other', clusterIP: '10.96.0.11' })
    await tell(new FakeKernel(), [web(), other], [])

    expect(await get()).to.have.length(2)
    for (const text of ['web', '10.96.0.10', '10.96.0.10:80', '10.96.0.10:80/tcp'])
      expect(Object.keys(statesOf(await get(text)))).to.deep.equal(['10.96.0.10:80/TCP'])
    const { status, body } = await answer('/v1/virtual-servers', { of: 'shop/nothing' })
    expect(status).to.equal(404)
    expect(body).to.contain('shop/nothing')
  })

  it('get: a real server that drains, until when, and one that nobody wants', async () => {
    await tell(new FakeKernel(), [web()], [slice({ endpoints: ['10.244.2.1', '10.244.2.2'] })])
    story.kernel.setConnections('10.96.0.10:80/TCP', '10.244.2.1:8080', { active: 1 })
    await story.put(slice({ endpoints: ['10.244.2.2'] }))
    await story.advance(10_000)

    const [{ realServers }] = (await get('web')) as [VirtualServerView]
    const draining = realServers.find(({ state }) => state === 'draining')!
    expect(draining).to.deep.include({ realServer: '10.244.2.1:8080', weight: { programmed: 0 } })
    expect(draining.drainEndsInSeconds).to.be.within(40, 60)
    expect(formatVirtualServers({ virtualServers: await get('web') } as never).join('\n')).to.match(
      /10\.244\.2\.1:8080 .*draining, \d+ s at most/,
    )
  })

  it("get: somebody else's virtual server is foreign", async () => {
    await tell(
      new FakeKernel('-A -t 192.168.50.1:6443 -s wlc\n-a -t 192.168.50.1:6443 -r 10.0.0.1:6443 -m -w 5', []),
      [web()],
      [],
    )

    expect(statesOf(await get())).to.deep.equal({
      '10.96.0.10:80/TCP': 'programmed',
      '192.168.50.1:6443/TCP': 'foreign',
    })
  })

  it('get: what was deleted behind our back is not called programmed', async () => {
    await tell(new FakeKernel(), [web()], [slice({ endpoints: ['10.244.2.1'] })])
    const [server] = story.kernel.state.virtualServers.values()
    server!.realServers.clear()

    const [view] = await get('web')
    expect(view).to.include({ state: 'pending' })
    expect(view!.realServers[0]).to.deep.include({ state: 'pending', weight: { wanted: 1 } })
  })

  for (const errno of ['ENOSPC', 'EPERM'] as const)
    it(`get: ${errno} for 20 objects of 40 Services marks exactly those`, async () => {
      const kernel = new FakeKernel()
      const services = Array.from({ length: 40 }, (_, i) =>
        web({ name: `web-${i}`, clusterIP: `10.96.1.${i}` }),
      )
      // Virtual servers, addresses, set members and real servers: five of each.
      const isBad = (address: string): boolean => Number(address.split('.')[3]) % 2 === 1
      const kindOf = (address: string): number => Math.floor(Number(address.split('.')[3]) / 10)
      kernel.refuse = (operation) => {
        const address =
          'member' in operation
            ? /KUBE-CLUSTER-IP ([\d.]+)/.exec(operation.member)?.[1]
            : 'address' in operation
              ? operation.address
              : operation.of.address
        const kinds = ['createVirtualServer', 'bindAddress', 'addSetMember', 'createRealServer']
        if (address === undefined || !isBad(address)) return undefined
        return operation.kind === kinds[kindOf(address)] ? errno : undefined
      }
      const slices = services.map((_, i) => slice({ service: `web-${i}`, endpoints: [`10.244.3.${i}`] }))
      await tell(kernel, services, slices)

      const failing = (await get()).filter(({ state }) => state === 'failing')
      expect(failing.map(({ virtualServer }) => virtualServer).sort()).to.deep.equal(
        services
          .map((_, i) => `10.96.1.${i}:80/TCP`)
          .filter((_, i) => i % 2 === 1)
          .sort(),
      )
      for (const { failures } of failing) {
        expect(failures).not.to.deep.equal([])
        expect(failures.map(({ reason }) => reason).join()).to.match(new RegExp(`${errno}|NET_ADMIN`, 'i'))
      }
    })

  it('explain: why each endpoint that is out is out', async () => {
    const zoned = (zone: string): Record<string, unknown> => ({ hints: { forZones: [{ name: zone }] } })
    const endpoints = [
      endpoint('10.244.2.1', { ...pod('web-a'), ...zoned('a') }),
      endpoint('10.244.2.2', zoned('b')),
      endpoint('10.244.2.3', { conditions: UNREADY }),
      endpoint('10.244.2.4', { conditions: TERMINATING }),
      endpoint('10.244.2.5', { conditions: STOPPING }),
      endpoint('10.96.0.11'),
    ]
    const other = web({ name: 'other', clusterIP: '10.96.0.11' })
    await tell(new FakeKernel(), [web(), other], [slice({ endpoints })], node('node-1', 'a'))

    const explanation = await explain('web')
    const [frontend] = explanation.frontends
    expect(frontend!.endpoints.map(({ endpoint: at, isIn, reason }) => [at, isIn, reason])).to.deep.equal([
      ['10.244.2.1:8080', true, undefined],
      ['10.244.2.2:8080', false, 'meant for zone b, and this node is in a'],
      ['10.244.2.3:8080', false, 'not ready'],
      ['10.244.2.4:8080', false, 'terminating, and others are ready'],
      ['10.244.2.5:8080', false, 'terminating, and does not serve any more'],
    ])
    expect(explanation.notServed).to.deep.equal(['endpoint 10.96.0.11 is a virtual IP of Services'])
    expect(formatExplanation(explanation).join('\n')).to.contain('shop/web-a').and.contain('out: not ready')
  })

  it('explain: a Local policy keeps endpoints of other nodes out, and says when none is left', async () => {
    const local = web({ spec: { internalTrafficPolicy: 'Local' } })
    await tell(new FakeKernel(), [local], [slice({ endpoints: ['10.244.2.1'] })])

    const [frontend] = (await explain('web')).frontends
    expect(frontend!.endpoints[0]!.reason).to.equal('on node node-2, and the traffic policy is Local')
    expect(frontend!.notes.join()).to.contain('connections are refused')
  })

  it('explain: a conflict that is lost, and to whom; an external IP that is refused, and why', async () => {
    const first = web({ spec: { externalIPs: ['203.0.113.5'] } })
    const later = web({
      name: 'later',
      clusterIP: '10.96.0.12',
      metadata: { creationTimestamp: '2026-02-01T00:00:00Z' },
      spec: { externalIPs: ['203.0.113.5', '127.0.0.9'] },
    })
    await tell(new FakeKernel(), [first, later], [])

    const { notServed } = await explain('shop/later')
    expect(notServed.join('\n'))
      .to.contain('203.0.113.5:80/TCP: shop/web is older')
      .and.contain('127.0.0.9 is ')
  })

  it('explain: who the client is, by its address, its Pod or its node', async () => {
    const endpoints = [endpoint('10.244.1.7', { ...pod('web-a'), nodeName: 'node-1' })]
    await tell(new FakeKernel(), [web()], [slice({ endpoints })])
    const clientOf = async (from: string): Promise<string> => (await explain('web', from)).client

    expect(await clientOf('')).to.equal('a Pod')
    expect(await clientOf('node')).to.equal('a process on this node')
    expect(await clientOf('node-1')).to.equal('a process on this node')
    expect(await clientOf('192.168.50.1')).to.contain('a process on this node')
    expect(await clientOf('198.51.100.9')).to.equal('a client, 198.51.100.9')
    expect(await clientOf('shop/web-a')).to.contain('10.244.1.7')
    const [itself] = (await explain('web', 'web-a')).frontends
    expect(itself!.endpoints[0]).to.deep.include({ isIn: true, seenAs: 'node' })
    const nobody = await answer('/v1/explanation', { of: 'web', from: 'shop/nobody' })
    expect(nobody).to.include({ status: 404 })
    expect(nobody.body).to.contain('shop/nobody')
  })

  it('explain: an endpoint that is out and has connections drains, with so many', async () => {
    await tell(new FakeKernel(), [web()], [slice({ endpoints: ['10.244.2.1', '10.244.2.2'] })])
    story.kernel.setConnections('10.96.0.10:80/TCP', '10.244.2.1:8080', { active: 2, inactive: 1 })
    await story.put(slice({ endpoints: [endpoint('10.244.2.1', { conditions: UNREADY }), '10.244.2.2'] }))

    const [frontend] = (await explain('web')).frontends
    expect(frontend!.endpoints[0]!.reason).to.equal('not ready; it drains, with 3 connections')
  })

  it('explain: a name that may mean two Services is asked back', async () => {
    await tell(new FakeKernel(), [web(), web({ namespace: 'b', clusterIP: '10.96.0.13' })], [])

    const { status, body } = await answer('/v1/explanation', { of: 'web' })
    expect(status).to.equal(404)
    expect(body).to.contain('shop/web').and.contain('b/web')
  })
})
