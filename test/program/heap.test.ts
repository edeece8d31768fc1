import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { expect } from 'chai'

const HEAP = join(import.meta.dirname, '../../src/program/heap.ts')

/** Runs work in a process of its own, which first calls functions of heap.ts. Returns how often all of its heap was collected. */
async function collectionsOf(work: string, ...calls: readonly string[]): Promise<number> {
  const script = `
    import { constants, PerformanceObserver } from 'node:perf_hooks'
    import { setImmediate as turn } from 'node:timers/promises'
    import * as heap from ${JSON.stringify(HEAP)}
    let collections = 0
    const isMajor = ({ detail }) => detail.kind === constants.NODE_PERFORMANCE_GC_MAJOR
    new PerformanceObserver((list) => (collections += list.getEntries().filter(isMajor).length)).observe({ entryTypes: ['gc'] })
    for (const name of ${JSON.stringify(calls)}) heap[name]()
    ${work}
    await turn()
    console.log(collections)`
  const args = ['--max-semi-space-size=8', '--input-type=module', '--eval', script]
  const { stdout } = await promisify(execFile)(process.execPath, args)
  return Number(stdout)
}

/** Objects that stay, 200 MB of them. */
const GROWTH = `
  const kept = []
  for (let i = 0; i < 200; i++) {
    for (let j = 0; j < 10_000; j++) kept.push({ i, j, both: [i, j] })
    await turn()
  }`

/** Objects that are replaced when they are old. */
const CHANGES = `
  const kept = new Map()
  for (let i = 0; i < 50_000; i++) {
    kept.set(i % 2_000, Array.from({ length: 100 }, (_, j) => ({ i, j })))
    if (i % 10 === 0) await turn()
  }`

describe('the heap', () => {
  it('is kept small: it is collected more often while it grows', async () => {
    const [before, after] = [await collectionsOf(GROWTH), await collectionsOf(GROWTH, 'keepHeapSmall')]
    expect(after).to.be.greaterThan(before)
  })

  it('is kept steady: it is collected more often under changes', async () => {
    const before = await collectionsOf(CHANGES, 'keepHeapSmall')
    const after = await collectionsOf(CHANGES, 'keepHeapSmall', 'keepHeapSteady')
    expect(after).to.be.greaterThan(before * 1.2)
  })
})
