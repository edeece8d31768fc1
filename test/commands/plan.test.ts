import { expect } from 'chai'
import { formatPlan } from '../../src/commands/plan.ts'

describe('formatPlan', () => {
  const table: readonly (readonly [readonly string[], string])[] = [
    [[], '# no change: the kernel is as it should be\n'],
    [['ipvsadm -C'], 'ipvsadm -C\n# 1 change\n'],
    [['modprobe ip_vs', 'ipvsadm -C'], 'modprobe ip_vs\nipvsadm -C\n# 2 changes\n'],
  ]
  for (const [commands, text] of table) {
    it(`${commands.length} commands end with ${text.trim().split('\n').at(-1)}`, () => {
      expect(formatPlan(commands)).to.equal(text)
    })
  }
})
