import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { type EstimationChoice, tendEstimators } from '../../../src/kernel/ipvs/estimators.ts'
import { rejectionOf } from '../../support/rejection.ts'

type Files = Readonly<Record<string, string>>

const FOLDER = 'net/ipv4/vs'

const roots: string[] = []

function proc(files: Files): string {
  const root = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
  roots.push(root)
  mkdirSync(join(root, FOLDER), { recursive: true })
  for (const [name, value] of Object.entries(files)) writeFileSync(join(root, FOLDER, name), `${value}\n`)
  return root
}

const left = (root: string, files: Files): Files =>
  Object.fromEntries(
    Object.keys(files).map((name) => [name, readFileSync(join(root, FOLDER, name), 'utf8').trim()]),
  )

describe('tendEstimators', () => {
  after(() => {
    for (const root of roots) rmSync(root, { recursive: true })
  })

  const TIMER = { run_estimation: '1' }
  const THREADS = { run_estimation: '1', est_nice: '0', est_cpulist: '0-7' }
  const table: readonly [string, Files, number, number, Files, RegExp | undefined][] = [
    ['a timer, few servers', TIMER, 11_000, 2, TIMER, undefined],
    ['a timer, many servers', TIMER, 110_000, 8, { run_estimation: '0' }, /hold up packets for about 35 ms/],
    ['a timer, many processors', TIMER, 11_000, 104, { run_estimation: '0' }, /about 46 ms/],
    ['threads, few servers', THREADS, 11_000, 2, THREADS, undefined],
    ['threads, many servers', THREADS, 110_000, 8, { ...THREADS, est_nice: '10' }, /they give way now/],
    [
      'threads that give way already',
      { ...THREADS, est_nice: '19' },
      110_000,
      8,
      { ...THREADS, est_nice: '19' },
      undefined,
    ],
    [
      'switched off by somebody',
      { ...THREADS, run_estimation: '0' },
      110_000,
      8,
      { ...THREADS, run_estimation: '0' },
      undefined,
    ],
    ['a timer that cannot be switched off', {}, 110_000, 8, {}, /Linux 5.17 can/],
  ]
  for (const [name, files, servers, processors, expected, reason] of table) {
    it(name, async () => {
      const root = proc(files)
      const said: EstimationChoice[] = []
      const tend = tendEstimators({ chosen: (choice) => said.push(choice), root, processors })
      await tend(servers)

      expect(left(root, files)).to.deep.equal(expected)
      expect(said).to.have.length(reason === undefined ? 0 : 1)
      if (reason !== undefined) expect(said[0]!.reason).to.match(reason)
    })
  }

  it('acts once: who switches statistics on again has them', async () => {
    const root = proc(TIMER)
    const tend = tendEstimators({ chosen: () => undefined, root, processors: 8 })
    await tend(1_000)
    expect(left(root, TIMER)).to.deep.equal(TIMER)
    await tend(110_000)
    writeFileSync(join(root, FOLDER, 'run_estimation'), '1')
    await tend(120_000)

    expect(left(root, TIMER)).to.deep.equal(TIMER)
  })

  it('names the sysctl that it cannot write', async () => {
    const root = proc({})
    // A file that nobody can write.
    symlinkSync('/proc/sys/kernel/ostype', join(root, FOLDER, 'run_estimation'))
    const chosen = (): never => expect.fail('nothing was done')
    const error = await rejectionOf(tendEstimators({ chosen, root, processors: 8 })(110_000))

    expect(String(error)).to.equal('Error: Cannot set sysctl net.ipv4.vs.run_estimation to 0')
  })
})
