/** The rules on a real kernel, through each variant of iptables and for each family, among rules of others. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { planRestore } from '../../src/kernel/filter/iptables/iptables-plan.ts'
import { renderRules } from '../../src/kernel/filter/iptables/iptables-rules.ts'
import { parseSave } from '../../src/kernel/filter/iptables/iptables-save.ts'
import { Iptables, type WantedRules } from '../../src/kernel/filter/iptables/iptables.ts'
import type { Family } from '../../src/model/address.ts'
import { setsOf } from '../../src/model/sets.ts'
import { run, sh, temporaryFolder } from '../support/lab.ts'
import { rejectionOf } from '../support/rejection.ts'

const FAMILIES = ['IPv4', 'IPv6'] as const
const FIXTURES = join(process.cwd(), 'test/fixtures/kube-proxy-node')

/** Rules of others, in chains that hold jumps of ours, too. */
const FOREIGN = `*nat
:KUBE-FOREIGN - [0:0]
-A PREROUTING -p tcp -m tcp --dport 81 -j REDIRECT --to-ports 82
-A POSTROUTING -o eth7 -m comment --comment "it's not \\"ours\\"" -j MASQUERADE
-A OUTPUT -j KUBE-FOREIGN
-A KUBE-FOREIGN -p udp -m udp --dport 53 -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
:KUBE-FIREWALL - [0:0]
-A INPUT -j KUBE-FIREWALL
-A INPUT -p tcp -m tcp --dport 22 -m comment --comment "kube-proxy firewall rules" -j ACCEPT
-A FORWARD -i eth7 -j ACCEPT
-A OUTPUT -j KUBE-FIREWALL
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
COMMIT
*mangle
-A OUTPUT -p tcp -j MARK --set-xmark 0x1/0x1
COMMIT
`

function optionsFor(family: Family): WantedRules {
  return {
    masqueradeBit: 14,
    masqueradeAll: false,
    local: { kind: 'cidr', cidr: family === 'IPv4' ? '10.244.0.0/16' : 'fd00:10:244::/48' },
    sets: new Set(setsOf(family).map(({ name }) => name)),
  }
}

async function createSets(): Promise<void> {
  const inet = { IPv4: 'inet', IPv6: 'inet6' }
  const creations = FAMILIES.flatMap(setsOf).map(({ name, type, family }) =>
    type === 'bitmap:port'
      ? `ipset create ${name} ${type} range 0-65535`
      : `ipset create ${name} ${type} family ${inet[family]}`,
  )
  await sh(creations.join('\n'))
}

for (const variant of ['nft', 'legacy'] as const) {
  describe(`iptables-${variant}`, () => {
    const folder = temporaryFolder()

    before(async () => {
      await createSets()
      await sh(`iptables-${variant} -t mangle -N KUBE-IPTABLES-HINT`)
    })

    after(async () => {
      for (const tool of ['iptables', 'ip6tables']) {
        for (const table of ['nat', 'filter', 'mangle']) {
          await sh(`${tool}-${variant} -t ${table} -F; ${tool}-${variant} -t ${table} -X`)
        }
      }
      await sh('ipset destroy')
    })

    for (const family of FAMILIES) {
      const tool = `${family === 'IPv4' ? 'iptables' : 'ip6tables'}-${variant}`
      const options = optionsFor(family)
      /** All rules, in the order in which they stand. */
      const rules = async (): Promise<string[]> =>
        (await run(`${tool}-save`)).split('\n').filter((line) => !line.startsWith('#'))
      const restore = async (text: string): Promise<void> => {
        writeFileSync(join(folder, 'input'), text)
        await sh(`${tool}-restore --noflush < ${join(folder, 'input')}`)
      }

      describe(family, () => {
        let iptables: Iptables

        before(async () => {
          await restore(FOREIGN)
          iptables = new Iptables(family)
        })

        it('says which set is missing, and writes nothing', async () => {
          const before = await rules()
          const sets = new Set(options.sets).add('KUBE-NO-SUCH-SET')
          await sh(`ipset destroy KUBE${family === 'IPv4' ? '' : '-6'}-LOOP-BACK`)
          const error = (await rejectionOf(iptables.ensure({ ...options, sets }))) as Error

          expect(error.message).to.match(
            /-restore failed for IPv\d: the set KUBE-(6-)?LOOP-BACK does not exist: something has destroyed it$/,
          )
          expect(await rules()).to.deep.equal(before)
        })

        it('leaves out the rules whose sets are missing', async () => {
          const missing = `KUBE${family === 'IPv4' ? '' : '-6'}-LOOP-BACK`
          const sets = new Set([...options.sets].filter((set) => set !== missing))

          expect(await iptables.ensure({ ...options, sets })).to.equal('written')
          expect((await rules()).filter((rule) => rule.includes('LOOP-BACK'))).to.deep.equal([])
          const [spec] = setsOf(family).filter(({ name }) => name === missing)
          await sh(`ipset create ${missing} ${spec!.type} family ${family === 'IPv4' ? 'inet' : 'inet6'}`)
        })

        it('writes where the hint of kubelet is, and then only looks', async () => {
          expect(await iptables.ensure(options)).to.equal('written')
          expect(iptables.variant?.name).to.equal(variant)
          expect(await iptables.ensure(options)).to.equal('unchanged')
          expect(await new Iptables(family).ensure(options)).to.equal('unchanged')
          const other = `${tool.replace(variant, '')}${variant === 'nft' ? 'legacy' : 'nft'}-save`
          expect(await run(other)).to.not.contain('KUBE-SERVICES')
        })

        it('prints them as they are rendered', async () => {
          const wanted = renderRules({ ...options, family, randomFully: true })

          expect(planRestore(wanted, parseSave((await rules()).join('\n')))).to.equal(undefined)
        })

        it('keeps the rules of others, in their order', async () => {
          const foreign = FOREIGN.match(/^-A .*/gm)!.map((rule) => rule.replaceAll("'", "\\'"))
          const standing = await rules()
          const kept = standing.filter((rule) => foreign.includes(rule))

          expect([...kept].sort()).to.deep.equal([...foreign].sort())
          for (const chain of ['INPUT', 'OUTPUT']) {
            const inChain = (rule: string): boolean => rule.startsWith(`-A ${chain} `)
            expect(kept.filter(inChain).sort()).to.deep.equal(foreign.filter(inChain).sort())
          }
          // What the host decides comes before what we let in.
          expect(standing.filter((rule) => rule.startsWith('-A INPUT')).at(-1)).to.match(
            /-j KUBE-IPVS-ACCEPT$/,
          )
          expect(kept.filter((rule) => rule.startsWith('-A INPUT'))).to.deep.equal(
            foreign.filter((rule) => rule.startsWith('-A INPUT')),
          )
          expect(standing.filter((line) => line.startsWith(':FORWARD DROP'))).to.have.length(1)
        })

        const disturbances: readonly (readonly [title: string, commands: string])[] = [
          ['flushes a chain', `${tool} -t nat -F KUBE-SERVICES`],
          ['deletes a rule', `${tool} -t filter -D KUBE-SOURCE-RANGES-FIREWALL 1`],
          ['adds a rule', `${tool} -t nat -I KUBE-POSTROUTING -j ACCEPT`],
          ['deletes a jump', `${tool} -t nat -D POSTROUTING 1`],
          [
            'deletes the jump at the end of INPUT',
            `${tool} -t filter -S INPUT | grep -- '-j KUBE-IPVS-ACCEPT$' | sed 's/^-A/-D/' | xargs ${tool} -t filter`,
          ],
          [
            'deletes a chain with its jump',
            `${tool} -t mangle -D OUTPUT 1; ${tool} -t mangle -F KUBE-IPVS-OUT-FILTER
             ${tool} -t mangle -X KUBE-IPVS-OUT-FILTER`,
          ],
          [
            'deletes a chain that rules lead to',
            `${tool} -t nat -F KUBE-SERVICES; ${tool} -t nat -F KUBE-LOAD-BALANCER
             ${tool} -t nat -X KUBE-LOAD-BALANCER`,
          ],
        ]
        // What differs between the families is shown above; one will do for the other.
        for (const [title, commands] of family === 'IPv4' ? disturbances : disturbances.slice(0, 1)) {
          it(`somebody ${title}: all stands again`, async () => {
            const before = await rules()
            await sh(commands)

            expect(await iptables.ensure(options)).to.equal('written')
            expect(parseSave((await rules()).join('\n'))).to.deep.equal(parseSave(before.join('\n')))
          })
        }

        it("takes kube-proxy's place: its jumps stay, and two are added", async () => {
          await sh('modprobe ip_vs')
          const file = family === 'IPv4' ? 'iptables.txt' : 'ip6tables.txt'
          for (const table of ['nat', 'filter', 'mangle']) {
            await sh(`${tool} -t ${table} -F; ${tool} -t ${table} -X`)
          }
          await sh(`iptables-${variant} -t mangle -N KUBE-IPTABLES-HINT`).catch(() => '')
          const recorded = readFileSync(join(FIXTURES, file), 'utf8')
          await restore(recorded)
          const isJump = (rule: string): boolean => /^-A (?!KUBE-)/.test(rule)
          const jumps = recorded.split('\n').filter(isJump).sort()

          expect(await new Iptables(family).ensure(options)).to.equal('written')
          const standing = await rules()
          const inMangle =
            '-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER'
          const atEnd =
            '-A INPUT -m comment --comment "kubernetes service traffic that no rule has decided" -j KUBE-IPVS-ACCEPT'
          expect(standing.filter(isJump).sort()).to.deep.equal([...jumps, inMangle, atEnd].sort())
          expect(standing.filter((rule) => rule.includes('-m ipvs'))).to.deep.equal([])
          expect(await new Iptables(family).ensure(options)).to.equal('unchanged')
        })
      })
    }
  })
}

describe('iptables-legacy while somebody holds the lock', () => {
  it('says so after its wait', async () => {
    await sh('iptables-legacy -t mangle -N KUBE-IPTABLES-HINT')
    const holder = spawn('flock', ['/run/xtables.lock', 'sh', '-c', 'echo held; exec cat'])
    await once(holder.stdout, 'data')
    const error = (await rejectionOf(
      new Iptables('IPv4').ensure({ ...optionsFor('IPv4'), sets: new Set() }),
    )) as Error
    holder.stdin.end()
    await once(holder, 'exit')

    expect(error.message).to.equal(
      'iptables-legacy-restore failed for IPv4: another program has held /run/xtables.lock for 5 s: ' +
        'find it with "fuser /run/xtables.lock"',
    )
    expect(await new Iptables('IPv4').ensure({ ...optionsFor('IPv4'), sets: new Set() })).to.equal('written')
  })
})
