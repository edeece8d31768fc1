import { expect } from 'chai'
import type { Family } from '../../src/model/address.ts'
import { ProxyHealth } from '../../src/serve/health.ts'

const START = Date.UTC(2026, 0, 1)

describe('ProxyHealth', () => {
  let time: number
  let isNodeEligible: boolean
  let health: ProxyHealth
  beforeEach(() => {
    time = START
    isNodeEligible = true
    health = new ProxyHealth({
      families: ['IPv4', 'IPv6'] satisfies Family[],
      isNodeEligible: () => isNodeEligible,
      staleAfterMs: () => 60_000,
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
})
