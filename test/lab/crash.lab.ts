/** Killed at any moment, the program converges at its next start; on a kernel that is as it should be it changes nothing. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { ApiServer } from '../support/api-server.ts'
import { endpoint, node, service, slice, TERMINATING, UNREADY } from '../support/builders.ts'
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
import { changing, ipvsFamily, NetlinkMonitor } from '../support/netlink-monitor.ts'
import { type Random, withRandom } from '../support/random.ts'

const KILLS = 50
const CHANGES = 500
const SERVICES = 12

/** A random change of one of a few objects, so that each is created, changed and deleted many times. */
function change(server: ApiServer, random: Random): void {
  const i = random.int(SERVICES)
  const name = `s${i}`
  // Some addresses are shared, some move from one Service to another.
  const clusterIP = `10.96.0.${10 + (random.chance(0.2) ? random.int(SERVICES) : i)}`
  const pick = random.next()
  if (pick < 0.15) server.delete('services', `shop/${name}`)
  else if (pick < 0.4) {
    const ports = [80, 81, 82]
      .filter(() => random.chance(0.6))
      .map((port) => ({
        name: `p${port}`,
        port,
        protocol: random.pick(['TCP', 'UDP']),
        nodePort: random.chance(0.3) ? 30_000 + 10 * i + port - 80 : 0,
      }))
    const spec = {
      type: 'NodePort',
      externalTrafficPolicy: random.pick(['Cluster', 'Local']),
      externalIPs: random.chance(0.3) ? [`203.0.113.${random.int(4)}`] : [],
    }
    server.put(
      'services',
      service({ name, clusterIP, spec, ports: ports.length > 0 ? ports : [{ port: 80 }] }),
    )
  } else if (pick < 0.45) server.delete('endpointslices', `shop/${name}-1`)
  else {
    const endpoints = Array.from({ length: random.int(8) }, () =>
      endpoint(`10.244.0.${1 + random.int(20)}`, {
        conditions: random.pick([undefined, undefined, UNREADY, TERMINATING]),
        nodeName: random.pick(['node-1', 'node-2']),
      }),
    )
    const ports = [80, 81, 82].flatMap((port) =>
      ['TCP', 'UDP'].map((protocol) => ({ name: `p${port}`, port: 8_000 + port, protocol })),
    )
    server.put('endpointslices', slice({ service: name, ports, endpoints }))
  }
}

describe('kill -9', () => {
  const folder = temporaryFolder()
  const args = ['--config', join(folder, 'config.yaml'), '--hostname-override', 'node-1']
  let server: ApiServer
  let program: Program

  before(async () => {
    await prepareNode()
    await sh('ip addr add 192.0.2.1/32 dev lo')
    server = await ApiServer.start()
    server.load('nodes', [node() as never])
    writeFileSync(join(folder, 'kubeconfig'), server.kubeconfig())
    writeFileSync(
      join(folder, 'config.yaml'),
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclientConnection: {kubeconfig: ${folder}/kubeconfig}\n`,
    )
  })
  after(async () => {
    await program.stop()
    await server.close()
  })

  /** Everything of ours in the kernel; what drains is left out, for it depends on the past. */
  const state = async (): Promise<string[]> => [
    ...(await ipvsadm()).filter((line) => !line.endsWith('-w 0')).sort(),
    ...(await boundAddresses()),
    ...(await run('ipset', 'save'))
      .split('\n')
      .filter((line) => line.startsWith('add'))
      .sort(),
  ]

  it(`at ${KILLS} random moments of ${CHANGES} changes: the next start converges to the same state`, () =>
    withRandom(async (random) => {
      let changes = 0
      for (let kill = 0; kill < KILLS; kill++) {
        program = new Program(args)
        // Some are killed while they start, the others within the changes that follow.
        if (random.chance(0.2)) await sleep(random.int(4_000))
        else await program.logged('first sync finished')
        for (let i = 0; i < CHANGES / KILLS; i++, changes++) {
          change(server, random)
          if (random.chance(0.3)) await sleep(random.int(20))
        }
        await sleep(random.int(60))
        await program.stop('SIGKILL')
      }
      expect(changes).to.equal(CHANGES)

      program = await Program.start(...args)
      const converged = await state()
      await program.stop()
      await clearNode()
      program = await Program.start(...args)

      expect(converged).to.deep.equal(await state())
      expect(converged.length).to.be.greaterThan(20)
      expect(program.complaints(50)).to.deep.equal([])
    })).timeout(1_500_000)

  it('a start on a kernel that is as it should be sends no message that changes anything', async () => {
    const before = await state()
    await program.stop()
    const monitor = await NetlinkMonitor.start()

    program = await Program.start(...args)
    const family = await ipvsFamily()
    await sleep(500)
    const counts = await monitor.stop()

    expect(counts[`16/${family}/4`], 'dumps of virtual servers').to.be.greaterThan(0)
    expect(changing(counts, family)).to.deep.equal({})
    expect(await program.changes()).to.deep.equal({})
    expect(await state()).to.deep.equal(before)
  })

  it('and the monitor would have seen one', async () => {
    const monitor = await NetlinkMonitor.start()
    server.put('services', service({ name: 'late', clusterIP: '10.96.0.99' }))
    await eventually(async () => expect(await boundAddresses()).to.include('10.96.0.99'), 60_000, 100)
    const family = await ipvsFamily()

    expect(changing(await monitor.stop(), family)).to.deep.equal({
      'address added': 1,
      'virtual server added': 1,
      // KUBE-IPVS-IPS and KUBE-CLUSTER-IP.
      'set member added': 2,
    })
  })
})
