/** In kube-proxy's place on a running node: what `plan` says is what happens, no connection is lost, and the way back is open. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { endpoint, service, slice } from '../support/builders.ts'
import {
  buildCluster,
  type ClusterLab,
  fixture,
  fixtureObjects,
  loadKubeProxyState,
  NODE,
} from '../support/cluster-lab.ts'
import { eventually } from '../support/eventually.ts'
import {
  clearNode,
  type HeldConnections,
  ipvsadm,
  nodeState,
  Program,
  run,
  sh,
  temporaryFolder,
} from '../support/lab.ts'
import { changing, ipvsFamily, NetlinkMonitor } from '../support/netlink-monitor.ts'

const CLUSTER_IP = '10.96.210.96'
const NODE_PORT = 30_087
const LOAD_BALANCER = '203.0.113.80'
/** The messages of IPVS, by the letter of ipvsadm that stands for each. */
const IPVS_MESSAGES: Readonly<Record<string, string>> = {
  A: 'virtual server added',
  E: 'virtual server changed',
  D: 'virtual server deleted',
  a: 'real server added',
  e: 'real server changed',
  d: 'real server deleted',
}

let cluster: ClusterLab
const manifests = temporaryFolder()
const config = join(temporaryFolder(), 'config.yaml')
const args = ['--config', config, '--manifests', manifests, '--hostname-override', 'lab']

async function planned(): Promise<string[]> {
  const plan = new Program(['plan', ...args])
  expect(await plan.ended(), JSON.stringify(plan.lines)).to.equal(0)
  return plan.stdout.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
}

/** What the program has applied, as its log says at -v 4. */
const applied = ({ lines }: Program): string[] =>
  lines.flatMap(({ operation }) => (operation as string | undefined) ?? [])

before(async () => {
  cluster = await buildCluster()
  writeFileSync(
    config,
    'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclusterCIDR: 10.244.0.0/16,fd00:10:244::/48\n',
  )
})
after(() => cluster.remove())

describe('on a node where kube-proxy has been running in mode ipvs', () => {
  const held: HeldConnections[] = []
  let program: Program
  let plan: string[]

  before(async () => {
    for (const kind of ['services', 'endpointslices', 'nodes'] as const) {
      const items = fixtureObjects(kind).map((object) => JSON.stringify(object))
      writeFileSync(join(manifests, `${kind}.yaml`), items.join('\n---\n'))
    }
    await loadKubeProxyState()
    held.push(
      await cluster.pod.hold('tcp', CLUSTER_IP, 80, 8),
      await cluster.outside.hold('tcp', NODE.IPv4, NODE_PORT, 4),
      await cluster.outside.hold('tcp', LOAD_BALANCER, 80, 4),
    )
  })
  after(async () => {
    await Promise.all(held.map((connections) => connections.close()))
    await program.stop()
    await clearNode()
  })
  const allOpen = async (): Promise<void> => {
    expect(await Promise.all(held.map((connections) => connections.open()))).to.deep.equal([8, 4, 4])
  }

  it('plan says what would change, and changes nothing', async () => {
    const before = await nodeState()
    plan = await planned()

    expect(await nodeState()).to.deep.equal(before)
    const tools = new Set(plan.map((line) => line.split(' ')[0]))
    expect([...tools]).to.include.members(['ipvsadm', 'iptables', 'ip6tables'])
    // Nothing that is wanted goes: no virtual server but those on addresses that this node has not.
    const lost = plan.filter((line) => /^ipvsadm -D|^ip addr del/.test(line))
    expect(
      lost.filter((line) => !/ (10\.0\.2\.15|\[fec0::5054:ff:fe12:3456\]):\d+$/.test(line)),
    ).to.deep.equal([])
    await allOpen()
  })

  it('the start does what plan has said, message by message, and connections stay open', async () => {
    const family = await ipvsFamily()
    const monitor = await NetlinkMonitor.start()
    program = await Program.start(...args, '-v', '4')
    await eventually(async () => {
      const text = await (await fetch('http://127.0.0.1:10249/metrics')).text()
      expect(text).to.contain('\nkube_ipvs_draining_real_servers 0\n')
      expect(text).to.match(/\nkube_ipvs_drained_real_servers_total [1-9]/)
    }, 60_000)
    const counts = changing(await monitor.stop(), family)
    const done = applied(program)

    const announced = plan
      .map((line) => line.replace(/^(ipvsadm|ip|ipset) /, ''))
      .filter((line) => !/^ip6?tables|^sysctl/.test(line))
    // What plan quiesces is deleted when it has no connections, which may be at once.
    const quiesced = announced
      .filter((line) => line.endsWith(' -m -w 0'))
      .map((line) => line.replace(/^-e (.*) -m -w 0$/, '-d $1'))
    expect(done.filter((line) => !quiesced.includes(line)).sort()).to.deep.equal([...announced].sort())
    for (const [letter, message] of Object.entries(IPVS_MESSAGES)) {
      const count = done.filter((line) => line.startsWith(`-${letter} `)).length
      expect(counts[message] ?? 0, `messages for ipvsadm -${letter}`).to.equal(count)
    }
    expect(counts).not.to.have.property('address added')
    await allOpen()
  })

  it('afterwards there is nothing to plan', async () => {
    await eventually(async () => expect(await planned()).to.deep.equal([]), 60_000, 500)
    expect(program.complaints(50)).to.deep.equal([])
  })

  it('the way back: what kube-proxy does at its start works on what is left, and connections stay open', async () => {
    await program.stop()
    const before = await nodeState()
    const folder = temporaryFolder()
    for (const [name, iptables] of [
      ['iptables', 'iptables'],
      ['ip6tables', 'ip6tables'],
    ] as const) {
      const text = fixture(`${name}.txt`)
      const chains = [...text.matchAll(/^(?:\*(\w+)|:(KUBE-\S+))/gm)]
      let table = ''
      for (const [, of, chain] of chains) {
        if (of !== undefined) table = of
        // Exit code 1: there is one already.
        else await sh(`${iptables} -w 5 -N ${chain!} -t ${table} || test $? = 1`)
      }
      const jumps = [...text.matchAll(/^\*(\w+)|^-A (?!KUBE-)(\S+) (.*-j KUBE-.*)$/gm)]
      for (const [, of, chain, rule] of jumps) {
        if (of !== undefined) table = of
        else await sh(`${iptables} -w 5 -C ${chain!} -t ${table} ${rule!}`)
      }
      const payload = text.split('\n').filter((line) => /^(\*|COMMIT|:KUBE-|-A KUBE-)/.test(line))
      writeFileSync(join(folder, name), `${payload.join('\n')}\n`)
      await sh(`${iptables}-restore -w 5 --noflush --counters < ${folder}/${name}`)
    }
    for (const [, create] of fixture('ipset.txt').matchAll(/^(create .*?)(?: bucketsize.*)?$/gm))
      await sh(`ipset ${create!} -exist`)
    const after = await nodeState()

    expect({ ...after, iptables: [], ip6tables: [] }).to.deep.equal({
      ...before,
      iptables: [],
      ip6tables: [],
    })
    await allOpen()
  })

  it('and forth again: only rules are written', async () => {
    program = await Program.start(...args)

    expect(await program.changes()).to.deep.equal({})
    expect(await planned()).to.deep.equal([])
    await allOpen()
  })
})

describe('on a node where kube-proxy has been running in another mode', () => {
  const VIP = '10.96.0.10'
  let program: Program

  before(async () => {
    await sh(`rm -f ${manifests}/*`)
    const [pod] = cluster.local
    const objects = [
      service({ clusterIP: VIP }),
      slice({ endpoints: [endpoint(pod.ipv4, { nodeName: 'lab' })] }),
    ]
    writeFileSync(
      join(manifests, 'web.yaml'),
      objects.map((object) => JSON.stringify(object)).join('\n---\n'),
    )
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'rules'), IPTABLES_MODE)
    writeFileSync(
      join(folder, 'nft'),
      `table ip kube-proxy {
        chain filter-output {
          type filter hook output priority 0
          ip daddr ${VIP} drop
        }
        chain filter-prerouting {
          type filter hook prerouting priority -300
          ip daddr ${VIP} drop
        }
      }
      table ip other {
        chain c {
        }
      }\n`,
    )
    await sh(`iptables-restore < ${folder}/rules; nft -f ${folder}/nft`)
  })
  after(async () => {
    await program.stop()
    await clearNode()
    await sh('nft delete table ip other')
  })

  it('what it has left would break Services, and goes at the start', async () => {
    expect((await planned()).filter((line) => line.startsWith('nft'))).to.deep.equal([
      'nft delete table ip kube-proxy',
    ])
    program = await Program.start(...args)

    const rules = await run('iptables-save')
    expect(rules).not.to.match(
      /KUBE-SVC|KUBE-SEP|KUBE-NODEPORTS|KUBE-PROXY-CANARY|KUBE-EXTERNAL-SERVICES|ctstate NEW -m comment/,
    )
    const [reply] = await cluster.pod.ask([{ protocol: 'tcp', address: VIP, port: 80, count: 4 }])
    expect(reply!.errors).to.deep.equal({})
    expect(await ipvsadm()).to.include(`-A -t ${VIP}:80 -s rr`)
    expect(await planned()).to.deep.equal([])
  })

  it("kubelet's rules, and those of others, stay", async () => {
    const rules = await run('iptables-save')
    for (const line of [
      '-A INPUT -j KUBE-FIREWALL',
      '-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP',
      '-A FORWARD -p tcp -m tcp --dport 25 -m conntrack --ctstate NEW -j DROP',
      ':KUBE-KUBELET-CANARY',
    ])
      expect(rules).to.contain(line)
    expect(await run('nft', 'list', 'tables'))
      .to.contain('table ip other')
      .and.not.to.contain('kube-proxy')
  })
})

/** What kube-proxy writes in mode iptables for a Service without endpoints, beside kubelet's rules and one of somebody else. */
const IPTABLES_MODE = `*mangle
:PREROUTING ACCEPT [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:KUBE-FIREWALL - [0:0]
:KUBE-EXTERNAL-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SERVICES - [0:0]
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS
-A INPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES
-A INPUT -j KUBE-FIREWALL
-A FORWARD -p tcp -m tcp --dport 25 -m conntrack --ctstate NEW -j DROP
-A FORWARD -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-FIREWALL -m mark --mark 0x8000/0x8000 -j DROP
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m comment --comment "shop/web:http has no endpoints" -m tcp --dport 80 -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SEP-AAAAAAAAAAAAAAAA - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-SEP-AAAAAAAAAAAAAAAA -p tcp -m tcp -j DNAT --to-destination 192.0.2.1:8080
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-AAAAAAAAAAAAAAAA
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-SVC-AAAAAAAAAAAAAAAA -j KUBE-SEP-AAAAAAAAAAAAAAAA
COMMIT
`
