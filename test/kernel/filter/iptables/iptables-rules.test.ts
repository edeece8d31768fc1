import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { asPrinted, planRemoval, planRestore } from '../../../../src/kernel/filter/iptables/iptables-plan.ts'
import {
  renderRules,
  type RenderOptions,
  type Rules,
} from '../../../../src/kernel/filter/iptables/iptables-rules.ts'
import { parseSave, type SavedRules } from '../../../../src/kernel/filter/iptables/iptables-save.ts'
import type { LocalTraffic } from '../../../../src/kernel/filter/filter.ts'
import type { Family } from '../../../../src/model/address.ts'
import { setName, setsOf } from '../../../../src/model/sets.ts'

const RECORDED = join(import.meta.dirname, '../../../fixtures/kube-proxy-node')

function optionsFor(family: Family, changes: Partial<RenderOptions> = {}): RenderOptions {
  return {
    family,
    masqueradeBit: 14,
    masqueradeAll: false,
    local: { kind: 'cidr', cidr: family === 'IPv4' ? '10.244.0.0/16' : 'fd00:10:244::/48' },
    randomFully: true,
    sets: new Set(setsOf(family).map(({ name }) => name)),
    ...changes,
  }
}

function recorded(family: Family): SavedRules {
  const file = family === 'IPv4' ? 'iptables.txt' : 'ip6tables.txt'
  return parseSave(readFileSync(join(RECORDED, file), 'utf8'))
}

/** What a node without other rules holds: `nat OUTPUT` and its rules. */
function standing(rules: Rules): Map<string, readonly string[]> {
  const chains = new Map<string, readonly string[]>()
  for (const [table, { chains: ours, jumps }] of Object.entries<Rules['nat']>(rules)) {
    for (const { chain, rule, place } of jumps) {
      const others = chains.get(`${table} ${chain}`) ?? []
      chains.set(`${table} ${chain}`, place === 'top' ? [rule, ...others] : [...others, rule])
    }
    for (const [chain, content] of ours) chains.set(`${table} ${chain}`, content)
  }
  return chains
}

function chainsOf(saved: SavedRules): Map<string, readonly string[]> {
  return new Map(
    [...saved].flatMap(([table, chains]) =>
      [...chains].map(([chain, rules]) => [`${table} ${chain}`, rules]),
    ),
  )
}

/** `iptables-save` of a node that holds these rules and nothing else. */
function asText(rules: Rules): string {
  const chains = [...standing(rules)].map(([name, content]) => [...name.split(' '), content] as const)
  return Object.keys(rules)
    .map((table) => {
      const inTable = chains.filter(([of]) => of === table) as [string, string, readonly string[]][]
      const names = inTable.map(([, chain]) => `:${chain} - [0:0]`)
      const lines = inTable.flatMap(([, chain, content]) => content.map((rule) => `-A ${chain} ${rule}`))
      return [`*${table}`, ...names, ...lines, 'COMMIT', ''].join('\n')
    })
    .join('')
}

/** Where we differ from kube-proxy, and why. Each has to be found. */
const DIFFERENCES: readonly {
  readonly whose: 'ours' | 'theirs'
  readonly where: RegExp
  readonly why: string
}[] = [
  {
    whose: 'theirs',
    where: /^filter KUBE-IPVS-OUT-FILTER -s \S+ -m ipvs /,
    why: 'never matches, as IPVS takes the packet first: done in mangle, by one rule for all Services',
  },
  {
    whose: 'theirs',
    where: / -m physdev /,
    why: 'it loads br_netfilter, and the rule after it takes the same packets',
  },
  { whose: 'ours', where: /^mangle /, why: 'source ranges for traffic of the node itself' },
  {
    whose: 'ours',
    where: /^nat KUBE-SERVICES .* KUBE-(6-)?EXTERNAL-IP-LOCAL /,
    why: 'rules do not wait for the first member of their set',
  },
  {
    whose: 'ours',
    where: /^filter KUBE-SOURCE-RANGES-FIREWALL .* KUBE-(6-)?LOAD-BALANCER-SOURCE-IP /,
    why: 'rules do not wait for the first member of their set',
  },
  ...(['ours', 'theirs'] as const).map((whose) => ({
    whose,
    where: /^nat KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT$/,
    why: 'node ports are asked last: their sets know ports only, and every virtual address is a local one',
  })),
  {
    whose: 'ours',
    where: /^filter KUBE-NODE-PORT -m set --match-set \S+ dst,dst -j RETURN$/,
    why: "a health check's port is not let in where it is some Service's own",
  },
  ...(['ours', 'theirs'] as const).map((whose) => ({
    whose,
    where: /^filter (KUBE-NODE-PORT|KUBE-IPVS-FILTER) .* KUBE-(6-)?HEALTH-CHECK-NODE-PORT dst -j \w+$/,
    why: 'health checks are TCP: the set would let in UDP, too',
  })),
  {
    whose: 'ours',
    where: /^filter (INPUT .* -j KUBE-IPVS-ACCEPT|KUBE-IPVS-ACCEPT .*)$/,
    why: 'a firewall that drops what no rule accepts would drop what is for Services',
  },
]

describe('the rules of iptables', () => {
  for (const family of ['IPv4', 'IPv6'] as const) {
    it(`${family}: those that kube-proxy leaves, but for the differences above`, () => {
      const found = new Set<object>()
      const lines = (whose: 'ours' | 'theirs', chains: ReadonlyMap<string, readonly string[]>): unknown =>
        Object.fromEntries(
          [...chains].map(([chain, rules]) => {
            const same = rules.filter((rule) => {
              const difference = DIFFERENCES.find(
                ({ whose: side, where }) => side === whose && where.test(`${chain} ${rule}`),
              )
              if (difference !== undefined) found.add(difference)
              return difference === undefined
            })
            return [chain, same]
          }),
        )
      const nothing = Object.fromEntries(
        ['mangle OUTPUT', 'mangle KUBE-IPVS-OUT-FILTER', 'mangle KUBE-SOURCE-RANGES-FIREWALL']
          .concat('nat INPUT', 'filter KUBE-IPVS-ACCEPT')
          .map((chain) => [chain, []]),
      )
      const ours = { ...nothing, ...(lines('ours', standing(renderRules(optionsFor(family)))) as object) }
      const theirs = { ...nothing, ...(lines('theirs', chainsOf(recorded(family))) as object) }

      expect(ours).to.deep.equal(theirs)
      expect(DIFFERENCES.filter((difference) => !found.has(difference))).to.deep.equal([])
    })

    it(`${family}: taking kube-proxy's place writes only what differs`, () => {
      const input = planRestore(renderRules(optionsFor(family)), recorded(family))!

      expect(input.match(/^[*:-][^A]\S* .*|^\*.*/gm)).to.deep.equal([
        '*nat',
        ':KUBE-SERVICES - [0:0]',
        '*filter',
        ':KUBE-NODE-PORT - [0:0]',
        ':KUBE-SOURCE-RANGES-FIREWALL - [0:0]',
        ':KUBE-IPVS-FILTER - [0:0]',
        ':KUBE-IPVS-ACCEPT - [0:0]',
        ':KUBE-IPVS-OUT-FILTER - [0:0]',
        '*mangle',
        ':KUBE-IPVS-OUT-FILTER - [0:0]',
        ':KUBE-SOURCE-RANGES-FIREWALL - [0:0]',
        '-I OUTPUT 1 -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER',
      ])
    })
  }

  describe('what is for a Service is decided by its address', () => {
    const { nat, filter } = renderRules(optionsFor('IPv4'))
    /** Each rule as the set that it asks and where it leads. */
    const steps = (rules: readonly string[]): string[] =>
      rules.map((rule) => `${/--match-set (\S+)/.exec(rule)?.[1] ?? 'any'} ${/-j (\S+)/.exec(rule)![1]!}`)

    it('nat: the rules that know ports only come last', () => {
      expect(steps(nat.chains.get('KUBE-SERVICES')!).slice(4)).to.deep.equal([
        'KUBE-EXTERNAL-IP ACCEPT',
        'KUBE-EXTERNAL-IP-LOCAL ACCEPT',
        'KUBE-CLUSTER-IP ACCEPT',
        'KUBE-LOAD-BALANCER ACCEPT',
        'any KUBE-NODE-PORT',
      ])
    })

    it('nat: an address that has no node ports is not asked for them', () => {
      const nodePorts = ['192.168.50.0/24', '10.0.2.15/32']
      const rules = renderRules(optionsFor('IPv4', { nodePorts })).nat.chains.get('KUBE-SERVICES')!

      expect(rules.filter((rule) => rule.includes('KUBE-NODE-PORT'))).to.deep.equal([
        '-d 192.168.50.0/24 -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
        '-d 10.0.2.15/32 -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT',
      ])
    })

    it("filter: a health check's port is asked after all addresses, and for TCP only", () => {
      const rules = filter.chains.get('KUBE-NODE-PORT')!

      expect(steps(rules)).to.deep.equal([
        'KUBE-LOAD-BALANCER RETURN',
        'KUBE-CLUSTER-IP RETURN',
        'KUBE-EXTERNAL-IP RETURN',
        'KUBE-EXTERNAL-IP-LOCAL RETURN',
        'KUBE-HEALTH-CHECK-NODE-PORT ACCEPT',
      ])
    })

    it('no rule with a set of ports takes any protocol', () => {
      const ofPorts = setsOf('IPv4').filter(({ type }) => type === 'bitmap:port')
      const asking = [...standing(renderRules(optionsFor('IPv4'))).values()]
        .flat()
        .filter((rule) => ofPorts.some(({ name }) => rule.includes(`--match-set ${name} `)))

      expect(asking).to.have.length(6)
      expect(asking.filter((rule) => !/^-p (tcp|udp) /.test(rule))).to.deep.equal([])
    })

    it('a firewall that drops: source ranges are asked before anything is accepted, at the end of INPUT', () => {
      expect(steps(filter.chains.get('KUBE-IPVS-ACCEPT')!)).to.deep.equal([
        'KUBE-LOAD-BALANCER-FW KUBE-SOURCE-RANGES-FIREWALL',
        'KUBE-LOAD-BALANCER ACCEPT',
        'KUBE-CLUSTER-IP ACCEPT',
        'KUBE-EXTERNAL-IP ACCEPT',
        'KUBE-EXTERNAL-IP-LOCAL ACCEPT',
      ])
      expect(
        standing(renderRules(optionsFor('IPv4')))
          .get('filter INPUT')!
          .at(-1),
      ).to.match(/-j KUBE-IPVS-ACCEPT$/)
    })
  })

  it('mangle: source ranges hold for the node itself', () => {
    const { chains } = renderRules(optionsFor('IPv4')).mangle

    expect(chains.get('KUBE-IPVS-OUT-FILTER')).to.deep.equal([
      '-m set --match-set KUBE-LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL',
    ])
    const firewall = chains.get('KUBE-SOURCE-RANGES-FIREWALL')!
    expect(firewall.map((rule) => rule.replace(/-m comment.*" /, ''))).to.deep.equal([
      '-m set --match-set KUBE-LOAD-BALANCER-SOURCE-CIDR dst,dst,src -j RETURN',
      '-m set --match-set KUBE-LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN',
      '-j DROP',
    ])
  })

  describe('who is masqueraded on the way to a cluster IP', () => {
    const cases: readonly (readonly [title: string, options: Partial<RenderOptions>, rule: string])[] = [
      ['not known who is a Pod', { local: undefined }, '- src,dst'],
      ['everybody', { masqueradeAll: true }, '- dst,dst'],
      ['everybody, though Pods are known', { masqueradeAll: true, local: undefined }, '- dst,dst'],
      ['not the Pods of a network', {}, '! -s 10.244.0.0/16 - dst,dst'],
      ['not those behind a bridge', { local: { kind: 'interface', name: 'cbr0' } }, '! -i cbr0 - dst,dst'],
      [
        'not those behind interfaces with a name',
        { local: { kind: 'interfacePrefix', prefix: 'cali' } },
        '! -i cali+ - dst,dst',
      ],
    ]
    for (const [title, options, expected] of cases) {
      it(title, () => {
        const rules = renderRules(optionsFor('IPv4', options)).nat.chains.get('KUBE-SERVICES')!
        const rule = rules[2]!.replace(/-m comment .* KUBE-CLUSTER-IP/, '-')

        expect(rule).to.equal(`${expected} -j KUBE-MARK-MASQ`)
      })
    }
  })

  for (const [bit, mark] of [
    [0, '0x1'],
    [14, '0x4000'],
    [31, '0x80000000'],
  ] as const) {
    it(`masqueradeBit ${bit}: ${mark}`, () => {
      const { nat, filter } = renderRules(optionsFor('IPv4', { masqueradeBit: bit }))

      expect(nat.chains.get('KUBE-MARK-MASQ')).to.deep.equal([`-j MARK --set-xmark ${mark}/${mark}`])
      expect(nat.chains.get('KUBE-POSTROUTING')!.slice(1, 3)).to.deep.equal([
        `-m mark ! --mark ${mark}/${mark} -j RETURN`,
        `-j MARK --set-xmark ${mark}/0x0`,
      ])
      expect(filter.chains.get('KUBE-FORWARD')![0]).to.contain(`--mark ${mark}/${mark} -j ACCEPT`)
    })
  }

  it('random source ports only where they are known, and never for a Pod that calls itself', () => {
    const last = (randomFully: boolean): readonly string[] =>
      renderRules(optionsFor('IPv4', { randomFully }))
        .nat.chains.get('KUBE-POSTROUTING')!
        .filter((rule) => rule.includes('MASQUERADE'))
        .map((rule) => rule.replace(/^.* -j /, ''))

    expect(last(true)).to.deep.equal(['MASQUERADE', 'MASQUERADE --random-fully'])
    expect(last(false)).to.deep.equal(['MASQUERADE', 'MASQUERADE'])
  })
})

describe('rules without their sets', () => {
  const all = standing(renderRules(optionsFor('IPv6')))
  for (const { name } of setsOf('IPv6')) {
    it(`${name}: only what asks it is left out`, () => {
      const sets = new Set([...optionsFor('IPv6').sets].filter((set) => set !== name))
      const rest = standing(renderRules(optionsFor('IPv6', { sets })))
      const asks = (rule: string): boolean => rule.split(' ').includes(name)
      // Without source ranges, a load balancer is let in by nobody but the host.
      const isUnasked = (rule: string): boolean =>
        name === 'KUBE-6-LOAD-BALANCER-FW' && rule.endsWith('KUBE-6-LOAD-BALANCER dst,dst -j ACCEPT')
      const lost = [...all].flatMap(([chain, rules]) =>
        rules.filter((rule) => rest.get(chain)?.includes(rule) !== true),
      )

      expect([...rest.values()].flat().filter(asks)).to.deep.equal([])
      expect(
        lost.filter((rule) => !asks(rule) && !rule.includes('-j REJECT') && !isUnasked(rule)),
      ).to.deep.equal([])
      expect(lost).to.not.be.empty
    })
  }

  it('lets in no load balancer whose source ranges cannot be asked', () => {
    const sets = new Set([...optionsFor('IPv4').sets].filter((set) => set !== 'KUBE-LOAD-BALANCER-FW'))
    const rules = renderRules(optionsFor('IPv4', { sets })).filter.chains.get('KUBE-IPVS-ACCEPT')!

    expect(rules.map((rule) => /--match-set (\S+)/.exec(rule)![1])).to.deep.equal([
      'KUBE-CLUSTER-IP',
      'KUBE-EXTERNAL-IP',
      'KUBE-EXTERNAL-IP-LOCAL',
    ])
  })

  it('never rejects what it cannot tell from the traffic of Services', () => {
    const passing = [
      'LOAD-BALANCER',
      'CLUSTER-IP',
      'EXTERNAL-IP',
      'EXTERNAL-IP-LOCAL',
      'HEALTH-CHECK-NODE-PORT',
    ]
    for (const base of passing) {
      const missing = setName(`KUBE-${base}` as 'KUBE-CLUSTER-IP', 'IPv4')
      const sets = new Set([...optionsFor('IPv4').sets].filter((set) => set !== missing))
      const rules = renderRules(optionsFor('IPv4', { sets })).filter.chains.get('KUBE-IPVS-FILTER')!

      expect(rules.filter((rule) => rule.includes('REJECT'))).to.deep.equal([])
    }
  })
})

describe('planRestore', () => {
  const rules = renderRules(optionsFor('IPv4'))
  const text = asText(rules)
  /** The plan for a node whose `iptables-save` has been changed. */
  const planFor = (change: (text: string) => string): string | undefined => {
    const changed = change(text)
    expect(changed).to.not.equal(text)
    return planRestore(rules, parseSave(changed))
  }

  it('nothing for what stands', () => expect(planRestore(rules, parseSave(text))).to.equal(undefined))

  it('everything for a node without rules: chains, rules, then jumps in the order of kube-proxy', () => {
    const input = planRestore(rules, new Map())!

    expect(input.endsWith('COMMIT\n')).to.equal(true)
    expect(input.match(/^(\*|COMMIT).*/gm)).to.deep.equal(
      ['*nat', '*filter', '*mangle'].flatMap((table) => [table, 'COMMIT']),
    )
    for (const [chain, content] of [...rules.nat.chains, ...rules.filter.chains, ...rules.mangle.chains]) {
      expect(input).to.contain(`:${chain} - [0:0]\n`)
      for (const rule of content) expect(input).to.contain(`\n-A ${chain} ${rule}\n`)
    }
    expect(input.match(/^(-I|-A INPUT) .*/gm)!.map((line) => line.replace(/-m.*-j /, ''))).to.deep.equal([
      '-I OUTPUT 1 KUBE-SERVICES',
      '-I PREROUTING 1 KUBE-SERVICES',
      '-I POSTROUTING 1 KUBE-POSTROUTING',
      '-I FORWARD 1 KUBE-FORWARD',
      '-I INPUT 1 KUBE-NODE-PORT',
      '-I INPUT 1 KUBE-PROXY-FIREWALL',
      '-I FORWARD 1 KUBE-PROXY-FIREWALL',
      '-I INPUT 1 KUBE-IPVS-FILTER',
      '-I OUTPUT 1 KUBE-IPVS-OUT-FILTER',
      '-A INPUT KUBE-IPVS-ACCEPT',
      '-I OUTPUT 1 KUBE-IPVS-OUT-FILTER',
    ])
  })

  const markMasq = `*nat
:KUBE-MARK-MASQ - [0:0]
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
COMMIT
`
  const postrouting = `*nat
-I POSTROUTING 1 -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
`
  const accept = `*filter
-A INPUT -m comment --comment "kubernetes service traffic that no rule has decided" -j KUBE-IPVS-ACCEPT
COMMIT
`
  const cases: readonly (readonly [
    title: string,
    change: (text: string) => string,
    plan: string | undefined,
  ])[] = [
    ['a rule is gone', (saved) => saved.replace(/^-A KUBE-MARK-MASQ .*\n/m, ''), markMasq],
    ['a chain is gone', (saved) => saved.replaceAll(/^(:|-A )KUBE-MARK-MASQ .*\n/gm, ''), markMasq],
    ['a rule is another', (saved) => saved.replace('0x4000/0x4000\n', '0x8000/0x8000\n'), markMasq],
    ['a rule too many', (saved) => saved.replace(/^(-A KUBE-MARK-MASQ) .*\n/m, '$&$1 -j RETURN\n'), markMasq],
    ['a jump is gone', (saved) => saved.replace(/^-A POSTROUTING .*\n/m, ''), postrouting],
    [
      'a jump of somebody else to our chain',
      (saved) => saved.replace(/^-A POSTROUTING .*\n/m, '-A POSTROUTING -o eth0 -j KUBE-POSTROUTING\n'),
      postrouting,
    ],
    [
      'rules of others around a jump',
      (saved) => saved.replace(/^-A POSTROUTING .*\n/m, '-A POSTROUTING -j A\n$&-A POSTROUTING -j B\n'),
      undefined,
    ],
    [
      'a jump that belongs to the end is gone',
      (saved) => saved.replace(/^-A INPUT .* -j KUBE-IPVS-ACCEPT\n/m, ''),
      accept,
    ],
    [
      'rules of others behind a jump that belongs to the end',
      (saved) => saved.replace(/^-A INPUT .* -j KUBE-IPVS-ACCEPT\n/m, '$&-A INPUT -j DROP\n'),
      undefined,
    ],
    [
      'somebody has put it first',
      (saved) => saved.replace(/(^-A INPUT [^]*?)(^-A INPUT .* -j KUBE-IPVS-ACCEPT\n)/m, '$2$1'),
      undefined,
    ],
    ['a jump twice', (saved) => saved.replace(/^-A POSTROUTING .*\n/m, '$&$&'), undefined],
    ['chains of others', (saved) => saved.replace('*nat\n', '*nat\n:A - [0:0]\n-A A -j ACCEPT\n'), undefined],
    ['other tables', (saved) => `*raw\n:KUBE-SERVICES - [0:0]\nCOMMIT\n${saved}`, undefined],
    ['counters', (saved) => saved.replaceAll('[0:0]', '[123:4567]'), undefined],
    [
      'quotes around other words',
      (saved) => saved.replaceAll("\\'", "'").replaceAll('-j DROP', '-j "DROP"'),
      undefined,
    ],
  ]
  for (const [title, change, plan] of cases) {
    it(`${title}: ${plan === undefined ? 'nothing' : 'repaired'}`, () =>
      expect(planFor(change)).to.equal(plan))
  }

  it('the order of rules counts', () => {
    const input = planFor((saved) =>
      saved.replace(/^(-A KUBE-LOAD-BALANCER .*\n)(-A KUBE-LOAD-BALANCER .*\n)/m, '$2$1'),
    )

    expect(input?.match(/^:.*/gm)).to.deep.equal([':KUBE-LOAD-BALANCER - [0:0]'])
  })
})

describe('planRemoval', () => {
  it('takes away every chain and every jump of ours, wherever it stands, and nothing else', () => {
    const foreign = '-A INPUT -j DROP\n'
    const saved = asText(renderRules(optionsFor('IPv4'))).replace(
      /^-A INPUT .* -j KUBE-IPVS-ACCEPT\n/m,
      `$&${foreign}`,
    )
    const removal = planRemoval(parseSave(saved))!

    expect(removal).to.contain(
      '\n-D INPUT -m comment --comment "kubernetes service traffic that no rule has decided" -j KUBE-IPVS-ACCEPT\n',
    )
    expect(removal.match(/^-X .*/gm)).to.include('-X KUBE-IPVS-ACCEPT')
    expect(removal).to.not.contain('-j DROP')
  })
})

describe('asPrinted', () => {
  const local: LocalTraffic = { kind: 'cidr', cidr: '10.244.0.0/16' }
  const rules = renderRules(optionsFor('IPv4', { local }))
  /** As another release prints them: marks in decimal, `-m set` with options that have their default. */
  const inOtherWords = (saved: string): string =>
    saved
      .replaceAll('0x4000/0x4000', '16384/16384')
      .replaceAll(/(--match-set \S+ \S+)/g, '$1 --return-nomatch')
      .replaceAll('-m comment --comment "kubernetes service portals" -j', '-j')
  const other = parseSave(inOtherWords(asText(rules)))

  it('without it, another release of iptables would be written for ever', () => {
    expect(planRestore(rules, other)).to.not.equal(undefined)
    expect(planRestore(rules, other, asPrinted(rules, other))).to.equal(undefined)
  })

  it('and a change is still found, and repaired in our words', () => {
    const changed = parseSave(inOtherWords(asText(rules)).replace(/^-A KUBE-MARK-MASQ .*\n/m, ''))

    expect(planRestore(rules, changed, asPrinted(rules, other))).to.equal(`*nat
:KUBE-MARK-MASQ - [0:0]
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
COMMIT
`)
  })

  it('what somebody has changed in between is not taken for our words', () => {
    const raced = parseSave(
      inOtherWords(asText(rules))
        .replace(/^-A KUBE-MARK-MASQ .*\n/m, '')
        .replace(/^-A POSTROUTING .*\n/m, '')
        .replace(/^-A INPUT .* -j KUBE-IPVS-ACCEPT\n/m, ''),
    )

    expect(planRestore(rules, raced, asPrinted(rules, raced))).to.equal(`*nat
:KUBE-MARK-MASQ - [0:0]
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-I POSTROUTING 1 -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
COMMIT
*filter
-A INPUT -m comment --comment "kubernetes service traffic that no rule has decided" -j KUBE-IPVS-ACCEPT
COMMIT
`)
  })
})
