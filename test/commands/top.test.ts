/** `top` in a terminal: keys, sizes, and every way out of it. */
import { join } from 'node:path'
import { expect } from 'chai'
import { inTerminal, type Session, type Step } from '../support/pty.ts'

const WATCH = join(import.meta.dirname, '../support/watch-top.ts')
const ENTER = '\x1b[?1049h'
const LEAVE = '\x1b[?1049l'
const SOON = '50'

async function watch(steps: readonly Step[], ...args: readonly string[]): Promise<Session> {
  return inTerminal(steps, [process.execPath, WATCH, ...args])
}

/** What is shown next: the names in this order, below a head with this. */
function shows(head: string, ...names: readonly string[]): Step {
  return ['expect', `\\x1b\\[H[^H]*?${head}(?:(?!\\x1b\\[H).)*?${names.join('(?:(?!\\x1b\\[H).)*?')}`]
}
const FIRST = shows('IN ▼', 'service/first', 'service/second', 'service/third')

/** Nothing of it is left on the terminal. */
function expectLeft({ output, isRestored }: Session): void {
  expect(isRestored, output).to.equal(true)
  expect(output.split(ENTER)).to.have.length(2)
  expect(output.split(LEAVE)).to.have.length(2)
  expect(output.indexOf(LEAVE)).to.be.above(output.indexOf(ENTER))
}

describe('top in a terminal', () => {
  it('sorts and groups as keys want it, at once, from the sample that it has', async () => {
    const session = await watch([
      FIRST,
      ['send', 'c'],
      shows('OPEN ▼', 'service/second', 'service/third', 'service/first'),
      ['send', 'r'],
      shows('OPEN ▲', 'service/first', 'service/third', 'service/second'),
      ['send', '\x1b[D'],
      shows('SERVICE ▲', 'service/first', 'service/second', 'service/third'),
      ['send', '\x1b[C'],
      shows('OPEN ▼', 'service/second', 'service/third', 'service/first'),
      ['send', 'gb'],
      shows('POD .*BYTES/s IN ▼', 'pod/first', 'pod/second', 'pod/third'),
      ['send', 'q'],
    ])
    expect(session.code).to.equal(7)
    expect(session.output).not.to.contain('sample 2')
    expectLeft(session)
  })

  it('goes on by itself, reads nothing while it is paused, and goes on', async () => {
    const session = await watch(
      [
        ['expect', 'sample 3'],
        ['send', ' '],
        ['expect', 'paused'],
        ['send', 'xxxxxxxxx'],
        ['expect', '(paused.*?){9}'],
        ['wait', 0.5],
        ['send', ' '],
        // Once for the key, and once for a sample.
        ['expect', '(bytes   q quit.*?# sample.*?){2}'],
        ['send', 'q'],
      ],
      ...['steady', SOON],
    )
    const paused = [...session.output.matchAll(/paused[^]*?sample (\d+)/g)].map(([, sample]) => sample)
    expect(paused).to.have.length.of.at.least(10)
    expect(new Set(paused).size).to.equal(1)
    expect(session.output).to.contain(`sample ${Number(paused[0]) + 1}`)
    expectLeft(session)
  })

  it('fits the terminal, also when its size changes', async () => {
    const { output } = await watch([
      FIRST,
      ['resize', 5, 30],
      ['expect', 'service/first'],
      ['resize', 50, 200],
      ['expect', 'service/third'],
      ['send', 'q'],
    ])
    const screens = output.split(LEAVE)[0]!.split('\x1b[H\x1b[J').slice(2)
    const sizes = screens.map((screen) => {
      const lines = screen.split('\r\n').map(({ length }) => length)
      return [lines.length, Math.max(...lines)] as const
    })
    const whole = sizes[0]!
    expect(whole[0]).to.equal(7)
    expect(whole[1]).to.be.above(60)
    expect(sizes.slice(1)).to.deep.equal([[5, 30], whole])
  })

  const ways: readonly (readonly [string, readonly Step[], readonly string[], number])[] = [
    ['q', [FIRST, ['send', 'q']], [], 7],
    ['Ctrl-C', [FIRST, ['send', '\x03']], [], 7],
    ['SIGTERM', [FIRST, ['signal', 'TERM']], [], 7],
    ['SIGHUP', [FIRST, ['signal', 'HUP']], [], 7],
    ['SIGQUIT', [FIRST, ['signal', 'QUIT']], [], 7],
    [
      'a key while reading hangs',
      [
        ['expect', 'q quit|1049h'],
        ['send', 'q'],
      ],
      ['hangs'],
      7,
    ],
    ['a sample that cannot be read', [FIRST], ['fails', SOON], 1],
    ['an error that nobody has expected', [FIRST], ['throws', SOON], 1],
  ]
  for (const [way, steps, args, code] of ways)
    it(`leaves the terminal as it was after ${way}`, async () => {
      const session = await watch(steps, ...args)
      expect(session.code).to.equal(code)
      expectLeft(session)
    })

  it('ends with a terminal that hangs up', async () => {
    const { code } = await watch([FIRST, ['hangup']])
    expect(code).to.equal(7)
  })
})
