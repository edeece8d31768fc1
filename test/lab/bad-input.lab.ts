/** Bad input gets one clear message, and costs nothing that works. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { node, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import {
  boundAddresses,
  clearNode,
  ipvsadm,
  prepareNode,
  Program,
  run,
  sh,
  temporaryFolder,
} from '../support/lab.ts'

const WEB = ['-A -t 10.96.0.10:80 -s rr', '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1']
const HEAD = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'

describe('bad input', () => {
  let folder: string
  let program: Program

  before(prepareNode)
  beforeEach(async () => {
    await clearNode()
    folder = temporaryFolder()
    write('a-web.yaml', service(), slice({ endpoints: ['10.244.0.1'] }))
  })
  afterEach(async () => {
    await program.stop()
  })

  const write = (name: string, ...objects: (object | string)[]): void => {
    const texts = objects.map((object) => (typeof object === 'string' ? object : JSON.stringify(object)))
    writeFileSync(join(folder, name), texts.join('\n---\n'))
  }
  const start = async (...args: string[]): Promise<Program> =>
    (program = await Program.start('--manifests', folder, ...args))
  const messages = (): string[] => program.complaints().map(({ msg }) => msg)
  const configure = (text: string): string => {
    const file = join(temporaryFolder(), 'config.yaml')
    writeFileSync(file, HEAD + text)
    return file
  }
  /** It ends by itself, with exit code 1 and one line. */
  const fails = async (args: readonly string[], wrapper: readonly string[] = []): Promise<string> => {
    program = new Program(args, wrapper)
    expect(await program.ended()).to.equal(1)
    expect(program.complaints().map(({ level }) => level)).to.deep.equal([60])
    return program.complaints()[0]!.msg
  }

  it('malformed YAML, an unknown kind, an impossible port, protocol and address', async () => {
    write('b.yaml', 'kind: Service\nmetadata: {name: b\n')
    write('c.yaml', { kind: 'Deployment', metadata: { name: 'c' } })
    write('d.yaml', service({ name: 'd', clusterIP: '10.96.0.11', ports: [{ port: 70_000 }] }))
    write('e.yaml', service({ name: 'e', clusterIP: '10.96.0.12', ports: [{ port: 80, protocol: 'ICMP' }] }))
    write('f.yaml', service({ name: 'f', clusterIP: '10.96.0.300' }))

    await start()

    expect(await ipvsadm()).to.deep.equal(WEB)
    const complaints = messages()
    expect(complaints).to.have.length(5)
    for (const [i, text] of [
      `${folder}/b.yaml`,
      `${folder}/c.yaml: kind is "Deployment"`,
      'Service shop/d: spec.ports[0].port is 70000',
      'Service shop/e: spec.ports[0].protocol is "ICMP"',
      'Service shop/f: spec.clusterIP is "10.96.0.300"',
    ].entries()) {
      expect(complaints[i]).to.contain(text)
    }
  })

  it('a scheduler that the kernel lacks: the one in use stays', async () => {
    await start('--config', configure('ipvs: {scheduler: nosuch}'))

    expect(await ipvsadm()).to.deep.equal(WEB)
    expect(program.complaints().map(({ msg, remedy }) => [msg, remedy])).to.deep.equal([
      ['the scheduler "nosuch" is not available', 'load it with "modprobe ip_vs_nosuch"'],
    ])
  })

  it('a scheduler that the kernel lacks, after a restart: the virtual servers keep theirs', async () => {
    await start('--config', configure('ipvs: {scheduler: wlc}'))
    await program.stop()
    await start('--config', configure('ipvs: {scheduler: nosuch}'))

    expect((await ipvsadm())[0]).to.equal('-A -t 10.96.0.10:80 -s wlc')
    expect(await program.changes()).to.deep.equal({})
  })

  it('a new configuration that is broken: the old one stays', async () => {
    const file = configure('ipvs: {scheduler: lc}')
    await start('--config', file)
    writeFileSync(file, `${HEAD}ipvs: {scheduler: [}`)
    await program.logged('cannot use the new configuration: the old one stays')
    writeFileSync(file, `${HEAD}ipvs: {scheduler: sed}`)
    await eventually(async () => expect((await ipvsadm())[0]).to.contain('-s sed'), 60_000, 200)
  })

  it('two Services with one address and port: the older one is served, which is said once', async () => {
    write(
      'old.yaml',
      service({ name: 'old', metadata: { creationTimestamp: '2020-01-01T00:00:00Z' } }),
      slice({ service: 'old', endpoints: ['10.244.0.9'] }),
    )
    await start('--config', configure('ipvs: {syncPeriod: 1s}'))
    await new Promise((resolve) => setTimeout(resolve, 3_000))

    expect(await ipvsadm()).to.deep.equal([WEB[0], '-a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m -w 1'])
    expect(program.complaints().map(({ msg, conflict }) => [msg, conflict])).to.deep.equal([
      ['conflict over a virtual server', 'shop/web is not served: shop/old is older'],
    ])
  })

  it('a virtual server of somebody else on the address of a Service', async () => {
    await run('ipvsadm', '-A', '-t', '10.96.0.77:443', '-s', 'wlc')
    write('seven.yaml', service({ name: 'seven', clusterIP: '10.96.0.77' }))
    await start()

    expect(await ipvsadm()).to.have.members([...WEB, '-A -t 10.96.0.77:443 -s wlc'])
    expect(program.complaints().map(({ conflict }) => conflict)).to.deep.equal([
      'shop/seven is not served: somebody else has virtual servers on 10.96.0.77',
    ])
  })

  it('an iptables that hangs: no address leads anywhere before its rules, and nobody waits for it at the end', async () => {
    const programs = temporaryFolder()
    for (const name of ['iptables-restore', 'iptables-nft-restore', 'iptables-legacy-restore'])
      writeFileSync(join(programs, name), '#!/bin/sh\nexec sleep 4242\n', { mode: 0o755 })
    program = new Program(['--manifests', folder], ['env', `PATH=${programs}:${process.env.PATH}`])
    await eventually(async () => expect(await ipvsadm()).to.deep.equal(WEB), 90_000, 250)
    await eventually(() => run('pgrep', '-f', 'sleep 4242'), 60_000, 250)
    expect(await boundAddresses()).to.deep.equal([])

    expect(await program.stop()).to.equal(0)
    expect(messages()).to.deep.equal([])
    expect(await boundAddresses()).to.deep.equal([])
    expect(await run('pgrep', '-f', 'sleep 4242').catch(() => 'none')).to.equal('none')
  })

  it('no NET_ADMIN: exit code and remedy', async () => {
    const message = await fails(
      ['--manifests', folder],
      ['setpriv', '--bounding-set=-net_admin', '--inh-caps=-net_admin'],
    )

    expect(message).to.match(/^Not permitted to use IPVS: run as root, or with the capability NET_ADMIN/)
  })

  it('a kubeconfig that cannot be read, or is none', async () => {
    const file = join(folder, 'kubeconfig')
    const args = ['--config', configure(`clientConnection: {kubeconfig: ${file}}`)]

    expect(await fails(args)).to.match(new RegExp(`^Cannot use kubeconfig ${file}: ENOENT`))
    writeFileSync(file, 'clusters: [')
    expect(await fails(args)).to.match(new RegExp(`^Cannot use kubeconfig ${file}: `))
    writeFileSync(file, '{}')
    expect(await fails(args)).to.match(
      new RegExp(`^Cannot use kubeconfig ${file}: its current context names no cluster`),
    )
    expect(await fails([])).to.match(/^No API server to talk to/)
  })

  it('a configuration that cannot be used, or is missing', async () => {
    expect(await fails(['--config', configure('ipvs: {syncPeriod: soon}')])).to.contain(
      'ipvs.syncPeriod: expected a duration',
    )
    expect(await fails(['--config', '/nowhere.yaml'])).to.match(
      /^Cannot read configuration \/nowhere.yaml: ENOENT/,
    )
  })

  it('a configuration with a typo is used, with a warning', async () => {
    await start('--config', configure('ipvs: {schedulr: lc}'))

    expect(await ipvsadm()).to.deep.equal(WEB)
    expect(messages().map((text) => text.split(' in ')[0])).to.deep.equal(['unknown field "ipvs.schedulr"'])
  })

  it('a name that no Node has: said once, and everything else is served (case A13)', async () => {
    write('b-nodes.yaml', node('lab'), node('node2'))
    await start('--config', configure('hostnameOverride: 192.168.50.9\nipvs: {syncPeriod: 1s}'))
    await sleep(3_000)

    expect(await ipvsadm()).to.deep.equal(WEB)
    expect(messages()).to.deep.equal([
      'There is no Node "192.168.50.9" (hostnameOverride of the configuration), so no endpoint counts as local. There are: lab, node2. Correct hostnameOverride of the configuration: it has to be a name that "kubectl get nodes" shows',
    ])
  })

  it('plan prints the commands that lead there, and changes nothing; run by hand, they do', async () => {
    await sh(
      'ipvsadm -A -t 10.96.0.10:81 -s rr; ip link add kube-ipvs0 type dummy; ip addr add 10.96.0.10/32 dev kube-ipvs0',
    )
    program = new Program(['plan', '--manifests', folder])
    expect(await program.ended()).to.equal(0)

    const commands = program.stdout.trim().split('\n')
    expect(commands.pop()).to.equal(`# ${commands.length} changes`)
    expect(commands.filter((command) => !/^(ip6?tables|ipset create|sysctl) /.test(command))).to.deep.equal([
      'ipset add KUBE-IPVS-IPS 10.96.0.10',
      'ipset add KUBE-CLUSTER-IP 10.96.0.10,tcp:80',
      ...WEB.map((line) => `ipvsadm ${line}`),
      'ipvsadm -D -t 10.96.0.10:81',
    ])
    expect(commands.filter((command) => command.startsWith('ipset create'))).to.have.length(34)
    expect(await ipvsadm()).to.deep.equal(['-A -t 10.96.0.10:81 -s rr'])
    expect(await run('ipset', 'list', '-n')).to.equal('')
    expect(await run('iptables-save', '-t', 'nat')).not.to.contain('KUBE-')

    const script = join(temporaryFolder(), 'plan.sh')
    writeFileSync(script, program.stdout)
    await run('sh', '-e', script)
    await start()
    expect(await program.changes()).to.deep.equal({})
    expect(program.lines.map(({ msg }) => msg)).not.to.include('wrote the rules of iptables')
  })

  it('plan says so where nothing would change', async () => {
    await sh('ip addr add 192.0.2.1/32 dev lo')
    const ports = [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 30_080 }]
    write('a-web.yaml', service({ ports, spec: { type: 'NodePort' } }), slice({ endpoints: ['10.244.0.1'] }))
    await start()
    expect(await ipvsadm()).to.include('-A -t 192.0.2.1:30080 -s rr')
    await program.stop()

    program = new Program(['plan', '--manifests', folder])
    expect(await program.ended()).to.equal(0)
    expect(program.stdout).to.equal('# no change: the kernel is as it should be\n')

    await sh('iptables -t nat -I KUBE-SERVICES 2 -j RETURN; iptables -A KUBE-FORWARD -j ACCEPT')
    program = new Program(['plan', '--manifests', folder])
    expect(await program.ended()).to.equal(0)
    expect(program.stdout.split('\n')).to.have.length(4)
    await sh(program.stdout)
    program = new Program(['plan', '--manifests', folder])
    expect(await program.ended()).to.equal(0)
    expect(program.stdout).to.equal('# no change: the kernel is as it should be\n')
    await sh('ip addr del 192.0.2.1/32 dev lo')
  })
})
