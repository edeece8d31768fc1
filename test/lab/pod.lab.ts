/** The capabilities of the DaemonSet's main container are enough, with a read-only root, sysctls and sysfs. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { endpoint, service, slice } from '../support/builders.ts'
import { buildCluster, type ClusterLab } from '../support/cluster-lab.ts'
import { podCapabilities } from '../support/deploy.ts'
import { eventually } from '../support/eventually.ts'
import { ipvsadm, Program, run, sh, temporaryFolder } from '../support/lab.ts'
import { confined } from '../support/pod.ts'

const NODE_IP = '192.168.50.1'
const PORT = 30_080
const PATIENCE_MS = 60_000
/** linux/capability.h */
const CAPABILITY_NUMBERS: Readonly<Record<string, number>> = { NET_ADMIN: 12, NET_RAW: 13 }

describe('as the main container of the DaemonSet', () => {
  const manifests = temporaryFolder()
  const config = join(temporaryFolder(), 'config.yaml')
  const args = ['--config', config, '--manifests', manifests, '--hostname-override', 'lab']
  let cluster: ClusterLab
  let program: Program

  const configure = (scheduler: string): void =>
    writeFileSync(
      config,
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclusterCIDR: 10.244.0.0/16\nipvs: {scheduler: ${scheduler}, syncPeriod: 2s}\n`,
    )
  const publish = (...addresses: readonly string[]): void => {
    const ports = (['TCP', 'UDP'] as const).map((protocol) => ({
      name: protocol.toLowerCase(),
      port: 80,
      protocol,
      nodePort: PORT,
    }))
    const targets = ports.map(({ name, protocol }) => ({ name, port: 8080, protocol }))
    const objects = [
      service({ ports, spec: { type: 'NodePort', externalIPs: ['203.0.113.7'] } }),
      slice({ ports: targets, endpoints: addresses.map((address) => endpoint(address)) }),
    ]
    writeFileSync(
      join(manifests, 'web.yaml'),
      objects.map((object) => JSON.stringify(object)).join('\n---\n'),
    )
  }
  /** Who answers an outside client on the node port. */
  const answers = async (protocol: 'tcp' | 'udp'): Promise<string[]> => {
    const [reply] = await cluster.outside.ask([{ protocol, address: NODE_IP, port: PORT, count: 4 }])
    return [...Object.keys(reply!.seen), ...Object.keys(reply!.errors)].sort()
  }

  before(async () => {
    cluster = await buildCluster()
    configure('rr')
    publish(cluster.remote[0].ipv4)
    await sh('modprobe -ra ip_vs_lblc ip_vs_lblcr')
    const init = new Program(['--config', config, '--init-only'])
    expect(await init.ended(), 'the init container').to.equal(0)
    program = new Program(['-v', '4', ...args], confined())
    await program.logged('first sync finished')
  })
  after(async () => {
    await program.stop()
    await cluster.remove()
  })

  it('has exactly the capabilities of the manifest, and can write nowhere', () => {
    const status = readFileSync(`/proc/${program.process.pid}/status`, 'utf8')
    const mask = podCapabilities().reduce(
      (bits, name) => bits | (1n << BigInt(CAPABILITY_NUMBERS[name]!)),
      0n,
    )
    for (const kind of ['CapPrm', 'CapEff', 'CapBnd'])
      expect(BigInt(`0x${new RegExp(`${kind}:\\s*(\\w+)`).exec(status)![1]}`), kind).to.equal(mask)

    const mounts = readFileSync(`/proc/${program.process.pid}/mountinfo`, 'utf8').split('\n')
    const isReadOnly = (folder: string): boolean =>
      mounts
        .findLast((line) => line.split(' ')[4] === folder)!
        .split(' ')[5]!
        .startsWith('ro')
    for (const folder of ['/', '/proc/sys', '/sys']) expect(isReadOnly(folder), folder).to.equal(true)
  })

  it('finds the schedulers loaded that IPVS must not load itself', () => {
    for (const module of ['ip_vs_lblc', 'ip_vs_lblcr'])
      expect(existsSync(`/sys/module/${module}`), module).to.equal(true)
  })

  it('serves a Service of every kind, masqueraded', async () => {
    await eventually(async () => expect(await answers('tcp')).to.deep.equal([`b1 ${NODE_IP}`]), PATIENCE_MS)
    expect(await answers('udp')).to.deep.equal([`b1 ${NODE_IP}`])
    expect(await ipvsadm()).to.include('-A -t 203.0.113.7:80 -s rr')
  })

  it('follows endpoints, and forgets UDP flows to those that are gone', async () => {
    publish(cluster.remote[1].ipv4)
    for (const protocol of ['tcp', 'udp'] as const) {
      await eventually(
        async () => expect(await answers(protocol)).to.deep.equal([`b2 ${NODE_IP}`]),
        PATIENCE_MS,
      )
    }
  })

  it('loads a scheduler and switches to it', async () => {
    configure('nq')
    await eventually(
      async () => expect(await ipvsadm()).to.include(`-A -t ${NODE_IP}:${PORT} -s nq`),
      PATIENCE_MS,
    )
  })

  it('follows the addresses of the node', async () => {
    await sh('ip addr add 192.168.50.8/24 dev wire0')
    await eventually(
      async () => expect(await ipvsadm()).to.include(`-A -t 192.168.50.8:${PORT} -s nq`),
      PATIENCE_MS,
    )
    await sh('ip addr del 192.168.50.8/24 dev wire0')
  })

  it('repairs rules, sets, addresses and virtual servers', async () => {
    await sh(`
      iptables -t nat -F KUBE-SERVICES
      ipset flush KUBE-NODE-PORT-TCP
      ip addr flush dev kube-ipvs0
      ipvsadm -D -t ${NODE_IP}:${PORT}`)
    await eventually(async () => expect(await answers('tcp')).to.deep.equal([`b2 ${NODE_IP}`]), PATIENCE_MS)
    await eventually(
      async () => expect(await run('ip', 'addr', 'show', 'dev', 'kube-ipvs0')).to.contain('203.0.113.7'),
      PATIENCE_MS,
    )
  })

  it('is given no reason to complain but for what was broken, and for what only the host may do', () => {
    const expected = /^the kernel was changed by somebody else|^more was changed|^somebody else/
    expect(program.complaints().filter(({ msg }) => !expected.test(msg))).to.deep.equal([])
  })

  it('says what was done for it in one line, for who debugs, and without a stack', () => {
    const said = /oom_score_adj|conn_reuse_mode|reused source ports/
    const lines = program.lines.filter((line) => said.test(JSON.stringify(line)))
    const expected = [
      'oom_score_adj stays as kubelet has set it',
      'conn_reuse_mode stays as it is: to probe for it takes the capability SYS_ADMIN, as --init-only has',
    ]
    expect(new Set(lines.map(({ msg }) => msg))).to.deep.equal(new Set(expected))
    expect(lines.filter(({ level, err }) => level > 20 || err !== undefined)).to.deep.equal([])
    expect(program.lines.filter(({ level, err }) => level >= 30 && err !== undefined)).to.deep.equal([])
  })

  it('starts on what it has left without a change', async () => {
    await program.stop()
    program = new Program(args, confined())
    await program.logged('first sync finished')

    expect(await program.changes()).to.deep.equal({})
  })
})
