/** What is around a node, as a kernel with real routes and neighbours says it. */
import { createSocket } from 'node:dgram'
import { expect } from 'chai'
import { readLinks } from '../../src/kernel/link/routes.ts'
import type { Links } from '../../src/model/claims/surroundings.ts'
import { parseAddress } from '../../src/model/address.ts'
import { formatCidr } from '../../src/model/cidr.ts'
import { NetlinkConnection } from '../../src/netlink/connection.ts'
import { loadAddon } from '../../src/netlink/socket.ts'
import { eventually } from '../support/eventually.ts'
import { run, sh } from '../support/lab.ts'

const LIMIT_MS = 60_000

async function read(): Promise<Links> {
  const connection = new NetlinkConnection(loadAddon(), 0)
  try {
    return await readLinks(connection)
  } finally {
    connection.close()
  }
}

const networksOf = ({ routes }: Links): string[] => routes.map(formatCidr)
const gatewaysOf = ({ gateways }: Links): Record<string, string> => Object.fromEntries(gateways)
const neighboursOf = ({ neighbours }: Links): object => Object.fromEntries(neighbours)

describe('readLinks', () => {
  beforeEach(async () => {
    await sh(`
      ip link set lo up
      ip link add eth0 type veth peer name eth0-peer
      ip link add cali1 type veth peer name cali1-peer
      ip link add kube-ipvs0 type dummy
      ip link set kube-ipvs0 up
      for link in eth0 eth0-peer cali1 cali1-peer; do ip link set $link up; done
      ip addr add 192.168.50.1/24 dev eth0
      ip addr add 2001:db8::1/64 dev eth0 nodad
      ip addr add 10.96.0.10/32 dev kube-ipvs0
      ip addr add fd00:96::10/128 dev kube-ipvs0`)
  })
  afterEach(async () => {
    await sh(`
      for link in eth0 cali1 kube-ipvs0; do ip link del $link; done
      ip nexthop flush
      echo 1 > /proc/sys/net/ipv4/nexthop_compat_mode`)
  })

  it('knows nothing of lo and kube-ipvs0', async () => {
    await sh(`
      ip route add 10.97.0.0/16 dev kube-ipvs0
      ip route add 10.98.0.0/16 via 10.97.0.1 dev kube-ipvs0
      ip route add 10.99.0.0/16 dev lo
      ip neigh add 10.97.0.2 lladdr 02:00:00:00:00:01 dev kube-ipvs0 nud permanent`)

    const links = await read()

    expect(gatewaysOf(links)).to.deep.equal({})
    expect(neighboursOf(links)).to.deep.equal({})
    expect(networksOf(links)).to.have.members(['192.168.50.0/24', '2001:db8::/64', 'fe80::/64'])
  })

  it('finds gateways of all kinds of routes, of both families', async () => {
    await sh(`
      ip route add default via 192.168.50.254
      ip route add 10.244.2.0/24 nexthop via 192.168.50.2 dev eth0 nexthop via 192.168.50.3 dev eth0 weight 2
      ip route add 10.244.3.0/24 via inet6 fe80::3 dev eth0
      ip route add 10.244.4.0/24 via 192.168.50.4 table 100
      ip route add 10.244.5.0/24 via 192.168.50.5 table 1000
      ip route add unreachable 10.244.6.0/24
      ip -6 route add default via fe80::254 dev eth0
      ip -6 route add fd00:10:244:2::/64 nexthop via 2001:db8::2 dev eth0 nexthop via 2001:db8::3 dev eth0
      ip -6 route add fd00:10:244:4::/64 via 2001:db8::4 table 100`)

    const links = await read()

    expect(gatewaysOf(links)).to.deep.equal({
      '192.168.50.2': 'eth0',
      '192.168.50.254': 'eth0',
      '192.168.50.3': 'eth0',
      '192.168.50.4': 'eth0',
      '192.168.50.5': 'eth0',
      '2001:db8::2': 'eth0',
      '2001:db8::3': 'eth0',
      '2001:db8::4': 'eth0',
      'fe80::254': 'eth0',
      'fe80::3': 'eth0',
    })
    expect(networksOf(links)).to.include.members(['10.244.2.0/24', '10.244.4.0/24', 'fd00:10:244:4::/64'])
    expect(networksOf(links)).not.to.include('10.244.6.0/24')
    expect(networksOf(links)).not.to.include('0.0.0.0/0')
  })

  for (const mode of [1, 0]) {
    it(`finds gateways of next hop objects, nexthop_compat_mode ${mode}`, async () => {
      await sh(`
        echo ${mode} > /proc/sys/net/ipv4/nexthop_compat_mode
        ip nexthop add id 7 via 192.168.50.7 dev eth0
        ip nexthop add id 8 via 192.168.50.8 dev eth0
        ip nexthop add id 9 via 2001:db8::9 dev eth0
        ip nexthop add id 10 group 7/8
        ip nexthop add id 11 dev cali1
        ip nexthop add id 12 blackhole
        ip nexthop add id 13 via 192.168.50.13 dev eth0
        ip route add 10.244.8.0/24 nhid 10
        ip -6 route add fd00:10:244:9::/64 nhid 9
        ip route add 10.244.1.12/32 nhid 11
        ip route add 10.244.12.0/24 nhid 12`)

      const links = await read()

      // No route uses the object 13.
      expect(gatewaysOf(links)).to.deep.equal({
        '192.168.50.7': 'eth0',
        '192.168.50.8': 'eth0',
        '2001:db8::9': 'eth0',
      })
      const networks = ['10.244.8.0/24', 'fd00:10:244:9::/64', '10.244.1.12/32']
      expect(networksOf(links)).to.include.members(networks)
      expect(networksOf(links)).not.to.include('10.244.12.0/24')
    })
  }

  it('finds the networks of Pods', async () => {
    await sh(`
      ip route add blackhole 10.244.1.0/26
      ip route add 10.244.1.11/32 dev cali1
      ip -6 route add fd00:10:244:1::b/128 dev cali1
      ip link add cni0 type bridge
      ip link set cni0 up
      ip addr add 10.244.2.1/24 dev cni0`)

    const links = await read()
    await sh('ip link del cni0')

    expect(networksOf(links)).to.have.members([
      '192.168.50.0/24',
      '10.244.1.11/32',
      '10.244.2.0/24',
      '2001:db8::/64',
      'fd00:10:244:1::b/128',
      'fe80::/64',
    ])
  })

  it('finds the neighbours that are in use', async () => {
    await sh(`
      ip neigh add 192.168.50.20 lladdr 02:00:00:00:00:20 dev eth0 nud permanent
      ip neigh add 192.168.50.21 lladdr 02:00:00:00:00:21 dev eth0 nud reachable
      ip neigh add 192.168.50.22 lladdr 02:00:00:00:00:22 dev eth0 nud stale
      ip neigh add 192.168.50.23 lladdr 02:00:00:00:00:23 dev eth0 nud noarp
      ip neigh add 192.168.50.24 dev eth0 nud failed
      ip neigh add 2001:db8::20 lladdr 02:00:00:00:00:26 dev eth0 nud stale
      ip neigh add 2001:db8::21 dev eth0 nud failed
      ip neigh add 169.254.1.1 lladdr 02:00:00:00:00:27 dev cali1 nud reachable
      ip neigh add proxy 192.168.50.25 dev eth0
      ip -6 neigh add proxy 2001:db8::25 dev eth0`)

    expect(neighboursOf(await read())).to.deep.equal({
      '192.168.50.20': { link: 'eth0', lladdr: '02:00:00:00:00:20' },
      '192.168.50.21': { link: 'eth0', lladdr: '02:00:00:00:00:21' },
      '192.168.50.22': { link: 'eth0', lladdr: '02:00:00:00:00:22' },
      '2001:db8::20': { link: 'eth0', lladdr: '02:00:00:00:00:26' },
      '169.254.1.1': { link: 'cali1', lladdr: '02:00:00:00:00:27' },
    })
  })

  it('finds a neighbour once it has answered, and not while it is asked for in vain', async () => {
    await sh(`
      ip netns add peer-of-routes
      ip link add eth1 type veth peer name eth1-peer netns peer-of-routes
      ip link set eth1 up
      ip addr add 192.168.51.1/24 dev eth1
      ip -n peer-of-routes link set eth1-peer up
      ip -n peer-of-routes addr add 192.168.51.2/24 dev eth1-peer`)
    const socket = createSocket('udp4')
    try {
      await eventually(async () => {
        for (const host of ['192.168.51.2', '192.168.51.3']) socket.send('hello', 9, host)
        const { neighbours } = await read()
        expect([...neighbours.keys()]).to.deep.equal(['192.168.51.2'])
        expect(neighbours.get(parseAddress('192.168.51.2')!)).to.have.property('link', 'eth1')
      }, LIMIT_MS)
      expect(await run('ip', 'neigh', 'show', 'dev', 'eth1')).to.contain('192.168.51.3')
    } finally {
      socket.close()
      await sh('ip netns del peer-of-routes')
    }
  })

  it('reads whole tables while 2,000 addresses come, or none', async () => {
    await sh('ip route add default via 192.168.50.254')
    const add = sh(`
      i=0
      while [ $i -lt 2000 ]; do
        echo "addr add fd00:97::$((i / 100)):$((i % 100))/128 dev kube-ipvs0"
        i=$((i + 1))
      done | ip -batch -`)
    let whole = 0
    const check = async (): Promise<void> => {
      const links = await read().catch((error: unknown) => {
        expect(String(error)).to.match(/Cannot read the routes .* \(interrupted dump\): EINTR/)
        return undefined
      })
      if (links === undefined) return
      whole++
      expect(gatewaysOf(links)).to.deep.equal({ '192.168.50.254': 'eth0' })
      expect(networksOf(links)).to.have.members(['192.168.50.0/24', '2001:db8::/64', 'fe80::/64'])
    }
    const adding = new Set([add])
    const added = add.then(() => adding.clear())
    while (adding.size > 0) await check()
    await added
    await check()
    expect(whole).to.be.greaterThan(0)
  })
})
