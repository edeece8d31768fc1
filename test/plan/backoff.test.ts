import { expect } from 'chai'
import type { ObjectKey } from '../../src/model/kernel-object.ts'
import { backoffMs, Failures } from '../../src/plan/backoff.ts'

const A = '10.96.0.1:80/TCP' as ObjectKey
const B = '10.96.0.2:80/TCP' as ObjectKey

describe('backoffMs', () => {
  it('starts at 100 ms and doubles to a minute', () => {
    expect([1, 2, 3, 10, 11, 12, 1_000].map(backoffMs)).to.deep.equal([
      100, 200, 400, 51_200, 60_000, 60_000, 60_000,
    ])
  })
})

describe('Failures', () => {
  it('says a message once, and again when it changes', () => {
    const failures = new Failures()

    const said = ['x', 'x', 'y', 'y', 'x'].map((message, i) => failures.add(A, message, i))

    expect(said).to.deep.equal([true, false, true, false, true])
  })

  it('makes each object wait for itself', () => {
    const failures = new Failures()
    failures.add(A, 'x', 0)
    failures.add(A, 'x', 100)
    failures.add(B, 'x', 100)

    expect(failures.nextAt()).to.equal(200)
    expect(failures.due(200)).to.deep.equal([B])
    expect(failures.due(300)).to.deep.equal([A, B])
  })

  it('starts anew after a success', () => {
    const failures = new Failures()
    for (let i = 0; i < 5; i++) failures.add(A, 'x', 0)

    expect(failures.clear(A)).to.equal(true)
    expect(failures.clear(A)).to.equal(false)
    expect(failures.nextAt()).to.equal(Infinity)
    failures.add(A, 'x', 0)
    expect(failures.nextAt()).to.equal(100)
  })

  it('counts as many as one Service may make fail', () => {
    const failures = new Failures()
    for (let i = 0; i < 250_000; i++)
      failures.add(`KUBE-EXTERNAL-IP 203.0.113.1,tcp:${i}` as ObjectKey, 'full', i)

    expect(failures.nextAt()).to.equal(100)
  })
})
