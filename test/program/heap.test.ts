import { execFileSync } from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'
import { mock } from 'node:test'
import v8 from 'node:v8'
import { expect } from 'chai'
import { keepHeapSmall, keepHeapSteady } from '../../src/program/heap.ts'

/** What they tell V8. */
function flagsOf(...calls: readonly (() => void)[]): string[] {
  const told = mock.method(v8, 'setFlagsFromString', () => undefined).mock
  syncBuiltinESMExports()
  try {
    for (const call of calls) call()
    return told.calls.map(({ arguments: [flag] }) => flag!)
  } finally {
    mock.restoreAll()
    syncBuiltinESMExports()
  }
}

describe('the heap', () => {
  // That it is collected more often is measured, not tested: it is a matter of the machine, too.
  it('is kept small, and steady, by two numbers', () => {
    expect(flagsOf(keepHeapSmall, keepHeapSteady)).to.deep.equal([
      '--heap-growing-percent=40',
      '--incremental-marking-soft-trigger=30',
    ])
  })

  it('has numbers that V8 knows, and reads', () => {
    const known = execFileSync(process.execPath, ['--v8-options'], { encoding: 'utf8' })
    for (const flag of flagsOf(keepHeapSmall, keepHeapSteady)) {
      const [name] = flag.split('=')
      expect(known).to.match(new RegExp(`^ +${name} \\(.*\\)\\n +type: int `, 'm'))
    }
  })
})
