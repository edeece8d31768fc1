/** The configuration is a mounted ConfigMap that somebody edits, and the node has an annotation: both count at once. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { ApiServer } from '../support/api-server.ts'
import { node, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import {
  ConfigMapVolume,
  type HeldConnections,
  Host,
  ipvsadm,
  noteFigure,
  prepareNode,
  Program,
  run,
} from '../support/lab.ts'

const VIP = '10.96.0.10'
const CONNECTIONS = 200
const SWAPS = 100
const PATIENCE_MS = 60_000

describe('a change of the configuration, under open connections', () => {
  const volume = new ConfigMapVolume()
  const pods: Host[] = []
  let server: ApiServer
  let client: Host
  let program: Program
  let held: HeldConnections

  const config = (parts: string): string =>
    `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclientConnection: {kubeconfig: ${volume.folder}/kubeconfig.conf}\n${parts}\n`
  const publish = (text: string): void =>
    volume.publish({ 'config.conf': text, 'kubeconfig.conf': server.kubeconfig() })
  const scheduled = (scheduler: string): Promise<unknown> =>
    eventually(
      async () => expect(await ipvsadm()).to.include(`-A -t ${VIP}:80 -s ${scheduler}`),
      PATIENCE_MS,
      50,
    )
  const allOpen = async (): Promise<void> => {
    expect(await held.open()).to.equal(CONNECTIONS)
    expect(held.broken).to.deep.equal({})
  }
  const happened = (reason: string): Promise<unknown> =>
    eventually(
      () => expect(server.events.map((event) => (event as { reason?: string }).reason)).to.include(reason),
      PATIENCE_MS,
    )

  before(async () => {
    await prepareNode()
    pods.push(...(await Promise.all([1, 2].map((i) => Host.add(`pod${i}`, i)))))
    client = await Host.add('client', 100)
    await Promise.all(pods.map((pod) => pod.serve()))
    server = await ApiServer.start()
    server.load('nodes', [node() as never])
    server.load('services', [service() as never])
    server.load('endpointslices', [slice({ endpoints: pods.map(({ ipv4 }) => ipv4) }) as never])
    publish(config('ipvs: {scheduler: rr}'))
    program = await Program.start(
      '--config',
      join(volume.folder, 'config.conf'),
      '--hostname-override',
      'node-1',
    )
    held = await client.hold('tcp', VIP, 80, CONNECTIONS)
  })
  after(async () => {
    await held.close()
    await program.stop()
    await server.close()
    await Promise.all([...pods, client].map((host) => host.remove()))
  })

  it('switches the scheduler when the ConfigMap does', async () => {
    publish(config('ipvs: {scheduler: lc}'))
    await scheduled('lc')
    await allOpen()
  })

  for (const [what, broken] of [
    ['that is no YAML', 'mode: ['],
    [
      'of another mode',
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\n',
    ],
    ['with a kubeconfig that is not there', config('').replace('kubeconfig.conf', 'nowhere.conf')],
  ] as const) {
    it(`changes nothing for a configuration ${what}, and says why`, async () => {
      server.events.length = 0
      const complaints = program.complaints(50).length
      publish(broken)
      await eventually(() => expect(program.complaints(50)).to.have.length(complaints + 1), PATIENCE_MS)
      await happened('ConfigurationRefused')
      await scheduled('lc')
      await allOpen()
    })
  }

  it('takes what needs no restart in place', async () => {
    const before = await program.changes()
    publish(config('ipvs: {scheduler: lc, syncPeriod: 5s, tcpTimeout: 20m}\nlogging: {verbosity: 4}'))
    await eventually(async () => expect(await configz()).to.contain('"syncPeriod":"5s"'), PATIENCE_MS)
    await eventually(
      async () => expect(await run('ipvsadm', '-L', '--timeout')).to.contain(' 1200 '),
      PATIENCE_MS,
    )
    expect(await program.changes()).to.deep.equal(before)
    const ports = [80, 81].map((port) => ({ name: port === 80 ? 'http' : 'other', port, protocol: 'TCP' }))
    server.put('services', service({ ports }))
    await eventually(
      () => expect(program.lines.some(({ level }) => level === 20)).to.equal(true),
      PATIENCE_MS,
    )
    server.put('services', service())
    await allOpen()
  })

  it(`leaks nothing in ${SWAPS} swaps`, async () => {
    publish(config('ipvs: {scheduler: rr}'))
    await scheduled('rr')
    const before = resources(program.process.pid!)
    for (let i = 0; i < SWAPS; i++) {
      const scheduler = i % 2 === 0 ? 'wlc' : 'rr'
      publish(config(`ipvs: {scheduler: ${scheduler}}`))
      await scheduled(scheduler)
    }
    const { sockets, ...after } = resources(program.process.pid!)
    const { sockets: socketsBefore, ...rest } = before
    expect(after).to.deep.equal(rest)
    // Connections to the API server, and of who reads the metrics, come and go.
    expect(sockets).to.be.lessThan(socketsBefore + 5)
    await allOpen()
  })

  it('starts anew for what is read once, in the same process, and changes nothing in the kernel', async () => {
    const { pid } = program.process
    const started = program.lines.filter(({ msg }) => msg === 'first sync finished').length
    publish(config('metricsBindAddress: 127.0.0.1:10299\nipvs: {scheduler: rr}'))
    await eventually(
      () =>
        expect(program.lines.filter(({ msg }) => msg === 'first sync finished')).to.have.length(started + 1),
      PATIENCE_MS,
    )
    expect(program.process.exitCode).to.equal(null)
    expect(program.process.pid).to.equal(pid)
    const text = await (await fetch('http://127.0.0.1:10299/metrics')).text()
    expect(text).not.to.match(/^kube_ipvs_kernel_changes_total\{/m)
    await allOpen()
    publish(config('ipvs: {scheduler: rr}'))
    await eventually(async () => expect(await configz()).to.contain('127.0.0.1:10249'), PATIENCE_MS)
  })

  it("follows the node's annotation at once, and falls back when it goes", async () => {
    const annotate = (scheduler?: string): void => {
      const { metadata, ...rest } = node() as { metadata: object }
      const annotations = scheduler === undefined ? {} : { 'kube-ipvs.io/scheduler': scheduler }
      server.put('nodes', { ...rest, metadata: { ...metadata, annotations } })
    }
    server.events.length = 0
    const started = performance.now()
    annotate('lc')
    await scheduled('lc')
    noteFigure(`the annotation was in the kernel after ${Math.round(performance.now() - started)} ms`)
    await happened('SchedulerChanged')
    await allOpen()

    annotate('nope')
    await happened('SchedulerUnavailable')
    await scheduled('lc')

    annotate('wrr')
    await scheduled('wrr')
    annotate()
    await scheduled('rr')
    await allOpen()
  })

  it('keeps the annotated scheduler over a restart: nothing is changed', async () => {
    const { metadata, ...rest } = node() as { metadata: object }
    server.put('nodes', {
      ...rest,
      metadata: { ...metadata, annotations: { 'kube-ipvs.io/scheduler': 'sh' } },
    })
    await eventually(async () => expect((await ipvsadm())[0]).to.match(/-s sh -b sh-fallback$/), PATIENCE_MS)
    await program.stop('SIGKILL')
    program = await Program.start(
      '--config',
      join(volume.folder, 'config.conf'),
      '--hostname-override',
      'node-1',
    )
    expect(await program.changes()).to.deep.equal({})
    await allOpen()
  })
})

async function configz(): Promise<string> {
  return (await fetch('http://127.0.0.1:10249/configz')).text()
}

/** Open files by kind, watches and threads of a process. */
function resources(pid: number): { files: string[]; sockets: number; watches: number; threads: number } {
  const ofProcess = (folder: string): string[] => readdirSync(`/proc/${pid}/${folder}`)
  const open = ofProcess('fd').flatMap((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`).replace(/\[\d+\]$/, '')
    } catch {
      return []
    }
  })
  const watches = ofProcess('fdinfo').map((fd) => {
    try {
      return readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8').match(/^inotify wd/gm)?.length ?? 0
    } catch {
      return 0
    }
  })
  return {
    files: open.filter((name) => !name.startsWith('socket:')).sort(),
    sockets: open.filter((name) => name.startsWith('socket:')).length,
    watches: watches.reduce((sum, count) => sum + count, 0),
    threads: ofProcess('task').length,
  }
}
