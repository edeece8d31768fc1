import { expect } from 'chai'
import type { Host } from '../../../../src/kernel/filter/iptables/iptables-host.ts'
import { planRestore } from '../../../../src/kernel/filter/iptables/iptables-plan.ts'
import { renderRules } from '../../../../src/kernel/filter/iptables/iptables-rules.ts'
import { parseSave } from '../../../../src/kernel/filter/iptables/iptables-save.ts'
import { Iptables, removeRules, type WantedRules } from '../../../../src/kernel/filter/iptables/iptables.ts'
import { setsOf } from '../../../../src/model/sets.ts'
import {
  failed,
  FakeHost,
  type Failure,
  type Tables,
  tablesOf,
  textOf,
} from '../../../support/fake-iptables.ts'
import { type Random, withRandom } from '../../../support/random.ts'
import { rejectionOf } from '../../../support/rejection.ts'

const OPTIONS: WantedRules = {
  masqueradeBit: 14,
  masqueradeAll: false,
  local: { kind: 'cidr', cidr: '10.244.0.0/16' },
  sets: new Set(setsOf('IPv4').map(({ name }) => name)),
}

/** kubelet's, an administrator's and a plug-in's. */
const OTHERS = `*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-MARK-DROP - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A KUBE-MARK-DROP -j MARK --set-xmark 0x8000/0x8000
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A FORWARD -m conntrack --ctstate NEW -j ACCEPT
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
COMMIT
*mangle
:OUTPUT ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-IPTABLES-HINT - [0:0]
COMMIT
`

/** What kube-proxy in mode iptables adds to these. */
function asIptablesMode(tables: Tables): void {
  const nat = tables.get('nat')!
  nat.set('KUBE-SERVICES', [
    '-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-A',
    '-m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
  ])
  nat.set('KUBE-SVC-A', ['-m statistic --mode random --probability 0.5 -j KUBE-SEP-B', '-j KUBE-EXT-C'])
  nat.set('KUBE-SEP-B', ['-p tcp -m tcp -j DNAT --to-destination 10.244.0.7:8080'])
  nat.set('KUBE-EXT-C', ['-j KUBE-MARK-MASQ'])
  nat.set('KUBE-NODEPORTS', [])
  nat.set('KUBE-MARK-MASQ', ['-j MARK --set-xmark 0x4000/0x4000'])
  nat.set('KUBE-PROXY-CANARY', [])
  nat.get('PREROUTING')!.unshift('-m comment --comment "kubernetes service portals" -j KUBE-SERVICES')
  const filter = tables.get('filter')!
  filter.set('KUBE-SERVICES', [
    '-d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable',
  ])
  filter.set('KUBE-EXTERNAL-SERVICES', [])
  filter.set('KUBE-PROXY-FIREWALL', [])
  filter
    .get('OUTPUT')!
    .unshift('-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES')
  filter
    .get('INPUT')!
    .unshift(
      '-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL',
    )
  filter.get('INPUT')!.unshift('-m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES')
  tables.get('mangle')!.set('KUBE-PROXY-CANARY', [])
}

const messageOf = async (promise: Promise<unknown>): Promise<string> =>
  ((await rejectionOf(promise)) as Error).message

describe('Iptables', () => {
  let host: FakeHost
  let iptables: Iptables
  beforeEach(() => {
    host = new FakeHost()
    iptables = new Iptables('IPv4', host)
  })

  it('writes once, and then only looks', async () => {
    expect(await iptables.ensure(OPTIONS)).to.equal('written')
    host.calls.length = 0

    expect(await iptables.ensure(OPTIONS)).to.equal('unchanged')
    expect(host.calls).to.deep.equal(['iptables-nft-save'])
    expect(await new Iptables('IPv4', host).ensure(OPTIONS)).to.equal('unchanged')
  })

  it('waits for the lock, and leaves what it does not name', async () => {
    await iptables.ensure(OPTIONS)

    expect(host.calls.filter((call) => call.includes('-restore'))).to.deep.equal([
      'iptables-nft-restore --version',
      'iptables-nft-restore -w 5 --noflush',
    ])
  })

  it('uses the programs of the family', async () => {
    await new Iptables('IPv6', host).ensure({ ...OPTIONS, local: undefined })

    expect(host.calls.filter((call) => call.includes('-w'))).to.deep.equal([
      'ip6tables-nft-restore -w 5 --noflush',
    ])
  })

  it('writes what the options change', async () => {
    await iptables.ensure(OPTIONS)

    expect(await iptables.ensure({ ...OPTIONS, masqueradeBit: 15 })).to.equal('written')
    expect(host.tables.get('nat')!.get('KUBE-MARK-MASQ')).to.deep.equal(['-j MARK --set-xmark 0x8000/0x8000'])
  })

  it('repairs whatever is done to its rules, and keeps those of others', () =>
    withRandom(async (random) => {
      await iptables.ensure(OPTIONS)
      for (let round = 0; round < 300; round++) {
        const isBroken = disturb(host.tables, random)
        const before = othersOf(host.tables)

        expect(await iptables.ensure(OPTIONS)).to.equal(isBroken ? 'written' : 'unchanged')
        expect(othersOf(host.tables)).to.deep.equal(before)
        const wanted = renderRules({ ...OPTIONS, family: 'IPv4', randomFully: true })
        expect(planRestore(wanted, host.tables)).to.equal(undefined)
      }
    }))

  it('takes the words of another release, once it has written twice', async () => {
    host.print = (text) =>
      text.replaceAll('0x4000/0x4000', '16384/16384').replaceAll(' -j KUBE-', ' -g -j KUBE-')

    expect(await iptables.ensure(OPTIONS)).to.equal('written')
    expect(await iptables.ensure(OPTIONS)).to.equal('written')
    expect(await iptables.ensure(OPTIONS)).to.equal('unchanged')
    host.tables.get('nat')!.set('KUBE-MARK-MASQ', [])
    expect(await iptables.ensure(OPTIONS)).to.equal('written')
    expect(await iptables.ensure(OPTIONS)).to.equal('unchanged')
  })

  it('does not take for words what somebody else has changed before it looks', async () => {
    expect(await iptables.ensure(OPTIONS)).to.equal('written')
    host.tables.get('nat')!.set('KUBE-MARK-MASQ', ['-j MARK --set-xmark 0x8000/0x8000'])

    expect(await iptables.ensure(OPTIONS)).to.equal('written')
    expect(host.tables.get('nat')!.get('KUBE-MARK-MASQ')).to.deep.equal(['-j MARK --set-xmark 0x4000/0x4000'])
  })

  describe('what other modes of kube-proxy have left', () => {
    it('goes with the first writing, and nobody else loses a rule', async () => {
      host.tables = tablesOf(parseSave(OTHERS))
      asIptablesMode(host.tables)
      expect(await iptables.ensure(OPTIONS)).to.equal('written')
      const clean = new FakeHost()
      clean.tables = tablesOf(parseSave(OTHERS))
      await new Iptables('IPv4', clean).ensure(OPTIONS)

      const sorted = (tables: Tables): string[] => textOf(tables).split('\n').sort()
      expect(sorted(host.tables)).to.deep.equal(sorted(clean.tables))
      expect(await iptables.ensure(OPTIONS)).to.equal('unchanged')
    })

    it('stays where a chain of somebody else leads to it', async () => {
      host.tables = tablesOf(parseSave(OTHERS))
      asIptablesMode(host.tables)
      host.tables.get('nat')!.get('CNI-HOSTPORT-DNAT')!.push('-j KUBE-SVC-A')
      await iptables.ensure(OPTIONS)

      const chains = [...host.tables.get('nat')!.keys()]
      expect(chains).to.include.members(['KUBE-SVC-A', 'KUBE-SEP-B', 'KUBE-EXT-C'])
      expect(chains).not.to.include('KUBE-NODEPORTS')
      expect(await iptables.ensure(OPTIONS)).to.equal('unchanged')
    })
  })

  describe('preview', () => {
    it('says what would be done, as commands, and does nothing', async () => {
      host.tables = tablesOf(parseSave(OTHERS))
      asIptablesMode(host.tables)
      const before = textOf(host.tables)
      const commands = await iptables.preview(OPTIONS)

      expect(textOf(host.tables)).to.equal(before)
      expect(commands).to.include.members([
        'iptables -t nat -N KUBE-POSTROUTING',
        'iptables -t nat -A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ',
        'iptables -t filter -A INPUT -m comment --comment "kubernetes service traffic that no rule has decided" -j KUBE-IPVS-ACCEPT',
        'iptables -t filter -D INPUT -m conntrack --ctstate NEW -j KUBE-EXTERNAL-SERVICES',
        'iptables -t nat -X KUBE-SVC-A',
      ])
      expect(commands.some((command) => command.includes("type 'hash ip:port'"))).to.equal(true)
    })

    it('says nothing where all is well', async () => {
      await iptables.ensure(OPTIONS)

      expect(await new Iptables('IPv4', host).preview(OPTIONS)).to.deep.equal([])
    })
  })

  describe('removeRules', () => {
    it('leaves what was there before, whatever it was', async () => {
      host.tables = tablesOf(parseSave(OTHERS))
      const before = textOf(host.tables)
      await iptables.ensure(OPTIONS)
      asIptablesMode(host.tables)

      expect(await removeRules('IPv4', host)).to.equal(true)
      expect(textOf(host.tables)).to.equal(before)
      expect(await removeRules('IPv4', host)).to.equal(false)
    })

    it('has nothing to do where there are no programs', async () => {
      host.run = () => Promise.reject(failed({ code: 'ENOENT' }))
      expect(await removeRules('IPv4', host)).to.equal(false)
    })

    it('says why it cannot', async () => {
      await iptables.ensure(OPTIONS)
      host.refuse = () => ({ code: 4, stderr: 'Another app is currently holding the xtables lock' })

      expect(await messageOf(removeRules('IPv4', host))).to.contain(
        'another program has held /run/xtables.lock',
      )
    })
  })

  describe('where changes of the rules are counted', () => {
    const look = async (options: WantedRules = OPTIONS): Promise<number> => {
      const before = host.calls.length
      await counted.ensure(options)
      return host.calls.length - before
    }
    let generation: number | undefined
    let counted: Iptables

    beforeEach(async () => {
      host.print = (text) =>
        `# Generated by iptables-save v1.8.9 (nf_tables) on Tue Nov 24 00:00:00 2026\n${text}`
      generation = 1
      counted = new Iptables('IPv4', host, undefined, () => Promise.resolve(generation))
      await counted.ensure(OPTIONS)
      generation = 2
      await counted.ensure(OPTIONS)
    })

    it('runs no program while nothing has changed', async () => {
      expect(await look()).to.equal(0)
    })

    it('looks again when something has, and repairs it', async () => {
      host.tables.get('nat')!.set('KUBE-MARK-MASQ', [])
      generation = 3

      expect(await look()).to.be.greaterThan(0)
      expect(host.tables.get('nat')!.get('KUBE-MARK-MASQ')).not.to.deep.equal([])
    })

    it('looks again after it has written', async () => {
      host.tables.get('nat')!.set('KUBE-MARK-MASQ', [])
      generation = 3
      await look()

      expect(await look()).to.equal(1)
      expect(await look()).to.equal(0)
    })

    it('looks again when other rules are wanted', async () => {
      expect(await look({ ...OPTIONS, masqueradeAll: !OPTIONS.masqueradeAll })).to.be.greaterThan(0)
    })

    it('always looks where they are not counted', async () => {
      generation = undefined
      expect(await look()).to.equal(1)
      expect(await look()).to.equal(1)
    })
  })

  it('runs three programs at the first start of a family, and one at each look', async () => {
    host.print = (text) =>
      `# Generated by iptables-save v1.8.9 (nf_tables) on Tue Nov 24 00:00:00 2026\n${text}`
    host.tables = tablesOf(parseSave(OTHERS))
    await iptables.ensure(OPTIONS)

    expect(host.calls).to.deep.equal([
      'iptables-nft-save',
      'ip6tables-nft-save',
      'iptables-nft-restore -w 5 --noflush',
    ])
  })

  describe('--random-fully', () => {
    const isRandom = (): boolean =>
      host.tables.get('nat')!.get('KUBE-POSTROUTING')!.at(-1)!.endsWith('-j MASQUERADE --random-fully')
    for (const [version, expected] of [
      ['v1.8.9', true],
      ['v1.6.2', true],
      ['v1.10.0', true],
      ['v2.0.0', true],
      ['v1.6.1', false],
      ['v1.4.21', false],
      ['(unknown)', false],
    ] as const) {
      it(`${version}: ${expected}`, async () => {
        host.version = version
        await iptables.ensure(OPTIONS)

        expect(isRandom()).to.equal(expected)
      })
    }

    it('goes where the kernel refuses it, and stays away', async () => {
      host.refuse = (input) =>
        input.includes('--random-fully')
          ? { code: 4, stderr: 'RULE_APPEND failed (Invalid argument)' }
          : undefined

      expect(await iptables.ensure(OPTIONS)).to.equal('written')
      expect(isRandom()).to.equal(false)
      expect(await iptables.ensure(OPTIONS)).to.equal('unchanged')
    })

    it('stays when it is not to blame', async () => {
      host.refuse = () => ({ code: 1, stderr: 'line 2 failed' })
      expect(await messageOf(iptables.ensure(OPTIONS))).to.equal(
        'iptables-nft-restore failed for IPv4: line 2 failed',
      )
      let failures = 1
      host.refuse = () => (failures-- > 0 ? { code: 4, stderr: 'the xtables lock' } : undefined)
      await rejectionOf(iptables.ensure(OPTIONS))
      host.refuse = () => undefined
      await iptables.ensure(OPTIONS)

      expect(isRandom()).to.equal(true)
    })
  })

  describe('says what went wrong', () => {
    const set = 'Warning: Extension set revision 0 not supported, missing kernel module?\n'
    const cases: readonly (readonly [failure: Failure, reason: string])[] = [
      [{ code: 'ENOENT' }, 'there is no program iptables-nft-restore: install iptables'],
      [{ code: 1, killed: true }, 'no result within 300 s'],
      [
        {
          code: 4,
          stderr: `${set}iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file or directory): rule in chain KUBE-SERVICES\n`,
        },
        'this kernel has no xt_set: load it with "modprobe xt_set", on the host',
      ],
      [
        {
          code: 1,
          stderr: `${set}iptables-restore v1.8.9 (legacy): Kernel module xt_set is not loaded in.\n\n`,
        },
        'this kernel has no xt_set: load it with "modprobe xt_set", on the host',
      ],
      [
        {
          code: 2,
          stderr:
            "iptables-restore v1.8.9 (legacy): Set KUBE-LOOP-BACK doesn't exist.\n\nError occurred at line: 3\n",
        },
        'the set KUBE-LOOP-BACK does not exist: something has destroyed it',
      ],
      [
        {
          code: 4,
          stderr:
            "Can't lock /run/xtables.lock: Resource temporarily unavailable\nAnother app is currently holding the xtables lock. Stopped waiting after 5s.\n",
        },
        'another program has held /run/xtables.lock for 5 s: find it with "fuser /run/xtables.lock"',
      ],
      [
        { code: 4, stderr: "Fatal: can't open lock file /run/xtables.lock: Read-only file system\n" },
        'cannot open /run/xtables.lock (Read-only file system): mount it from the host, writable',
      ],
      [
        { code: 4, stderr: 'Could not fetch rule set generation id: Permission denied (you must be root)\n' },
        'we may not: run kube-ipvs as root with CAP_NET_ADMIN and CAP_NET_RAW',
      ],
      [
        { code: 2, stderr: "iptables-restore v1.8.9 (nf_tables): Can't open socket to ipset.\n\n" },
        'rules that ask sets take a raw socket: run kube-ipvs as root with CAP_NET_RAW',
      ],
      [
        { code: 4, stderr: 'Could not fetch rule set generation id: Invalid argument\n' },
        'this kernel has no nf_tables: load it with "modprobe nf_tables", on the host',
      ],
      [
        {
          code: 2,
          stderr: "iptables-restore: unable to initialize table 'nat'\nError occurred at line: 1\n",
        },
        'there is no table nat: load it with "modprobe iptable_nat", on the host, and run kube-ipvs with CAP_NET_ADMIN',
      ],
      [{ code: 2, stderr: 'one\n\n  two\n' }, 'one; two'],
      [{ code: 3 }, 'Command failed'],
    ]
    for (const [failure, reason] of cases) {
      it(reason, async () => {
        host.refuse = () => failure
        const error = (await rejectionOf(iptables.ensure(OPTIONS))) as Error

        expect(error.message).to.equal(`iptables-nft-restore failed for IPv4: ${reason}`)
        expect(error.cause).to.include(failure)
      })
    }

    it('where there is no iptables at all', async () => {
      const nothing: Host = {
        run: () => Promise.reject(failed({ code: 'ENOENT' })),
        legacyTables: () => Promise.resolve(''),
      }

      expect(await messageOf(new Iptables('IPv6', nothing).ensure(OPTIONS))).to.equal(
        'ip6tables-save failed for IPv6: there is no program ip6tables-save: install iptables',
      )
    })
  })
})

/** Changes something of the tables; whether that has to be repaired. */
function disturb(tables: Tables, random: Random): boolean {
  const chains = [...tables].flatMap(([table, inTable]) =>
    [...inTable.keys()].map((chain) => ({ table, chain })),
  )
  const { table, chain } = random.pick(chains)
  const inTable = tables.get(table)!
  const rules = inTable.get(chain)!
  const isOurs = chain.startsWith('KUBE-')
  switch (random.int(5)) {
    case 0:
      inTable.set(chain, [])
      return rules.some((rule) => rule.includes('-j KUBE-')) || (isOurs && rules.length > 0)
    case 1:
      if (isOurs) inTable.delete(chain)
      return isOurs
    case 2: {
      const [gone] = rules.splice(random.int(rules.length), 1)
      return gone !== undefined && (isOurs || (gone.includes('-j KUBE-') && !rules.includes(gone)))
    }
    case 3:
      rules.splice(random.int(rules.length + 1), 0, `-s 192.0.2.${random.int(256)}/32 -j DROP`)
      return isOurs
    default:
      inTable.set(`FOREIGN-${random.int(3)}`, ['-j RETURN'])
      return false
  }
}

/** All that is not ours. */
function othersOf(tables: Tables): unknown {
  return [...tables].map(([table, chains]) => [
    table,
    [...chains]
      .filter(([chain]) => !chain.startsWith('KUBE-'))
      .map(([chain, rules]) => [chain, rules.filter((rule) => !rule.includes('-j KUBE-'))]),
  ])
}
