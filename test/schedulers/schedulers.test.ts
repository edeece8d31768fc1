/** `npm run experiment` measures what it says; docs show what it has measured. The lab's part runs with it, only. */
import type { ChildProcess } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { expect } from 'chai'
import {
  disturbances,
  percentile,
  type Result,
  type Round,
  summarize,
} from '../../scripts/schedulers/figures.ts'
import {
  cellsOf,
  CHOICES,
  extentOf,
  numbers,
  rateOf,
  requestsOf,
  type Scenario,
  SCENARIOS,
} from '../../scripts/schedulers/plan.ts'
import { plot } from '../../scripts/schedulers/plot.ts'
import { PAGE, pageWith, PLOT, RECORDED, tables } from '../../scripts/schedulers/report.ts'
import { type Answer, type Failure, send, type Sent, startPods } from '../../scripts/schedulers/traffic.ts'

const scenarioOf = (name: string): Scenario => SCENARIOS.find((scenario) => scenario.name === name)!
const EXTENT = { rounds: 1, count: 20_000, slower: 1 }

describe('requests of the experiment', () => {
  for (const scenario of SCENARIOS)
    it(`${scenario.name}: as many, as long and on as many nodes as it says, and independent`, () => {
      const requests = requestsOf(scenario, EXTENT, 1)
      const pauses = requests.slice(1).map(({ at }, i) => at - requests[i]!.at)
      const mean = (values: readonly number[]): number =>
        values.reduce((sum, value) => sum + value, 0) / values.length
      const pause = mean(pauses)

      expect(pause * rateOf(scenario)).to.be.closeTo(1, 0.03)
      // Of a Poisson process, pauses are exponential: their deviation is their mean.
      expect(Math.sqrt(mean(pauses.map((one) => (one - pause) ** 2))) / pause).to.be.closeTo(1, 0.03)
      expect(mean(requests.map(({ demand }) => demand)) / scenario.meanDemand).to.be.closeTo(1, 0.05)
      expect(new Set(requests.map(({ node }) => node)).size).to.equal(scenario.nodes)
      expect(requests.every(({ demand }) => Number.isInteger(demand) && demand > 0)).to.equal(true)
    })

  it('are the same for the same seed, and others for another', () => {
    const [first] = SCENARIOS
    expect(requestsOf(first!, EXTENT, 7)).to.deep.equal(requestsOf(first!, EXTENT, 7))
    expect(requestsOf(first!, EXTENT, 7)).not.to.deep.equal(requestsOf(first!, EXTENT, 8))
  })

  it('are the same with --slower, but that all times are longer', () => {
    const [first] = SCENARIOS
    const slower = requestsOf(first!, { ...EXTENT, slower: 2 }, 7)
    for (const [i, { at, node, demand }] of requestsOf(first!, EXTENT, 7).entries())
      expect(slower[i]).to.deep.equal({ at: 2 * at, node, demand: 2 * demand })
  })

  it('ask for the share of what Pods can do, slow ones for less of it', () => {
    expect(1_000 * rateOf(scenarioOf('requests'))).to.be.closeTo((0.7 * 2 * 16) / 0.234, 1e-9)
    expect(1_000 * rateOf(scenarioOf('pods'))).to.be.closeTo((0.5 * 2 * (12 + 4 / 2)) / 0.2, 1e-9)
  })

  it('come in turns: each choice once in each round of a scenario, another first each time', () => {
    const cells = cellsOf(3)
    expect(cells).to.have.length(3 * SCENARIOS.length * CHOICES.length)
    const rounds = numbers(3).map((round) =>
      cells
        .filter((cell) => cell.round === round && cell.scenario === SCENARIOS[0])
        .map(({ choice }) => choice),
    )
    for (const choices of rounds) expect(choices).to.have.members([...CHOICES])
    expect(new Set(rounds.map(([choice]) => choice)).size).to.equal(3)
  })

  it('are as many as the command line says', () => {
    expect(extentOf(['--quick']).count).to.be.below(extentOf([]).count / 10)
    expect(extentOf(['--count', '50', '--rounds=2', '--slower=3', '--record'])).to.deep.equal({
      ...{ rounds: 2, count: 50, slower: 3 },
    })
  })
})

describe('Pods and clients of the experiment', () => {
  const PORT = 18_080
  const [first, second] = ['127.45.0.1', '127.45.0.2']
  let pods: ChildProcess
  let port = 30_000
  /** Of a request at once. */
  const sent = (at: number, work: string): Sent => ({ at, source: '127.0.0.1', port: port++, work })
  const ask = (address: string, ...requests: readonly Sent[]): Promise<(Answer | Failure)[]> =>
    send({ address, port: PORT, patience: 5_000, requests })

  before(async () => {
    pods = await startPods(
      [first, second].map((address) => ({ address, isSlow: address === second })),
      PORT,
    )
  })
  after(() => pods.kill())

  /** How long each has waited in the queue, as a multiple of its work; whatever this machine adds is in `overhead`. */
  const waits = (answers: readonly (Answer | Failure)[], work: number): unknown[] =>
    answers.map((answer) =>
      'error' in answer ? answer.error : Math.round((answer.latency - answer.overhead) / work - 1),
    )

  it('two at once are handled, others wait in their order', async () => {
    const answers = await ask(first, ...[0, 1, 2, 3, 4].map((at) => sent(at, '500 1')))
    expect(waits(answers, 500)).to.deep.equal([0, 0, 1, 1, 2])
    for (const { overhead, lag, pod } of answers as Answer[]) {
      expect(Math.min(overhead, overhead - lag)).to.be.at.least(0)
      expect(pod).to.equal(0)
    }
  })

  it('a slow Pod takes the other time', async () => {
    const [answer] = (await ask(second, sent(0, '1 150'))) as Answer[]
    expect(answer!.latency).to.be.at.least(150)
    expect(answer!.pod).to.equal(1)
  })

  it('who is not answered says so, and holds up nobody', async () => {
    const answers = await ask(first, sent(0, '60000 1'), sent(10, '50 1'))
    expect(waits(answers, 50)).to.deep.equal(['no answer', 0])
    expect(await ask('127.45.0.3', sent(0, '1 1'))).to.deep.equal([{ error: 'ECONNREFUSED' }])
  })
})

describe('figures of the experiment', () => {
  const table: readonly (readonly [string, readonly number[], number, number])[] = [
    ['the middle one of three', [1, 2, 3], 50, 2],
    ['the lower of two in the middle', [1, 2, 3, 4], 50, 2],
    ['99 % of 100 values', numbers(100), 99, 99],
    ['99.9 % of 1,000 values', numbers(1_000), 99.9, 999],
    ['99.9 % of 10,500 values', numbers(10_500), 99.9, 10_490],
    ['99.9 % of a few values: the highest', numbers(10), 99.9, 10],
    ['of one value', [5], 50, 5],
  ]
  for (const [what, values, percent, expected] of table)
    it(`percentile: ${what}`, () => {
      expect(percentile(values, percent)).to.equal(expected)
    })

  const round = (parts: Partial<Round> = {}): Round => ({
    ...{ scenario: 'requests', choice: 'rr', round: 1, failures: 0, latencies: [1] },
    ...{ overhead: { median: 3, at99: 10 }, lag99: 2, busy: 0.5, pods: [], kernel: '6.1', attempts: 1 },
    ...parts,
  })

  const disturbed: readonly (readonly [Partial<Round>, RegExp])[] = [
    [{ overhead: { median: 3, at99: 81 } }, /^the lab took 81 ms of a request$/],
    [{ lag99: 41 }, /^requests were sent 41 ms late$/],
    [{ busy: 0.9 }, /^processors were in use for 90 %$/],
  ]
  for (const [parts, fault] of disturbed)
    it(`a round does not count where ${fault.source.slice(1, -1)}`, () => {
      const faults = disturbances(round(parts), { slower: 2 })
      expect(faults).to.have.length(1)
      expect(faults[0]).to.match(fault)
    })

  it('a round counts where the lab was not in the way', () => {
    expect(disturbances(round({ lag99: 20 }), { slower: 1 })).to.deep.equal([])
  })

  it('are those of all requests of all rounds, with the lowest and the highest round, and the worst of the lab', () => {
    const everywhere = SCENARIOS.flatMap(({ name }) =>
      CHOICES.flatMap((choice) => [
        round({ scenario: name, choice, latencies: [30, 10, 20], lag99: 4 }),
        round({ scenario: name, choice, round: 2, latencies: [60, 50, 40], failures: 1, attempts: 2 }),
      ]),
    )
    const { rows, failures, repeated, lab } = summarize(everywhere, { rounds: 2, count: 3, slower: 1 })
    expect(rows).to.have.length(SCENARIOS.length * (CHOICES.length + 1))
    expect(rows[0]).to.deep.equal({
      ...{ scenario: 'requests', choice: 'random' },
      latency: [
        { all: 30, low: 20, high: 50 },
        { all: 60, low: 30, high: 60 },
        { all: 60, low: 30, high: 60 },
      ],
    })
    expect(failures).to.equal(SCENARIOS.length * CHOICES.length)
    expect(repeated).to.equal(failures)
    expect(lab).to.deep.equal({ median: 3, at99: 10, lag99: 4, busy: 0.5 })
  })
})

describe('what docs show of the experiment', () => {
  const page = readFileSync(PAGE, 'utf8')
  if (!existsSync(RECORDED)) {
    it('is that no run is recorded', () => {
      expect(page).to.contain('No run is recorded yet')
    })
    return
  }
  const result = JSON.parse(readFileSync(RECORDED, 'utf8')) as Result

  it('is of enough requests for each line, of which none has failed', () => {
    expect(result.extent.rounds * result.extent.count).to.be.at.least(1_900)
    expect(result.failures).to.equal(0)
  })

  it('is what was recorded: the tables', async () => {
    expect(page).to.contain(await tables(result))
    expect(await pageWith(result, page)).to.equal(page)
  })

  it('is what was recorded: the plot', () => {
    expect(readFileSync(PLOT, 'utf8')).to.equal(plot(result.rows))
  })
})
