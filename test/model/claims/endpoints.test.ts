import { expect } from 'chai'
import { collectBackends, selectBackends } from '../../../src/model/claims/endpoints.ts'
import type { EndpointSlice, TrafficPolicy } from '../../../src/model/facts/facts.ts'
import { parseEndpointSlice } from '../../../src/model/facts/parse-facts.ts'
import {
  endpoint,
  READY,
  slice,
  type SliceParts,
  STOPPING,
  TERMINATING,
  UNREADY,
} from '../../support/builders.ts'
import { withRandom } from '../../support/random.ts'

const HTTP = { name: 'http', protocol: 'TCP' } as const
const HERE = { nodeName: 'node-1', zone: 'a' }

function slices(...parts: readonly SliceParts[]): EndpointSlice[] {
  return parts.map((part, i) => parseEndpointSlice(slice({ name: `web-${i}`, ...part })).fact!)
}

describe('collectBackends', () => {
  const keys = (
    of: EndpointSlice[],
    port: { name: string; protocol: 'TCP' | 'UDP' | 'SCTP' } = HTTP,
  ): string[] => collectBackends(of, port, 'IPv4').map(({ realServer }) => realServer.key)

  it('joins all slices of the family, sorted as text', () => {
    const several = slices(
      { endpoints: ['10.0.0.3'] },
      { endpoints: ['10.0.0.10', '10.0.0.1'] },
      { addressType: 'IPv6', endpoints: ['fd00::1'] },
    )

    expect(keys(several)).to.deep.equal(['10.0.0.10:8080', '10.0.0.1:8080', '10.0.0.3:8080'].sort())
  })

  it('resolves a named target port to another number in each slice', () => {
    const several = slices(
      { ports: [{ name: 'http', port: 8080 }], endpoints: ['10.0.0.1'] },
      { ports: [{ name: 'http', port: 9090 }], endpoints: ['10.0.0.2'] },
    )

    expect(keys(several)).to.deep.equal(['10.0.0.1:8080', '10.0.0.2:9090'])
  })

  it('tells ports of one name and different protocols apart', () => {
    const both = slices({
      ports: [
        { name: 'dns', port: 53, protocol: 'UDP' },
        { name: 'dns', port: 5353, protocol: 'TCP' },
      ],
      endpoints: ['10.0.0.1'],
    })

    expect(keys(both, { name: 'dns', protocol: 'UDP' })).to.deep.equal(['10.0.0.1:53'])
    expect(keys(both, { name: 'dns', protocol: 'TCP' })).to.deep.equal(['10.0.0.1:5353'])
    expect(keys(both, { name: 'dns', protocol: 'SCTP' })).to.deep.equal([])
  })

  it('keeps one address on several ports', () => {
    const several = slices(
      { endpoints: ['10.0.0.1'] },
      { ports: [{ name: 'http', port: 81 }], endpoints: ['10.0.0.1'] },
    )

    expect(keys(several)).to.deep.equal(['10.0.0.1:8080', '10.0.0.1:81'])
  })

  const duplicates: readonly [string, object, object, object][] = [
    ['a ready one over a terminating one', READY, TERMINATING, READY],
    ['an unready one over a terminating one', UNREADY, TERMINATING, UNREADY],
    ['a ready one over an unready one', READY, UNREADY, READY],
    ['a serving one over a stopping one', TERMINATING, STOPPING, TERMINATING],
  ]
  for (const [name, one, other, expected] of duplicates) {
    it(`prefers ${name} among duplicates, in either order`, () => {
      const make = (...conditions: object[]): EndpointSlice[] =>
        slices(
          ...conditions.map((condition) => ({
            endpoints: [endpoint('10.0.0.1', { conditions: condition })],
          })),
        )
      for (const order of [make(one, other), make(other, one)]) {
        const [backend, ...more] = collectBackends(order, HTTP, 'IPv4')

        expect(more).to.deep.equal([])
        expect(backend!.endpoint).to.include(expected)
      }
    })
  }

  it('gives the same for every order of slices and endpoints (500 shuffles)', () =>
    withRandom((random) => {
      const endpoints = Array.from({ length: 12 }, () =>
        endpoint(`10.0.0.${random.int(6)}`, {
          conditions: random.pick([READY, UNREADY, TERMINATING, STOPPING]),
          nodeName: 'n',
        }),
      )
      const collect = (list: object[]): unknown => {
        const half = random.int(list.length)
        return collectBackends(
          slices({ endpoints: list.slice(0, half) as never }, { endpoints: list.slice(half) as never }),
          HTTP,
          'IPv4',
        )
      }
      const expected = collect(endpoints)
      for (let i = 0; i < 500; i++) expect(collect(random.shuffle(endpoints))).to.deep.equal(expected)
    }))
})

describe('selectBackends', () => {
  interface Case {
    readonly name: string
    readonly policy?: TrafficPolicy
    readonly zone?: string | undefined
    readonly endpoints: readonly object[]
    readonly inService: readonly string[]
    readonly lingering?: readonly string[]
  }
  const at = (address: string, parts: object = {}): object =>
    endpoint(`10.0.0.${address}`, { nodeName: 'node-1', ...parts })
  const zones = (...names: string[]): object => ({ hints: { forZones: names.map((name) => ({ name })) } })
  const nodes = (...names: string[]): object => ({ hints: { forNodes: names.map((name) => ({ name })) } })
  const away = { nodeName: 'node-2' }

  const cases: readonly Case[] = [
    { name: 'no endpoints', endpoints: [], inService: [] },
    { name: 'all ready', endpoints: [at('1'), at('2', away)], inService: ['1', '2'] },
    {
      name: 'an unready one lingers',
      endpoints: [at('1'), at('2', { conditions: UNREADY })],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'a terminating one lingers while others are ready',
      endpoints: [at('1'), at('2', { conditions: TERMINATING })],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'only terminating ones: those that serve',
      endpoints: [at('1', { conditions: TERMINATING }), at('2', { conditions: STOPPING })],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'an unready one that serves is not used',
      endpoints: [at('1', { conditions: { ready: false, serving: true } })],
      inService: [],
      lingering: ['1'],
    },
    {
      name: 'Local: the local ones',
      policy: 'Local',
      endpoints: [at('1'), at('2', away)],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'Local without a local one: none, never a remote one',
      policy: 'Local',
      endpoints: [at('2', away)],
      inService: [],
      lingering: ['2'],
    },
    {
      name: 'Local with only terminating local ones: those that serve',
      policy: 'Local',
      endpoints: [at('1', { conditions: TERMINATING }), at('2', away)],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'Local ignores hints',
      policy: 'Local',
      endpoints: [at('1', zones('b')), at('2', zones('b'))],
      inService: ['1', '2'],
    },
    {
      name: 'zone hints for our zone',
      endpoints: [at('1', zones('a')), at('2', zones('b'))],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'several zones in one hint',
      endpoints: [at('1', zones('b', 'a')), at('2', zones('b'))],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'no hint for our zone: all',
      endpoints: [at('1', zones('b')), at('2', zones('c'))],
      inService: ['1', '2'],
    },
    {
      name: 'one endpoint without a hint: all',
      endpoints: [at('1', zones('a')), at('2')],
      inService: ['1', '2'],
    },
    {
      name: 'a node without a zone: all',
      zone: undefined,
      endpoints: [at('1', zones('a')), at('2', zones('b'))],
      inService: ['1', '2'],
    },
    {
      name: 'unready endpoints do not need a hint',
      endpoints: [at('1', zones('a')), at('2', zones('b')), at('3', { conditions: UNREADY })],
      inService: ['1'],
      lingering: ['2', '3'],
    },
    {
      name: 'only unready ones in our zone: all ready',
      endpoints: [at('1', { ...zones('a'), conditions: UNREADY }), at('2', zones('b'))],
      inService: ['2'],
      lingering: ['1'],
    },
    {
      name: 'terminating fall-back ignores hints',
      endpoints: [at('1', { ...zones('b'), conditions: TERMINATING })],
      inService: ['1'],
    },
    {
      name: 'node hints before zone hints',
      endpoints: [
        at('1', { hints: { forNodes: [{ name: 'node-1' }], forZones: [{ name: 'b' }] } }),
        at('2', { hints: { forNodes: [{ name: 'node-2' }], forZones: [{ name: 'a' }] } }),
      ],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'no node hint for us: zone hints',
      endpoints: [
        at('1', { hints: { forNodes: [{ name: 'node-2' }], forZones: [{ name: 'a' }] } }),
        at('2', { hints: { forNodes: [{ name: 'node-2' }], forZones: [{ name: 'b' }] } }),
      ],
      inService: ['1'],
      lingering: ['2'],
    },
    {
      name: 'one endpoint without a node hint: node hints do not count',
      endpoints: [at('1', nodes('node-1')), at('2')],
      inService: ['1', '2'],
    },
  ]
  for (const { name, policy = 'Cluster', endpoints, inService, lingering = [], ...rest } of cases) {
    it(name, () => {
      const backends = collectBackends(slices({ endpoints: endpoints as never }), HTTP, 'IPv4')
      const place = { ...HERE, ...('zone' in rest ? { zone: rest.zone } : {}) }

      const selection = selectBackends(backends, policy, place)

      const key = (last: string): string => `10.0.0.${last}:8080`
      expect(selection.inService.map(({ realServer }) => realServer.key)).to.deep.equal(inService.map(key))
      expect([...selection.lingering]).to.deep.equal(lingering.map(key))
    })
  }
})
