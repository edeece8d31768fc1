/**
 * Records what a real kernel answers, for the decoders' tests: run it in the lab, as
 *   scripts/setup lab && scripts/lab node scripts/record-datagrams.ts
 * and copy $LAB_OUT/datagrams.json to test/fixtures/netlink.json.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { DummyInterface, ensureInterface } from '../src/kernel/link/dummy-interface.ts'
import { encodeSetList, encodeSetTypeGet } from '../src/kernel/filter/iptables/ipset-codec.ts'
import { Ipvs } from '../src/kernel/ipvs/ipvs.ts'
import { encodeRealServer } from '../src/kernel/ipvs/real-server-codec.ts'
import { encodeVirtualServer } from '../src/kernel/ipvs/virtual-server-codec.ts'
import { parseAddress } from '../src/model/address.ts'
import { realServer, virtualServerId } from '../src/model/virtual-server.ts'
import {
  encodeLinkDump,
  encodeNeighbourDump,
  encodeNextHopDump,
  encodeRouteDump,
} from '../src/kernel/link/route-codec.ts'
import { NetlinkConnection } from '../src/netlink/connection.ts'
import type { MessageWriter } from '../src/netlink/message.ts'
import { loadAddon, type Socket } from '../src/netlink/socket.ts'

const recorded: Record<string, { request: string; replies: string }> = {}
let name = ''

const addon = loadAddon()
const recorder: Socket = {
  ...addon,
  exchange: async (socket, requests, timeoutMs) => {
    const request = requests.toString('hex')
    const result = await addon.exchange(socket, requests, timeoutMs)
    recorded[name] = { request, replies: result.replies.toString('hex') }
    return result
  },
}

async function record(what: string, act: () => Promise<unknown>): Promise<void> {
  name = what
  await act()
}

const SETUP = `
  ipvsadm -A -t 10.96.0.10:80 -s rr
  ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
  ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0 -x 100 -y 50
  ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.3:80 -g -w 65535
  ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.4:80 -i -w 3 --tun-type gue --tun-port 6080 --tun-csum
  ipvsadm -a -t 10.96.0.10:80 -r [fd00:1::5]:80 -i -w 3
  ipvsadm -A -u 10.96.0.10:5060 -s sh -p 600 -M 255.255.255.0 -b sh-fallback,sh-port --pe sip
  ipvsadm -A -u 10.96.0.10:514 -s wrr -o
  ipvsadm -A --sctp-service [fd00:96::10]:5060 -s mh -p 10800 -M 64 -b mh-port
  ipvsadm -a --sctp-service [fd00:96::10]:5060 -r [fd00:1::1]:5060 -m -w 1
  ipvsadm -A -f 7 -s wlc
  ipvsadm -A -f 8 -6 -s wlc
  ip link add kube-ipvs0 type dummy
  ip addr add 10.96.0.10/32 dev kube-ipvs0
  ip addr add fd00:96::10/128 dev kube-ipvs0
  ip addr add 192.0.2.1/24 brd + dev kube-ipvs0
  ipset create KUBE-IPVS-IPS hash:ip
  ipset add KUBE-IPVS-IPS 10.96.0.10
  ipset add KUBE-IPVS-IPS 10.96.0.11
  ipset create KUBE-6-IPVS-IPS hash:ip family inet6
  ipset add KUBE-6-IPVS-IPS fd00:96::10
  ipset create KUBE-CLUSTER-IP hash:ip,port
  ipset add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
  ipset add KUBE-CLUSTER-IP 10.96.0.10,sctp:81
  ipset create KUBE-LOOP-BACK hash:ip,port,ip maxelem 100000
  ipset add KUBE-LOOP-BACK 10.244.0.1,udp:53,10.244.0.1
  ipset create KUBE-6-SOURCE-CIDR hash:ip,port,net family inet6
  ipset add KUBE-6-SOURCE-CIDR fd00:203::80,tcp:80,fd00:1::/64
  ipset add KUBE-6-SOURCE-CIDR fd00:203::80,tcp:80,fd00:2::1/128
  ipset create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
  ipset add KUBE-NODE-PORT-TCP 30080
  ipset create ODD hash:ip timeout 600
  ipset add ODD 10.96.0.10
`
for (const line of SETUP.trim().split('\n')) execFileSync('sh', ['-c', line], { stdio: 'inherit' })

name = 'family'
const ipvs = await Ipvs.open(recorder)
const web = virtualServerId(parseAddress('10.96.0.10')!, 80, 'TCP')
const settings = { scheduler: 'nosuch', flags: 0, persistenceSeconds: 0, persistencePrefix: 32 }
await record('services', () => ipvs.readVirtualServers())
await record('destinations', () => ipvs.readRealServers([web]))
await record('destinations of IPv6', () =>
  ipvs.readRealServers([virtualServerId(parseAddress('fd00:96::10')!, 5060, 'SCTP')]),
)
await record('timeouts', () => ipvs.readTimeouts())
await record('refusals', () => {
  const batch = ipvs.connection.batch()
  encodeVirtualServer(batch, ipvs.genlFamilyId, 'NEW', web, { ...settings, scheduler: 'rr' })
  encodeVirtualServer(batch, ipvs.genlFamilyId, 'NEW', { ...web, port: 81 }, settings)
  encodeRealServer(batch, ipvs.genlFamilyId, 'DEL', web, realServer(parseAddress('10.244.0.9')!, 1))
  batch.begin(ipvs.genlFamilyId)
  batch.appendBytes(99, 1)
  batch.end()
  return ipvs.connection.exchange(batch, 'Cannot test')
})
const index = await ensureInterface()
await record('addresses', () => new DummyInterface(recorder, index).readAddresses())
const netfilter = new NetlinkConnection(recorder, 12)
const recordSet = (set: string, as: string): Promise<void> =>
  record(as, async () => {
    const batch = netfilter.batch()
    encodeSetList(batch, set)
    await netfilter.exchange(batch, 'Cannot test')
  })
await recordSet('KUBE-IPVS-IPS', 'set')
await recordSet('KUBE-6-IPVS-IPS', 'set of IPv6')
await recordSet('KUBE-CLUSTER-IP', 'set of frontends')
await recordSet('KUBE-LOOP-BACK', 'set of loop-backs')
await recordSet('KUBE-6-SOURCE-CIDR', 'set of networks')
await recordSet('KUBE-NODE-PORT-TCP', 'set of ports')
await recordSet('ODD', 'set with a timeout')
await recordSet('KUBE-NONE', 'no set')
await record('full set type', () =>
  netfilter.read((batch) => {
    encodeSetTypeGet(batch, { type: 'hash:ip', family: 'IPv4' })
  }, 'Cannot test'),
)

const LINKS = `
  ip link add eth0 type veth peer name eth0-peer
  ip link set eth0 up
  ip link set eth0-peer up
  ip link add cali1 type veth peer name cali1-peer
  ip link set cali1 up
  ip link set cali1-peer up
  ip addr add 192.168.50.1/24 dev eth0
  ip addr add 2001:db8::1/64 dev eth0 nodad
  ip route add default via 192.168.50.254
  ip route add 10.244.1.11/32 dev cali1
  ip route add blackhole 10.244.1.0/26
  ip route add 10.244.2.0/24 nexthop via 192.168.50.2 dev eth0 nexthop via 192.168.50.3 dev eth0 weight 2
  ip route add 10.244.3.0/24 via inet6 fe80::3 dev eth0
  ip route add 10.244.4.0/24 via 192.168.50.4 table 100
  ip route add 10.244.5.0/24 via 192.168.50.5 table 1000
  ip -6 route add default via fe80::254 dev eth0
  ip -6 route add fd00:10:244:2::/64 nexthop via 2001:db8::2 dev eth0 nexthop via fe80::3 dev eth0
  ip nexthop add id 7 via 192.168.50.7 dev eth0
  ip nexthop add id 8 via 192.168.50.8 dev eth0
  ip nexthop add id 9 via 2001:db8::9 dev eth0
  ip nexthop add id 10 group 7,2/8,3
  ip nexthop add id 11 dev cali1
  ip route add 10.244.7.0/24 nhid 7
  ip route add 10.244.8.0/24 nhid 10
  ip -6 route add fd00:10:244:9::/64 nhid 9
  ip route add 10.244.1.12/32 nhid 11
  ip neigh add 192.168.50.20 lladdr 02:00:00:00:00:20 dev eth0 nud permanent
  ip neigh add 192.168.50.21 lladdr 02:00:00:00:00:21 dev eth0 nud reachable
  ip neigh add 192.168.50.22 lladdr 02:00:00:00:00:22 dev eth0 nud stale
  ip neigh add 192.168.50.23 lladdr 02:00:00:00:00:23 dev eth0 nud noarp
  ip neigh add 192.168.50.24 dev eth0 nud failed
  ip neigh add 2001:db8::20 lladdr 02:00:00:00:00:26 dev eth0 nud stale
  ip neigh add proxy 192.168.50.25 dev eth0
`
for (const line of LINKS.trim().split('\n')) execFileSync('sh', ['-c', line], { stdio: 'inherit' })
const around = new NetlinkConnection(recorder, 0)
const recordDump = (as: string, encode: (batch: MessageWriter) => void): Promise<void> =>
  record(as, () => around.read(encode, 'Cannot test'))
await recordDump('links', encodeLinkDump)
await recordDump('routes', encodeRouteDump)
await recordDump('neighbours', encodeNeighbourDump)
await recordDump('next hops', encodeNextHopDump)
writeFileSync('/proc/sys/net/ipv4/nexthop_compat_mode', '0')
await recordDump('routes with next hop objects', encodeRouteDump)

const file = join(process.env.LAB_OUT ?? '.', 'datagrams.json')
writeFileSync(
  file,
  `${JSON.stringify({ kernel: release(), interfaceIndex: index, exchanges: recorded }, null, 1)}\n`,
)
process.exit(0)
