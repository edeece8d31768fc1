/** Which of the two iptables a node uses. */
import { expect } from 'chai'
import type { Host } from '../../../../src/kernel/filter/iptables/iptables-host.ts'
import { detectVariant } from '../../../../src/kernel/filter/iptables/iptables-variant.ts'
import { failed } from '../../../support/fake-iptables.ts'

describe('detectVariant', () => {
  const chains = (table: string, ...names: string[]): string =>
    `*${table}\n${names.map((name) => `:${name} - [0:0]\n`).join('')}COMMIT\n`
  const rules = (count: number): string =>
    `*filter\n:INPUT ACCEPT [0:0]\n${'-A INPUT -j ACCEPT\n'.repeat(count)}COMMIT\n`
  const hint = chains('mangle', 'KUBE-IPTABLES-HINT')
  /** By program; undefined: it fails. */
  type Programs = Readonly<Record<string, string | undefined>>
  const NONE: Programs = {
    'iptables-nft-save': '',
    'ip6tables-nft-save': '',
    'iptables-legacy-save': '',
    'ip6tables-legacy-save': '',
  }
  const hostOf = (programs: Programs, legacy = 'filter\nmangle\n'): Host & { calls: string[] } => {
    const calls: string[] = []
    return {
      calls,
      run: (program, args) => {
        calls.push([program, ...args].join(' '))
        const text = programs[program]
        return text === undefined ? Promise.reject(failed({ code: 'ENOENT' })) : Promise.resolve(text)
      },
      legacyTables: () => Promise.resolve(legacy),
    }
  }
  const cases: readonly (readonly [title: string, programs: Programs, name: string])[] = [
    ['nothing anywhere', {}, 'default'],
    [
      'hints in nft, more rules in legacy',
      { 'iptables-nft-save': hint, 'iptables-legacy-save': rules(9) },
      'nft',
    ],
    [
      'hints in legacy, more rules in nft',
      { 'iptables-nft-save': rules(9), 'iptables-legacy-save': hint },
      'legacy',
    ],
    ['hints for IPv6 alone', { 'ip6tables-legacy-save': hint, 'iptables-nft-save': rules(9) }, 'legacy'],
    ['hints in both', { 'iptables-nft-save': hint, 'iptables-legacy-save': hint }, 'nft'],
    ['the older hint', { 'iptables-legacy-save': chains('mangle', 'KUBE-KUBELET-CANARY') }, 'legacy'],
    ['no hint: another table', { 'iptables-legacy-save': chains('nat', 'KUBE-KUBELET-CANARY') }, 'default'],
    ['more rules in nft', { 'iptables-nft-save': rules(2), 'ip6tables-legacy-save': rules(1) }, 'nft'],
    ['more rules in legacy', { 'iptables-nft-save': rules(2), 'iptables-legacy-save': rules(3) }, 'legacy'],
    [
      'more rules in legacy, of both families',
      { 'iptables-nft-save': rules(3), 'iptables-legacy-save': rules(2), 'ip6tables-legacy-save': rules(2) },
      'legacy',
    ],
    ['as many', { 'iptables-nft-save': rules(2), 'iptables-legacy-save': rules(2) }, 'default'],
    ['nft fails', { 'iptables-nft-save': undefined, 'ip6tables-nft-save': undefined }, 'legacy'],
    ['nft fails for one family', { 'ip6tables-nft-save': undefined, 'iptables-nft-save': rules(1) }, 'nft'],
    ['legacy is missing', { 'iptables-legacy-save': undefined, 'ip6tables-legacy-save': undefined }, 'nft'],
    [
      'nothing works',
      Object.fromEntries(Object.keys(NONE).map((program) => [program, undefined])),
      'default',
    ],
  ]
  for (const [title, programs, name] of cases) {
    it(`${title}: ${name}`, async () => {
      const variant = await detectVariant(hostOf({ ...NONE, ...programs }))

      expect(variant.name).to.equal(name)
      expect(variant.reason).to.not.equal('')
    })
  }

  it('does not look at legacy tables where there are none', async () => {
    const host = hostOf({ ...NONE, 'iptables-legacy-save': hint }, '')

    expect((await detectVariant(host)).name).to.equal('default')
    expect(host.calls.filter((call) => call.includes('legacy'))).to.deep.equal([
      'iptables-legacy-save --version',
    ])
  })
})
