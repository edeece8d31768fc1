import { expect } from 'chai'
import { Reporter } from '../../src/loop/reporter.ts'
import { parseAddress } from '../../src/model/address.ts'
import type { LocalLack } from '../../src/model/claims/local-endpoints.ts'
import { virtualServerId } from '../../src/model/virtual-server.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import type { Happening } from '../../src/source/events.ts'
import { recordingLog } from '../support/log.ts'

const { key } = virtualServerId(parseAddress('10.96.0.10')!, 80, 'TCP')

describe('Reporter', () => {
  function make() {
    const { log, lines } = recordingLog('info')
    const metrics = new Metrics({ defaults: false })
    const events: Happening[] = []
    const reporter = new Reporter({ log, metrics, recordEvent: (happening) => events.push(happening) })
    const metric = async (line: string): Promise<string | undefined> =>
      (await metrics.registry.metrics()).split('\n').find((text) => text.startsWith(`${line} `))
    return { reporter, metric, said: () => lines.splice(0).map(({ msg }) => msg), events }
  }

  it('says each refusal once, and counts them all', async () => {
    const { reporter, metric, said, events } = make()
    reporter.refusals('shop/web', ['127.0.0.1 is a loopback address'])
    reporter.refusals('shop/web', ['127.0.0.1 is a loopback address', '::1 is a loopback address'])

    expect(said()).to.have.length(2)
    expect(events).to.deep.equal(
      ['127.0.0.1', '::1'].map((address) => ({
        type: 'Warning',
        reason: 'ExternalAddressRefused',
        action: 'ServeVirtualServer',
        regarding: { kind: 'Service', name: 'web', namespace: 'shop' },
        note: `Not served: ${address} is a loopback address`,
      })),
    )
    expect(await metric('kube_ipvs_refused_addresses')).to.match(/ 2$/)
    reporter.refusals('shop/web', [])
    expect(await metric('kube_ipvs_refused_addresses')).to.match(/ 0$/)
    expect(said()).to.deep.equal([])
  })

  it('counts Services without local endpoints by traffic and family', async () => {
    const { reporter, metric } = make()
    const name = 'kubeproxy_sync_proxy_rules_no_local_endpoints_total'
    const lacks: LocalLack[] = [
      { traffic: 'internal', family: 'IPv4' },
      { traffic: 'external', family: 'IPv6' },
    ]
    reporter.lacks('shop/web', lacks)
    reporter.lacks('shop/other', lacks.slice(0, 1))
    reporter.lacks('shop/other', lacks.slice(0, 1))

    expect(await metric(`${name}{traffic_policy="internal",ip_family="IPv4"}`)).to.match(/ 2$/)
    expect(await metric(`${name}{traffic_policy="external",ip_family="IPv6"}`)).to.match(/ 1$/)
    expect(await metric(`${name}{traffic_policy="external",ip_family="IPv4"}`)).to.match(/ 0$/)
    reporter.lacks('shop/web', [])
    expect(await metric(`${name}{traffic_policy="internal",ip_family="IPv4"}`)).to.match(/ 1$/)
  })

  it('says a conflict once, to the Service that loses, and that it is over', async () => {
    const { reporter, metric, said, events } = make()
    const conflict = [{ loser: 'shop/young', reason: 'shop/web is older' }]
    reporter.conflicts(key, conflict)
    reporter.conflicts(key, conflict)

    expect(await metric('kube_ipvs_conflicts')).to.match(/ 1$/)
    expect(events.map(({ reason, regarding, note }) => [reason, regarding.name, note])).to.deep.equal([
      ['VirtualServerConflict', 'young', '10.96.0.10:80/TCP is not served: shop/web is older'],
    ])
    reporter.conflicts(key, [])
    reporter.conflicts(key, [])
    expect(said()).to.deep.equal([
      'conflict over a virtual server',
      'conflict over a virtual server has ended',
    ])
    expect(await metric('kube_ipvs_conflicts')).to.match(/ 0$/)
  })
})
