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
import { Ipset } from '../src/kernel/ipset.ts'
import { Ipvs } from '../src/kernel/ipvs.ts'
import { encodeDestination, encodeService } from '../src/kernel/ipvs-codec.ts'
import { parseAddress } from '../src/model/address.ts'
import { realServer, virtualServerId } from '../src/model/virtual-server.ts'
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
  ipset create OTHER hash:ip,port
  ipset add OTHER 10.96.0.10,tcp:80
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
  batch.append(Uint8Array.of(99, 1, 0, 0))
  batch.end()
  return ipvs.connection.exchange(batch, 'Cannot test')
})
const index = await ensureInterface()
await record('addresses', () => new DummyInterface(recorder, index).readAddresses())
const ipset = new Ipset(recorder)
await record('set', () => ipset.readMembers('KUBE-IPVS-IPS'))
await record('set of IPv6', () => ipset.readMembers('KUBE-6-IPVS-IPS'))
await record('set of another type', () => ipset.readMembers('OTHER').catch(() => undefined))
await record('no set', () => ipset.readMembers('KUBE-NONE'))
await record('full set type', async () => {
  const { encodeSetTypeGet } = await import('../src/kernel/ipset-codec.ts')
  await ipset.connection.read((batch) => {
    encodeSetTypeGet(batch, 'hash:ip', 'IPv4')
  }, 'Cannot test')
})

const file = join(process.env.LAB_OUT ?? '.', 'datagrams.json')
writeFileSync(
  file,
  `${JSON.stringify({ kernel: release(), interfaceIndex: index, exchanges: recorded }, null, 1)}\n`,
)
process.exit(0)
