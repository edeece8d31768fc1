import { expect } from 'chai'
import { setOomScore } from '../../src/program/node-setup.ts'
import { recordingLog } from '../support/log.ts'

describe('setOomScore', () => {
  it('says in one line, without a stack, what the kernel refuses', () => {
    const { log, lines } = recordingLog()
    // Nobody may: scores end at 1000.
    setOomScore(5000, log)

    expect(lines).to.have.length(1)
    expect(lines[0]).not.to.have.property('err')
    expect(lines[0]!.reason).to.contain('Cannot set /proc/self/oom_score_adj to 5000')
  })
})
