import { expect } from 'chai'
import { hasCapability } from '../../../src/kernel/host/capabilities.ts'

describe('hasCapability', () => {
  const table: readonly (readonly [string, string, boolean])[] = [
    ['all', '000001ffffffffff', true],
    ["the DaemonSet's", '0000000000003000', false],
    ['all but SYS_ADMIN', '000001ffffdfffff', false],
    ['SYS_ADMIN alone', '0000000000200000', true],
    ['none', '0000000000000000', false],
  ]
  for (const [title, mask, expected] of table) {
    it(`SYS_ADMIN of ${title}: ${expected}`, () => {
      const status = `Name:\tnode\nCapPrm:\t000001ffffffffff\nCapEff:\t${mask}\nCapBnd:\t000001ffffffffff\n`
      expect(hasCapability('SYS_ADMIN', status)).to.equal(expected)
    })
  }

  it('nobody may anything where the kernel does not say', () => {
    expect(hasCapability('SYS_ADMIN', 'Name:\tnode\n')).to.equal(false)
  })
})
