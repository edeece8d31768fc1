/** What an operator sees of a node: get, explain and diff, beside a program that runs, is frozen, or is gone. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Difference, VirtualServerList } from '../../src/view/documents.ts'
import { endpoint, node, service, slice, UNREADY } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { clearNode, Host, prepareNode, Program, run, sh, temporaryFolder } from '../support/lab.ts'

const VIP = '10.96.0.10'
const EXTERNAL = '203.0.113.10'
const folder = temporaryFolder()
const config = join(temporaryFolder(), 'config.yaml')
const ARGS = ['--config', config, '--manifests', folder, '--hostname-override', 'node-1']

const publish = (...objects: readonly object[]): void =>
  writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))

interface Ended {
  readonly code: number | null
  readonly lines: readonly string[]
  /** Of standard error. */
  readonly notes: string
}

/** Runs a command of the program to its end. */
async function command(...args: readonly string[]): Promise<Ended> {
  return ended(new Program(args))
}

async function ended(program: Program): Promise<Ended> {
  const code = await program.ended()
  const lines = program.stdout.split('\n').filter((line) => line !== '')
  return { code, lines, notes: program.lines.map(({ msg }) => msg).join('\n') }
}

const get = async (...args: readonly string[]): Promise<VirtualServerList> =>
  JSON.parse((await command('get', ...args, '-o', 'json')).lines.join('\n')) as VirtualServerList

/** What differs, without comments. */
async function diff(): Promise<{ code: number | null; changes: readonly string[] }> {
  const { code, lines } = await command('diff', ...ARGS, '-o', 'json')
  return { code, changes: (JSON.parse(lines.join('\n')) as Difference).changes }
}

const webPod = (name: string, parts: object = {}): Record<string, unknown> => ({
  nodeName: 'node-1',
  targetRef: { kind: 'Pod', name, namespace: 'shop' },
  ...parts,
})

/** Damage made by hand, and what of the difference has to name it. */
const DAMAGES: readonly (readonly [string, RegExp])[] = [
  [`ipvsadm -D -t ${VIP}:80`, /ipvsadm -A -t 10\.96\.0\.10:80/],
  [`ipvsadm -E -t ${VIP}:80 -s wlc`, /ipvsadm -E -t 10\.96\.0\.10:80 -s rr/],
  [`ipvsadm -E -t ${VIP}:80 -s rr -p 300`, /ipvsadm -E -t 10\.96\.0\.10:80 -s rr$/],
  [`ipvsadm -d -t ${VIP}:80 -r 10.244.0.1:8080`, /ipvsadm -a -t 10\.96\.0\.10:80 -r 10\.244\.0\.1:8080/],
  [`ipvsadm -e -t ${VIP}:80 -r 10.244.0.1:8080 -m -w 5`, /ipvsadm -e -t 10\.96\.0\.10:80 .* -w 1/],
  [`ipvsadm -e -t ${VIP}:80 -r 10.244.0.1:8080 -m -w 0`, /ipvsadm -e -t 10\.96\.0\.10:80 .* -w 1/],
  [`ipvsadm -e -t ${VIP}:80 -r 10.244.0.1:8080 -m -w 65535`, /ipvsadm -e -t 10\.96\.0\.10:80 .*-m -w 1/],
  [`ipvsadm -e -t ${VIP}:80 -r 10.244.0.1:8080 -m -w 1 -x 9`, /ipvsadm -e -t 10\.96\.0\.10:80/],
  [`ipvsadm -a -t ${VIP}:80 -r 10.244.0.9:8080 -m`, /ipvsadm -[de] -t 10\.96\.0\.10:80 -r 10\.244\.0\.9/],
  [`ipvsadm -A -t ${VIP}:81 -s rr`, /ipvsadm -D -t 10\.96\.0\.10:81/],
  [`ipvsadm -D -u ${VIP}:53`, /ipvsadm -A -u 10\.96\.0\.10:53/],
  [`ipvsadm -D -t ${EXTERNAL}:80`, /ipvsadm -A -t 203\.0\.113\.10:80/],
  ['ipvsadm -D -t 192.0.2.1:30080', /ipvsadm -A -t 192\.0\.2\.1:30080/],
  [`ip addr del ${VIP}/32 dev kube-ipvs0`, /ip addr add 10\.96\.0\.10\/32/],
  [`ip addr del ${EXTERNAL}/32 dev kube-ipvs0`, /ip addr add 203\.0\.113\.10\/32/],
  ['ip addr add 10.96.0.99/32 dev kube-ipvs0', /ip addr del 10\.96\.0\.99\/32/],
  ['ip link del kube-ipvs0', /ip link add kube-ipvs0/],
  [`ip route append local ${VIP}/32 dev lo table local proto 73`, /ip route del .*10\.96\.0\.10/],
  [`ipset del KUBE-CLUSTER-IP ${VIP},tcp:80`, /ipset add KUBE-CLUSTER-IP 10\.96\.0\.10,tcp:80/],
  ['ipset add KUBE-CLUSTER-IP 10.96.0.99,tcp:80', /ipset del KUBE-CLUSTER-IP 10\.96\.0\.99,tcp:80/],
  [`ipset del KUBE-EXTERNAL-IP ${EXTERNAL},tcp:80`, /ipset add KUBE-EXTERNAL-IP 203/],
  [`ipset del KUBE-IPVS-IPS ${VIP}`, /ipset add KUBE-IPVS-IPS 10\.96\.0\.10/],
  ['ipset del KUBE-LOOP-BACK 10.244.0.1,tcp:8080,10.244.0.1', /ipset add KUBE-LOOP-BACK/],
  ['ipset flush KUBE-CLUSTER-IP', /ipset add KUBE-CLUSTER-IP 10\.96\.0\.10,udp:53/],
  ['iptables -t nat -F KUBE-POSTROUTING', /KUBE-POSTROUTING/],
  ['iptables -t nat -D PREROUTING 1', /PREROUTING/],
  ['iptables -t nat -F KUBE-MARK-MASQ', /KUBE-MARK-MASQ/],
  ['iptables -F KUBE-IPVS-FILTER', /KUBE-IPVS-FILTER/],
  ['sysctl -qw net.ipv4.vs.conntrack=0', /net[./]ipv4[./]vs[./]conntrack=1/],
]

describe('what an operator sees', () => {
  let program: Program | undefined

  before(async () => {
    await prepareNode()
    await sh(`
      ip link add eth0 type dummy
      ip addr add 192.0.2.1/24 dev eth0
      ip link set eth0 up`)
    await Host.add('pod1', 1)
    await Host.add('pod2', 2)
    writeFileSync(
      config,
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclusterCIDR: 10.244.0.0/16\n',
    )
    const ports = [
      { name: 'http', port: 80, protocol: 'TCP', nodePort: 30_080 },
      { name: 'dns', port: 53, protocol: 'UDP' },
    ]
    const targets = [
      { name: 'http', port: 8080, protocol: 'TCP' },
      { name: 'dns', port: 8053, protocol: 'UDP' },
    ]
    publish(
      node(),
      service({ clusterIP: VIP, ports, spec: { type: 'NodePort', externalIPs: [EXTERNAL] } }),
      slice({
        ports: targets,
        endpoints: [
          endpoint('10.244.0.1', webPod('web-a')),
          endpoint('10.244.0.2', webPod('web-b')),
          endpoint('10.244.0.3', webPod('web-c', { conditions: UNREADY })),
        ],
      }),
    )
    program = await Program.start(...ARGS)
  })
  after(async () => {
    await program?.stop()
    await clearNode()
  })

  it('get names Services and Pods, from the process', async () => {
    const { code, lines, notes } = await command('get', 'shop/web')
    expect({ code, notes }).to.deep.equal({ code: 0, notes: '' })
    const text = lines.join('\n')
    expect(text).to.match(/10\.96\.0\.10:80\/TCP +shop\/web:http +cluster IP +rr +programmed/)
    expect(text).to.match(/-> 10\.244\.0\.1:8080 +shop\/web-a +node-1 +1 +0 \+ 0 +programmed/)
    expect(text).to.match(/192\.0\.2\.1:30080\/TCP +shop\/web:http +node port/)
    expect(text).not.to.contain('web-c')
  })

  it("get shows somebody else's virtual server, and what was deleted behind our back", async () => {
    await sh(`
      ipvsadm -A -t 198.51.100.1:6443 -s wlc
      ipvsadm -a -t 198.51.100.1:6443 -r 198.51.100.2:6443 -g -w 7
      ipvsadm -d -t ${VIP}:80 -r 10.244.0.2:8080`)
    const { virtualServers } = await get(VIP)
    const web = virtualServers.find(({ virtualServer }) => virtualServer === `${VIP}:80/TCP`)!
    expect(web.state).to.equal('pending')
    await eventually(
      async () => expect((await command('get')).lines.join('\n')).to.contain('foreign'),
      60_000,
    )
    await sh(`
      ipvsadm -D -t 198.51.100.1:6443
      ipvsadm -a -t ${VIP}:80 -r 10.244.0.2:8080 -m -w 1 || true`)
  })

  it('explain says why a Pod gets no traffic, and what becomes of the address of a client', async () => {
    const { code, lines } = await command('explain', `${VIP}:80`, '--from', '198.51.100.7')
    expect(code).to.equal(0)
    const text = lines.join('\n')
    expect(text).to.match(/10\.244\.0\.3:8080 +shop\/web-c +node-1 +out: not ready/)
    expect(text).to.contain("endpoints see the node's address: the client is no Pod")
  })

  it('a word that nobody knows is one plain line, and exit code 1', async () => {
    for (const args of [
      ['get', 'shop/nothing'],
      ['explain', 'shop/nothing'],
      ['explain', 'web', '--from', 'shop/nobody'],
    ]) {
      const { code, lines, notes } = await command(...args)
      expect({ code, lines }).to.deep.equal({ code: 1, lines: [] })
      expect(notes).to.match(/^kube-ipvs: .*(nothing|nobody)/)
    }
  })

  it('the process answers root alone', async () => {
    const nobody = ['setpriv', '--reuid=65534', '--clear-groups']
    const { code, lines, notes } = await ended(new Program(['explain', 'shop/web'], nobody))
    expect({ code, lines }).to.deep.equal({ code: 1, lines: [] })
    expect(notes).to.contain('run this as root')
  })

  it('a program that is frozen or gone costs its knowledge, not the answer', async () => {
    program!.process.kill('SIGSTOP')
    const frozen = await command('get', VIP)
    const unexplained = await command('explain', 'shop/web')
    program!.process.kill('SIGCONT')
    expect(frozen.code).to.equal(0)
    expect(frozen.notes).to.contain('from the kernel alone').and.contain('it said nothing for')
    expect(frozen.lines.join('\n')).to.match(/10\.96\.0\.10:80\/TCP +- +rr +unknown/)
    expect(unexplained.code).to.equal(1)
    expect(unexplained.notes).to.contain('does not answer')

    await program!.stop('SIGKILL')
    const gone = await command('get', VIP)
    expect(gone.code).to.equal(0)
    expect(gone.notes).to.contain('its process has ended')
    expect((await command('get', 'shop/web')).notes).to.contain('ask for an address')

    // A socket that a dead process has left does not stop the next one.
    program = await Program.start(...ARGS)
    expect((await command('get', 'shop/web')).notes).to.equal('')
    await program.stop()
    expect((await command('get', VIP)).notes).to.contain('there is no such socket')
    program = undefined
  })

  it('diff: exit code 0 where nothing differs', async () => {
    expect(await diff()).to.deep.equal({ code: 0, changes: [] })
  })

  for (const [damage, named] of DAMAGES)
    it(`diff finds: ${damage}; its lines repair it`, async () => {
      await sh(damage)
      const { code, changes } = await diff()

      expect(code).to.equal(1)
      expect(
        changes.some((line) => named.test(line)),
        changes.join('\n'),
      ).to.equal(true)
      // conntrack fails where there is no flow to forget.
      await sh(changes.map((line) => (line.startsWith('conntrack') ? `${line} || true` : line)).join('\n'))
    })

  it('diff: without its set member a node port may be that of somebody else, who blocks the Service', async () => {
    await sh('ipset del KUBE-NODE-PORT-TCP 30080')
    const { code, lines } = await command('diff', ...ARGS)
    await sh('ipset add KUBE-NODE-PORT-TCP 30080')

    expect(code).to.equal(1)
    expect(lines.join('\n')).to.match(/# 192\.0\.2\.1:30080\/TCP of shop\/web is not served: somebody else/)
    expect(lines.join('\n')).to.match(/not ours, and left alone:[^]*192\.0\.2\.1:30080\/TCP/)
  })

  it('diff: an object that cannot be used makes it unknown, and nothing is said to be deleted', async () => {
    const broken = join(folder, 'broken.yaml')
    writeFileSync(
      broken,
      JSON.stringify(service({ name: 'broken', spec: { externalTrafficPolicy: 'Sometimes' } })),
    )
    const { code, lines, notes } = await command('diff', ...ARGS)
    rmSync(broken)

    expect({ code, lines }).to.deep.equal({ code: 2, lines: [] })
    expect(notes).to.contain('cannot be told: see above')
  })

  it('diff: nothing is left of all that, and it does not know what it cannot find out', async () => {
    expect(await diff()).to.deep.equal({ code: 0, changes: [] })
    expect((await command('diff', '--manifests', '/nowhere', '--config', '/none')).code).to.equal(2)
    expect(await run('ip', '-br', 'link', 'show', 'kube-ipvs0')).to.contain('kube-ipvs0')
  })
})
