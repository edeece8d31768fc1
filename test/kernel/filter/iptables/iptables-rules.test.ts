import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { planRestore } from '../../../../src/kernel/filter/iptables/iptables-plan.ts'
import { renderRules, type RenderOptions } from '../../../../src/kernel/filter/iptables/iptables-rules.ts'
import { parseSave, type SavedRules } from '../../../../src/kernel/filter/iptables/iptables-save.ts'
import type { Family } from '../../../../src/model/address.ts'
import { optionsFor, standing } from '../../../support/iptables-text.ts'
import { setName, setsOf } from '../../../../src/model/sets.ts'

const RECORDED = join(import.meta.dirname, '../../../fixtures/kube-proxy-node')

function recorded(family: Family): SavedRules {
  const file = family === 'IPv4' ? 'iptables.txt' : 'ip6tables.txt'
  return parseSave(readFileSync(join(RECORDED, file), 'utf8'))
}

function chainsOf(saved: SavedRules): Map<string, readonly string[]> {
  return new Map(
    [...saved].flatMap(([table, chains]) =>
      [...chains].map(([chain, rules]) => [`${table} ${chain}`, rules]),
    ),
  )
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
