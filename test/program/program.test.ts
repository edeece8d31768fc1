import { expect } from 'chai'
import { openLife } from '../../src/program/life.ts'
import { runLoop } from '../../src/program/program.ts'

describe('runLoop', () => {
  it('lets nothing be closed that the loop uses before the loop has ended', async () => {
    const stop = new AbortController()
    const life = openLife(stop.signal)
    const events: string[] = []
    life.atEnd(() => void events.push('kernel closed'))
    // The facts end at once; the loop ends what it is about.
    const followed = new Promise<void>((resolve) => {
      life.signal.addEventListener('abort', () => {
        resolve()
      })
    })
    const run = async (signal: AbortSignal): Promise<void> => {
      await new Promise((resolve) => {
        signal.addEventListener('abort', resolve)
      })
      for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate)
      events.push('loop ended')
    }
    const running = runLoop({ proxy: { run }, followed }, life)
    stop.abort()
    await running
    await life.end()

    expect(events).to.deep.equal(['loop ended', 'kernel closed'])
  })
})
