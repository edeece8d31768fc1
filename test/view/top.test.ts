import { expect } from 'chai'
import { addUp, formatNumber, formatTop, type Load, sortLoads, sparkline } from '../../src/view/top.ts'

const load = (name: string, parts: Partial<Load> = {}): Load => ({
  ...{ name, open: 0, newConnections: 0, inPackets: 0, outPackets: 0, inBytes: 0, outBytes: 0 },
  ...parts,
})

describe('top', () => {
  it('adds up what has one name', () => {
    const ports = [
      load('shop/web', { open: 2, inBytes: 10 }),
      load('b'),
      load('shop/web', { open: 3, outBytes: 5 }),
    ]
    expect(addUp(ports)).to.deep.equal([load('shop/web', { open: 5, inBytes: 10, outBytes: 5 }), load('b')])
  })

  it('sorts by what is asked for, and equal ones by their names', () => {
    const loads = [load('b'), load('c', { open: 9 }), load('a'), load('d', { inBytes: 1, outBytes: 1 })]
    const names = (sort: Parameters<typeof sortLoads>[1]): string =>
      sortLoads(loads, sort)
        .map(({ name }) => name)
        .join('')
    expect(names('bytes')).to.equal('dabc')
    expect(names('connections')).to.equal('cabd')
    expect(names('name')).to.equal('abcd')
    expect(names('packets')).to.equal('abcd')
  })

  const numbers: readonly (readonly [number, string])[] = [
    [0, '0'],
    [0.4, '0'],
    [7, '7'],
    [999, '999'],
    [1_000, '1.00k'],
    [12_345, '12.3k'],
    [123_456, '123k'],
    [1_234_567, '1.23M'],
    [5e9, '5.00G'],
    [4e15, '4000T'],
  ]
  for (const [value, text] of numbers)
    it(`${value} is ${text}`, () => {
      expect(formatNumber(value)).to.equal(text)
    })

  it('draws the last 20 samples, the highest of them full', () => {
    expect(sparkline([])).to.equal('')
    expect(sparkline([0, 4, 8])).to.equal('▁▅█')
    expect(sparkline([0, 0])).to.equal('▁▁')
    expect(sparkline(Array.from({ length: 50 }, () => 1))).to.have.length(20)
  })

  it('is a line for each, below its head', () => {
    const lines = formatTop(
      [load('shop/web', { open: 12, inBytes: 2_000 })],
      'pod',
      new Map([['shop/web', [1, 2]]]),
    )
    expect(lines).to.have.length(2)
    expect(lines[0]).to.match(/^POD +OPEN +NEW\/s/)
    expect(lines[1]).to.match(/^shop\/web +12 +0 +0 +0 +2\.00k +0 +▅█$/)
  })
})
