/** Stale UDP flows are forgotten, and no others; what that means for a sender that keeps its port. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { Conntrack, type FlowTarget } from '../../src/kernel/flows/conntrack.ts'
import { decodeFlow, encodeFlowDelete, encodeFlowDump } from '../../src/kernel/flows/conntrack-codec.ts'
import { parseAddress } from '../../src/model/address.ts'
import { isNotFound } from '../../src/netlink/error.ts'
import { loadAddon } from '../../src/netlink/socket.ts'
import { eventually } from '../support/eventually.ts'
import { Host, prepareNode, sh, temporaryFolder, type Traffic } from '../support/lab.ts'

const VIPS = ['10.96.0.10', '10.96.0.11', 'fd00:10:96::10', 'fd00:10:96::11']
const [VIP, OTHER_VIP, VIP6, OTHER_VIP6] = VIPS as [string, string, string, string]
const PORTS = [53, 54]
const MANY = 5_000

/** A line of `conntrack -L`: what tells one flow from another, without what changes by itself. */
interface Line {
  readonly protocol: string
  readonly destination: string
  readonly port: string
  readonly backend: string
  readonly backendPort: string
  readonly text: string
}

const TUPLE = /src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)/g

function parseLine(text: string): Line[] {
  const [original, reply] = [...text.matchAll(TUPLE)]
  if (original === undefined || reply === undefined) return []
  const zones = [...text.matchAll(/zone\S*=\d+/g)].map(([zone]) => zone)
  return [
    {
      protocol: text.split(' ')[0]!,
      destination: original[2]!,
      port: original[4]!,
      backend: reply[1]!,
      backendPort: reply[3]!,
      text: [original[0], reply[0], ...zones].join(' '),
    },
  ]
}

/** The tracked flows of both families, as the conntrack tool lists them, without those of ICMP. */
async function tracked(): Promise<Line[]> {
  const lines = (await sh('conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null')).split('\n')
  return lines.flatMap(parseLine).sort((a, b) => (a.protocol + a.text < b.protocol + b.text ? -1 : 1))
}

function target(address: string, port: number, backend?: string): FlowTarget {
  const realServer =
    backend === undefined ? {} : { realServer: { address: parseAddress(backend)!, port: 8080 } }
  return { address: parseAddress(address)!, port, ...realServer }
}

const bracketed = (address: string): string => (address.includes(':') ? `[${address}]` : address)

describe('deleting UDP flows', () => {
  let conntrack: Conntrack
  let pods: readonly [Host, Host]
  let client: Host

  const realServer = (verb: string, vip: string, port: number, pod: Host, options = ''): string => {
    const address = vip.includes(':') ? pod.ipv6 : pod.ipv4
    return `ipvsadm ${verb} -u ${bracketed(vip)}:${port} -r ${bracketed(address)}:8080 ${options}\n`
  }
  /** Flows of every kind, by packets: each frontend over UDP and TCP, and past IPVS. */
  const makeFlows = async (): Promise<readonly Line[]> => {
    const frontends = VIPS.flatMap((address) => PORTS.map((port) => ({ address, port, count: 4 })))
    const direct = [pods[0].ipv4, pods[0].ipv6].map((address) => ({ address, port: 8080, count: 1 }))
    const questions = [...frontends, ...direct].flatMap((question) => [
      { ...question, protocol: 'udp' as const },
      { ...question, protocol: 'tcp' as const },
    ])
    // IPVS cannot tell the replies of one Pod to one client port apart: where the kernel chose a port again, once more.
    return eventually(async () => {
      await sh('conntrack -F 2>/dev/null')
      const replies = await client.ask(questions, 10)
      expect(replies.flatMap(({ errors }) => Object.keys(errors))).to.deep.equal([])
      return tracked()
    }, 120_000)
  }

  before(async () => {
    await prepareNode()
    pods = [await Host.add('pod1', 1), await Host.add('pod2', 2)]
    client = await Host.add('client', 100)
    await Promise.all(pods.map((pod) => pod.serve()))
    const servers = VIPS.flatMap((vip) =>
      PORTS.flatMap((port) => [
        `ipvsadm -A -u ${bracketed(vip)}:${port} -s rr\nipvsadm -A -t ${bracketed(vip)}:${port} -s rr\n`,
        ...pods.flatMap((pod) => {
          const line = realServer('-a', vip, port, pod, '-m')
          return [line, line.replace(' -u ', ' -t ')]
        }),
      ]),
    )
    await sh(`
      ip link add kube-ipvs0 type dummy
      ${VIPS.map((vip) => `ip addr add ${vip} dev kube-ipvs0`).join('\n')}
      ${servers.join('')}
      for tables in iptables ip6tables; do $tables -A INPUT -m conntrack --ctstate NEW; done
      sysctl -qw net.ipv4.ip_forward=1 net.ipv4.vs.conntrack=1 net.ipv4.vs.expire_nodest_conn=1
      for timeout in /proc/sys/net/netfilter/nf_conntrack_udp_timeout* /proc/sys/net/netfilter/nf_conntrack_tcp_timeout*; do
        echo 600 > $timeout
      done`)
    conntrack = new Conntrack(loadAddon())
  })
  after(async () => {
    conntrack.close()
    await sh('ipvsadm -C; conntrack -F 2>/dev/null; ip link del kube-ipvs0')
    await Promise.all([...pods, client].map((host) => host.remove()))
  })

  it('deletes none of an empty table', async () => {
    await sh('conntrack -F 2>/dev/null')
    expect(await conntrack.deleteUdpFlows([target(VIP, 53), target(VIP6, 53)])).to.equal(0)
  })

  const CASES: readonly {
    readonly what: string
    readonly targets: () => readonly FlowTarget[]
    readonly isStale: (line: Line) => boolean
    readonly isEmpty?: boolean
  }[] = [
    {
      what: 'of one frontend',
      targets: () => [target(VIP, 53)],
      isStale: ({ destination, port }) => destination === VIP && port === '53',
    },
    {
      what: 'of one frontend of IPv6',
      targets: () => [target(VIP6, 53)],
      isStale: ({ destination, port }) => destination === VIP6 && port === '53',
    },
    {
      what: 'to one real server',
      targets: () => [target(VIP, 53, pods[0].ipv4)],
      isStale: ({ destination, port, backend }) =>
        destination === VIP && port === '53' && backend === pods[0].ipv4,
    },
    {
      what: 'to one real server of IPv6',
      targets: () => [target(VIP6, 54, pods[1].ipv6)],
      isStale: ({ destination, port, backend }) =>
        destination === VIP6 && port === '54' && backend === pods[1].ipv6,
    },
    {
      what: 'of several ports of one address',
      targets: () => [target(VIP, 53, pods[0].ipv4), target(VIP, 54)],
      isStale: ({ destination, port, backend }) =>
        destination === VIP && (port === '54' || backend === pods[0].ipv4),
    },
    {
      what: 'to one real server through several frontends',
      targets: () => VIPS.slice(0, 2).map((vip) => target(vip, 53, pods[1].ipv4)),
      isStale: ({ destination, port, backend }) =>
        [VIP, OTHER_VIP].includes(destination) && port === '53' && backend === pods[1].ipv4,
    },
    {
      what: 'of both families at once, some of them twice',
      targets: () => [
        target(VIP, 53),
        target(VIP6, 54),
        target(OTHER_VIP6, 53, pods[0].ipv6),
        target(VIP, 53),
      ],
      isStale: ({ destination, port, backend }) =>
        (destination === VIP && port === '53') ||
        (destination === VIP6 && port === '54') ||
        (destination === OTHER_VIP6 && port === '53' && backend === pods[0].ipv6),
    },
    { what: 'of no target', targets: () => [], isStale: () => false, isEmpty: true },
    {
      what: 'that are not there',
      targets: () => [target(VIP, 55), target(VIP6, 53, '2001:db8::1'), target('10.96.0.12', 53)],
      isStale: () => false,
      isEmpty: true,
    },
  ]
  for (const { what, targets, isStale, isEmpty = false } of CASES) {
    it(`deletes those ${what}, and nothing else`, async () => {
      const before = await makeFlows()
      const stale = before.filter((line) => line.protocol === 'udp' && isStale(line))
      expect(stale.length > 0, 'flows to delete').to.equal(!isEmpty)

      const count = await conntrack.deleteUdpFlows(targets())

      expect(await tracked()).to.deep.equal(before.filter((line) => !stale.includes(line)))
      expect(count).to.equal(stale.length)
    })
  }

  it('deletes a flow in whichever zone it is', async () => {
    await sh('conntrack -F 2>/dev/null')
    for (const [port, zone] of ['', '-w 7', '--orig-zone 8', '--reply-zone 9'].entries()) {
      const original = `-s ${client.ipv4} -d ${VIP} --sport ${1_000 + port} --dport 53`
      const reply = `-r ${pods[0].ipv4} -q ${client.ipv4} --reply-port-src 8080 --reply-port-dst ${1_000 + port}`
      await sh(`conntrack -I -p udp -t 600 ${original} ${reply} ${zone} 2>/dev/null`)
    }
    expect(await tracked()).to.have.length(4)

    expect(await conntrack.deleteUdpFlows([target(VIP, 53)])).to.equal(4)
    expect(await tracked()).to.deep.equal([])
  })

  it('spares a flow that has taken the place of the one that was read', async () => {
    await makeFlows()
    const { connection } = conntrack
    const messages = await connection.read((batch) => {
      encodeFlowDump(batch, 'IPv4', [target(VIP, 53)])
    }, 'Cannot read')
    const flow = decodeFlow(messages[0]!)!
    const before = await tracked()

    const batch = connection.batch()
    encodeFlowDelete(batch, 'IPv4', { ...flow, id: (flow.id! ^ 1) >>> 0 })
    const { refusals } = await connection.exchange(batch, 'Cannot delete')

    expect([...refusals.values()].map(isNotFound)).to.deep.equal([true])
    expect(await tracked()).to.deep.equal(before)
  })

  it(`deletes ${MANY} in a batch`, async () => {
    await makeFlows()
    const file = join(temporaryFolder(), 'flows')
    const lines = Array.from({ length: MANY }, (_, i) => {
      const port = 10_000 + i
      const address = i % 2 === 0 ? [VIP, pods[0].ipv4, client.ipv4] : [VIP6, pods[0].ipv6, client.ipv6]
      const [vip, backend, source] = address
      return `-A -t 600 -s ${source} -d ${vip} -r ${backend} -q ${source} -p udp --sport ${port} --dport 99 --reply-port-src 8080 --reply-port-dst ${port}\n`
    })
    const before = await tracked()
    writeFileSync(file, lines.join(''))
    await sh(`conntrack -R ${file} 2>/dev/null`)
    expect((await tracked()).length).to.equal(before.length + MANY)

    expect(await conntrack.deleteUdpFlows([target(VIP, 99), target(VIP6, 99)])).to.equal(MANY)
    expect(await tracked()).to.deep.equal(before)
  })

  describe('of a sender that keeps its port', () => {
    let sourcePort = 20_000
    const send = async (vip: string): Promise<Traffic> => client.connect('udp', vip, 53, { sourcePort })
    /** Deletes the real server that answers the sender; returns its Pod and the other one. */
    const deleteRealServer = async (vip: string): Promise<{ old: Host; other: Host }> => {
      sourcePort++
      const { sequence } = await send(vip)
      const [old, other] = sequence[0] === 'pod1' ? pods : [pods[1], pods[0]]
      await sh(realServer('-d', vip, 53, old))
      return { old, other }
    }
    const deleteFlows = (vip: string, { ipv4, ipv6 }: Host): Promise<number> =>
      conntrack.deleteUdpFlows([target(vip, 53, vip.includes(':') ? ipv6 : ipv4)])

    for (const vip of [VIP, VIP6]) {
      for (const isDeleted of [true, false]) {
        // The kernel itself (Linux 5.9 and later) expires the connections of a deleted real server, with their flows.
        it(`lets the next datagram to ${vip} reach the other Pod${isDeleted ? '' : ', as does the kernel alone'}`, async () => {
          const { old, other } = await deleteRealServer(vip)
          if (isDeleted) await deleteFlows(vip, old)
          else await eventually(async () => expect(await flowsOf(sourcePort)).to.deep.equal([]), 60_000)

          expect(await send(vip)).to.deep.include({ sequence: [other.name], errors: {} })
          await sh(realServer('-a', vip, 53, old, '-m'))
        })
      }
    }

    it('is of no use without expire_nodest_conn: IPVS keeps the connection', async () => {
      await sh('sysctl -qw net.ipv4.vs.expire_nodest_conn=0')
      const { old } = await deleteRealServer(VIP)
      expect(await deleteFlows(VIP, old)).to.be.greaterThan(0)

      expect(await send(VIP)).to.deep.include({ sequence: [], errors: { timeout: 1 } })
      await sh(`sysctl -qw net.ipv4.vs.expire_nodest_conn=1; ${realServer('-a', VIP, 53, old, '-m')}`)
    })

    // Its old flow has the answer's place: where there are rules for NAT, the answer gets another source port.
    it('lets a sender through that began before there was a virtual server', async () => {
      sourcePort++
      const vip = '10.96.0.12'
      await sh(`
        ip addr add ${vip} dev kube-ipvs0
        iptables -t nat -A POSTROUTING -p udp -d ${pods[0].ipv4} -j MASQUERADE`)
      expect(await send(vip)).to.deep.include({ sequence: [], errors: { ConnectionRefusedError: 1 } })
      await sh(`ipvsadm -A -u ${vip}:53 -s rr; ${realServer('-a', vip, 53, pods[0], '-m')}`)
      expect(await send(vip), 'with the old flow').to.deep.include({ sequence: [], errors: { timeout: 1 } })

      expect(await conntrack.deleteUdpFlows([target(vip, 53)])).to.equal(1)
      expect(await send(vip)).to.deep.include({ sources: { '10.244.1.1': 1 }, errors: {} })
    })

    async function flowsOf(port: number): Promise<Line[]> {
      return (await tracked()).filter(({ text }) => text.includes(`sport=${port} dport=53`))
    }
  })
})
