/** A kernel booted without IPv6, on which modules cannot be loaded at first: run by name, in a machine of its own. */
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { service, slice } from '../support/builders.ts'
import { boundAddresses, Host, ipvsadm, Program, sh, temporaryFolder } from '../support/lab.ts'

const FORBIDDEN = '/etc/modprobe.d/forbidden.conf'
const NO_IPV6 = 'IPv6 is not available on this node: IPv6 cluster IPs are not served'

const WEB = ['-A -t 10.96.0.10:80 -s rr', '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1']

describe('a poor kernel', () => {
  const folder = temporaryFolder()
  let program: Program
  afterEach(() => program.stop())

  before(async () => {
    await sh('ip link set lo up')
    const objects = [
      service({ clusterIP: '10.96.0.10', spec: { clusterIPs: ['10.96.0.10', 'fd00:96::10'] } }),
      slice({ endpoints: ['10.244.0.1'] }),
      service({ name: 'six', clusterIP: 'fd00:96::11' }),
    ]
    writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  })

  it('without ip_vs: exit code and remedy', async () => {
    writeFileSync(FORBIDDEN, 'install ip_vs /bin/false\ninstall xt_set /bin/false\n')
    program = new Program(['--manifests', folder])

    expect(await program.ended()).to.equal(1)
    expect(program.complaints().map(({ level, msg }) => [level, msg])).to.deep.equal([
      [60, 'This kernel has no IPVS: load it with "modprobe ip_vs" (CONFIG_IP_VS), on the host'],
    ])
  })

  it('without xt_set: the rules are missing, which is said once, and everything else is served', async () => {
    writeFileSync(FORBIDDEN, 'install xt_set /bin/false\n')
    program = await Program.start('--manifests', folder)

    expect(await ipvsadm()).to.deep.equal(WEB)
    await sleep(3_000)
    expect(program.complaints().map(({ msg, reason }) => reason ?? msg)).to.deep.equal([
      NO_IPV6,
      'iptables-restore failed for IPv4: this kernel has no xt_set: load it with "modprobe xt_set", on the host',
    ])

    rmSync(FORBIDDEN)
    await program.logged('the rules of iptables are as they should be again')
    expect(await sh('iptables-save')).to.contain('--match-set KUBE-CLUSTER-IP')
  })

  it('without IPv6: IPv4 is served, and what is not is said once', async () => {
    expect(await sh('ls /proc/net/if_inet6 2>&1 || true')).to.contain('No such file')
    program = await Program.start('--manifests', folder)

    expect(await ipvsadm()).to.deep.equal(WEB)
    expect(await boundAddresses()).to.deep.equal(['10.96.0.10'])
    expect(program.complaints().map(({ msg }) => msg)).to.deep.equal([NO_IPV6])
  })
})

/** Case A16: Pods on cni0, and a Service whose endpoint is one of them. */
describe('Pods on one bridge', () => {
  const folder = temporaryFolder()
  const args = ['--manifests', folder, '--cluster-cidr', '10.99.0.0/16', '--ipvs-sync-period', '1s']
  const client = Host.of('client', '10.99.0.10', '')
  const dns = Host.of('dns', '10.99.0.11', '')
  let program: Program

  const addBridge = async (): Promise<void> => {
    const plugIn = ({ name, namespace, ipv4 }: Host): string => `
      ip link add v-${name} type veth peer name eth0 netns ${namespace}
      ip link set v-${name} master cni0 up
      ip -n ${namespace} addr add ${ipv4}/24 dev eth0
      ip -n ${namespace} link set eth0 up
      ip -n ${namespace} route add default via 10.99.0.1`
    await sh(
      `ip link add cni0 up type bridge; ${plugIn(client)}; ${plugIn(dns)}; ip addr add 10.99.0.1/24 dev cni0`,
    )
  }
  /** Who answers the client, and which address he sees, by protocol. */
  const answers = async (): Promise<object> => {
    const ask = (['udp', 'tcp'] as const).map(async (protocol) => {
      const { answers: by, sources, errors } = await client.connect(protocol, '10.96.0.10', 53)
      return [protocol, [...Object.keys(by), ...Object.keys(sources), ...Object.keys(errors)].join(' ')]
    })
    return Object.fromEntries(await Promise.all(ask)) as object
  }
  const ANSWERED = { udp: 'dns 10.99.0.10', tcp: 'dns 10.99.0.10' }
  const complaints = (): unknown[] =>
    program
      .complaints()
      .flatMap(({ msg, command, bridges }) => (msg === NO_IPV6 ? [] : [[msg, command, bridges]]))
  const UNANSWERED =
    'a Pod that asks a Service whose endpoint is on the same bridge gets no answer it can use: it comes from the wrong address'
  const isLoaded = (): boolean => existsSync('/proc/sys/net/bridge')

  before(async () => {
    const protocols = ['UDP', 'TCP'] as const
    const ports = protocols.map((protocol) => ({ name: protocol, port: 53, protocol }))
    const targets = protocols.map((protocol) => ({ name: protocol, port: 8080, protocol }))
    const objects = [service({ ports }), slice({ ports: targets, endpoints: [dns.ipv4] })]
    writeFileSync(join(folder, 'dns.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
    await sh(
      [client, dns].map(({ namespace: ns }) => `ip netns add ${ns}; ip -n ${ns} link set lo up`).join('; '),
    )
    await sh('ip link set lo up')
    await addBridge()
    await dns.serve()
    expect(isLoaded()).to.equal(false)
  })
  afterEach(() => program.stop())
  after(async () => {
    await client.remove()
    await dns.remove()
    rmSync(FORBIDDEN, { force: true })
  })

  it('get no answer where br_netfilter cannot be loaded, which is said once with the command', async () => {
    writeFileSync(FORBIDDEN, 'install br_netfilter /bin/false\n')
    program = await Program.start(...args)

    expect(await answers()).to.deep.equal({ udp: 'timeout', tcp: 'timeout' })
    expect(complaints()).to.deep.equal([[UNANSWERED, 'modprobe br_netfilter', ['cni0']]])
    rmSync(FORBIDDEN)
  })

  it('are answered once the init container has loaded it', async () => {
    program = new Program([...args, '--init-only'])
    expect(await program.ended()).to.equal(0)
    expect(isLoaded()).to.equal(true)

    program = await Program.start(...args)
    expect(await answers()).to.deep.equal(ANSWERED)
    expect(complaints()).to.deep.equal([])
  })

  it('are answered on a bridge that comes after the start: it is loaded then, and not before', async () => {
    await sh('ip link del cni0; ip link del v-client; ip link del v-dns; modprobe -r br_netfilter')
    program = await Program.start(...args)
    await sleep(2_000)
    expect(isLoaded()).to.equal(false)

    await addBridge()
    await program.logged('loaded br_netfilter: answers between Pods on one bridge come from the Service')
    expect(await answers()).to.deep.equal(ANSWERED)
    expect(complaints()).to.deep.equal([])
  })

  it('get no answer where somebody has switched it off, which stays and is said once', async () => {
    await sh('sysctl -qw net.bridge.bridge-nf-call-iptables=0')
    program = await Program.start(...args)
    await sleep(2_000)

    expect(await answers()).to.deep.equal({ udp: 'timeout', tcp: 'timeout' })
    const command = 'sysctl -w net.bridge.bridge-nf-call-iptables=1'
    expect(complaints()).to.deep.equal([[UNANSWERED, command, ['cni0']]])
    await sh(command)
    expect(await answers()).to.deep.equal(ANSWERED)
  })
})
