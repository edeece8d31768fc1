/**
 * Records what a real kernel answers, for the decoders' tests: run it in the lab, as
 *   scripts/setup lab && scripts/lab node scripts/record-datagrams.ts
 * and copy $LAB_OUT/datagrams.json to test/fixtures/netlink.json.
 */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { release } from 'node:os'
import { join } from 'node:path'
import { DummyInterface, ensureInterface } from '../src/kernel/dummy-interface.ts'
import { encodeSetList, encodeSetTypeGet } from '../src/kernel/ipset-codec.ts'
import { Ipvs } from '../src/kernel/ipvs.ts'
import { encodeDestination, encodeService } from '../src/kernel/ipvs-codec.ts'
import { parseAddress } from '../src/model/address.ts'
import { realServer, virtualServerId } from '../src/model/virtual-server.ts'
import { NetlinkConnection } from '../src/netlink/connection.ts'
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
await record('service', () => ipvs.readVirtualServer(web))
await record('destinations', () => ipvs.readRealServers([web]))
await record('destinations of IPv6', () =>
  ipvs.readRealServers([virtualServerId(parseAddress('fd00:96::10')!, 5060, 'SCTP')]),
)
await record('timeouts', () => ipvs.readTimeouts())
await record('info', () => ipvs.readInfo())
await record('refusals', () => {
  const batch = ipvs.connection.batch()
  encodeService(batch, ipvs.family, 'NEW', web, { ...settings, scheduler: 'rr' })
  encodeService(batch, ipvs.family, 'NEW', { ...web, port: 81 }, settings)
  encodeDestination(batch, ipvs.family, 'DEL', web, realServer(parseAddress('10.244.0.9')!, 1))
  batch.begin(ipvs.family)
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

const file = join(process.env.LAB_OUT ?? '.', 'datagrams.json')
writeFileSync(
  file,
  `${JSON.stringify({ kernel: release(), interfaceIndex: index, exchanges: recorded }, null, 1)}\n`,
)
process.exit(0)
