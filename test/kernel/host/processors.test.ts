import { writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { countListed, countProcessors } from '../../../src/kernel/host/processors.ts'
import { temporaryFolder } from '../../support/lab.ts'

describe('countListed', () => {
  for (const [list, count] of [
    ['0\n', 1],
    ['0-1\n', 2],
    ['0-3,8\n', 5],
    ['0,2-3,64-127\n', 67],
  ] as const) {
    it(`counts ${JSON.stringify(list)}`, () => expect(countListed(list)).to.equal(count))
  }
})

describe('countProcessors', () => {
  it('counts those of this machine', () => expect(countProcessors()).to.equal(cpus().length))

  it('reads the list of those that are online', () => {
    const online = join(temporaryFolder(), 'online')
    writeFileSync(online, '0-63\n')
    expect(countProcessors(online)).to.equal(64)
  })

  it('asks each of them where there is no list', () =>
    expect(countProcessors('/nowhere')).to.equal(cpus().length))
})
