/** Packets through every kind of ClusterIP Service reach the endpoints they should. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { SCHEDULER_NAMES } from '../../src/model/schedulers.ts'
import { endpoint, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { Host, ipvsadm, prepareNode, Program, temporaryFolder, type WireProtocol } from '../support/lab.ts'

const VIPS = { IPv4: '10.96.0.10', IPv6: 'fd00:10:96::10' }
const STICKY = { IPv4: '10.96.0.11', IPv6: 'fd00:10:96::11' }
const PROTOCOLS: readonly WireProtocol[] = ['tcp', 'udp', 'sctp']
const PORTS = PROTOCOLS.map((protocol) => ({ name: protocol, port: 80, protocol: protocol.toUpperCase() }))
const TARGETS = PROTOCOLS.map((protocol) => ({
  name: protocol,
  port: 8080,
  protocol: protocol.toUpperCase(),
}))

describe('traffic through ClusterIPs', () => {
  const backends: Host[] = []
  const clients: Host[] = []
  const folder = temporaryFolder()
  const config = join(temporaryFolder(), 'config.yaml')
  let program: Program

  const write = (...objects: object[]): void => {
    writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  }
  const configure = (scheduler: string): void => {
    writeFileSync(
      config,
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {scheduler: ${scheduler}, udpTimeout: 1s}\n`,
    )
  }
  const dualStack = (name: string, addresses: { IPv4: string; IPv6: string }, spec: object = {}): object =>
    service({
      name,
      clusterIP: addresses.IPv4,
      ports: PORTS,
      spec: { clusterIPs: Object.values(addresses), ...spec },
    })
  const slices = (name: string): object[] => [
    slice({
      name: `${name}-4`,
      service: name,
      ports: TARGETS,
      endpoints: backends.map(({ ipv4 }) => endpoint(ipv4)),
    }),
    slice({
      name: `${name}-6`,
      service: name,
      ports: TARGETS,
      addressType: 'IPv6',
      endpoints: backends.map(({ ipv6 }) => endpoint(ipv6)),
    }),
  ]

  before(async () => {
    await prepareNode()
    for (const i of [1, 2, 3]) backends.push(await Host.add(`pod${i}`, i))
    for (const i of [1, 2]) clients.push(await Host.add(`client${i}`, 100 + i))
    await Promise.all(backends.map((host) => host.serve()))
    write(
      dualStack('web', VIPS),
      ...slices('web'),
      dualStack('sticky', STICKY, { sessionAffinity: 'ClientIP' }),
      ...slices('sticky'),
    )
    configure('rr')
    program = await Program.start('--config', config, '--manifests', folder)
  })
  after(async () => {
    await program.stop()
    await Promise.all([...backends, ...clients].map((host) => host.remove()))
  })

  for (const protocol of PROTOCOLS) {
    for (const family of ['IPv4', 'IPv6'] as const) {
      it(`rr spreads 300 ${protocol} connections over 3 endpoints evenly (${family})`, async () => {
        // A source port that IPVS still remembers would go where it went before.
        const options = { count: 300, sourcePort: protocol === 'udp' ? 20_000 : 0 }
        const { answers, sources, errors } = await clients[0]!.connect(protocol, VIPS[family], 80, options)

        expect(errors).to.deep.equal({})
        expect(answers).to.deep.equal({ pod1: 100, pod2: 100, pod3: 100 })
        expect(Object.keys(sources)).to.deep.equal([family === 'IPv4' ? clients[0]!.ipv4 : clients[0]!.ipv6])
      })

      it(`ClientIP affinity keeps each ${protocol} client on one endpoint (${family})`, async () => {
        const pods = new Set<string>()
        for (const client of clients) {
          const { answers, errors } = await client.connect(protocol, STICKY[family], 80, { count: 20 })
          expect(errors).to.deep.equal({})
          expect(Object.values(answers)).to.deep.equal([20])
          pods.add(Object.keys(answers)[0]!)
        }
        expect(pods.size, 'endpoints of two clients under rr').to.equal(2)
      })
    }
  }

  async function use(scheduler: string): Promise<void> {
    configure(scheduler)
    await eventually(async () => {
      const servers = (await ipvsadm()).filter((line) => line.startsWith('-A'))
      expect(servers.filter((line) => !line.includes(`-s ${scheduler}`))).to.deep.equal([])
    }, 60_000)
  }

  for (const scheduler of SCHEDULER_NAMES) {
    it(`${scheduler} serves, and refuses nobody while an endpoint drains`, async () => {
      await use(scheduler)
      const [client] = clients
      const first = await client!.connect('tcp', VIPS.IPv4, 80, { count: 12 })
      expect(first.errors).to.deep.equal({})

      // The endpoint that was used most leaves while a connection to it is open.
      const [busiest] = Object.entries(first.answers).sort(([, a], [, b]) => b - a)[0]!
      const held = await client!.hold('tcp', VIPS.IPv4, 80, 6)
      const others = backends.filter(({ name }) => name !== busiest)
      write(
        dualStack('web', VIPS),
        slice({ name: 'web-4', ports: TARGETS, endpoints: others.map(({ ipv4 }) => endpoint(ipv4)) }),
        dualStack('sticky', STICKY),
        ...slices('sticky'),
      )
      await eventually(
        async () =>
          expect(
            (await ipvsadm()).filter(
              (line) => line.includes(`-t ${VIPS.IPv4}:80 -r`) && !line.endsWith('-w 0'),
            ),
          ).to.have.length(2),
        60_000,
      )
      const during = await client!.connect('tcp', VIPS.IPv4, 80, { count: 12 })

      expect(during.errors).to.deep.equal({})
      expect(Object.keys(during.answers)).not.to.include(busiest)
      if (scheduler !== 'dh') expect(await held.open()).to.equal(6)
      await held.close()
      write(dualStack('web', VIPS), ...slices('web'), dualStack('sticky', STICKY), ...slices('sticky'))
      await eventually(
        async () =>
          expect(
            (await ipvsadm()).filter(
              (line) => line.includes(`-t ${VIPS.IPv4}:80 -r`) && !line.endsWith('-w 0'),
            ),
          ).to.have.length(3),
        60_000,
      )
    })
  }

  it('sh keeps each client address on one endpoint, whatever its port', async () => {
    await use('sh')
    for (const client of clients) {
      const { answers } = await client.connect('tcp', VIPS.IPv4, 80, { count: 20 })
      expect(Object.values(answers)).to.deep.equal([20])
    }
  })

  it('mh keeps each client address and port on one endpoint, and spreads the ports of a client', async () => {
    await use('mh')
    const connect = () => clients[0]!.connect('udp', VIPS.IPv4, 80, { count: 30, sourcePort: 40_000 })

    const first = await connect()
    // The connection entries are forgotten meanwhile: the scheduler decides anew.
    await new Promise((resolve) => setTimeout(resolve, 3_000))
    const second = await connect()

    expect(first.errors).to.deep.equal({})
    expect(second.sequence).to.deep.equal(first.sequence)
    expect(Object.keys(first.answers)).to.have.length(3)
  })
})
