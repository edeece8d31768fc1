/** The doctor names what is wrong, each fault alone, and nothing on a healthy node. */
import { type ChildProcess, spawn } from 'node:child_process'
import { copyFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Diagnosis, Finding } from '../../src/doctor/check.ts'
import { endpoint, node, service, slice } from '../support/builders.ts'
import { clearNode, Host, noteFigure, prepareNode, Program, sh, temporaryFolder } from '../support/lab.ts'

const VIP = '10.96.0.10'
const folder = temporaryFolder()
const files = temporaryFolder()
const config = join(files, 'config.yaml')
const ARGS = ['--manifests', folder, '--hostname-override', 'node-1']

interface Doctored {
  readonly code: number | null
  readonly findings: readonly (Finding & { readonly category: string })[]
}

const HEAD = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'
/** No audit repairs what is damaged here. */
const CONFIG = `${HEAD}clusterCIDR: 10.244.0.0/16,fd00:10:244::/48\nipvs:\n  strictARP: true\n  syncPeriod: 1h\n`

function configured(name: string, text: string): string {
  writeFileSync(join(files, name), text)
  return join(files, name)
}

async function doctor(
  args = ['--config', config, ...ARGS],
  wrapper: readonly string[] = [],
): Promise<Doctored> {
  const program = new Program(['doctor', '-o', 'json', ...args], wrapper)
  const code = await program.ended()
  const { categories } = JSON.parse(program.stdout) as { categories: Diagnosis[] }
  const findings = categories.flatMap(({ category, findings: found }) =>
    found.map((one) => ({ category, ...one })),
  )
  return { code, findings }
}

const textOf = ({ findings }: Doctored): string =>
  findings.map(({ category, what }) => `${category}: ${what}`).join('\n')

/** A program of this name that does nothing. */
function rival(name: string): ChildProcess {
  copyFileSync('/bin/sleep', join(files, name))
  return spawn(join(files, name), ['600'])
}

/** What is wrong, how that comes, how it goes, and what the doctor has to say. */
const FAULTS: readonly (readonly [string, string, string, RegExp])[] = [
  [
    'conntrack of IPVS is off',
    'sysctl -qw net.ipv4.vs.conntrack=0',
    'sysctl -qw net.ipv4.vs.conntrack=1',
    /^sysctls: net\.ipv4\.vs\.conntrack is 0, not 1/m,
  ],
  [
    'expire_nodest_conn is off',
    'sysctl -qw net.ipv4.vs.expire_nodest_conn=0',
    'sysctl -qw net.ipv4.vs.expire_nodest_conn=1',
    /^sysctls: net\.ipv4\.vs\.expire_nodest_conn/m,
  ],
  [
    'expire_quiescent_template is off',
    'sysctl -qw net.ipv4.vs.expire_quiescent_template=0',
    'sysctl -qw net.ipv4.vs.expire_quiescent_template=1',
    /^sysctls: net\.ipv4\.vs\.expire_quiescent_template/m,
  ],
  [
    'nothing is forwarded',
    'sysctl -qw net.ipv4.ip_forward=0',
    'sysctl -qw net.ipv4.ip_forward=1',
    /^sysctls: net\.ipv4\.ip_forward is 0/m,
  ],
  [
    'nothing of IPv6 is forwarded',
    'sysctl -qw net.ipv6.conf.all.forwarding=0',
    'sysctl -qw net.ipv6.conf.all.forwarding=1',
    /^sysctls: net\.ipv6\.conf\.all\.forwarding is 0/m,
  ],
  [
    'arp_ignore is off',
    'sysctl -qw net.ipv4.conf.all.arp_ignore=0',
    'sysctl -qw net.ipv4.conf.all.arp_ignore=1',
    /^sysctls: net\.ipv4\.conf\.all\.arp_ignore/m,
  ],
  [
    'arp_announce is off',
    'sysctl -qw net.ipv4.conf.all.arp_announce=0',
    'sysctl -qw net.ipv4.conf.all.arp_announce=2',
    /^sysctls: net\.ipv4\.conf\.all\.arp_announce/m,
  ],
  [
    'tracked connections end early',
    'sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=60',
    'sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_established=86400',
    /^sysctls: net\.netfilter\.nf_conntrack_tcp_timeout_established is 60/m,
  ],
  [
    'half-closed ones, too',
    'sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close_wait=60',
    'sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_close_wait=3600',
    /^sysctls: net\.netfilter\.nf_conntrack_tcp_timeout_close_wait is 60/m,
  ],
  [
    'kube-ipvs0 is gone',
    'ip link del kube-ipvs0',
    'ip link add kube-ipvs0 type dummy',
    /^kernel: missing: ip link add kube-ipvs0/m,
  ],
  [
    'the masquerading is gone',
    'iptables-save -t nat > /tmp/nat; iptables -t nat -F KUBE-POSTROUTING',
    'iptables-restore -T nat < /tmp/nat',
    /^iptables: rules are missing.*KUBE-POSTROUTING/m,
  ],
  [
    'marks are gone',
    'iptables-save -t nat > /tmp/nat; iptables -t nat -F KUBE-MARK-MASQ',
    'iptables-restore -T nat < /tmp/nat',
    /^iptables: rules are missing/m,
  ],
  [
    'a jump is gone',
    'iptables-save -t nat > /tmp/nat; iptables -t nat -D PREROUTING 1',
    'iptables-restore -T nat < /tmp/nat',
    /^iptables: rules are missing/m,
  ],
  [
    'refusals are gone',
    'iptables-save -t filter > /tmp/filter; iptables -F KUBE-IPVS-FILTER',
    'iptables-restore -T filter < /tmp/filter',
    /^iptables: rules are missing/m,
  ],
  [
    'rules of IPv6 are gone',
    'ip6tables-save -t nat > /tmp/nat6; ip6tables -t nat -F KUBE-SERVICES',
    'ip6tables-restore -T nat < /tmp/nat6',
    /^iptables: rules are missing/m,
  ],
  [
    'the iptables mode has left a chain',
    'iptables -t nat -N KUBE-SVC-ABCDEFGHIJKLMNOP',
    'iptables -t nat -X KUBE-SVC-ABCDEFGHIJKLMNOP',
    /^iptables: .*KUBE-SVC/m,
  ],
  [
    'a set is missing',
    'iptables-save -t nat > /tmp/nat; iptables -t nat -F KUBE-POSTROUTING; ipset destroy KUBE-LOOP-BACK',
    `ipset create KUBE-LOOP-BACK hash:ip,port,ip; iptables-restore -T nat < /tmp/nat`,
    /^kernel: missing: ipset create KUBE-LOOP-BACK/m,
  ],
  [
    'a set has another type',
    'iptables-save -t nat > /tmp/nat; iptables -t nat -F KUBE-POSTROUTING; ipset destroy KUBE-LOOP-BACK; ipset create KUBE-LOOP-BACK hash:net',
    `ipset destroy KUBE-LOOP-BACK; ipset create KUBE-LOOP-BACK hash:ip,port,ip; iptables-restore -T nat < /tmp/nat`,
    /^ipset: Cannot use set KUBE-LOOP-BACK/m,
  ],
  [
    "kube-proxy's nftables mode has left its table",
    'nft add table ip kube-proxy',
    'nft delete table ip kube-proxy',
    /^conflicts: kube-proxy's nftables mode.*IPv4/m,
  ],
  [
    'and that of IPv6',
    'nft add table ip6 kube-proxy',
    'nft delete table ip6 kube-proxy',
    /^conflicts: kube-proxy's nftables mode.*IPv6/m,
  ],
  [
    'a firewall drops what comes in',
    "nft 'add table inet fw; add chain inet fw in { type filter hook input priority 0; policy drop; }'",
    'nft delete table inet fw',
    /^firewall: chain in of nftables table inet fw/m,
  ],
  [
    'a firewall drops what is forwarded',
    "nft 'add table inet fw; add chain inet fw pass { type filter hook forward priority 0; policy drop; }'",
    'nft delete table inet fw',
    /^firewall: chain pass of nftables table inet fw/m,
  ],
  [
    'a bridge is passed by',
    'ip link add br9 type bridge; ip link add p9 type dummy; ip link set p9 master br9; sysctl -qw net.bridge.bridge-nf-call-iptables=0 || true',
    'ip link del p9; ip link del br9; sysctl -qw net.bridge.bridge-nf-call-iptables=1 || true',
    /^bridges: /m,
  ],
]

describe('the doctor', () => {
  let program: Program
  let server: Server | undefined

  before(async () => {
    await prepareNode()
    await Host.add('pod1', 1)
    writeFileSync(config, CONFIG)
    const objects = [
      node(),
      service({ clusterIP: VIP }),
      slice({ endpoints: [endpoint('10.244.0.1', { nodeName: 'node-1' })] }),
    ]
    writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
    program = await Program.start('--config', config, ...ARGS)
  })
  after(async () => {
    await program.stop()
    await clearNode()
  })
  afterEach(() => {
    server?.close()
    server?.closeAllConnections()
  })

  it('finds nothing on a healthy node, in every category', async () => {
    expect(await doctor()).to.deep.equal({ code: 0, findings: [] })
  })

  for (const [name, damage, undo, said] of FAULTS)
    it(`names it alone: ${name}`, async () => {
      await sh(damage)
      const found = await doctor()
      await sh(undo)

      expect(textOf(found)).to.match(said)
      expect(found.code).to.equal(1)
      for (const { remedy } of found.findings) expect(remedy).not.to.equal('')
    })

  for (const name of ['kube-proxy', 'keepalived', 'kube-vip', 'kube-router'])
    it(`names it alone: ${name} runs`, async () => {
      const running = rival(name)
      const found = await doctor()
      running.kill()
      expect(textOf(found)).to.equal(`conflicts: ${name} runs on this node`)
    })

  for (const [name, text, said] of [
    ['cannot be read', 'mode: [', /^config: /m],
    ['has an impossible value', `${HEAD}ipvs:\n  syncPeriod: soon\n`, /^config: [^]*syncPeriod/m],
    [
      'asks for a scheduler that is not there',
      CONFIG.replace('ipvs:', 'ipvs:\n  scheduler: nosuch'),
      /^schedulers: the kernel has no scheduler nosuch/m,
    ],
  ] as const)
    it(`names it alone: the configuration ${name}`, async () => {
      expect(textOf(await doctor(['--config', configured('bad.yaml', text), ...ARGS]))).to.match(said)
    })

  for (const capability of ['net_admin', 'net_raw'])
    it(`names it alone: without the capability ${capability}`, async () => {
      const without = ['setpriv', `--bounding-set=-${capability}`, `--inh-caps=-${capability}`]
      const found = await doctor(undefined, without)
      expect(textOf(found)).to.contain(
        `capabilities: this process does not have the capability ${capability.toUpperCase()}`,
      )
    })

  /** A kubeconfig for a server at a port of this node. */
  const kubeconfig = (port: number): string[] => {
    const cluster = { server: `http://127.0.0.1:${port}` }
    const kube = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'x',
      clusters: [{ name: 'x', cluster }],
      users: [{ name: 'x', user: {} }],
      contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
    }
    const file = configured('kubeconfig', JSON.stringify(kube))
    const text = `${CONFIG}clientConnection:\n  kubeconfig: ${file}\n`
    return ['--config', configured('api.yaml', text), '--hostname-override', 'node-1']
  }
  /** An API server that answers each request in the same way. */
  const answering = async (
    status: number,
    body: object,
    headers: Record<string, string> = {},
  ): Promise<number> => {
    server = createServer((_, response) => response.writeHead(status, headers).end(JSON.stringify(body)))
    await new Promise<void>((resolve) => server!.listen(0, '127.0.0.1', resolve))
    return (server.address() as { port: number }).port
  }
  const ITEMS = { items: [{}] }

  it('finds nothing wrong with an API server that answers', async () => {
    expect(await doctor(kubeconfig(await answering(200, ITEMS)))).to.deep.equal({ code: 0, findings: [] })
  })

  for (const [name, status, body, headers, said] of [
    ['does not know us', 401, {}, {}, /^api: the API server does not know us/m],
    ['lets us list nothing', 403, {}, {}, /^api: we may not list services/m],
    ['is ill', 500, {}, {}, /^api: the API server answers 500/m],
    ['has no such Node', 200, { items: [] }, {}, /^api: there is no Node node-1/m],
    [
      'has another time',
      200,
      ITEMS,
      { Date: 'Thu, 01 Jan 2026 00:00:00 GMT' },
      /^clock: this node's clock is \d+ s ahead/m,
    ],
  ] as const)
    it(`names it alone: the API server ${name}`, async () => {
      expect(textOf(await doctor(kubeconfig(await answering(status, body, headers))))).to.match(said)
    })

  it('names it alone: there is no API server, or no kubeconfig', async () => {
    expect(textOf(await doctor(kubeconfig(1)))).to.match(/^api: the API server does not answer/m)
    const text = `${CONFIG}clientConnection:\n  kubeconfig: /nowhere\n`
    expect(textOf(await doctor(['--config', configured('none.yaml', text)]))).to.match(/^api: .*\/nowhere/m)
  })

  it('takes at most five times what --version takes', async () => {
    const took = async (...args: readonly string[]): Promise<number> => {
      const times: number[] = []
      for (let i = 0; i < 5; i++) {
        const start = performance.now()
        await new Program(args).ended()
        times.push(performance.now() - start)
      }
      return times.sort((a, b) => a - b)[2]!
    }
    const [version, whole] = [await took('--version'), await took('doctor', '--config', config, ...ARGS)]
    noteFigure(`the doctor took ${(whole / version).toFixed(1)} times what --version took`)
    expect(whole / version).to.be.below(5)
  })

  it('works with a process that is frozen, or gone', async () => {
    program.process.kill('SIGSTOP')
    const frozen = await doctor()
    program.process.kill('SIGCONT')
    expect(textOf(frozen)).to.match(/^process: .*it said nothing for/m)
    await program.stop('SIGKILL')
    expect(textOf(await doctor())).to.match(/^process: .*its process has ended/m)
  })
})
