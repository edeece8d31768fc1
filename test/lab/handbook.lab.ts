/**
 * What operators do, step by step: kubeadm's ConfigMap, kubeconfig and command line as they are, with `kubectl edit`
 * and a new Pod; and the binary way, with a configuration file and a unit of systemd.
 */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect } from 'chai'
import { parse, stringify } from 'yaml'
import { ApiServer } from '../support/api-server.ts'
import { node, service, slice } from '../support/builders.ts'
import { unitCommand } from '../support/deploy.ts'
import { eventually } from '../support/eventually.ts'
import { clearNode, ConfigMapVolume, ipvsadm, PROGRAM, Program, sh } from '../support/lab.ts'

const SECRETS = '/var/run/secrets/kubernetes.io/serviceaccount'
const VIP = '10.96.0.10'
const PATIENCE_MS = 60_000

/** The ConfigMap kube-proxy of kubeadm 1.36, in which `mode` is all that somebody has ever changed. */
const kubeadmConfig = (mode: string, scheduler = ''): string => `apiVersion: kubeproxy.config.k8s.io/v1alpha1
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack:
  maxPerCore: null
  min: null
  tcpBeLiberal: false
  tcpCloseWaitTimeout: null
  tcpEstablishedTimeout: null
  udpStreamTimeout: 0s
  udpTimeout: 0s
detectLocal:
  bridgeInterface: ""
  interfaceNamePrefix: ""
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables:
  localhostNodePorts: null
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
ipvs:
  excludeCIDRs: null
  minSyncPeriod: 0s
  scheduler: "${scheduler}"
  strictARP: false
  syncPeriod: 0s
  tcpFinTimeout: 0s
  tcpTimeout: 0s
  udpTimeout: 0s
kind: KubeProxyConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: "0"
    text:
      infoBufferSize: "0"
  verbosity: 0
metricsBindAddress: ""
mode: "${mode}"
nftables:
  masqueradeAll: false
  masqueradeBit: null
  minSyncPeriod: 0s
  syncPeriod: 0s
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
showHiddenMetricsForVersion: ""
winkernel:
  enableDSR: false
  forwardHealthCheckVip: false
  networkName: ""
  rootHnsEndpointName: ""
  sourceVip: ""
`

/** kubeadm's kubeconfig.conf, which names the files that every Pod has. */
const kubeadmKubeconfig = (server: string): string => `apiVersion: v1
kind: Config
clusters:
- cluster:
    certificate-authority: ${SECRETS}/ca.crt
    server: ${server}
  name: default
contexts:
- context:
    cluster: default
    namespace: default
    user: default
  name: default
current-context: default
users:
- name: default
  user:
    tokenFile: ${SECRETS}/token
`

/** The command of kubeadm's DaemonSet. */
const KUBEADM_COMMAND = [
  '/usr/local/bin/kube-proxy',
  '--config=/var/lib/kube-proxy/config.conf',
  '--hostname-override=node-1',
]

let server: ApiServer
const started: Program[] = []

const scheduled = (scheduler: string): Promise<unknown> =>
  eventually(async () => expect(await ipvsadm()).to.include(`-A -t ${VIP}:80 -s ${scheduler}`), PATIENCE_MS)

/** Starts a command line that begins with the program's path, and waits until Services are served. */
async function start(command: readonly string[]): Promise<Program> {
  const program = Program.ofCommand(command)
  started.push(program)
  await program.logged('first sync finished', 180_000)
  return program
}

before(async () => {
  await sh('ip link set lo up')
  server = await ApiServer.start()
  server.load('nodes', [node() as never])
  server.load('services', [service() as never])
  server.load('endpointslices', [slice({ endpoints: ['10.244.0.1'] }) as never])
  for (const name of ['kube-proxy', 'kube-ipvs']) symlinkSync(PROGRAM, `/usr/local/bin/${name}`)
})
beforeEach(clearNode)
afterEach(() => Promise.all(started.splice(0).map((program) => program.stop())))
after(() => server.close())

describe('in place of kube-proxy in its own DaemonSet', () => {
  const volume = new ConfigMapVolume()
  const publish = (mode: string, scheduler?: string): void =>
    volume.publish({
      'config.conf': kubeadmConfig(mode, scheduler),
      'kubeconfig.conf': kubeadmKubeconfig(server.url),
    })

  before(() => {
    const { clusters } = parse(server.kubeconfig()) as {
      clusters: { cluster: { 'certificate-authority-data': string } }[]
    }
    mkdirSync(SECRETS, { recursive: true })
    writeFileSync(join(SECRETS, 'token'), server.token)
    writeFileSync(
      join(SECRETS, 'ca.crt'),
      Buffer.from(clusters[0]!.cluster['certificate-authority-data'], 'base64'),
    )
    symlinkSync(volume.folder, '/var/lib/kube-proxy')
  })

  it("runs with kubeadm's ConfigMap, kubeconfig and command line, and says nothing of them", async () => {
    publish('ipvs')
    const program = await start(KUBEADM_COMMAND)
    await scheduled('rr')

    expect(program.complaints()).to.deep.equal([])
    expect(await program.stop()).to.equal(0)
  })

  it('kubectl edit cm kube-proxy: live, and for a Pod that is deleted and comes back', async () => {
    publish('ipvs')
    let program = await start(KUBEADM_COMMAND)
    publish('ipvs', 'wlc')
    await scheduled('wlc')
    await program.stop()
    publish('ipvs', 'sed')

    program = await start(KUBEADM_COMMAND)
    await scheduled('sed')
    expect(await program.changes()).to.deep.equal({ updateVirtualServer: 1 })
    await program.stop()
  })

  it('is not what a ConfigMap of another mode asks for: says which choice there is', async () => {
    publish('')
    const program = Program.ofCommand(KUBEADM_COMMAND)

    expect(await program.ended()).to.equal(1)
    expect(program.complaints(60)[0]!.msg).to.contain('mode: expected "ipvs", got ""')
    expect(await ipvsadm()).to.deep.equal([])
  })
})

describe('the binary way, with a unit of systemd', () => {
  const [command, ...args] = unitCommand()
  const file = args.find((arg) => arg.startsWith('--config='))!.slice('--config='.length)
  /** Edits the file as an operator does. */
  const edit = (scheduler: string): void => {
    const config = parse(readFileSync('deploy/systemd/kube-proxy-config.yml', 'utf8')) as {
      ipvs: { scheduler: string }
      clientConnection: { kubeconfig: string }
    }
    config.ipvs.scheduler = scheduler
    writeFileSync(file, stringify(config))
    mkdirSync(dirname(config.clientConnection.kubeconfig), { recursive: true })
    writeFileSync(config.clientConnection.kubeconfig, server.kubeconfig())
  }
  const run = (): Promise<Program> => start([command!, ...args, '--hostname-override=node-1'])

  before(() => mkdirSync(dirname(file), { recursive: true }))

  it('systemctl restart, and reload, switch the scheduler', async () => {
    edit('rr')
    let program = await run()
    await scheduled('rr')

    edit('lc')
    await program.stop()
    program = await run()
    await scheduled('lc')

    edit('wrr')
    program.process.kill('SIGHUP')
    await scheduled('wrr')
    expect(program.complaints()).to.deep.equal([])
    await program.stop()
  })
})

describe('the other actions', () => {
  it('--version, --write-config-to', () => {
    const version = execFileSync('/usr/local/bin/kube-ipvs', ['--version'], { encoding: 'utf8' })
    expect(version.trim()).to.match(/^\d+\.\d+\.\d+$/)

    execFileSync('/usr/local/bin/kube-ipvs', ['--proxy-mode=ipvs', '--write-config-to=/tmp/written.yaml'])
    expect(parse(readFileSync('/tmp/written.yaml', 'utf8'))).to.deep.include({ mode: 'ipvs' })
  })

  it('--init-only prepares the node, and serves nothing', async () => {
    execFileSync('sysctl', ['-qw', 'net.ipv4.vs.conntrack=0', 'net.ipv4.ip_forward=0'])
    const program = Program.ofCommand(['/usr/local/bin/kube-ipvs', '--init-only'])

    expect(await program.ended()).to.equal(0)
    expect(await ipvsadm()).to.deep.equal([])
    for (const name of ['ipv4/vs/conntrack', 'ipv4/ip_forward', 'ipv4/vs/expire_nodest_conn'])
      expect(readFileSync(`/proc/sys/net/${name}`, 'utf8').trim(), name).to.equal('1')
  })
})
