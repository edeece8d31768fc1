/** What an open connection survives, and what ends it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { endpoint, service, slice, TERMINATING, UNREADY } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { type HeldConnections, Host, ipvsadm, prepareNode, Program, temporaryFolder } from '../support/lab.ts'

const VIPS = { IPv4: '10.96.0.10', IPv6: 'fd00:10:96::10' }
const IDLE_SECONDS = 8

describe('an open connection', () => {
  const pods: Host[] = []
  const folder = temporaryFolder()
  const config = join(temporaryFolder(), 'config.yaml')
  let client: Host
  let program: Program
  let held: Record<'IPv4' | 'IPv6', HeldConnections>

  type Conditions = Record<string, boolean> | 'gone'
  const publish = (conditions: Readonly<Record<string, Conditions>> = {}): void => {
    const there = pods.filter(({ name }) => conditions[name] !== 'gone')
    const entry = (address: string, name: string) =>
      endpoint(address, name in conditions ? { conditions: conditions[name] } : {})
    const objects = [
      service({ clusterIP: VIPS.IPv4, spec: { clusterIPs: Object.values(VIPS) } }),
      slice({ name: 'web-4', endpoints: there.map(({ ipv4, name }) => entry(ipv4, name)) }),
      slice({
        name: 'web-6',
        addressType: 'IPv6',
        endpoints: there.map(({ ipv6, name }) => entry(ipv6, name)),
      }),
    ]
    writeFileSync(join(folder, 'web.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  }
  const configure = (scheduler: string): void => {
    writeFileSync(
      config,
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {scheduler: ${scheduler}, syncPeriod: 2s, tcpTimeout: ${IDLE_SECONDS}s}\n`,
    )
  }
  /** Waits until the real servers of both families have these weights, by name of their Pod. */
  const weights = (expected: Readonly<Record<string, number>>, timeoutMs = 60_000) =>
    eventually(async () => {
      const lines = (await ipvsadm()).filter((line) => line.startsWith('-a'))
      const found = lines.map((line) => {
        const pod = pods.find(
          ({ ipv4, ipv6 }) => line.includes(`-r ${ipv4}:`) || line.includes(`-r [${ipv6}]:`),
        )!
        return `${pod.name} ${line.split('-w ')[1]!}`
      })
      const wanted = Object.entries(expected).map(([name, weight]) => `${name} ${weight}`)
      expect(found.sort()).to.deep.equal([...wanted, ...wanted].sort())
    }, timeoutMs)
  const allOpen = async (): Promise<void> => {
    for (const family of ['IPv4', 'IPv6'] as const) expect(await held[family].open(), family).to.equal(6)
  }

  before(async () => {
    await prepareNode()
    for (const i of [1, 2, 3]) pods.push(await Host.add(`pod${i}`, i))
    client = await Host.add('client', 100)
    await Promise.all(pods.map((pod) => pod.serve()))
    publish()
    configure('rr')
    program = await Program.start('--config', config, '--manifests', folder)
    held = {
      IPv4: await client.hold('tcp', VIPS.IPv4, 80, 6),
      IPv6: await client.hold('tcp', VIPS.IPv6, 80, 6),
    }
    expect(await held.IPv4.opened()).to.deep.equal(['pod1', 'pod1', 'pod2', 'pod2', 'pod3', 'pod3'])
    expect(await held.IPv6.opened()).to.deep.equal(['pod1', 'pod1', 'pod2', 'pod2', 'pod3', 'pod3'])
  })
  after(async () => {
    await program.stop()
    await Promise.all([...pods, client].map((host) => host.remove()))
  })

  it('survives a change of the scheduler', async () => {
    for (const scheduler of ['lc', 'mh', 'rr']) {
      configure(scheduler)
      await eventually(
        async () =>
          expect((await ipvsadm()).filter((line) => line.includes(`-s ${scheduler}`))).to.have.length(2),
        60_000,
      )
    }
    await allOpen()
  })

  it('survives a readiness flap of its Pod', async () => {
    publish({ pod1: UNREADY })
    await weights({ pod1: 0, pod2: 1, pod3: 1 })
    await new Promise((resolve) => setTimeout(resolve, (IDLE_SECONDS + 1) * 1_000))
    await allOpen()
    publish()
    await weights({ pod1: 1, pod2: 1, pod3: 1 })
    await allOpen()
  })

  it('survives audits', async () => {
    const before = program.lines.length
    await new Promise((resolve) => setTimeout(resolve, 5_000))

    await allOpen()
    const said = program.lines
      .slice(before)
      .filter(({ msg }) => msg !== 'what becomes of reused source ports')
    expect(said).to.deep.equal([])
  })

  it('survives SIGTERM and a restart', async () => {
    expect(await program.stop()).to.equal(0)
    await allOpen()
    program = await Program.start('--config', config, '--manifests', folder)
    await allOpen()
  })

  it('survives kill -9 and a restart, also while its real server drains', async () => {
    publish({ pod1: TERMINATING })
    await weights({ pod1: 0, pod2: 1, pod3: 1 })
    await program.stop('SIGKILL')
    program = await Program.start('--config', config, '--manifests', folder)
    await weights({ pod1: 0, pod2: 1, pod3: 1 })
    await allOpen()
    publish()
    await weights({ pod1: 1, pod2: 1, pod3: 1 })
    await allOpen()
  })

  it('survives the removal of another Pod, whose own connections drain', async () => {
    publish({ pod3: TERMINATING })
    await weights({ pod1: 1, pod2: 1, pod3: 0 })
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    await allOpen()

    // New connections go to the others.
    const { answers, errors } = await client.connect('tcp', VIPS.IPv4, 80, { count: 10 })
    expect(errors).to.deep.equal({})
    expect(answers).to.deep.equal({ pod1: 5, pod2: 5 })
  })

  it('is cut when its Pod has been gone for longer than an idle connection may last, and no other is', async () => {
    publish({ pod3: 'gone' })
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    await weights({ pod1: 1, pod2: 1, pod3: 0 })
    await weights({ pod1: 1, pod2: 1 }, (IDLE_SECONDS + 60) * 1_000)

    for (const family of ['IPv4', 'IPv6'] as const) {
      await eventually(async () => expect(await held[family].open()).to.equal(4), 90_000)
      expect(Object.keys(held[family].broken)).to.deep.equal(['pod3'])
    }
  })

  it('lets its real server go as soon as it ends', async () => {
    await held.IPv4.close()
    await held.IPv6.close()
    publish({ pod3: 'gone', pod2: 'gone' })

    // Closed connections are counted as inactive for a while (TIME_WAIT); then nothing is left to wait for.
    await weights({ pod1: 1 }, 300_000)
  }).timeout(600_000)
})
