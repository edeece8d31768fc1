/** `--cleanup` leaves a node as it was before the first start, whatever others have on it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { loadKubeProxyState, fixtureObjects } from '../support/cluster-lab.ts'
import { nodeState, Program, sh, temporaryFolder } from '../support/lab.ts'

const config = join(temporaryFolder(), 'config.yaml')
const manifests = temporaryFolder()

async function cleanUp(...args: readonly string[]): Promise<Program> {
  const program = new Program(['--config', config, '--cleanup', ...args])
  expect(await program.ended(), JSON.stringify(program.lines)).to.equal(0)
  return program
}

describe('--cleanup', () => {
  let original: Awaited<ReturnType<typeof nodeState>>

  /** A node with everything that others have: a virtual IP of keepalived, sets, chains, addresses, kubelet's rules. */
  before(async () => {
    await sh(`
      ip link set lo up
      ip link add eth0 type dummy
      ip link set eth0 up
      ip addr add 192.168.50.1/24 dev eth0
      ip addr add fd00:192:168:50::1/64 dev eth0 nodad
      ipvsadm -A -t 192.168.50.9:6443 -s wrr
      ipvsadm -a -t 192.168.50.9:6443 -r 192.168.50.2:6443 -m -w 3
      ipvsadm -A -f 7 -s rr
      ipset create FOREIGN hash:ip
      ipset add FOREIGN 192.0.2.1
      for tables in iptables ip6tables; do
        for table in nat filter mangle; do
          $tables -t $table -N FOREIGN
          $tables -t $table -N KUBE-KUBELET-CANARY
          $tables -t $table -I OUTPUT -j FOREIGN
        done
        $tables -N KUBE-FIREWALL
        $tables -I INPUT -j KUBE-FIREWALL
        $tables -t nat -A PREROUTING -p tcp --dport 81 -j REDIRECT --to-ports 82
        $tables -t nat -A POSTROUTING -p tcp --dport 83 -j ACCEPT
        $tables -t filter -A FORWARD -p tcp --dport 84 -j ACCEPT
        $tables -t mangle -A PREROUTING -p tcp --dport 85 -j ACCEPT
      done
      iptables -A FOREIGN -m set --match-set FOREIGN src -j ACCEPT`)
    writeFileSync(
      config,
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclusterCIDR: 10.244.0.0/16\n',
    )
    for (const kind of ['services', 'endpointslices', 'nodes'] as const) {
      const items = fixtureObjects(kind).map((object) => JSON.stringify(object))
      writeFileSync(join(manifests, `${kind}.yaml`), items.join('\n---\n'))
    }
    original = await nodeState()
  })

  it('after a full run leaves what was there before, and nothing else', async () => {
    const program = await Program.start(
      '--config',
      config,
      '--manifests',
      manifests,
      '--hostname-override',
      'lab',
    )
    const meanwhile = await nodeState()
    for (const part of ['ipvs', 'sets', 'iptables', 'ip6tables', 'addresses', 'links'] as const)
      expect(meanwhile[part], part).not.to.deep.equal(original[part])
    await program.stop()
    await cleanUp()

    expect(await nodeState()).to.deep.equal(original)
  })

  it('changes nothing where nothing is ours', async () => {
    await cleanUp()

    expect(await nodeState()).to.deep.equal(original)
  })

  it('removes what kube-proxy itself has left, its sets of IPv6 included', async () => {
    await sh('iptables-save > /tmp/rules; ip6tables-save > /tmp/rules6')
    await loadKubeProxyState()
    // Loading it has replaced the rules of others.
    await sh('iptables-restore --noflush < /tmp/rules; ip6tables-restore --noflush < /tmp/rules6')
    await sh('ipset create FOREIGN hash:ip -exist; ipset add FOREIGN 192.0.2.1 -exist')
    await cleanUp()

    const { ipvs = [], sets = [], links, iptables = [], ip6tables = [] } = await nodeState()
    expect(links).to.deep.equal(original.links)
    expect(
      [...ipvs, ...sets].filter((line) => line.includes('KUBE-') || line.includes('10.96.')),
    ).to.deep.equal([])
    const ours = /KUBE-(?!KUBELET-CANARY|FIREWALL)/
    expect([...iptables, ...ip6tables].filter((line) => ours.test(line))).to.deep.equal([])
  })
})
