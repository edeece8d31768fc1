import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { parseEndpointSlice, parseService } from '../../src/model/facts/parse-facts.ts'
import { NetlinkError } from '../../src/netlink/error.ts'
import { endpoint, node, service, slice, TERMINATING, UNREADY } from '../support/builders.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { Random, withRandom } from '../support/random.ts'
import { Story } from '../support/story.ts'

const WEB = `-A -t 10.96.0.10:80 -s rr
-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1
-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1`
const VS = '10.96.0.10:80/TCP'
const slices = (...endpoints: (string | Record<string, unknown>)[]) => slice({ endpoints })
const both = (): Record<string, unknown> => slices('10.244.0.1', '10.244.0.2')
const first = (): Record<string, unknown> => slices('10.244.0.1')

describe('Proxy', () => {
  let story: Story
  afterEach(() => story.stop())

  it('deletes nothing before every resource has been listed', async () => {
    story = new Story(FakeKernel.withClusterIps(WEB))
    story.cluster.services.replace([])
    story.cluster.nodes.replace([])
    story.cluster.serviceCidrs.replace([])
    await story.advance(600_000)
    expect(story.takeExecuted()).to.deep.equal([])

    story.cluster.endpointSlices.replace([])
    await story.bell.settle()

    expect(story.kernel.toString()).to.equal('')
  })

  it('brings the kernel to what the Services want, then has nothing to do', async () => {
    story = new Story()
    expect(story.proxy.synced).to.equal(false)
    await story.list([service()], [both()])

    expect(story.kernel.toString()).to.equal(WEB)
    expect(story.takeExecuted()).to.deep.equal([
      'add KUBE-IPVS-IPS 10.96.0.10',
      'add KUBE-CLUSTER-IP 10.96.0.10,tcp:80',
      ...WEB.split('\n'),
      'addr add 10.96.0.10/32 dev kube-ipvs0',
    ])
    expect(story.proxy.synced).to.equal(true)
    await story.advance(600_000)
    expect(story.takeExecuted()).to.deep.equal([])
    expect(story.takeComplaints()).to.deep.equal([])
  })

  it('is done at once with a cluster that has no Services, and a kernel that has nothing of ours', async () => {
    story = new Story()
    await story.list()

    expect(story.proxy.synced).to.equal(true)
  })

  it('changes nothing on a kernel that is as it should be', async () => {
    story = new Story(FakeKernel.withClusterIps(WEB))
    await story.list([service()], [both()])

    expect(story.takeExecuted()).to.deep.equal([])
    expect(story.proxy.synced).to.equal(true)
  })

  it('touches only the Service that has changed', async () => {
    story = new Story()
    const many = Array.from({ length: 300 }, (_, i) =>
      service({ name: `s${i}`, clusterIP: `10.97.${i >> 8}.${i & 255}` }),
    )
    await story.list([...many, service()], [both()])
    story.takeExecuted()
    let read = 0
    story.kernel.beforeCall = (method) => {
      if (method !== 'execute') read++
    }

    await story.put(first())

    expect(story.takeExecuted()).to.deep.equal([
      '-e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0',
      '-d -t 10.96.0.10:80 -r 10.244.0.2:8080',
    ])
    expect(read, 'reads of the kernel').to.equal(1)
  })

  it('programs the API server and DNS before everything else', async () => {
    story = new Story()
    const many = Array.from({ length: 2_000 }, (_, i) =>
      service({ name: `s${i}`, clusterIP: `10.97.${i >> 8}.${i & 255}` }),
    )
    const essential = [
      service({ namespace: 'default', name: 'kubernetes', clusterIP: '10.96.0.1' }),
      service({
        namespace: 'kube-system',
        name: 'kube-dns',
        clusterIP: '10.96.0.53',
        metadata: { labels: { 'k8s-app': 'kube-dns' } },
      }),
    ]
    const batches: number[] = []
    story.kernel.beforeCall = (method) => {
      if (method === 'execute') batches.push(story.kernel.executed.length)
    }
    await story.list([...many, ...essential])

    const lines = story.takeExecuted()
    const bound = lines.filter((line) => line.startsWith('addr'))
    expect(bound.slice(0, 2)).to.deep.equal([
      'addr add 10.96.0.1/32 dev kube-ipvs0',
      'addr add 10.96.0.53/32 dev kube-ipvs0',
    ])
    expect(lines.indexOf(bound[1]!), 'within the first batch').to.be.lessThan(batches[2]!)
  })

  describe('reads the kernel while facts are listed', () => {
    it('and again where that fails', async () => {
      const kernel = new FakeKernel()
      let failures = 0
      kernel.beforeCall = () => {
        if (failures++ < 2) throw new Error('lost')
      }
      story = new Story(kernel)
      await story.advance(10_000)
      await story.list([service()])
      await story.advance(10_000)

      expect(story.proxy.synced).to.equal(true)
      expect(story.takeExecuted().filter((line) => line.startsWith('-A '))).to.have.length(1)
      expect(story.takeComplaints()).to.include('cannot read the kernel: retrying: lost')
    })

    const TIMES: readonly (readonly [waitMs: number, readings: number])[] = [
      [60_000, 1],
      [600_000, 2],
    ]
    for (const [waitMs, readings] of TIMES) {
      it(`${readings} times where the list takes ${waitMs / 1000} s`, async () => {
        const kernel = new FakeKernel()
        let read = 0
        kernel.beforeCall = (method) => {
          if (method === 'readTables') read++
        }
        story = new Story(kernel)
        await story.advance(waitMs)
        await story.list([service()])

        expect(story.proxy.synced).to.equal(true)
        expect(read).to.equal(readings)
      })
    }
  })

  it('makes what replaces many Services before it deletes them', async () => {
    const some = (prefix: string, from: number): object[] =>
      Array.from({ length: 40 }, (_, i) =>
        service({ name: `${prefix}-${i}`, clusterIP: `10.98.${from}.${i}` }),
      )
    story = new Story()
    await story.list(some('old', 0))
    story.takeExecuted()
    for (let i = 0; i < 40; i++) story.cluster.services.remove(`shop/old-${i}`)
    story.settled.length = 0
    await story.put(...some('new', 1))

    const made = story.takeExecuted()
    expect(made.filter((line) => line.startsWith('-A '))).to.have.length(40)
    expect(made.filter((line) => line.startsWith('-D '))).to.deep.equal([])
    expect(story.settled, 'it is not as it should be yet').to.deep.equal([])

    await story.advance(500)
    expect(story.takeExecuted().filter((line) => line.startsWith('-D '))).to.have.length(40)
    expect([...story.kernel.state.virtualServers.keys()].some((key) => key.startsWith('10.98.0.'))).to.equal(
      false,
    )
    expect(story.settled).to.have.length.greaterThan(0)
  })

  describe('the first sync of many Services', () => {
    const COUNT = 900
    /** Services that share one load-balancer IP, each with a port of its own. */
    const sharing = (): Record<string, unknown>[] =>
      Array.from({ length: COUNT }, (_, i) => ({
        ...service({
          name: `s${i}`,
          clusterIP: `10.97.${i >> 8}.${i & 255}`,
          ports: [{ name: 'http', port: 1_000 + i, protocol: 'TCP' }],
          metadata: { creationTimestamp: `2026-01-01T00:${String(59 - (i % 60)).padStart(2, '0')}:00Z` },
          spec: { type: 'LoadBalancer' },
        }),
        status: { loadBalancer: { ingress: [{ ip: '203.0.113.7' }] } },
      }))

    it('makes every object once, though batches overlap', async () => {
      story = new Story()
      await story.list(sharing())

      const made = story.takeExecuted()
      expect(made.length).to.be.greaterThan(COUNT * 5)
      expect(made).to.have.length(new Set(made).size)
      expect(made.filter((line) => line.includes('203.0.113.7/32'))).to.have.length(1)
      expect(story.takeComplaints()).to.deep.equal([])
    })

    /** All virtual servers of `sharing` are there. */
    const madeWithoutRules = async (): Promise<void> => {
      for (let turns = 0; turns < 1_000 && story.kernel.state.virtualServers.size < 2 * COUNT; turns++)
        await new Promise(setImmediate)
    }

    it('makes everything but addresses while the rules are not there', async () => {
      const rules = Promise.withResolvers<undefined>()
      story = new Story()
      story.kernel.rulesReady = rules.promise
      const listed = story.list(sharing())
      await madeWithoutRules()
      const before = story.takeExecuted()
      expect(before.filter((line) => line.startsWith('-A '))).to.have.length(2 * COUNT)
      expect(before.filter((line) => line.startsWith('addr '))).to.deep.equal([])
      expect(story.proxy.synced).to.equal(false)

      rules.resolve(undefined)
      await listed
      expect(story.takeExecuted().filter((line) => line.startsWith('addr '))).to.have.length(COUNT + 1)
      expect(story.proxy.synced).to.equal(true)
    })

    it('binds no address when it ends before the rules are there, and complains of nothing', async () => {
      const rules = Promise.withResolvers<undefined>()
      story = new Story()
      story.kernel.rulesReady = rules.promise
      void story.list(sharing())
      await madeWithoutRules()
      const stopped = story.stop()
      rules.reject(new Error('stopped'))
      await stopped

      const executed = story.takeExecuted()
      expect(executed.filter((line) => line.startsWith('-A '))).to.have.length(2 * COUNT)
      expect(executed.filter((line) => line.startsWith('addr '))).to.deep.equal([])
      expect(story.takeComplaints()).to.deep.equal([])
    })

    it('maps the oldest first, so that no virtual server is taken from its Service', async () => {
      story = new Story()
      const claims = sharing().map((object, i) => {
        const port = { name: 'http', port: 80, protocol: 'TCP' }
        const spec = object.spec as object
        return i % 2 === 0 ? { ...object, spec: { ...spec, ports: [port] } } : object
      })
      const oldest = { ...claims[58], metadata: { ...(claims[58]!.metadata as object), name: 'zz-oldest' } }
      const created = { metadata: { ...oldest.metadata, creationTimestamp: '2020-01-01T00:00:00Z' } }
      const endpoints = [
        ...claims.map((_, i) => slice({ service: `s${i}`, endpoints: ['10.244.0.1'] })),
        slice({ service: 'zz-oldest', endpoints: ['10.244.0.9'] }),
      ]
      await story.list([...claims, { ...oldest, ...created }], endpoints)

      const onShared = story.takeExecuted().filter((line) => line.includes(' 203.0.113.7:80 '))
      expect(onShared).to.deep.equal([
        '-A -t 203.0.113.7:80 -s rr',
        '-a -t 203.0.113.7:80 -r 10.244.0.9:8080 -m -w 1',
      ])
    })

    it('goes on with all Services when the kernel does not answer in the middle of it', async () => {
      const kernel = new FakeKernel()
      let calls = 0
      kernel.beforeCall = (method) => {
        if (method === 'execute' && ++calls === 3) throw new Error('lost')
      }
      story = new Story(kernel)
      await story.list(sharing())

      expect(story.proxy.synced).to.equal(true)
      expect(kernel.state.virtualServers.size).to.equal(2 * COUNT)
      expect(story.takeComplaints()).to.deep.equal([
        'the kernel did not answer as it should: reading all of it: lost',
      ])
    })
  })

  describe('draining', () => {
    it('keeps a removed endpoint at weight 0 until its last connection has ended', async () => {
      story = new Story()
      await story.list([service()], [both()])
      story.kernel.setConnections(VS, '10.244.0.2:8080', { active: 1, inactive: 1 })
      story.takeExecuted()

      await story.put(first())
      await story.advance(10_000)
      expect(story.takeExecuted()).to.deep.equal(['-e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0'])

      story.kernel.setConnections(VS, '10.244.0.2:8080', { active: 0, inactive: 1 })
      await story.advance(5_000)
      expect(story.takeExecuted()).to.deep.equal([])

      story.kernel.setConnections(VS, '10.244.0.2:8080', {})
      await story.advance(5_000)
      expect(story.takeExecuted()).to.deep.equal(['-d -t 10.96.0.10:80 -r 10.244.0.2:8080'])
    })

    it('deletes a busy one when its deadline has passed since its endpoint was gone', async () => {
      story = new Story()
      await story.list([service()], [both()])
      story.kernel.setConnections(VS, '10.244.0.2:8080', { active: 1 })

      await story.put(slices('10.244.0.1', endpoint('10.244.0.2', { conditions: TERMINATING })))
      await story.advance(300_000)
      expect(story.kernel.toString()).to.contain('10.244.0.2:8080 -m -w 0')

      await story.put(first())
      await story.advance(55_000)
      expect(story.kernel.toString()).to.contain('10.244.0.2:8080 -m -w 0')
      await story.advance(10_000)
      expect(story.kernel.toString()).not.to.contain('10.244.0.2')
    })

    it('raises an endpoint that returns, in place', async () => {
      story = new Story()
      await story.list([service()], [both()])
      story.kernel.setConnections(VS, '10.244.0.2:8080', { active: 1 })
      story.takeExecuted()

      await story.put(slices('10.244.0.1', endpoint('10.244.0.2', { conditions: UNREADY })))
      await story.advance(120_000)
      await story.put(both())
      await story.advance(120_000)

      expect(story.takeExecuted()).to.deep.equal([
        '-e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0',
        '-e -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1',
      ])
    })

    it('goes on after a restart: a real server of weight 0 that nobody wants is the drain list', async () => {
      const kernel = FakeKernel.withClusterIps(WEB.replace('2:8080 -m -w 1', '2:8080 -m -w 0'))
      kernel.setConnections(VS, '10.244.0.2:8080', { active: 1 })
      story = new Story(kernel)
      await story.list([service()], [first()])
      await story.advance(10_000)
      expect(story.takeExecuted()).to.deep.equal([])

      kernel.setConnections(VS, '10.244.0.2:8080', {})
      await story.advance(5_000)
      expect(story.takeExecuted()).to.deep.equal(['-d -t 10.96.0.10:80 -r 10.244.0.2:8080'])
    })

    it('raises on the first sync what drained before a restart and is wanted now (kubernetes #108319)', async () => {
      story = new Story(FakeKernel.withClusterIps(WEB.replaceAll('-w 1', '-w 0')))
      await story.list([service()], [both()])

      expect(story.kernel.toString()).to.equal(WEB)
      expect(story.executedKinds()).to.deep.equal(['updateRealServer', 'updateRealServer'])
    })

    it('stops looking when nothing drains', async () => {
      story = new Story()
      await story.list([service()], [both()])
      await story.put(first())
      let read = 0
      story.kernel.beforeCall = () => read++
      await story.advance(29_000)

      expect(read).to.equal(0)
    })
  })

  describe('failures', () => {
    it('retries one bad object with growing pauses, says so once, and serves the others', async () => {
      story = new Story()
      let attempts = 0
      story.kernel.refuse = (operation) => {
        const bad = operation.kind === 'createVirtualServer' && operation.of.address === '10.96.0.11'
        if (bad) attempts++
        return bad && attempts < 6 ? 'ENOMEM' : undefined
      }
      await story.list(
        [service({ name: 'bad', clusterIP: '10.96.0.11' }), service()],
        [both(), slice({ service: 'bad', endpoints: ['10.244.0.1'] })],
      )

      expect(story.kernel.toString()).to.equal(WEB)
      expect([...story.kernel.state.addresses]).to.deep.equal(['10.96.0.10'])
      await story.advance(3_000)
      expect(attempts).to.equal(5)
      await story.advance(2_000)
      expect(story.kernel.toString()).to.contain('10.96.0.11:80 -r 10.244.0.1')
      expect([...story.kernel.state.addresses]).to.include('10.96.0.11')
      expect(story.takeComplaints()).to.deep.equal([
        'cannot program an object: retrying: Cannot create virtual server 10.96.0.11:80/TCP: the kernel is out of memory: Cannot: ENOMEM',
      ])
    })

    it('reads the kernel anew when it cannot tell what became of a batch', async () => {
      story = new Story()
      await story.list([service()], [first()])
      let once = true
      story.kernel.beforeCall = (method) => {
        if (method === 'execute' && once) {
          once = false
          throw new NetlinkError('Cannot change the kernel', 105)
        }
      }

      await story.put(both())

      expect(story.kernel.toString()).to.equal(WEB)
      expect(story.takeComplaints()).to.have.length(1)
    })

    it('deletes nothing while the kernel cannot be read, and goes on when it can', async () => {
      const kernel = FakeKernel.withClusterIps(WEB)
      let broken = true
      kernel.beforeCall = (method) => {
        if (method === 'readTables' && broken)
          throw new NetlinkError('Cannot read the virtual servers (interrupted dump)', 4)
      }
      story = new Story(kernel)
      await story.list()
      await story.advance(60_000)
      expect(story.takeExecuted()).to.deep.equal([])

      broken = false
      await story.advance(60_000)
      expect(kernel.toString()).to.equal('')
    })

    it('looks before it tries again when the kernel is not as believed', async () => {
      story = new Story()
      await story.list([service()], [first()])
      // Somebody adds the real server that we are about to add.
      const other = FakeKernel.withClusterIps(WEB)
      const key = [...other.state.virtualServers.keys()][0]!
      for (const [real, value] of other.state.virtualServers.get(key)!.realServers) {
        story.kernel.state.virtualServers.get(key)!.realServers.set(real, value)
      }

      await story.put(both())
      await story.advance(200)

      expect(story.kernel.toString()).to.equal(WEB)
      await story.advance(1_000)
      expect(story.takeComplaints().filter((text) => text.includes('EEXIST'))).to.have.length(1)
    })

    it('takes what is already gone for deleted', async () => {
      story = new Story()
      await story.list([service()], [both()])
      story.kernel.state.virtualServers.clear()

      await story.removeService('shop/web')

      expect([...story.kernel.state.addresses]).to.deep.equal([])
      expect(story.takeComplaints()).to.deep.equal([])
    })
  })

  describe('audit', () => {
    it('repairs and reports what somebody else has changed, and leaves foreign virtual servers alone', async () => {
      story = new Story()
      await story.list([service()], [both()])
      story.takeExecuted()
      const edited = FakeKernel.withClusterIps(`-A -t 10.96.0.10:80 -s wlc
        -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 9
        -a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m -w 1
        -A -t 192.0.2.1:80 -s wlc
        -A -t 10.96.0.10:9999 -s rr`)
      story.kernel.state.virtualServers.clear()
      for (const [key, value] of edited.state.virtualServers)
        story.kernel.state.virtualServers.set(key, value)
      story.kernel.state.addresses.clear()

      await story.advance(30_000)

      expect(story.kernel.toString()).to.equal(`${WEB}\n-A -t 192.0.2.1:80 -s wlc`)
      expect([...story.kernel.state.addresses]).to.deep.equal(['10.96.0.10'])
      const text = await story.metrics.registry.metrics()
      expect(text).to.contain('kube_ipvs_repairs_total 6')
      expect(story.takeComplaints()).to.have.length(6)
    })

    it('is not fooled by a reading that hides a virtual server', async () => {
      story = new Story()
      await story.list([service()], [both()])
      story.takeExecuted()
      const { kernel } = story
      const key = '10.96.0.10:80/TCP' as never
      const hidden = kernel.state.virtualServers.get(key)!
      let readings = 0
      kernel.beforeCall = (method) => {
        if (method !== 'readTables') return
        readings++
        if (readings === 1) kernel.state.virtualServers.delete(key)
        else kernel.state.virtualServers.set(key, hidden)
      }

      await story.advance(30_000)

      expect(readings).to.equal(2)
      expect(story.takeExecuted()).to.deep.equal([])
      expect(story.takeComplaints()).to.deep.equal([])
    })

    for (const [spentMs, pauseMs] of [
      [100, 30_000],
      [1_000, 100_000],
      [60_000, 600_000],
    ] as const) {
      it(`comes again after ${pauseMs / 1_000} s when one takes ${spentMs / 1_000} s of a processor`, async () => {
        story = new Story()
        await story.list([service()], [both()])
        const readings: number[] = []
        story.kernel.beforeCall = (method) => {
          if (method !== 'readTables') return
          readings.push(story.bell.now)
          story.cpuMs += spentMs
        }

        await story.advance(2_000_000)

        const pauses = readings.slice(1).map((at, i) => at - readings[i]!)
        expect(new Set(pauses)).to.deep.equal(new Set([pauseMs]))
      })
    }

    it('serves nothing on an address of somebody else, says so once, and takes over when they leave', async () => {
      const foreign = '-A -t 10.96.0.10:443 -s wlc'
      story = new Story(new FakeKernel(foreign, []))
      await story.list([service()], [both()])
      await story.advance(300_000)

      expect(story.kernel.toString()).to.equal(foreign)
      expect(story.takeExecuted()).to.deep.equal([])
      expect(story.takeComplaints()).to.deep.equal([
        'conflict over a virtual server: shop/web is not served: somebody else has virtual servers on 10.96.0.10',
      ])

      story.kernel.state.virtualServers.clear()
      await story.advance(30_000)
      expect(story.kernel.toString()).to.equal(WEB)
    })
  })

  describe('Services that are reached from outside', () => {
    const LOAD_BALANCER = '203.0.113.80'
    const exposed = (spec: object = {}): object => ({
      ...service({
        ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: 30_080 }],
        spec: { type: 'LoadBalancer', ...spec },
      }),
      status: { loadBalancer: { ingress: [{ ip: LOAD_BALANCER }] } },
    })

    it('turn from one type into another and back, and leave nothing behind', async () => {
      story = new Story()
      await story.list([service()], [both()])
      const before = [
        story.kernel.toString(),
        ...story.kernel.state.setMembers,
        ...story.kernel.state.addresses,
      ]

      await story.put(exposed({ externalTrafficPolicy: 'Local', healthCheckNodePort: 30_999 }))
      expect([...story.kernel.state.setMembers]).to.include.members([
        'KUBE-LOAD-BALANCER-LOCAL 203.0.113.80,tcp:80',
        'KUBE-NODE-PORT-LOCAL-TCP 30080',
        'KUBE-HEALTH-CHECK-NODE-PORT 30999',
      ])
      await story.put(exposed({ externalTrafficPolicy: 'Local', healthCheckNodePort: 31_000 }))
      expect([...story.kernel.state.setMembers])
        .to.include('KUBE-HEALTH-CHECK-NODE-PORT 31000')
        .and.not.include('KUBE-HEALTH-CHECK-NODE-PORT 30999')
      await story.put(exposed())
      expect(
        [...story.kernel.state.setMembers].filter((member) => /LOCAL|HEALTH/.test(member)),
      ).to.deep.equal([])
      await story.put(service())

      const after = [
        story.kernel.toString(),
        ...story.kernel.state.setMembers,
        ...story.kernel.state.addresses,
      ]
      expect(after).to.deep.equal(before)
      expect(story.takeComplaints()).to.deep.equal([])
    })

    it('let clients in before they keep others out, and the other way round at the end', async () => {
      story = new Story()
      await story.list([exposed()], [both()])
      story.takeExecuted()
      const guards = (): string[] => story.takeExecuted().filter((line) => /SOURCE|-FW/.test(line))

      await story.put(exposed({ loadBalancerSourceRanges: ['10.0.0.0/8'] }))
      expect(guards()).to.deep.equal([
        'add KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.80,tcp:80,10.0.0.0/8',
        'add KUBE-LOAD-BALANCER-FW 203.0.113.80,tcp:80',
      ])
      await story.put(exposed())
      expect(guards()).to.deep.equal([
        'del KUBE-LOAD-BALANCER-FW 203.0.113.80,tcp:80',
        'del KUBE-LOAD-BALANCER-SOURCE-CIDR 203.0.113.80,tcp:80,10.0.0.0/8',
      ])
    })

    it('follow the addresses of the node', async () => {
      story = new Story()
      await story.list([exposed()], [both()])
      story.takeExecuted()
      story.nodeAddresses = ['192.168.50.7' as Address]
      story.cluster.markExposed()
      await story.bell.settle()

      expect(story.takeExecuted()).to.deep.equal([
        '-A -t 192.168.50.7:30080 -s rr',
        '-a -t 192.168.50.7:30080 -r 10.244.0.1:8080 -m -w 1',
        '-a -t 192.168.50.7:30080 -r 10.244.0.2:8080 -m -w 1',
        '-D -t 192.168.50.1:30080',
      ])
    })

    it('are served on the node beside somebody else, whose virtual server is on another port', async () => {
      const foreign = '-A -t 192.168.50.1:6443 -s wlc'
      story = new Story(new FakeKernel(foreign, []))
      await story.list([exposed()], [both()])

      expect(story.kernel.toString()).to.contain(foreign).and.contain('-A -t 192.168.50.1:30080 -s rr')
      expect(story.takeComplaints()).to.deep.equal([])
      await story.removeService('shop/web')
      expect(story.kernel.toString()).to.equal(foreign)
    })

    it('leave to somebody else a node port that he has', async () => {
      const foreign = '-A -t 192.168.50.1:30080 -s wlc'
      story = new Story(new FakeKernel(foreign, []))
      await story.list([exposed()], [both()])

      expect(story.kernel.toString()).to.contain(foreign).and.contain(`-A -t ${LOAD_BALANCER}:80 -s rr`)
      expect(story.takeComplaints()).to.have.length(1)
    })

    it('adopt node ports and unbound addresses that were left, by their set members', async () => {
      const first = new Story()
      first.nodeAddresses = ['192.168.50.1', LOAD_BALANCER] as Address[]
      await first.list([exposed()], [both()])
      await first.stop()
      const left = first.kernel.toString()
      story = new Story(first.kernel)
      story.nodeAddresses = first.nodeAddresses
      first.kernel.executed.length = 0
      await story.list([exposed()], [both()])
      expect(story.takeExecuted()).to.deep.equal([])
      expect(story.kernel.toString()).to.equal(left)

      await story.removeService('shop/web')
      expect(story.kernel.toString()).to.equal('')
      expect([...story.kernel.state.setMembers]).to.deep.equal([])
    })

    it('say once what is refused, count it, and serve it when it may be', async () => {
      story = new Story()
      const node = (address: string): object => ({
        kind: 'Node',
        metadata: { name: 'node-1' },
        status: { addresses: [{ type: 'InternalIP', address }] },
      })
      await story.list([exposed()], [both()], [node(LOAD_BALANCER)])
      await story.put(exposed())

      expect(story.kernel.toString()).not.to.contain(`-A -t ${LOAD_BALANCER}:80`)
      expect(story.lines.filter(({ level }) => level >= 50).map(({ reason }) => reason)).to.deep.equal([
        `${LOAD_BALANCER} is an address of this node`,
      ])
      expect(await story.metrics.registry.metrics()).to.contain('kube_ipvs_refused_addresses 1')

      await story.put(node('192.168.50.1'))
      expect(story.kernel.toString()).to.contain(`-A -t ${LOAD_BALANCER}:80`)
      expect(await story.metrics.registry.metrics()).to.contain('kube_ipvs_refused_addresses 0')
    })

    it('give way to an API server that moves to their address', async () => {
      story = new Story()
      await story.list([exposed()], [both()])
      expect([...story.kernel.state.addresses]).to.include(LOAD_BALANCER)

      await story.put(slice({ namespace: 'default', service: 'kubernetes', endpoints: [LOAD_BALANCER] }))

      expect([...story.kernel.state.addresses]).to.deep.equal(['10.96.0.10'])
    })

    it('are claimed once where an address is both an external and a load-balancer IP', async () => {
      story = new Story()
      await story.list([exposed({ externalIPs: [LOAD_BALANCER] })], [both()])

      expect([...story.kernel.state.setMembers]).to.include.members([
        'KUBE-EXTERNAL-IP 203.0.113.80,tcp:80',
        'KUBE-LOAD-BALANCER 203.0.113.80,tcp:80',
      ])
      expect(story.takeComplaints()).to.deep.equal([])
    })
  })

  describe('tracked UDP flows', () => {
    const dns = (port = 53, name = 'dns'): object => service({ ports: [{ name, port, protocol: 'UDP' }] })
    const endpoints = (name: string, addresses: readonly string[], target = 5353, portName = 'dns'): object =>
      slice({ name, ports: [{ name: portName, port: target, protocol: 'UDP' }], endpoints: addresses })
    const ONE_POD = '10.244.0.1'
    const ANOTHER = '10.244.0.2'
    const gone = (address: string, port = 5353): string =>
      `conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst 53 --reply-src ${address} --reply-port-src ${port}`
    const all = (port = 53): string => `conntrack -D -p udp --orig-dst 10.96.0.10 --orig-port-dst ${port}`

    const cases: readonly {
      readonly name: string
      readonly change: readonly object[]
      readonly forgotten: readonly string[]
    }[] = [
      { name: 'stay when nothing changes', change: [endpoints('a', [ONE_POD])], forgotten: [] },
      { name: 'stay when an endpoint comes', change: [endpoints('a', [ONE_POD, ANOTHER])], forgotten: [] },
      { name: 'stay when a slice comes', change: [endpoints('b', [ANOTHER])], forgotten: [] },
      { name: 'go with the endpoint', change: [endpoints('a', [ANOTHER])], forgotten: [gone(ONE_POD)] },
      { name: 'go with the last endpoint', change: [endpoints('a', [])], forgotten: [gone(ONE_POD)] },
      {
        name: 'go with the target port',
        change: [endpoints('a', [ONE_POD], 53)],
        forgotten: [gone(ONE_POD)],
      },
      {
        name: 'go with an endpoint whose port has another name',
        change: [endpoints('a', [ONE_POD], 5353, 'other')],
        forgotten: [gone(ONE_POD)],
      },
      {
        name: 'stay when both sides rename the port',
        change: [dns(53, 'x'), endpoints('a', [ONE_POD], 5353, 'x')],
        forgotten: [],
      },
      {
        name: 'go, old and new, with the port of the Service',
        change: [dns(54)],
        forgotten: [all(54), all()],
      },
    ]
    for (const { name, change, forgotten } of cases) {
      it(name, async () => {
        story = new Story()
        await story.list([dns()], [endpoints('a', [ONE_POD])])
        expect(story.takeExecuted().filter((line) => line.startsWith('conntrack'))).to.deep.equal([all()])

        for (const object of change) {
          if ('addressType' in object) story.cluster.endpointSlices.put(parseEndpointSlice(object))
          else story.cluster.services.put(parseService(object))
        }
        await story.bell.settle()

        expect(story.takeExecuted().filter((line) => line.startsWith('conntrack'))).to.deep.equal(forgotten)
      })
    }

    it('go with the Service', async () => {
      story = new Story()
      await story.list([dns()], [endpoints('a', [ONE_POD])])
      story.takeExecuted()
      await story.removeService('shop/web')

      expect(story.takeExecuted().filter((line) => line.startsWith('conntrack'))).to.deep.equal([all()])
    })

    it('stay when they are TCP or SCTP', async () => {
      story = new Story()
      for (const protocol of ['TCP', 'SCTP']) {
        const ports = [{ name: 'http', port: 80, protocol }]
        const targets = [{ name: 'http', port: 8080, protocol }]
        await story.list([service({ ports })], [slice({ ports: targets, endpoints: [ONE_POD] })])
        await story.put(slice({ ports: targets, endpoints: [ANOTHER] }))
      }

      expect(story.takeExecuted().filter((line) => line.startsWith('conntrack'))).to.deep.equal([])
    })
  })

  it('says in a few lines that many objects fail for one reason', async () => {
    const kernel = new FakeKernel()
    kernel.refuse = (operation) => ('member' in operation ? 'ENOMEM' : undefined)
    story = new Story(kernel)
    const many = Array.from({ length: 40 }, (_, i) => service({ name: `s${i}`, clusterIP: `10.96.1.${i}` }))
    await story.list(many)
    const complaints = story.takeComplaints()

    expect(story.kernel.state.virtualServers.size).to.equal(40)
    expect(complaints).to.have.length(11)
    expect(complaints.at(-1)).to.equal('cannot program more objects: retrying')
  })

  describe('says that the kernel is as it should be', () => {
    const triggered = (time: string): object => {
      const { metadata, ...rest } = slice({ endpoints: ['10.244.0.7'] }) as { metadata: object }
      const annotations = { 'endpoints.kubernetes.io/last-change-trigger-time': time }
      return { ...rest, metadata: { ...metadata, annotations } }
    }

    it('with what had led to a change, once it is in the kernel', async () => {
      story = new Story()
      await story.list([service()], [both()])
      const before = story.settled.length
      expect(before).to.be.greaterThan(0)
      expect(story.settled.flat()).to.deep.equal([])

      await story.put(triggered('2026-01-01T00:00:00Z'))
      expect(story.settled.flat()).to.deep.equal([{ family: 'IPv4', at: Date.UTC(2026, 0, 1) }])
    })

    it('also when there was nothing to do', async () => {
      story = new Story()
      await story.list([service()], [both()])
      const before = story.settled.length
      await story.put(service())
      expect(story.settled.length).to.be.greaterThan(before)
      expect(story.kernel.executed.length).to.be.greaterThan(0)
    })

    it('not while a change waits for its time', async () => {
      story = new Story()
      await story.list([service()], [both()])
      story.minSyncPeriodMs = 10_000
      await story.put(service({ name: 'b', clusterIP: '10.96.0.11' }))
      const before = story.settled.length
      await story.put(service({ name: 'c', clusterIP: '10.96.0.12' }))
      await story.advance(5_000)
      expect(story.settled).to.have.length(before)
      await story.advance(5_000)
      expect(story.settled.length).to.be.greaterThan(before)
    })

    it('after what has to be known before anything is mapped', async () => {
      const order: string[] = []
      story = new Story(new FakeKernel(), {
        onNodeListed: () => {
          order.push('listed')
          return Promise.resolve()
        },
        onServiceMapped: () => order.push('mapped'),
      })
      await story.list([service()], [both()])
      expect(order).to.deep.equal(['listed', 'mapped'])
    })
  })

  describe('conflicts', () => {
    it('serves the older of two Services, says so once, and passes on when it goes', async () => {
      story = new Story()
      const young = service({ name: 'young', metadata: { creationTimestamp: '2026-02-01T00:00:00Z' } })
      await story.list([young, service()], [both(), slice({ service: 'young', endpoints: ['10.244.0.9'] })])
      expect(story.kernel.toString()).to.equal(WEB)
      await story.put(young)
      await story.advance(300_000)
      expect(story.takeComplaints()).to.deep.equal([
        'conflict over a virtual server: shop/young is not served: shop/web is older',
      ])

      await story.removeService('shop/web')
      await story.advance(10_000)
      expect(story.kernel.toString()).to.equal(
        '-A -t 10.96.0.10:80 -s rr\n-a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m -w 1',
      )
    })
  })

  it('switches the scheduler in place, and nothing else', async () => {
    story = new Story()
    await story.list([service()], [both()])
    story.takeExecuted()

    story.scheduler = 'lc'
    story.cluster.markAll()
    await story.bell.settle()

    expect(story.takeExecuted()).to.deep.equal(['-E -t 10.96.0.10:80 -s lc'])
  })

  it("follows the node's zone", async () => {
    story = new Story()
    const zoned = slices(
      endpoint('10.244.0.1', { hints: { forZones: [{ name: 'a' }] } }),
      endpoint('10.244.0.2', { hints: { forZones: [{ name: 'b' }] } }),
    )
    await story.list([service()], [zoned], [node('node-1', 'a'), node('node-2', 'b')])
    expect(story.kernel.toString()).not.to.contain('10.244.0.2')

    await story.put(node('node-1', 'b'))
    await story.advance(5_000)

    expect(story.kernel.toString()).to.contain('10.244.0.2').and.not.to.contain('10.244.0.1')
  })

  it('waits the minimum period between syncs, and then takes all changes together', async () => {
    story = new Story()
    story.minSyncPeriodMs = 1_000
    await story.list([service()], [first()])
    story.takeExecuted()

    await story.put(both())
    await story.put(slices('10.244.0.1', '10.244.0.2', '10.244.0.3'))
    expect(story.takeExecuted()).to.deep.equal([])
    await story.advance(1_000)

    expect(story.takeExecuted()).to.deep.equal([
      '-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1',
      '-a -t 10.96.0.10:80 -r 10.244.0.3:8080 -m -w 1',
    ])
  })
})

describe('Proxy, whatever the order of events', () => {
  const SERVICES = ['a', 'b', 'c']

  /** A random history of each object; the last of each is what counts. */
  function histories(random: Random): object[][] {
    const serviceHistories = SERVICES.map((name, i) =>
      Array.from({ length: 1 + random.int(3) }, () =>
        service({
          name,
          clusterIP: `10.96.0.${1 + random.int(2) + i}`,
          metadata: { creationTimestamp: `2026-01-0${1 + random.int(3)}T00:00:00Z` },
          ports: [{ name: 'http', port: random.pick([80, 81]) }],
        }),
      ),
    )
    const sliceHistories = SERVICES.flatMap((name) =>
      ['1', '2'].map((part) =>
        Array.from({ length: 1 + random.int(3) }, () =>
          slice({
            name: `${name}-${part}`,
            service: name,
            endpoints: ['1', '2', '3', '4']
              .filter(() => random.chance(0.5))
              .map((last) =>
                endpoint(`10.244.0.${last}`, { conditions: random.pick([undefined, UNREADY, TERMINATING]) }),
              ),
          }),
        ),
      ),
    )
    return [...serviceHistories, ...sliceHistories]
  }

  /** Picks the next event of a random history, until all are told. */
  function interleave(random: Random, all: readonly (readonly object[])[]): object[] {
    const rest = all.map((history) => [...history])
    const events: object[] = []
    for (let open = rest; open.length > 0; open = open.filter((history) => history.length > 0)) {
      events.push(random.pick(open.filter((history) => history.length > 0)).shift()!)
      open = open.filter((history) => history.length > 0)
    }
    return events
  }

  async function play(events: readonly object[], settleAfter: (i: number) => boolean): Promise<string> {
    const story = new Story()
    await story.list()
    for (const [i, event] of events.entries()) {
      if (settleAfter(i)) await story.put(event)
      else void story.put(event)
    }
    await story.bell.settle()
    await story.advance(10_000)
    await story.stop()
    const { addresses, setMembers } = story.kernel.state
    return [...story.kernel.toString().split('\n').sort(), ...[...addresses, ...setMembers].sort()].join('\n')
  }

  it('ends in the same state in 1,000 random interleavings', () =>
    withRandom(async (random) => {
      let different = 0
      for (let i = 0; i < 100; i++) {
        const all = histories(random)
        const expected = await play(all.flat(), () => true)
        for (let j = 0; j < 10; j++) {
          const events = interleave(random, all)
          if (JSON.stringify(events) !== JSON.stringify(all.flat())) different++
          expect(await play(events, () => random.chance(0.5))).to.equal(expected)
        }
      }
      expect(different, 'orders other than the first').to.be.greaterThan(900)
    })).timeout(60_000)

  it('is the same for 500 lists that come in pieces, after attempts that were given up', () =>
    withRandom(async (random) => {
      let foreseenInVain = 0
      for (let i = 0; i < 500; i++) {
        // Some Services have no slice.
        const all = histories(random).filter(() => random.chance(0.8))
        // The others are gone by the time the list is whole.
        const last = all.map((history) => history.at(-1)!).filter(() => random.chance(0.8))
        const isSlice = (object: object): boolean => 'addressType' in object
        const services = new Map(all.flat().map((object) => [object, parseService(object)]))
        const endpointSlices = new Map(all.flat().map((object) => [object, parseEndpointSlice(object)]))

        const story = new Story()
        const { cluster } = story
        const listed = last.filter((object) => !isSlice(object))
        const replace = (): void => {
          cluster.services.replace(listed.map((object) => services.get(object)!))
          cluster.nodes.replace([])
          cluster.serviceCidrs.replace([])
        }
        const isEarly = random.chance(0.5)
        if (isEarly) replace()
        for (const object of interleave(random, all)) {
          if (isSlice(object)) cluster.endpointSlices.foresee([endpointSlices.get(object)!])
          else cluster.services.foresee([services.get(object)!])
          if (random.chance(0.5)) await story.advance(500)
        }
        await story.bell.settle()
        expect(story.executedKinds(), 'before all is listed').to.deep.equal([])
        if (cluster.serviceCount > listed.length) foreseenInVain++
        if (!isEarly) replace()
        cluster.endpointSlices.replace(last.filter(isSlice).map((object) => endpointSlices.get(object)!))
        await story.advance(10_000)
        await story.stop()

        const clean = new Story()
        await clean.list(listed, last.filter(isSlice))
        await clean.advance(10_000)
        await clean.stop()
        expect(story.kernel.toString().split('\n').sort()).to.deep.equal(
          clean.kernel.toString().split('\n').sort(),
        )
        expect([...story.kernel.state.addresses].sort()).to.deep.equal(
          [...clean.kernel.state.addresses].sort(),
        )
        expect([...story.kernel.state.setMembers].sort()).to.deep.equal(
          [...clean.kernel.state.setMembers].sort(),
        )
      }
      expect(foreseenInVain).to.be.greaterThan(50)
    })).timeout(60_000)

  it('converges after being killed in the middle of 300 random plans', () =>
    withRandom(async (random) => {
      let killed = 0
      for (let i = 0; i < 300; i++) {
        const before = histories(random).map((history) => history.at(-1)!)
        const after = histories(random).map((history) => history.at(-1)!)
        const kernel = new FakeKernel()
        const tell = async (story: Story, objects: object[]): Promise<void> => {
          await story.list(
            objects.filter((object) => !('addressType' in object)),
            objects.filter((object) => 'addressType' in object),
          )
        }
        const old = new Story(kernel)
        await tell(old, before)
        let budget = random.int(12)
        kernel.refuse = () => (budget-- > 0 ? undefined : 'EPERM')
        for (const object of after) void old.put(object)
        await old.bell.settle()
        if (budget < 0) killed++
        await old.stop()

        kernel.refuse = () => undefined
        const fresh = new Story(kernel)
        await tell(fresh, after)
        await fresh.advance(10_000)
        await fresh.stop()

        const clean = new Story()
        await tell(clean, after)
        await clean.stop()
        expect(kernel.toString().split('\n').sort()).to.deep.equal(clean.kernel.toString().split('\n').sort())
        expect([...kernel.state.addresses].sort()).to.deep.equal([...clean.kernel.state.addresses].sort())
        expect([...kernel.state.setMembers].sort()).to.deep.equal([...clean.kernel.state.setMembers].sort())
      }
      expect(killed).to.be.greaterThan(50)
    })).timeout(60_000)
})
