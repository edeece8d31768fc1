/** What `kube-ipvs plan` prints of rules: run by a small model of iptables, it leads to the rules that are wanted. */
import { expect } from 'chai'
import { asCommands } from '../../../../src/kernel/filter/iptables/iptables-commands.ts'
import { planRestore } from '../../../../src/kernel/filter/iptables/iptables-plan.ts'
import { renderRules } from '../../../../src/kernel/filter/iptables/iptables-rules.ts'
import { parseSave } from '../../../../src/kernel/filter/iptables/iptables-save.ts'
import { setsOf } from '../../../../src/model/sets.ts'
import { type Random, withRandom } from '../../../support/random.ts'

type Chains = Map<string, string[]>

/** Does what iptables does with the commands that are printed, and refuses what it refuses. */
function runAll(commands: readonly string[], tables: Map<string, Chains>): void {
  for (const command of commands) {
    const [, table, action, chain, rest = ''] = /^iptables -t (\S+) -(\w) (\S+) ?(.*)$/.exec(command)!
    const chains = tables.get(table!) ?? new Map<string, string[]>()
    tables.set(table!, chains)
    if (action === 'N' && chains.has(chain!)) throw new Error(`Chain already exists: ${command}`)
    const rules = action === 'N' ? [] : chains.get(chain!)
    if (rules === undefined) throw new Error(`No chain by that name: ${command}`)
    chains.set(chain!, changed(rules, action!, rest, command))
  }
}

function changed(rules: readonly string[], action: string, rest: string, command: string): string[] {
  const [, number = '', rule = ''] = /^(\d+) (?:# )?(.*)$/.exec(rest) ?? []
  const index = Number(number) - 1
  const isThere = index >= 0 && index < rules.length
  if (action === 'N' || action === 'F') return []
  if (action === 'A') return [...rules, rest]
  if (action === 'I' && (isThere || index === rules.length)) return rules.toSpliced(index, 0, rule)
  if (action === 'D' && isThere && rules[index] === rule) return rules.toSpliced(index, 1)
  throw new Error(`Refused: ${command}`)
}

const restoring = (chains: Chains): string =>
  [
    '*nat',
    ...[...chains.keys()].map((chain) => `:${chain} - [0:0]`),
    ...[...chains].flatMap(([chain, rules]) => rules.map((rule) => `-A ${chain} ${rule}`)),
    'COMMIT',
    '',
  ].join('\n')

/** Few different rules, so that there are doubles and changes of order. */
const randomRules = (random: Random): string[] =>
  Array.from({ length: random.int(8) }, () => `-s 10.0.0.${random.int(5)}/32 -j RETURN`)

const WANTED = renderRules({
  family: 'IPv4',
  masqueradeBit: 14,
  masqueradeAll: false,
  local: { kind: 'cidr', cidr: '10.244.0.0/16' },
  randomFully: true,
  sets: new Set(setsOf('IPv4').map(({ name }) => name)),
})

describe('rules as commands', () => {
  const table: readonly (readonly [string, readonly string[], readonly string[], readonly string[]])[] = [
    ['equal rules', ['-j A', '-j B'], ['-j A', '-j B'], []],
    [
      'rules that are quoted otherwise',
      ['-m comment --comment "a" -j A'],
      ['-m comment --comment a -j A'],
      [],
    ],
    ['a surplus rule', ['-j A', '-j B'], ['-j A', '-j X', '-j B'], ['-D C 2 # -j X']],
    ['a missing rule', ['-j A', '-j B', '-j C'], ['-j A', '-j C'], ['-I C 2 -j B']],
    ['a missing rule in the end', ['-j A', '-j B'], ['-j A'], ['-A C -j B']],
    ['another rule', ['-j A', '-j B', '-j C'], ['-j A', '-j X', '-j C'], ['-I C 2 -j B', '-D C 3 # -j X']],
    ['another order', ['-j B', '-j A'], ['-j A', '-j B'], ['-I C 1 -j B', '-D C 3 # -j B']],
    ['a double', ['-j A'], ['-j A', '-j A'], ['-D C 2 # -j A']],
    ['no rules', [], ['-j A', '-j B'], ['-F C']],
    ['no rules, and there are none', [], [], []],
  ]
  for (const [title, wanted, actual, expected] of table) {
    it(`${title}: ${expected.join(', ') || 'nothing'}`, () => {
      const saved = new Map([['nat', new Map([['C', actual]])]])
      const commands = asCommands(restoring(new Map([['C', [...wanted]]])), saved, 'IPv4')
      expect(commands).to.deep.equal(expected.map((line) => `iptables -t nat ${line}`))
    })
  }

  it('a chain that is missing comes with all its rules, after those that it leads to', () => {
    const input = restoring(
      new Map([
        ['C', ['-j D', '-j A']],
        ['D', ['-j RETURN']],
      ]),
    )
    expect(asCommands(input, new Map(), 'IPv6')).to.deep.equal([
      'ip6tables -t nat -N C',
      'ip6tables -t nat -N D',
      'ip6tables -t nat -A C -j D',
      'ip6tables -t nat -A C -j A',
      'ip6tables -t nat -A D -j RETURN',
    ])
  })

  it('lead from any chains to any others', () =>
    withRandom((random) => {
      for (let i = 0; i < 2_000; i++) {
        const names = ['A', 'B', 'C', 'D']
        const [before, after] = [0, 1].map(
          () => new Map(names.filter(() => random.chance(0.7)).map((name) => [name, randomRules(random)])),
        ) as [Chains, Chains]
        const tables = new Map([['nat', new Map(before)]])
        const commands = asCommands(restoring(after), new Map([['nat', before]]), 'IPv4')
        runAll(commands, tables)

        expect(tables.get('nat')).to.deep.equal(new Map([...before, ...after]))
        expect(asCommands(restoring(after), tables, 'IPv4')).to.deep.equal([])
      }
    }))

  it('of a node on which three rules differ, are four lines', () => {
    const saved = parseSave(planRestore(WANTED, new Map())!)
    const tables = new Map(
      [...saved].map(([name, chains]) => [
        name,
        new Map([...chains].map(([chain, rules]) => [chain, [...rules]])),
      ]),
    )
    for (const jump of [...WANTED.nat.jumps, ...WANTED.filter.jumps, ...WANTED.mangle.jumps]) {
      const table = (['nat', 'filter', 'mangle'] as const).find((name) => WANTED[name].jumps.includes(jump))!
      tables.get(table)!.set(jump.chain, [...(tables.get(table)!.get(jump.chain) ?? []), jump.rule])
    }
    expect(planRestore(WANTED, tables)).to.equal(undefined)
    const services = tables.get('nat')!.get('KUBE-SERVICES')!
    services.splice(2, 1)
    services.splice(3, 1, '-j ACCEPT')
    tables.get('filter')!.get('KUBE-FORWARD')!.push('-j DROP')

    const commands = asCommands(planRestore(WANTED, tables)!, tables, 'IPv4')
    expect(commands.map((command) => command.split(' ').slice(2, 6).join(' '))).to.deep.equal([
      'nat -I KUBE-SERVICES 3',
      'nat -I KUBE-SERVICES 5',
      'nat -D KUBE-SERVICES 6',
      `filter -D KUBE-FORWARD ${tables.get('filter')!.get('KUBE-FORWARD')!.length}`,
    ])
    runAll(commands, tables)
    expect(planRestore(WANTED, tables)).to.equal(undefined)
  })
})
