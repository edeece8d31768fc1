/** What keys make of what `top` shows, and how it fits the screen. */
import { expect } from 'chai'
import type { Load } from '../../src/view/top.ts'
import { formatScreen, pressKey, type TopState } from '../../src/view/top-screen.ts'

const START: TopState = {
  group: 'service',
  sort: 'bytes',
  isReversed: false,
  isPaused: false,
  hasEnded: false,
}

const load = (name: string, parts: Partial<Load>): Load => ({
  ...{ name, open: 0, newConnections: 0, inPackets: 0, outPackets: 0, inBytes: 0, outBytes: 0 },
  ...parts,
})
const LOADS = [load('a', { open: 1, inBytes: 10 }), load('b', { open: 2, inBytes: 20 }), load('c', {})]

describe('keys of top', () => {
  const table: readonly (readonly [string, Partial<TopState>])[] = [
    ['b', { sort: 'bytes' }],
    ['p', { sort: 'packets' }],
    ['c', { sort: 'connections' }],
    ['n', { sort: 'new' }],
    ['a', { sort: 'name' }],
    ['left', { sort: 'packets' }],
    ['left left', { sort: 'new' }],
    ['left left left', { sort: 'connections' }],
    ['left left left left', { sort: 'name' }],
    ['a left', { sort: 'name' }],
    ['a right', { sort: 'connections' }],
    ['right', { sort: 'bytes' }],
    ['r', { isReversed: true }],
    ['r r', {}],
    ['r p', { sort: 'packets' }],
    ['g', { group: 'pod' }],
    ['g g', { group: 'server' }],
    ['g g g', {}],
    ['space', { isPaused: true }],
    ['space space', {}],
    ['space p', { isPaused: true, sort: 'packets' }],
    ['q', { hasEnded: true }],
    ['ctrl-c', { hasEnded: true }],
    ['x', {}],
    ['ctrl-b', {}],
    ['constructor', {}],
    ['', {}],
  ]
  for (const [keys, changed] of table)
    it(`"${keys}" makes ${JSON.stringify(changed)}`, () => {
      expect(keys.split(' ').reduce(pressKey, START)).to.deep.equal({ ...START, ...changed })
    })
})

describe('the screen of top', () => {
  const screen = (
    state: Partial<TopState>,
    size = { rows: 24, columns: 120 },
    notes: string[] = [],
  ): string[] =>
    formatScreen({ ...START, ...state }, { loads: LOADS, history: new Map([['a', [1, 2]]]), notes }, size)
  const order = (lines: readonly string[]): string =>
    lines
      .slice(3)
      .map(([first]) => first)
      .join('')

  it('sorts, the most first, or reversed', () => {
    expect(order(screen({}))).to.equal('bac')
    expect(order(screen({ isReversed: true }))).to.equal('cab')
    expect(order(screen({ sort: 'name' }))).to.equal('abc')
    expect(order(screen({ sort: 'name', isReversed: true }))).to.equal('cba')
  })

  const heads: readonly (readonly [Partial<TopState>, RegExp])[] = [
    [{}, /^SERVICE +OPEN +NEW\/s +PACKETS\/s IN +OUT +BYTES\/s IN ▼ +OUT +LAST/],
    [{ isReversed: true }, / BYTES\/s IN ▲ /],
    [{ sort: 'packets', group: 'pod' }, /^POD .* PACKETS\/s IN ▼ /],
    [{ sort: 'connections' }, / OPEN ▼ /],
    [{ sort: 'new' }, / NEW\/s ▼ /],
    [{ sort: 'name', group: 'server' }, /^SERVER ▲ +OPEN /],
    [{ sort: 'name', isReversed: true }, /^SERVICE ▼ /],
  ]
  for (const [state, head] of heads)
    it(`marks the column that is sorted by, and no other: ${JSON.stringify(state)}`, () => {
      const line = screen(state)[2]!
      expect(line).to.match(head)
      expect(line.match(/[▲▼]/g)).to.have.length(1)
    })

  it('says what is shown, and which keys change it, within 80 columns', () => {
    const [status, keys] = screen({ sort: 'packets', isReversed: true, group: 'server', isPaused: true })
    expect(status).to.equal(
      'by server, sorted by packets, reversed, paused   q quit  space go on  g by service',
    )
    expect(keys!.length).to.be.at.most(80)
    for (const line of screen({}).slice(0, 2)) expect(line.length).to.be.at.most(80)
    for (const key of ['b bytes', 'p packets', 'c connections', 'n new', 'a name', '← →', 'r reverse'])
      expect(keys).to.contain(key)
  })

  it('has notes below', () => {
    expect(screen({}, undefined, ['without names'])[2]).to.equal('# without names')
  })

  it('cuts lines and rows to the size of the screen', () => {
    const lines = screen({}, { rows: 4, columns: 20 })
    expect(lines).to.have.length(4)
    expect(lines.map(({ length }) => length)).to.deep.equal([20, 20, 20, 20])
    expect(screen({}, { rows: 1, columns: 5 })).to.deep.equal(['by se'])
  })
})
