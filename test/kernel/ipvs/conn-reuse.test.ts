import { expect } from 'chai'
import { decideConnReuse, probeConnReuse, type Reuse } from '../../../src/kernel/ipvs/conn-reuse.ts'

const A = '127.0.0.11'
const B = '127.0.0.12'

describe('decideConnReuse', () => {
  const at = (answeredBy: string | undefined, synRetransmissions = 0, quiesced?: string): Reuse => ({
    answeredBy,
    synRetransmissions,
    ...(quiesced === undefined ? {} : { quiesced }),
  })
  const cases: readonly (readonly [title: string, reuses: readonly Reuse[], mode: 0 | 1 | undefined])[] = [
    ['scheduled anew, at once', [at(A), at(B, 0, A)], 1],
    ['scheduled anew, and by chance to the same one', [at(B), at(A, 0, B)], 1],
    ['the first SYN dropped', [at(A, 1), at(B, 1, A)], 0],
    ['the first SYN dropped only where a server is quiesced', [at(A), at(B, 1, A)], 0],
    ['every SYN dropped', [at(undefined, 2)], 0],
    ['still at the quiesced server', [at(A), at(A, 0, A)], 0],
    [
      'no answer, though no SYN was dropped: says nothing of the mode',
      [at(A), at(undefined, 0, A)],
      undefined,
    ],
    ['nothing measured', [], undefined],
  ]
  for (const [title, reuses, mode] of cases) {
    it(`${title}: ${mode ?? 'unknown'}`, () => expect(decideConnReuse(reuses).mode).to.equal(mode))
  }
})

describe('probeConnReuse', () => {
  it('says why it could not run, and does not throw', async () => {
    const { mode, reason } = await probeConnReuse('/there/is/no/such/program.cjs')

    expect(mode).to.equal(undefined)
    expect(reason).to.match(/^the probe could not run: ./)
  })

  it('ends with its signal', async () => {
    const { mode, reason } = await probeConnReuse('/there/is/no/such/program.cjs', AbortSignal.abort())

    expect(mode).to.equal(undefined)
    expect(reason).to.equal('the probe could not run: The operation was aborted')
  })
})
