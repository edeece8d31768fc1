/**
 * The golden picture: for the same objects, what the program leaves in the kernel is what a real kube-proxy left,
 * but for the differences in the lists here. Order and counters do not count: test/lab/rules.lab.ts has the one place
 * where our order is another on purpose.
 */
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { eventually } from '../support/eventually.ts'
import { Program, run, sh, temporaryFolder } from '../support/lab.ts'

const FIXTURES = join(process.cwd(), 'test/fixtures/kube-proxy-node')

interface Difference {
  /** Lines of kube-proxy's that we do not have. */
  readonly less?: readonly RegExp[]
  /** Lines of ours that kube-proxy has not. */
  readonly more?: readonly RegExp[]
  readonly reason: string
}

const STATIC = 'rules do not depend on whether a set is empty: they are written once'
const OUTGOING =
  'what the node itself sends to a restricted load balancer is judged by one rule, before IPVS takes it, instead of one for each'

const DIFFERENCES: Readonly<Record<string, readonly Difference[]>> = {
  ipvsadm: [
    {
      less: [/^-a .* (10\.96\.80\.26|\[fd00:10:96::8cf2\]):80 -r (10\.244\.2|\[fd00:10:244:2)/],
      reason:
        'internalTrafficPolicy Local does not leak to other nodes, as it does in kube-proxy beside a node port',
    },
  ],
  ipset: [],
  addresses: [],
  iptables: [
    { more: [/KUBE-(6-)?LOAD-BALANCER-SOURCE-IP dst,dst,src -j RETURN$/], reason: STATIC },
    { more: [/KUBE-(6-)?EXTERNAL-IP-LOCAL dst,dst .*-j ACCEPT$/], reason: STATIC },
    {
      less: [/-m physdev ! --physdev-is-in /],
      reason:
        'the match loads br_netfilter, and the next rule accepts the same packets: the address is local',
    },
    {
      less: [/^-A KUBE-IPVS-OUT-FILTER -s .* -m ipvs .* -j DROP$/],
      more: [
        /^\*mangle$/,
        /^:(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING) ACCEPT$/,
        /^:KUBE-(IPVS-OUT-FILTER|SOURCE-RANGES-FIREWALL) -$/,
        /^-A OUTPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-OUT-FILTER$/,
        /^-A KUBE-IPVS-OUT-FILTER -m set --match-set KUBE-(6-)?LOAD-BALANCER-FW dst,dst -j KUBE-SOURCE-RANGES-FIREWALL$/,
        /^COMMIT$/,
        /^-A KUBE-SOURCE-RANGES-FIREWALL .*(-j RETURN|-j DROP)$/,
      ],
      reason: OUTGOING,
    },
    {
      less: [
        /^-A KUBE-(NODE-PORT|IPVS-FILTER) (?!-p tcp ).*KUBE-(6-)?HEALTH-CHECK-NODE-PORT dst -j (ACCEPT|RETURN)$/,
      ],
      more: [
        /^-A KUBE-(NODE-PORT|IPVS-FILTER) -p tcp .*KUBE-(6-)?HEALTH-CHECK-NODE-PORT dst -j (ACCEPT|RETURN)$/,
        /^-A KUBE-NODE-PORT -m set --match-set \S+ dst,dst -j RETURN$/,
      ],
      reason:
        "the set of health checks knows ports only: it lets in neither UDP nor what is for another Service's address and port",
    },
    {
      more: [
        /^:KUBE-IPVS-ACCEPT -$/,
        /^-A INPUT .* -j KUBE-IPVS-ACCEPT$/,
        /^-A KUBE-IPVS-ACCEPT -m set --match-set \S+ dst,dst -j ACCEPT$/,
        /^-A KUBE-IPVS-ACCEPT .* -j KUBE-SOURCE-RANGES-FIREWALL$/,
      ],
      reason: 'a host whose firewall drops what no rule accepts would drop what is for Services',
    },
  ],
}

/** Lines that differ, as often as they stand in one text more than in the other. */
function surplus(of: readonly string[], over: readonly string[]): string[] {
  const left = [...over]
  return of.filter((line) => {
    const i = left.indexOf(line)
    if (i >= 0) left.splice(i, 1)
    return i < 0
  })
}

/** Every line that differs is in the list, and everything in the list differs. */
function compare(kind: string, ours: readonly string[], theirs: readonly string[]): void {
  const differences = DIFFERENCES[kind]!
  const sides = [
    ['more', surplus(ours, theirs)],
    ['less', surplus(theirs, ours)],
  ] as const
  for (const [side, lines] of sides) {
    const allowed = differences.flatMap((difference) => difference[side] ?? [])
    expect(
      lines.filter((line) => !allowed.some((pattern) => pattern.test(line))),
      `${kind}: lines that kube-ipvs has ${side} than kube-proxy`,
    ).to.deep.equal([])
    const idle = allowed.filter((pattern) => !lines.some((line) => pattern.test(line)))
    expect(idle.map(String), `${kind}: differences that are none`).to.deep.equal([])
  }
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '')
const fixture = (name: string): string[] => lines(readFileSync(join(FIXTURES, name), 'utf8'))

/** Without what differs from run to run: counters, comments, hash seeds, interface numbers. */
const NORMAL: Readonly<Record<string, (line: string) => string | undefined>> = {
  ipvsadm: (line) => line.trim(),
  ipset: (line) => line.replace(/ bucketsize \d+ initval \w+$/, ''),
  addresses: (line) => /kube-ipvs0 +(inet6? \S+)/.exec(line)?.[1],
  iptables: (line) => (line.startsWith('#') ? undefined : line.replace(/ \[\d+:\d+\]$/, '')),
}
const normal = (kind: string, text: readonly string[]): string[] =>
  text.flatMap((line) => NORMAL[kind]!(line) ?? [])

describe('for the objects of a node on which kube-proxy ran, the kernel is as kube-proxy left it', () => {
  let program: Program
  before(async () => {
    await sh(`
      ip link set lo up
      for name in eth0 wire0 v-a1 v-a2; do ip link add $name type dummy; ip link set $name up; done
      ip addr add 10.0.2.15/24 dev eth0
      ip addr add fec0::5054:ff:fe12:3456/64 dev eth0 nodad
      ip addr add 192.168.50.1/24 dev wire0
      ip addr add fd00:192:168:50::1/64 dev wire0 nodad
      ip addr add 169.254.1.1/32 dev v-a1
      ip addr add 169.254.1.1/32 dev v-a2`)
    const manifests = temporaryFolder()
    for (const name of ['services', 'endpointslices', 'nodes']) {
      copyFileSync(join(FIXTURES, `${name}.json`), join(manifests, `${name}.json`))
    }
    const config = join(temporaryFolder(), 'config.yaml')
    writeFileSync(
      config,
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclusterCIDR: 10.244.0.0/16,fd00:10:244::/48\n',
    )
    program = await Program.start('--config', config, '--manifests', manifests, '--hostname-override', 'lab')
  })
  after(() => program.stop())

  it('ipvsadm -Sn', async () => {
    // A dump of many parts may be wrong while another namespace changes: see auditor.ts.
    await eventually(async () => {
      const ours = normal('ipvsadm', lines(await run('ipvsadm', '-Sn')))
      compare('ipvsadm', ours, normal('ipvsadm', fixture('ipvsadm.txt')))
    }, 60_000)
  })

  it('ipset save', async () => {
    compare(
      'ipset',
      normal('ipset', lines(await run('ipset', 'save'))),
      normal('ipset', fixture('ipset.txt')),
    )
  })

  it('ip -o addr', async () => {
    const ours = normal('addresses', lines(await run('ip', '-o', 'addr')))
    compare('addresses', ours, normal('addresses', fixture('addr.txt')))
  })

  for (const command of ['iptables', 'ip6tables']) {
    it(`${command}-save`, async () => {
      const ours = normal('iptables', lines(await run(`${command}-save`)))
      compare('iptables', ours, normal('iptables', fixture(`${command}.txt`)))
    })
  }

  it('the commands of a runbook show what an operator expects', async () => {
    expect(await run('ipset', 'list', 'KUBE-CLUSTER-IP')).to.contain('\n10.96.0.1,tcp:443\n')
    expect(await run('iptables', '-t', 'nat', '-L', 'KUBE-SERVICES', '-n')).to.contain(
      'match-set KUBE-CLUSTER-IP dst,dst',
    )
    expect(await run('ipvsadm', '-Ln')).to.match(/TCP {2}192\.168\.50\.1:30087 rr\n/)
  })

  it('says nothing of it', () => {
    expect(program.complaints()).to.deep.equal([])
  })
})
