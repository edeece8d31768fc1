/** What iptables-restore is given, by what iptables-save says. */
import { expect } from 'chai'
import { asPrinted, planRemoval, planRestore } from '../../../../src/kernel/filter/iptables/iptables-plan.ts'
import type { LocalTraffic } from '../../../../src/kernel/filter/filter.ts'
import { renderRules } from '../../../../src/kernel/filter/iptables/iptables-rules.ts'
import { parseSave } from '../../../../src/kernel/filter/iptables/iptables-save.ts'
import { asText, optionsFor } from '../../../support/iptables-text.ts'

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
