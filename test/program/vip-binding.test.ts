import { expect } from 'chai'
import type { Bound } from '../../src/model/binding.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { parseNode, parseService } from '../../src/model/facts/parse-facts.ts'
import { bindingInUse, openVipBinding, wantedBinding } from '../../src/program/choices/vip-binding.ts'
import { openLife } from '../../src/program/life.ts'
import type { NodeHappening } from '../../src/program/report/node-events.ts'
import { service } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { recordingLog } from '../support/log.ts'

const annotated = (binding?: string): unknown => ({
  metadata: {
    name: 'node-1',
    annotations: binding === undefined ? {} : { 'kube-ipvs.io/vip-binding': binding },
  },
})
const boundAs = (...bound: readonly Bound[]): Map<never, Bound> =>
  new Map(bound.map((one, i) => [`10.96.0.${i + 1}` as never, one]))
const refusal = (): Promise<void> =>
  Promise.reject(new Error('Cannot bind virtual IPs as routes: EOPNOTSUPP'))

describe('the VIP binding in use at a start', () => {
  const table: readonly (readonly [string, readonly Bound[], boolean, string])[] = [
    ['what the flag says where nothing is bound', [], true, 'route'],
    ['address where nothing is bound and the kernel takes no routes', [], false, 'address'],
    ['address where addresses are bound, whatever the flag says', ['address', 'address'], true, 'address'],
    ['route where a switch was nearly over', ['both', 'route', 'route'], true, 'route'],
    ['address where a switch had just begun', ['address', 'address', 'both'], true, 'address'],
  ]
  for (const [name, bound, isAvailable, expected] of table)
    it(`is ${name}`, async () => {
      const found = await bindingInUse({ addresses: boundAs(...bound) }, 'route', () =>
        isAvailable ? Promise.resolve(true) : Promise.reject(new Error('EOPNOTSUPP')),
      )
      expect(found).to.equal(expected)
    })
})

describe('openVipBinding', () => {
  async function open(probeRoutes: () => Promise<void>, bound: readonly Bound[] = ['address']) {
    const told: string[] = []
    const events: NodeHappening[] = []
    const cluster = new Cluster('node-1', () => undefined)
    cluster.services.put(parseService(service()))
    cluster.takeDirty()
    const life = openLife(new AbortController().signal)
    const choice = await openVipBinding({
      ...{ kernel: { probeRoutes }, tables: { addresses: boundAs(...bound) }, families: new Set(['IPv4']) },
      ...{ cluster, vipBinding: 'address', life, log: recordingLog().log },
      metrics: { setVipBinding: (name) => void told.push(name) },
      recordNodeEvent: (event) => void events.push(event),
    })
    return { choice, cluster, events, told, life }
  }

  it('switches when the node asks for it: every Service is mapped anew, and it is told', async () => {
    const { choice, cluster, events, told, life } = await open(() => Promise.resolve())
    cluster.nodes.put(parseNode(annotated('route')))
    await eventually(() => expect(told).to.deep.equal(['address', 'route']))

    expect([choice.current, cluster.takeDirty()]).to.deep.equal(['route', ['shop/web']])
    expect(events.map(({ reason, note }) => `${reason}: ${note}`)).to.deep.equal([
      'VipBindingChanged: Virtual IPs are now bound as routes',
    ])
    cluster.nodes.put(parseNode(annotated()))
    await eventually(() => expect(told).to.deep.equal(['address', 'route', 'address']))
    await life.end()
  })

  it('keeps addresses where the kernel takes no routes, and says what to do', async () => {
    const { choice, cluster, events, told, life } = await open(refusal)
    cluster.nodes.put(parseNode(annotated('route')))
    await eventually(() => expect(events).to.have.length(1))

    expect(events[0]).to.include({ type: 'Warning', reason: 'VipBindingUnavailable' })
    expect(events[0]!.note).to.contain('address stays: lo has to be up')
    expect([choice.current, told, cluster.takeDirty()]).to.deep.equal(['address', ['address'], []])
    await life.end()
  })

  it('goes by the flag where the annotation says nothing', () => {
    const { fact: node } = parseNode(annotated())
    expect(wantedBinding({ node: node! }, 'route')).to.equal('route')
    expect(wantedBinding({ node: parseNode(annotated('address')).fact! }, 'route')).to.equal('address')
    expect(wantedBinding({ node: undefined }, 'address')).to.equal('address')
  })
})
