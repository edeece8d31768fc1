/** At a start, nobody is served at an address that another Service gets, not for a moment. */
import { expect } from 'chai'
import { service, slice } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { Story } from '../support/story.ts'

type Json = Record<string, unknown>
const VIP = '203.0.113.10'
const at = (day: number): Json => ({ creationTimestamp: `2026-01-${day}T00:00:00Z` })
const victim = (spec: Json, status: Json = {}): Json => ({
  ...service({ name: 'victim', clusterIP: '10.96.0.10', metadata: at(15), spec }),
  status,
})
const evil = (metadata: Json, spec: Json): Json =>
  service({ name: 'evil', namespace: 'evil', clusterIP: '10.96.0.11', metadata, spec })
const balancer = { loadBalancer: { ingress: [{ ip: VIP }] } }

describe('at a start', () => {
  const cases: readonly (readonly [string, Json, Json])[] = [
    [
      'a Service that says to be DNS is no older for that',
      victim({ externalIPs: [VIP] }),
      evil({ ...at(20), labels: { 'k8s-app': 'kube-dns' } }, { externalIPs: [VIP] }),
    ],
    [
      'an older external IP does not come before a load balancer',
      victim({ type: 'LoadBalancer' }, balancer),
      evil(at(10), { externalIPs: [VIP] }),
    ],
  ]
  const others = Array.from({ length: 300 }, (_, i) =>
    service({ name: `s${i}`, clusterIP: `10.97.${i >> 8}.${i & 255}`, metadata: at(11) }),
  )
  for (const [name, mine, theirs] of cases) {
    for (const isRestart of [false, true])
      it(`${name}${isRestart ? ', nor after a restart' : ''}`, async () => {
        const left = `-A -t ${VIP}:80 -s rr\n-a -t ${VIP}:80 -r 10.244.0.1:8080 -m -w 1`
        const story = new Story(isRestart ? new FakeKernel(left) : new FakeKernel())
        await story.list(
          [theirs, ...others, mine],
          [
            slice({ service: 'victim', endpoints: ['10.244.0.1'] }),
            slice({ service: 'evil', namespace: 'evil', endpoints: ['10.244.6.6'] }),
          ],
        )

        const lines = story.takeExecuted().filter((line) => line.includes(`${VIP}:80`))
        expect(lines.filter((line) => line.includes('10.244.6.6') || line.includes('-w 0'))).to.deep.equal([])
        expect(story.kernel.toString()).to.contain(`-a -t ${VIP}:80 -r 10.244.0.1:8080 -m -w 1`)
        await story.stop()
      })
  }

  it('says ten refusals of a Service, and how many more there are', async () => {
    const story = new Story()
    const many = Array.from({ length: 25 }, (_, i) => `127.0.0.${i + 1}`)
    await story.list([victim({ externalIPs: many })], [slice({ service: 'victim', endpoints: many })])

    const told = (reason: string): string[] =>
      story.events.filter((event) => event.reason === reason).map(({ note }) => note)
    for (const reason of ['ExternalAddressRefused', 'EndpointRefused']) {
      expect(told(reason)).to.have.length(11)
      expect(told(reason).at(-1)).to.contain('15 more are refused')
    }
    expect(await story.metrics.registry.metrics()).to.contain('kube_ipvs_refused_endpoints 25')
    await story.stop()
  })

  it('serves Pods whose addresses are in the network of cluster IPs, as long as no Service has them', async () => {
    const story = new Story()
    const cidr = { metadata: { name: 'kubernetes' }, spec: { cidrs: ['10.96.0.0/12'] } }
    const pods = slice({ service: 'victim', endpoints: ['10.100.0.1', '10.100.0.2'] })
    await story.list([victim({})], [pods], [], [cidr])
    expect(story.kernel.toString()).to.contain('-r 10.100.0.1:8080').and.contain('-r 10.100.0.2:8080')

    await story.put(service({ name: 'late', clusterIP: '10.100.0.2' }))
    expect(story.kernel.toString())
      .to.contain('-r 10.100.0.1:8080 -m -w 1')
      .and.not.contain('-r 10.100.0.2:8080 -m -w 1')
    await story.removeService('shop/late')
    expect(story.kernel.toString()).to.contain('-r 10.100.0.2:8080 -m -w 1')
    await story.stop()
  })
})
