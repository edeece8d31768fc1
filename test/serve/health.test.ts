import { expect } from 'chai'
import type { Family } from '../../src/model/address.ts'
import { ProxyHealth } from '../../src/serve/health.ts'

const START = Date.UTC(2026, 0, 1)

describe('why a node is not eligible', () => {
  const cases: readonly (readonly [string, boolean, string | undefined, readonly string[] | undefined])[] = [
    ['is said', false, 'There is no Node "x"', ['There is no Node "x"']],
    ['is left out where it is not known', false, undefined, undefined],
    ['is nothing where it is', true, 'There is no Node "x"', undefined],
  ]
  for (const [name, isEligible, problem, reasons] of cases) {
    it(name, () => {
      const health = new ProxyHealth({
        families: ['IPv4'],
        isNodeEligible: () => isEligible,
        nodeProblem: () => problem,
        staleAfterMs: () => 60_000,
        now: () => new Date(0),
      })
      health.updated()

      expect((health.readiness().body as { reasons?: string[] }).reasons).to.deep.equal(reasons)
      expect(health.readiness().isOk).to.equal(isEligible)
      expect(health.liveness().isOk, 'the process goes on').to.equal(true)
    })
  }
})

describe('ProxyHealth', () => {
  let time: number
  let isNodeEligible: boolean
  let health: ProxyHealth
  let counts: number[]
  beforeEach(() => {
    time = START
    isNodeEligible = true
    counts = []
    health = new ProxyHealth({
      families: ['IPv4', 'IPv6'] satisfies Family[],
      isNodeEligible: () => isNodeEligible,
      staleAfterMs: () => 60_000,
      faultAfterMs: 5_000,
      onFaults: (count) => counts.push(count),
      now: () => new Date(time),
    })
  })
  const both = (): boolean[] => [health.readiness().isOk, health.liveness().isOk]

  it('is not healthy before the first sync', () => {
    expect(both()).to.deep.equal([false, false])
    expect(JSON.stringify(health.readiness().body)).to.equal(
      '{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"2026-01-01T00:00:00Z","nodeEligible":true,"healthy":false}',
    )
  })

  it("says kube-proxy's words when all is well: the last update is now", () => {
    health.updated()
    time = START + 1_500

    expect(both()).to.deep.equal([true, true])
    const status =
      '"status":{"IPv4":{"lastUpdated":"2026-01-01T00:00:00Z","healthy":true},"IPv6":{"lastUpdated":"2026-01-01T00:00:00Z","healthy":true}}'
    const times = '"lastUpdated":"2026-01-01T00:00:01.5Z","currentTime":"2026-01-01T00:00:01.5Z"'
    expect(JSON.stringify(health.readiness().body)).to.equal(
      `{${times},"nodeEligible":true,"healthy":true,${status}}`,
    )
    expect(JSON.stringify(health.liveness().body)).to.equal(`{${times},"healthy":true,${status}}`)
  })

  it('is not healthy when a change has waited for too long, counted from the first', () => {
    health.updated()
    health.queued()
    time += 59_999
    health.queued()
    expect(both()).to.deep.equal([true, true])
    time += 1
    expect(both()).to.deep.equal([false, false])
    expect(health.liveness().body).to.deep.include({ lastUpdated: '2026-01-01T00:00:00Z', healthy: false })

    health.updated()
    expect(both()).to.deep.equal([true, true])
  })

  it('stays healthy for ever when nothing changes', () => {
    health.updated()
    time += 86_400_000
    expect(both()).to.deep.equal([true, true])
  })

  it('tells load balancers that the node leaves, and nobody else', () => {
    health.updated()
    isNodeEligible = false
    time += 5_000

    expect(both()).to.deep.equal([false, true])
    expect(health.readiness().body).to.deep.include({
      lastUpdated: '2026-01-01T00:00:00Z',
      nodeEligible: false,
      healthy: true,
    })
  })

  describe('while something is missing', () => {
    const rules = new Map([['IPv4', 'no iptables']])
    beforeEach(() => {
      health.updated()
    })
    const reasons = (): unknown => (health.readiness().body as { reasons?: unknown }).reasons
    const after = (ms: number): boolean => {
      time += ms
      return health.healthy
    }

    it('says so at once, and is not healthy when that lasts', () => {
      health.faults('rules', rules)
      expect(both()).to.deep.equal([true, true])
      expect(reasons()).to.deep.equal(['no iptables'])
      expect(health.lastingFaults).to.deep.equal([])

      expect(after(4_999)).to.equal(true)
      expect(after(1)).to.equal(false)
      expect(both()).to.deep.equal([false, false])
      expect(health.lastingFaults).to.deep.equal(['no iptables'])
      expect(JSON.stringify(health.liveness().body)).to.match(
        /^\{"lastUpdated":"2026-01-01T00:00:00Z","currentTime":"2026-01-01T00:00:05Z","healthy":false,"status":\{.*\},"reasons":\["no iptables"\]\}$/,
      )
    })

    it('is a minute, unless given', () => {
      const usual = new ProxyHealth({
        ...{ families: ['IPv4'], isNodeEligible: () => true, staleAfterMs: () => 60_000 },
        now: () => new Date(time),
      })
      usual.updated()
      usual.faults('rules', rules)
      time += 59_999
      expect(usual.healthy).to.equal(true)
      time += 1
      expect(usual.healthy).to.equal(false)
    })

    it('counts from when it was first missing, whatever is said of it since', () => {
      health.faults('rules', rules)
      time += 3_000
      health.faults('rules', new Map([['IPv4', 'another reason']]))

      expect(after(2_000)).to.equal(false)
      expect(reasons()).to.deep.equal(['another reason'])
    })

    it('counts anew for what was there in between, and for something else', () => {
      health.faults('rules', rules)
      time += 4_000
      health.faults('rules', new Map())
      health.faults('rules', rules)
      health.faults('rules', new Map([['IPv6', 'no ip6tables']]))

      expect(after(4_000)).to.equal(true)
      expect(after(1_000)).to.equal(false)
    })

    it('no kind takes away another', () => {
      health.faults('rules', rules)
      health.faults('sets', new Map([['KUBE-CLUSTER-IP', 'of another type']]))
      health.faults('addresses', new Map())
      expect(after(5_000)).to.equal(false)
      health.faults('rules', new Map())

      expect(health.lastingFaults).to.deep.equal(['of another type'])
      health.faults('sets', new Map())
      expect(both()).to.deep.equal([true, true])
      expect(reasons()).to.equal(undefined)
      expect(counts).to.deep.equal([1, 2, 2, 1, 0])
    })

    it('a sync does not make up for it', () => {
      health.faults('sets', new Map([['KUBE-CLUSTER-IP', 'of another type']]))
      time += 5_000
      health.updated()

      expect(both()).to.deep.equal([false, false])
    })

    it('names ten of a kind, equal ones once, and how many more', () => {
      const many = Array.from({ length: 25 }, (_, i): [string, string] => [`a${i}`, `reason ${i % 13}`])
      health.faults('addresses', new Map(many))

      expect(reasons()).to.deep.equal([
        ...Array.from({ length: 10 }, (_, i) => `reason ${i}`),
        'and 3 more of addresses',
      ])
      expect(counts).to.deep.equal([25])
    })
  })
})
