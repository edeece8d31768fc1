import { expect } from 'chai'
import type { Filter, RuleOptions } from '../../../../src/kernel/filter/filter.ts'
import {
  openIptablesFilter,
  removeIptablesFilter,
} from '../../../../src/kernel/filter/iptables/iptables-filter.ts'
import type { Family } from '../../../../src/model/address.ts'
import { portMember } from '../../../../src/model/sets.ts'
import { readString, visitAttributes } from '../../../../src/netlink/attribute.ts'
import { type Message, MessageWriter, NLMSG_ERROR } from '../../../../src/netlink/message.ts'
import type { Socket } from '../../../../src/netlink/socket.ts'
import { FakeHost, textOf } from '../../../support/fake-iptables.ts'
import { errorBody, pack, scriptedSocket } from '../../../support/scripted-socket.ts'

const FAMILIES: ReadonlySet<Family> = new Set<Family>(['IPv4', 'IPv6'])
const OPTIONS: RuleOptions = {
  masqueradeBit: 14,
  masqueradeAll: false,
  local: { kind: 'cidr', cidr: '10.244.0.0/16' },
}
const VIP = '10.96.0.10' as never

const IPSET = 6 << 8
const [CREATE, DESTROY, SWAP, LIST, ADD, TYPE] = [2, 3, 6, 7, 9, 13].map((command) => IPSET | command) as [
  number,
  number,
  number,
  number,
  number,
  number,
]
const EBUSY = 4100
const EBUSY_READ = 16
const FULL = 4352
const ENOENT = 2

/** The set that a request is about. */
function setOf({ buffer, start, end }: Message): string {
  let name = ''
  visitAttributes(buffer, start + 4, end, (type, at, length) => {
    if (type === 2) name = readString(buffer, at, length)
  })
  return name
}

/** The newest revision of a type. */
function typeReply(sequence: number): Buffer {
  const reply = new MessageWriter(sequence)
  reply.begin(TYPE)
  reply.appendBytes(2)
  reply.putU8(4, 5)
  reply.end()
  return Buffer.from(reply.bytes())
}

/** A kernel without sets, which refuses requests with what `judge` says of them: an errno, or 0. */
function netfilter(judge: (command: number, set: string) => number): Socket {
  return scriptedSocket((sequences, requests) => {
    const replies = requests.map((request, i) => {
      const sequence = sequences[i]!
      if (request.type === TYPE) return typeReply(sequence)
      const errno = request.type === LIST ? ENOENT : judge(request.type, setOf(request))
      return errno === 0 ? Buffer.alloc(0) : pack([{ sequence, type: NLMSG_ERROR, body: errorBody(errno) }])
    })
    return { replies: Buffer.concat(replies) }
  })
}

describe('openIptablesFilter', () => {
  let host: FakeHost
  let filter: Filter
  const open = (judge: (command: number, set: string) => number = () => 0, readOnly = false): void => {
    filter = openIptablesFilter({ addon: netfilter(judge), families: FAMILIES, readOnly }, host)
  }
  beforeEach(() => {
    host = new FakeHost()
  })
  afterEach(() => {
    filter.close()
  })

  it('writes no rule that asks a set which could not be made, and says why', async () => {
    open((command, set) => (command === CREATE && set === 'KUBE-LOOP-BACK' ? 12 : 0))

    expect([...(await filter.read())]).to.deep.equal([])
    expect(await filter.ensure('IPv4', OPTIONS)).to.equal('written')

    expect([...filter.faults].map(([set, { message }]) => [set, message])).to.deep.equal([
      ['KUBE-LOOP-BACK', 'Cannot create set KUBE-LOOP-BACK: ENOMEM'],
    ])
    const rules = textOf(host.tables)
    expect(rules).to.contain('--match-set KUBE-CLUSTER-IP ')
    expect(rules).not.to.contain('--match-set KUBE-LOOP-BACK ')
    expect(await filter.ensure('IPv4', OPTIONS)).to.equal('unchanged')
  })

  it('previews the rules as they will be when all sets are there, and the sets that are missing', async () => {
    open(() => expect.fail('changed'), true)
    const commands = await filter.preview('IPv4', OPTIONS)
    await filter.read()

    expect(commands.some((command) => command.includes('--match-set KUBE-LOOP-BACK '))).to.equal(true)
    expect(filter.creations).to.have.length(34)
    expect(filter.creations).to.include(
      'ipset create KUBE-LOOP-BACK hash:ip,port,ip family inet hashsize 1024 maxelem 65536',
    )
    expect(host.calls.filter((call) => call.includes('-w'))).to.deep.equal([])
  })

  it('finds out once which programs there are, whether told to prepare or not', async () => {
    open()
    filter.prepare()
    filter.prepare()
    await filter.read()
    await Promise.all([...FAMILIES].map((family) => filter.ensure(family, OPTIONS)))

    expect(host.calls.filter((call) => call === 'iptables-legacy-save')).to.deep.equal([])
    expect(host.calls.filter((call) => call === 'iptables-nft-save')).to.have.length(1)
    expect(host.calls.filter((call) => call === 'ip6tables-nft-save')).to.have.length(1)
  })

  it('tells at its place what was refused, in words where the errno is one of ipset', async () => {
    open((command, set) => {
      if (command === CREATE) return set === 'KUBE-LOOP-BACK' ? 12 : 0
      return command === ADD && set === 'KUBE-EXTERNAL-IP' ? FULL : 0
    })
    await filter.read()
    const member = (set: 'KUBE-LOOP-BACK' | 'KUBE-CLUSTER-IP' | 'KUBE-EXTERNAL-IP') =>
      ({ verb: 'ADD', member: portMember(set, VIP, 'TCP', 80) }) as const

    const refusals = await filter.execute([
      member('KUBE-CLUSTER-IP'),
      member('KUBE-LOOP-BACK'),
      member('KUBE-CLUSTER-IP'),
      member('KUBE-EXTERNAL-IP'),
    ])

    expect([...refusals.keys()]).to.deep.equal([1, 3])
    expect(refusals.get(1)!.message).to.equal('Cannot create set KUBE-LOOP-BACK: ENOMEM')
    expect(refusals.get(3)).to.include({ errno: FULL, meaning: 'the set is full' })
  })

  it('a set that cannot be replaced by a larger one costs its own new members, and nothing else', async () => {
    open((command) => (command === SWAP ? EBUSY_READ : 0))
    await filter.read()
    const many = Array.from({ length: 65_537 }, (_, i) => i).map((i) => ({
      verb: 'ADD' as const,
      member: portMember('KUBE-CLUSTER-IP', `10.96.${i >> 8}.${i & 255}` as never, 'TCP', 80),
    }))
    const other = { verb: 'ADD', member: portMember('KUBE-EXTERNAL-IP', VIP, 'TCP', 80) } as const
    const gone = { verb: 'DEL', member: many[0]!.member } as const

    const refusals = await filter.execute([other, gone, ...many])

    expect(refusals.size).to.equal(many.length)
    expect([0, 1].map((place) => refusals.has(place))).to.deep.equal([false, false])
    expect(refusals.get(2)!.message).to.match(/^Cannot replace set KUBE-CLUSTER-IP: .*somebody reads the set/)
  })

  it('a set that is full, whatever has been counted, is made larger by the next attempt', async () => {
    const made: string[] = []
    let isFull = true
    open((command, set) => {
      if (command === CREATE) made.push(set)
      return command === ADD && isFull ? FULL : 0
    })
    await filter.read()
    const change = { verb: 'ADD', member: portMember('KUBE-CLUSTER-IP', VIP, 'TCP', 80) } as const
    expect((await filter.execute([change])).size).to.equal(1)
    expect(made).not.to.include('KUBE-NEW-SET')
    isFull = false

    expect((await filter.execute([change])).size).to.equal(0)
    expect(made).to.include('KUBE-NEW-SET')
  })
})

describe('removeIptablesFilter', () => {
  const remove = (host: FakeHost, judge: (command: number, set: string) => number) =>
    removeIptablesFilter({ addon: netfilter(judge), families: FAMILIES }, host)
  async function withRules(): Promise<FakeHost> {
    const host = new FakeHost()
    const filter = openIptablesFilter({ addon: netfilter(() => 0), families: FAMILIES }, host)
    await filter.read()
    await filter.ensure('IPv4', OPTIONS)
    filter.close()
    return host
  }

  it('takes away rules, then sets', async () => {
    const host = await withRules()
    const destroyed: string[] = []
    const judge = (command: number, set: string): number => {
      expect(textOf(host.tables), set).not.to.contain('KUBE-')
      if (command === DESTROY) destroyed.push(set)
      return 0
    }

    expect(await remove(host, judge)).to.deep.equal([])
    expect(destroyed).to.include.members(['KUBE-CLUSTER-IP', 'KUBE-6-CLUSTER-IP']).and.have.length(35)
  })

  it('attempts every part, and returns what went wrong', async () => {
    const host = await withRules()
    host.refuse = () => ({ code: 1, stderr: 'Permission denied' })
    const judge = (_: number, set: string): number => (set === 'KUBE-CLUSTER-IP' ? EBUSY : ENOENT)

    const failures = (await remove(host, judge)) as Error[]

    expect(failures.map(({ message }) => message)).to.deep.equal([
      'iptables-nft-restore failed for IPv4: we may not: run kube-ipvs as root with CAP_NET_ADMIN and CAP_NET_RAW',
      'ip6tables-nft-restore failed for IPv6: we may not: run kube-ipvs as root with CAP_NET_ADMIN and CAP_NET_RAW',
      'Cannot destroy all sets: delete the rules that ask them',
    ])
    expect((failures[2] as AggregateError).errors.map(String)).to.deep.equal([
      'Error: Cannot destroy set KUBE-CLUSTER-IP: errno 4100: rules or other sets ask it',
    ])
  })
})
