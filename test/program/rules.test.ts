import { expect } from 'chai'
import { Doorbell } from '../../src/waiting/doorbell.ts'
import type { Family } from '../../src/model/address.ts'
import { RuleKeeper } from '../../src/program/rules.ts'
import { eventually } from '../support/eventually.ts'
import { recordingLog } from '../support/log.ts'

/** A keeper whose looks at the rules go as told, the last one for ever. */
function keeperOf(looks: readonly (boolean | Error)[], intervalMs = 3_600_000) {
  const abort = new AbortController()
  const { log, lines } = recordingLog('info')
  const bell = new Doorbell()
  const seen: Family[] = []
  const ensure = (family: Family): Promise<boolean> => {
    const look = looks[Math.min(seen.length, looks.length - 1)]!
    seen.push(family)
    return look instanceof Error ? Promise.reject(look) : Promise.resolve(look)
  }
  const failed: Family[] = []
  const reports: (readonly string[])[] = []
  const keeper = new RuleKeeper({
    families: ['IPv4'],
    ensure,
    onFailure: (family) => failed.push(family),
    onLook: (complaints) => reports.push([...complaints].map((entry) => entry.join(' '))),
    intervalMs: () => intervalMs,
    bell,
    log,
    signal: abort.signal,
  })
  return {
    keeper,
    bell,
    abort,
    seen,
    failed,
    reports,
    said: () => lines.map(({ msg, reason }) => reason ?? msg),
  }
}

describe('RuleKeeper', () => {
  it('says what it has written, and nothing when all is well', async () => {
    const { keeper, said } = keeperOf([true, false])
    await keeper.ensure()
    await keeper.ensure()

    expect(said()).to.deep.equal(['wrote the rules of iptables'])
  })

  it('says once what goes wrong, again when it is something else, and that it is over', async () => {
    const { keeper, said, failed, reports } = keeperOf([
      new Error('a'),
      new Error('a'),
      new Error('b'),
      true,
      false,
    ])
    for (let i = 0; i < 5; i++) await keeper.ensure()

    expect(failed).to.have.length(3)
    expect(reports).to.deep.equal([['IPv4 a'], ['IPv4 a'], ['IPv4 b'], [], []])

    expect(said()).to.deep.equal([
      'a',
      'b',
      'wrote the rules of iptables',
      'the rules of iptables are as they should be again',
    ])
  })

  it('looks when the interval is over, at once when the bell rings, and sooner after a failure', async () => {
    const quick = keeperOf([false], 10)
    const rung = keeperOf([false])
    const failing = keeperOf([new Error('a')])
    await failing.keeper.ensure()
    const keepers = [quick, rung, failing]
    const running = keepers.map(({ keeper }) => keeper.keep())
    rung.bell.ring()

    await eventually(() => expect(quick.seen.length).to.be.greaterThan(2), 60_000)
    await eventually(() => expect(rung.seen).to.have.length(1), 60_000)
    await eventually(() => expect(failing.seen.length).to.be.greaterThan(1), 60_000)
    expect(rung.seen).to.have.length(1)

    for (const { abort } of keepers) abort.abort()
    await Promise.all(running)
  })

  it('does not complain of programs that were ended with it', async () => {
    const { keeper, abort, said, failed } = keeperOf([new Error('a')])
    abort.abort()
    await keeper.ensure()

    expect(said()).to.deep.equal([])
    expect(failed).to.deep.equal([])
  })
})
