/** Draining by hand: over the answers of the local socket, on the loop and a fake kernel. */
import { expect } from 'chai'
import { defaultConfig } from '../../src/config/config.ts'
import { drainRoutes } from '../../src/program/choices/drains.ts'
import { inspectionRoutes } from '../../src/program/report/inspection.ts'
import type { VirtualServerKey } from '../../src/model/virtual-server.ts'
import type { Answer } from '../../src/serve/http.ts'
import type { DrainList, Explanation, VirtualServerList } from '../../src/view/documents.ts'
import { formatDrains, formatVirtualServers } from '../../src/view/tables.ts'
import { textOf } from '../support/answer.ts'
import { endpoint, node, service, slice, TERMINATING } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { recordingLog } from '../support/log.ts'
import { Story } from '../support/story.ts'

const WEB = '10.96.0.10:80/TCP' as VirtualServerKey
const pod = (name: string): Record<string, unknown> => ({
  targetRef: { kind: 'Pod', name, namespace: 'shop' },
})
const WEB_A = endpoint('10.244.2.1', pod('web-a'))
const WEB_B = endpoint('10.244.2.2', pod('web-b'))

describe('draining by hand', () => {
  let story: Story
  let told: object[]
  beforeEach(async () => {
    const kernel = new FakeKernel()
    story = new Story(kernel)
    await story.list([service()], [slice({ endpoints: [WEB_A, WEB_B] })], [node()])
    kernel.setConnections(WEB, '10.244.2.1:8080', { active: 3, inactive: 0 })
    told = []
  })
  afterEach(() => story.stop())

  async function answer(method: string, path: string, query: Record<string, string> = {}): Promise<Answer> {
    const { inspection } = story.proxy
    const { log, lines } = recordingLog()
    const current = Object.assign(story.current, { config: { ...defaultConfig(), clusterCidrs: [] } })
    const routes = {
      ...inspectionRoutes({ inspection, current }),
      ...drainRoutes({ inspection, current, metrics: story.metrics, log }),
    }
    const answered = await routes[path]!(new URLSearchParams(query), method)
    await story.bell.settle()
    told.push(...lines)
    return { ...answered, body: await textOf(answered) }
  }
  async function change(path: '/v1/drain' | '/v1/undrain', of: string): Promise<DrainList> {
    const { status, body } = await answer('POST', path, { of })
    expect(status, body).to.equal(200)
    return JSON.parse(body) as DrainList
  }
  async function refusal(path: '/v1/drain' | '/v1/undrain', of: string): Promise<string> {
    const { status, body } = await answer('POST', path, { of })
    expect(status).to.equal(404)
    return body
  }
  async function get(): Promise<string> {
    const { body } = await answer('GET', '/v1/virtual-servers')
    return formatVirtualServers(JSON.parse(body) as VirtualServerList).join('\n')
  }
  const weights = (): Record<string, number> =>
    Object.fromEntries(
      [...story.kernel.state.virtualServers.get(WEB)!.realServers.values()].map(({ key, settings }) => [
        key,
        settings.weight,
      ]),
    )

  for (const name of ['shop/web-a', 'web-a', '10.244.2.1'])
    it(`takes ${name} out of service, and lets its connections end`, async () => {
      const list = await change('/v1/drain', name)

      expect(list.drains.map(({ drained }) => drained)).to.deep.equal([
        name === 'web-a' ? 'shop/web-a' : name,
      ])
      expect(list.drains[0]!.services).to.deep.equal([
        { service: 'shop/web', endpointsLeft: 1, refusing: [] },
      ])
      expect(weights()).to.deep.equal({ '10.244.2.1:8080': 0, '10.244.2.2:8080': 1 })
      await story.advance(3_600_000)
      expect(weights(), 'without a deadline').to.deep.equal({ '10.244.2.1:8080': 0, '10.244.2.2:8080': 1 })

      story.kernel.setConnections(WEB, '10.244.2.1:8080', { active: 0, inactive: 0 })
      await story.advance(600_000)
      expect(weights()).to.deep.equal({ '10.244.2.2:8080': 1 })
    })

  it('is shown by get, explain, the log and a metric', async () => {
    await change('/v1/drain', 'shop/web-a')

    expect(await get()).to.match(/10\.244\.2\.1:8080.*draining, drained by hand$/m)
    expect(await get()).to.contain('Drained by hand: shop/web-a')
    const { body } = await answer('GET', '/v1/explanation', { of: 'shop/web' })
    const [frontend] = (JSON.parse(body) as Explanation).frontends
    expect(frontend!.endpoints.map(({ isIn, reason = '' }) => [isIn, reason])).to.deep.equal([
      [false, 'drained by hand: "kube-ipvs undrain shop/web-a" ends it; it drains, with 3 connections'],
      [true, ''],
    ])
    expect(JSON.stringify(told)).to.contain('drained by hand, until')
    expect(await story.metrics.registry.metrics()).to.match(/^kube_ipvs_drained_by_hand 1$/m)
  })

  it('ends with undrain, under the name that it has', async () => {
    await change('/v1/drain', 'web-a')
    expect(await refusal('/v1/undrain', '10.244.2.1')).to.contain('Drained: shop/web-a')

    expect((await change('/v1/undrain', 'web-a')).drains).to.deep.equal([])
    expect(weights()).to.deep.equal({ '10.244.2.1:8080': 1, '10.244.2.2:8080': 1 })
    expect(await get()).not.to.contain('by hand')
    expect(await story.metrics.registry.metrics()).to.match(/^kube_ipvs_drained_by_hand 0$/m)
  })

  it('follows a Pod to its new address, and leaves who gets the old one alone', async () => {
    await change('/v1/drain', 'shop/web-a')
    const moved = [endpoint('10.244.2.3', pod('web-a')), endpoint('10.244.2.1', pod('web-c')), WEB_B]
    await story.put(slice({ endpoints: moved }))

    expect(weights()).to.deep.equal({ '10.244.2.1:8080': 1, '10.244.2.2:8080': 1 })
  })

  it('says that no endpoint is left', async () => {
    await change('/v1/drain', 'web-a')
    const list = await change('/v1/drain', 'web-b')

    expect(formatDrains(list).join('\n')).to.contain(
      'shop/web: no endpoint is left, NEW CONNECTIONS ARE REFUSED: 10.96.0.10:80/TCP',
    )
    expect(list.drains.length).to.equal(2)
  })

  it('says what is left of what policies choose from', async () => {
    const local = { name: 'local', clusterIP: '10.96.0.12', spec: { internalTrafficPolicy: 'Local' } }
    const here = endpoint('10.244.1.1', { nodeName: 'node-1', ...pod('local-a') })
    const there = endpoint('10.244.2.7', pod('local-b'))
    await story.put(service(local), slice({ service: 'local', endpoints: [here, there] }))
    const [{ services }] = (await change('/v1/drain', 'local-a')).drains as [DrainList['drains'][number]]
    expect(services).to.deep.equal([
      { service: 'shop/local', endpointsLeft: 0, refusing: ['10.96.0.12:80/TCP'] },
    ])

    const leaving = endpoint('10.244.2.8', { conditions: TERMINATING, ...pod('end-b') })
    const ready = endpoint('10.244.2.9', pod('end-a'))
    await story.put(
      service({ name: 'end', clusterIP: '10.96.0.13' }),
      slice({ service: 'end', endpoints: [ready, leaving] }),
    )
    const drained = (await change('/v1/drain', 'end-a')).drains.at(-1)!
    expect(drained.services).to.deep.equal([{ service: 'shop/end', endpointsLeft: 1, refusing: [] }])
  })

  it('takes nothing that is no endpoint, or may be several', async () => {
    const other = { endpoints: [endpoint('10.244.3.1', { targetRef: { kind: 'Pod', name: 'web-a' } })] }
    await story.put(service({ namespace: 'lab', clusterIP: '10.96.0.11' }))
    await story.put(slice({ namespace: 'lab', ...other }))

    expect(await refusal('/v1/drain', 'web')).to.contain('No endpoint of a Service is "web"')
    expect(await refusal('/v1/drain', '')).to.contain('No endpoint')
    expect(await refusal('/v1/drain', '10.96.0.10')).to.contain('No endpoint')
    expect(await refusal('/v1/drain', 'web-a')).to.contain('may be shop/web-a, lab/web-a')
    expect(await refusal('/v1/undrain', 'web-a')).to.contain('Drained: nothing')
    expect(story.current.drains.size).to.equal(0)
  })

  it('is changed by POST alone', async () => {
    for (const path of ['/v1/drain', '/v1/undrain'])
      expect((await answer('GET', path, { of: 'web-a' })).status).to.equal(405)
    expect(story.current.drains.size).to.equal(0)
  })
})
