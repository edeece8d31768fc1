/** Our sets in the real kernel: made, adopted, made anew, grown; and what becomes of those that cannot be used. */
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { expect } from 'chai'
import type { MemberChange } from '../../src/kernel/filter/filter.ts'
import { Ipset } from '../../src/kernel/filter/iptables/ipset.ts'
import { bitmapMember, ipvsIpsMember, portMember, setMember, setsOf } from '../../src/model/sets.ts'
import type { Address } from '../../src/model/address.ts'
import { loadAddon, type Socket } from '../../src/netlink/socket.ts'
import { run, sh } from '../support/lab.ts'

const VIP = '203.0.113.80' as Address
const VIP6 = 'fd00:203::80' as Address
const open = (): Ipset => new Ipset(loadAddon(), ['IPv4', 'IPv6'])
const save = async (set: string): Promise<string[]> =>
  (await run('ipset', 'save', set)).trim().split('\n').slice(1).sort()
const add = (members: readonly string[]): MemberChange[] =>
  members.map((member) => ({ verb: 'ADD', member: member as never }))
const counted = (set: string, count: number): string[] =>
  Array.from({ length: count }, (_, i) => setMember(set, `10.${i >> 16}.${(i >> 8) & 255}.${i & 255},tcp:80`))

/** Begins to list a set, as `ipset list | less` does, and says so. */
function listSlowly(set: string): ChildProcessByStdio<null, Readable, null> {
  const name = `${set}\\0`
  const script = `
import socket, struct, time
name = b'${name}'
def attribute(kind, data): return struct.pack('HH', 4 + len(data), kind) + data + b'\\0' * (-len(data) % 4)
body = struct.pack('BBH', 2, 0, 0) + attribute(1, b'\\7') + attribute(2, name)
request = struct.pack('IHHII', 16 + len(body), 6 << 8 | 7, 0x301, 1, 0) + body
netfilter = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
netfilter.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
netfilter.send(request)
print('listing', flush=True)
time.sleep(300)`
  return spawn('python3', ['-c', script], { stdio: ['ignore', 'pipe', 'inherit'] })
}

describe('Ipset', () => {
  let ipset: Ipset
  beforeEach(async () => {
    await sh('iptables-nft -F; ipset destroy')
    ipset = open()
  })
  afterEach(() => {
    ipset.close()
  })

  it("makes kube-proxy's 17 sets for each family, with its options", async () => {
    await ipset.read(false)

    const made = (await run('ipset', 'save')).split('\n').filter((line) => line.startsWith('create'))
    const expected = (['IPv4', 'IPv6'] as const)
      .flatMap(setsOf)
      .map(({ name, type, family }) =>
        type === 'bitmap:port'
          ? `create ${name} ${type} range 0-65535`
          : `create ${name} ${type} family ${family === 'IPv4' ? 'inet' : 'inet6'} hashsize 1024 maxelem 65536`,
      )
    expect(made.map((line) => line.replace(/ bucketsize .*/, '')).sort()).to.deep.equal(expected.sort())
    expect(ipset.names.size).to.equal(34)
    expect(ipset.faults.size).to.equal(0)
  })

  it('makes them all in as many exchanges as one: what there is, which types there are, and the sets', async () => {
    const addon = loadAddon()
    let exchanges = 0
    const counting: Socket = {
      ...addon,
      exchange: (...args) => {
        exchanges++
        return addon.exchange(...args)
      },
    }
    const made = new Ipset(counting, ['IPv4', 'IPv6'])
    await made.read(false)
    made.close()
    expect(made.names.size).to.equal(34)
    expect(exchanges).to.equal(3)
  })

  it('writes and reads members of every type as ipset prints them', async () => {
    const members = [
      ipvsIpsMember(VIP),
      ipvsIpsMember(VIP6),
      portMember('KUBE-CLUSTER-IP', VIP, 'SCTP', 80),
      portMember('KUBE-CLUSTER-IP', VIP6, 'UDP', 53),
      portMember('KUBE-LOOP-BACK', VIP, 'TCP', 8080, VIP),
      portMember('KUBE-LOOP-BACK', VIP6, 'TCP', 8080, VIP6),
      portMember('KUBE-LOAD-BALANCER-SOURCE-CIDR', VIP, 'TCP', 80, '10.0.0.0/8'),
      portMember('KUBE-LOAD-BALANCER-SOURCE-CIDR', VIP, 'TCP', 80, '10.1.2.3'),
      portMember('KUBE-LOAD-BALANCER-SOURCE-CIDR', VIP6, 'UDP', 80, 'fd00:1::/64'),
      portMember('KUBE-LOAD-BALANCER-SOURCE-CIDR', VIP6, 'UDP', 80, 'fd00:2::1'),
      bitmapMember('KUBE-NODE-PORT-TCP', 'IPv4', 30080),
      bitmapMember('KUBE-NODE-PORT-TCP', 'IPv6', 65535),
    ]
    await ipset.read(false)

    expect([...(await ipset.execute(add(members)))]).to.deep.equal([])

    const saved = (await run('ipset', 'save')).split('\n').filter((line) => line.startsWith('add'))
    expect(saved.sort()).to.deep.equal(members.map((member) => `add ${member}`).sort())
    expect([...(await open().read(true))].sort()).to.deep.equal([...members].sort())

    const removal = members.map((member) => ({ verb: 'DEL', member }) as const)
    expect([...(await ipset.execute(removal))]).to.deep.equal([])
    expect((await open().read(true)).size).to.equal(0)
  })

  it('holds 70,000 members in a set that rules ask, made for 65,536, four batches on their way at once', async () => {
    await ipset.read(false)
    await sh('iptables-nft -A INPUT -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT')
    const members = counted('KUBE-CLUSTER-IP', 70_000)

    const batches = Array.from({ length: 70 }, (_, i) => add(members.slice(i * 1_000, (i + 1) * 1_000)))
    for (let next = 0; next < batches.length; next += 4) {
      const onTheWay = batches.slice(next, next + 4).map((batch) => ipset.execute(batch))
      for (const errors of await Promise.all(onTheWay)) expect([...errors]).to.deep.equal([])
    }

    const header = (await run('ipset', 'list', '-t', 'KUBE-CLUSTER-IP')).split('\n')
    expect(header).to.include('Number of entries: 70000').and.include('References: 1')
    expect((await open().read(true)).size).to.equal(70_000)
    expect(await run('ipset', 'list', '-n')).not.to.contain('KUBE-NEW-SET')
  }).timeout(600_000)

  it('while somebody lists a set it cannot grow: new members wait, others and other sets go on', async () => {
    await ipset.read(false)
    const members = counted('KUBE-CLUSTER-IP', 65_537)
    for (let start = 0; start < 65_000; start += 5_000)
      await ipset.execute(add(members.slice(start, start + 5_000)))
    const lister = listSlowly('KUBE-CLUSTER-IP')
    await once(lister.stdout, 'data')

    const fresh = members.slice(65_000)
    const refusals = await ipset.execute([
      { verb: 'ADD', member: portMember('KUBE-EXTERNAL-IP', VIP, 'TCP', 80) },
      ...add(fresh),
    ])
    expect(refusals.size).to.equal(fresh.length)
    expect(refusals.get(1)!.message).to.contain('somebody reads the set')
    expect(await save('KUBE-EXTERNAL-IP')).to.deep.equal([`add KUBE-EXTERNAL-IP ${VIP},tcp:80`])

    lister.kill()
    await once(lister, 'exit')
    expect([...(await ipset.execute(add(fresh)))]).to.deep.equal([])
    expect((await open().read(true)).size).to.equal(65_538)
  }).timeout(600_000)

  it('adopts a set that is larger, and makes one anew whose members expire', async () => {
    await sh(`
      ipset create KUBE-CLUSTER-IP hash:ip,port maxelem 200000 hashsize 4096
      ipset add KUBE-CLUSTER-IP ${VIP},tcp:80
      ipset create KUBE-EXTERNAL-IP hash:ip,port timeout 600
      ipset add KUBE-EXTERNAL-IP ${VIP},tcp:81
      ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-1023
      iptables-nft -A INPUT -m set --match-set KUBE-EXTERNAL-IP dst,dst -j ACCEPT`)

    const members = await ipset.read(false)

    expect([...members].sort()).to.deep.equal([
      `KUBE-CLUSTER-IP ${VIP},tcp:80`,
      `KUBE-EXTERNAL-IP ${VIP},tcp:81`,
    ])
    expect(await run('ipset', 'save', 'KUBE-CLUSTER-IP')).to.contain('maxelem 200000')
    expect(await run('ipset', 'save', 'KUBE-EXTERNAL-IP')).not.to.contain('timeout')
    expect(await save('KUBE-EXTERNAL-IP')).to.deep.equal([`add KUBE-EXTERNAL-IP ${VIP},tcp:81`])
    expect(await run('ipset', 'save', 'KUBE-NODE-PORT-TCP')).to.contain('range 0-65535')
    expect(ipset.faults.size).to.equal(0)
  })

  it('replaces a set of another type that nothing asks', async () => {
    await sh('ipset create KUBE-CLUSTER-IP hash:net; ipset add KUBE-CLUSTER-IP 10.0.0.0/8')

    await ipset.read(false)

    expect(await run('ipset', 'save', 'KUBE-CLUSTER-IP')).to.contain('hash:ip,port')
  })

  it('cannot use a set of another type that rules ask: the others are served', async () => {
    await sh(`
      ipset create KUBE-CLUSTER-IP hash:net
      iptables-nft -A INPUT -m set --match-set KUBE-CLUSTER-IP dst -j ACCEPT`)
    await ipset.read(false)

    const failures = await ipset.execute([
      { verb: 'ADD', member: portMember('KUBE-CLUSTER-IP', VIP, 'TCP', 80) },
      { verb: 'ADD', member: portMember('KUBE-EXTERNAL-IP', VIP, 'TCP', 80) },
    ])

    expect([...ipset.faults.keys()]).to.deep.equal(['KUBE-CLUSTER-IP'])
    expect([...failures.keys()]).to.deep.equal([0])
    expect(failures.get(0)?.message).to.equal(
      'Cannot use set KUBE-CLUSTER-IP: it is of type hash:net, expected hash:ip,port of IPv4, and rules ask it: delete these, then "ipset destroy KUBE-CLUSTER-IP"',
    )
    expect(await save('KUBE-EXTERNAL-IP')).to.deep.equal([`add KUBE-EXTERNAL-IP ${VIP},tcp:80`])

    await sh('iptables-nft -F; ipset destroy KUBE-CLUSTER-IP')
    await ipset.read(false)
    expect(ipset.faults.size).to.equal(0)
  })

  it('leaves foreign sets alone, and reads without making any', async () => {
    await sh('ipset create cali40all hash:ip; ipset add cali40all 10.0.0.1')

    expect((await ipset.read(true)).size).to.equal(0)
    expect((await run('ipset', 'list', '-n')).trim()).to.equal('cali40all')
    await ipset.read(false)
    expect(await save('cali40all')).to.deep.equal(['add cali40all 10.0.0.1'])
  })
})
