/** What `top` shows under steady load, and what metrics of Services count, is what ipvsadm shows. */
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import type { StatusSummary, StatusTable } from '../../src/view/documents.ts'
import type { Load } from '../../src/view/top.ts'
import { endpoint, node, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { clearNode, Host, prepareNode, Program, PROGRAM, run, sh, temporaryFolder } from '../support/lab.ts'
import { inTerminal, type Step } from '../support/pty.ts'

const VIP = '10.96.0.10'
const folder = temporaryFolder()
/** Datagrams of 100 bytes, at a steady rate, for 60 s at most. */
const SENDER = `
import socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
start = time.monotonic()
for i in range(6000):
    sock.sendto(b'x' * 100, ('${VIP}', 80))
    time.sleep(max(0, start + (i + 1) / 100 - time.monotonic()))`

async function top(...args: readonly string[]): Promise<readonly Load[]> {
  const program = new Program(['top', '-o', 'json', ...args])
  expect(await program.ended(), JSON.stringify(program.lines)).to.equal(0)
  return (JSON.parse(program.stdout) as { loads: Load[] }).loads
}

/** Packets and bytes a second, in and out, of the virtual server, as ipvsadm prints them. */
async function ipvsadmRates(): Promise<number[]> {
  const text = await run('ipvsadm', '-Ln', '--rate', '--exact', '-u', `${VIP}:80`)
  const line = text.split('\n').find((one) => one.startsWith('UDP'))!
  return line.trim().split(/\s+/).slice(3).map(Number)
}

/** Connections, packets and bytes, in and out, of the virtual server, as ipvsadm prints them; none where it is not there. */
async function ipvsadmStats(): Promise<number[]> {
  const text = await run('ipvsadm', '-Ln', '--stats', '--exact')
  const line = text.split('\n').find((one) => one.startsWith(`UDP  ${VIP}:80 `))
  return line?.trim().split(/\s+/).slice(2).map(Number) ?? []
}

/** The same of the only virtual server of a Service that has metrics. */
async function scrapedStats(): Promise<number[]> {
  const text = await (await fetch('http://127.0.0.1:10249/metrics')).text()
  const found = text.matchAll(
    /^kube_ipvs_service_(?:connections|packets|bytes)_total\{(.*?)(?:,direction="\w+")?\} (\d+)$/gm,
  )
  const values = [...found].map(([, labels, value]) => {
    expect(labels).to.equal(`namespace="shop",service="web",port="dns",virtual_server="${VIP}:80/UDP"`)
    return Number(value)
  })
  expect(text).to.match(/^kube_ipvs_service_real_servers\{.*\} 2$/m)
  expect(text).to.contain('kube_ipvs_service_metrics_left_out 1\n')
  return values
}

/** What the status page asks for. */
async function status<Document>(path: string): Promise<Document> {
  const answered = await fetch(`http://127.0.0.1:10249/status/v1/${path}`)
  expect(answered.status).to.equal(200)
  return (await answered.json()) as Document
}

type Shown = Pick<Load, 'inPackets' | 'outPackets' | 'inBytes' | 'outBytes'>

/** Rates are those of ipvsadm, just before and just after, within 5 %. */
function expectBetween(before: readonly number[], after: readonly number[], shown: Shown): void {
  for (const [i, value] of [shown.inPackets, shown.outPackets, shown.inBytes, shown.outBytes].entries()) {
    const [low, high] = [Math.min(before[i]!, after[i]!), Math.max(before[i]!, after[i]!)]
    expect(value, `figure ${i}: ${before[i]}, ${value}, ${after[i]}`).to.be.within(low * 0.95, high * 1.05)
  }
}

describe('top', () => {
  let program: Program
  let client: Host
  let sender: ReturnType<typeof spawn>
  let objects: object[]
  const args = [
    '--manifests',
    folder,
    '--hostname-override',
    'node-1',
    '--service-metrics=1',
    '--status-page',
  ]
  const publish = (published: readonly object[]): void => {
    writeFileSync(join(folder, 'all.yaml'), published.map((object) => JSON.stringify(object)).join('\n---\n'))
  }

  before(async () => {
    await prepareNode()
    const pods = [await Host.add('pod1', 1), await Host.add('pod2', 2)]
    client = await Host.add('client', 100)
    await Promise.all(pods.map((pod) => pod.serve()))
    const ports = [{ name: 'dns', port: 80, protocol: 'UDP' }]
    const pod = (ip: string, name: string): Record<string, unknown> =>
      endpoint(ip, { nodeName: 'node-1', targetRef: { kind: 'Pod', name } })
    objects = [
      node(),
      service({ clusterIP: VIP, ports }),
      service({ name: 'idle', clusterIP: '10.96.0.11' }),
      slice({
        ports: [{ name: 'dns', port: 8080, protocol: 'UDP' }],
        endpoints: pods.map(({ ipv4, name }) => pod(ipv4, name)),
      }),
    ]
    publish(objects)
    program = await Program.start(...args)
    sender = spawn('ip', ['netns', 'exec', client.namespace, 'python3', '-c', SENDER], { stdio: 'inherit' })
    // The kernel's averages take some rounds of two seconds to settle.
    await sleep(25_000)
  })
  after(async () => {
    sender.kill()
    await program.stop()
    await clearNode()
  })

  it('shows the rates of ipvsadm, within 5 %, by Service', async () => {
    const before = await ipvsadmRates()
    const [first, second] = await top()
    const after = await ipvsadmRates()

    expect(first!.name).to.equal('shop/web')
    expect(second).to.include({ name: 'shop/idle', inPackets: 0 })
    expectBetween(before, after, first!)
    // Not all zeros: some 100 datagrams a second.
    expect(first!.inPackets).to.be.within(30, 200)
  })

  it('shows them on the status page, too', async () => {
    const before = await ipvsadmRates()
    const { rows, total } = await status<StatusTable>('virtual-servers?sort=bytes&order=descending')
    const after = await ipvsadmRates()

    expect(total).to.equal(2)
    const { service: name, state, realServers, rates } = rows[0]!
    expect({ name, state, realServers }).to.deep.equal({
      ...{ name: 'shop/web', state: 'programmed' },
      realServers: { programmed: 2, missing: 0, draining: 0 },
    })
    expectBetween(before, after, rates!)
    const { health, counts, ratesStandStill } = await status<StatusSummary>('summary')
    expect(health.isOk).to.equal(true)
    expect(counts).to.include({ services: 2, virtualServers: 2, realServers: 2 })
    expect(ratesStandStill).to.equal(false)
  })

  it('shows them by Pod, by server, and for people', async () => {
    const pods = await top('--by', 'pod', '--sort', 'name')
    expect(pods.map(({ name }) => name)).to.deep.equal(['shop/pod1', 'shop/pod2'])
    expect(pods.some(({ inPackets }) => inPackets > 0)).to.equal(true)
    expect((await top('--by', 'server')).map(({ name }) => name)).to.include(`${VIP}:80/UDP`)
    const table = new Program(['top', '--once'])
    await table.ended()
    expect(table.stdout).to.match(/^SERVICE +OPEN +NEW\/s[^]*\nshop\/web +\d/)
  })

  it('is sorted and grouped by keys in a terminal, which is left as it was', async () => {
    const steps: Step[] = [
      ['expect', 'shop/web.*shop/idle'],
      ['send', 'a'],
      ['expect', 'SERVICE ▲.*shop/idle.*shop/web'],
      ['send', 'g'],
      ['expect', 'POD ▲.*shop/pod1.*shop/pod2'],
      ['send', '\x03'],
    ]
    const { code, isRestored } = await inTerminal(steps, [process.execPath, PROGRAM, 'top'])
    expect({ code, isRestored }).to.deep.equal({ code: 0, isRestored: true })
  })

  it('says that rates stand still where the kernel does not count', async () => {
    await sh('sysctl -qw net.ipv4.vs.run_estimation=0 2>/dev/null || true')
    const isOff = (await run('sysctl', '-n', 'net.ipv4.vs.run_estimation').catch(() => '')).trim() === '0'
    const table = new Program(['top', '--once'])
    await table.ended()
    expect((await status<StatusSummary>('summary')).ratesStandStill).to.equal(isOff)
    const notes = table.lines.map(({ msg }) => msg).join()
    await sh('sysctl -qw net.ipv4.vs.run_estimation=1 2>/dev/null || true')
    expect(notes.includes('rates stand still')).to.equal(isOff)
  })

  it("has metrics of each Service that are ipvsadm's, go on after kill -9, and begin at 0 anew", async () => {
    sender.kill()
    // The kernel adds up every two seconds.
    await sleep(5_000)
    const first = await scrapedStats()
    expect(first).to.deep.equal(await ipvsadmStats())
    expect(Math.min(...first.slice(1))).to.be.above(100)

    await program.stop('SIGKILL')
    program = await Program.start(...args)
    await eventually(async () => expect(await scrapedStats()).to.deep.equal(first), 30_000)
    await client.connect('udp', VIP, 80, { count: 5 })
    await sleep(5_000)
    const second = await scrapedStats()
    expect(second).to.deep.equal(await ipvsadmStats())
    expect(second[0]).to.equal(first[0]! + 5)

    const isIdle = (object: object): boolean => JSON.stringify(object).includes('10.96.0.11')
    publish([objects[0]!, ...objects.filter(isIdle)])
    await eventually(async () => expect(await ipvsadmStats()).to.deep.equal([]), 30_000)
    publish(objects)
    await eventually(async () => expect(await ipvsadmStats()).to.have.length(5), 30_000)
    await client.connect('udp', VIP, 80)
    await sleep(5_000)
    const third = await scrapedStats()
    expect(third).to.deep.equal(await ipvsadmStats())
    expect(third[0]).to.equal(1)
  })
})
