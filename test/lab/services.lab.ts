/** Services that are reached from outside: what follows the node, what is refused, what is forgotten, what is not started. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { endpoint, service, slice } from '../support/builders.ts'
import { buildCluster, type ClusterLab } from '../support/cluster-lab.ts'
import { eventually } from '../support/eventually.ts'
import { boundAddresses, ipvsadm, Program, run, sh, temporaryFolder } from '../support/lab.ts'

const HEAD = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'
const NODE_PORT = 30_080
const WEB = '10.96.0.10'
const LOAD_BALANCER = '203.0.113.80'
const PATIENCE_MS = 60_000

type Json = Record<string, unknown>

const nodePortService = (parts: Json = {}): Json =>
  service({
    ports: [{ name: 'http', port: 80, protocol: 'TCP', nodePort: NODE_PORT }],
    spec: { type: 'NodePort', ...parts },
  })

let cluster: ClusterLab
let manifests: string
let config: string
let program: Program

/** Replaces a manifest as editors do: the old one, or the new one, never half of it. */
function write(name: string, ...objects: readonly object[]): void {
  const text = objects.map((object) => JSON.stringify(object)).join('\n---\n')
  writeFileSync(join(manifests, `.${name}`), text)
  renameSync(join(manifests, `.${name}`), join(manifests, `${name}.yaml`))
}

const pods = (...names: ('a1' | 'a2' | 'b1' | 'b2')[]): Json[] => {
  const all = [...cluster.local, ...cluster.remote]
  return names.map((name) => {
    const { ipv4 } = all.find((host) => host.name === name)!
    return endpoint(ipv4, { nodeName: name.startsWith('a') ? 'lab' : 'node2' })
  })
}

/** Who answers on an address of the node, from outside: names and the sources that they saw, or errors. */
async function seen(address: string, port: number, protocol: 'tcp' | 'udp' = 'tcp'): Promise<string[]> {
  const [reply] = await cluster.outside.ask([{ protocol, address, port, count: 4 }])
  return [...Object.keys(reply!.seen), ...Object.keys(reply!.errors)].sort()
}

const eventuallySees = (address: string, port: number, expected: readonly string[]): Promise<unknown> =>
  eventually(async () => expect(await seen(address, port)).to.deep.equal(expected), PATIENCE_MS, 200)

before(async () => {
  cluster = await buildCluster()
  manifests = temporaryFolder()
  config = join(temporaryFolder(), 'config.yaml')
  writeFileSync(config, `${HEAD}clusterCIDR: 10.244.0.0/16\nipvs: {syncPeriod: 2s}\n`)
  write('web', nodePortService(), slice({ endpoints: pods('b1') }))
  program = await Program.start('--config', config, '--manifests', manifests, '--hostname-override', 'lab')
})
after(async () => {
  await program.stop()
  await cluster.remove()
})

describe('NodePorts', () => {
  it('follow the addresses of the node as they come and go', async () => {
    await eventuallySees('192.168.50.1', NODE_PORT, ['b1 192.168.50.1'])
    await sh('ip addr add 192.168.50.7/24 dev wire0')
    await eventuallySees('192.168.50.7', NODE_PORT, ['b1 192.168.50.1'])
    await sh('ip addr del 192.168.50.7/24 dev wire0')

    await eventually(
      async () => expect((await ipvsadm()).filter((line) => line.includes('192.168.50.7'))).to.deep.equal([]),
      PATIENCE_MS,
    )
    expect(await seen('192.168.50.1', NODE_PORT)).to.deep.equal(['b1 192.168.50.1'])
  })

  it('are served where nodePortAddresses says, and a change of it is taken live', async () => {
    writeFileSync(
      config,
      `${HEAD}clusterCIDR: 10.244.0.0/16\nipvs: {syncPeriod: 2s}\nnodePortAddresses: [169.254.0.0/16]\n`,
    )
    await eventually(
      async () =>
        expect(
          (await ipvsadm()).filter((line) => line.startsWith('-A') && line.includes(':30080')),
        ).to.deep.equal(['-A -t 169.254.1.1:30080 -s rr']),
      PATIENCE_MS,
    )
    writeFileSync(config, `${HEAD}clusterCIDR: 10.244.0.0/16\nipvs: {syncPeriod: 2s}\n`)
    await eventuallySees('192.168.50.1', NODE_PORT, ['b1 192.168.50.1'])
  })
})

describe('health-check node ports', () => {
  it('tell a load balancer outside whether this node has endpoints', async () => {
    const local = {
      ...nodePortService({
        type: 'LoadBalancer',
        externalTrafficPolicy: 'Local',
        healthCheckNodePort: 30_999,
      }),
      status: { loadBalancer: { ingress: [{ ip: LOAD_BALANCER }] } },
    }
    const answer = async (): Promise<string> =>
      run(
        'ip',
        'netns',
        'exec',
        cluster.outside.namespace,
        'python3',
        '-c',
        GET,
        'http://192.168.50.1:30999/',
      )
    write('web', local, slice({ endpoints: pods('a1', 'a2', 'b1') }))
    await eventually(
      async () => expect(await answer()).to.match(/^200 2 .*"localEndpoints": 2,/s),
      PATIENCE_MS,
      200,
    )

    write('web', local, slice({ endpoints: pods('b1') }))
    await eventually(
      async () => expect(await answer()).to.match(/^503 0 .*"localEndpoints": 0,/s),
      PATIENCE_MS,
      200,
    )

    write('web', nodePortService(), slice({ endpoints: pods('b1') }))
    await eventually(async () => expect(await answer().catch(String)).to.contain('refused'), PATIENCE_MS, 200)
  })
})

/** Prints the status, the weight and the body. */
const GET = `
import sys, urllib.error, urllib.request
try:
    reply = urllib.request.urlopen(sys.argv[1], timeout=5)
except urllib.error.HTTPError as error:
    reply = error
print(reply.status, reply.headers["X-Load-Balancing-Endpoint-Weight"], reply.read().decode())`

describe('virtual addresses are safe', () => {
  let server: ChildProcess
  before(async () => {
    server = spawn('python3', ['test/support/traffic.py', 'serve', 'node', '2222'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(server.stdout!, 'data')
    write(
      'web',
      {
        ...nodePortService({ type: 'LoadBalancer' }),
        status: { loadBalancer: { ingress: [{ ip: LOAD_BALANCER }] } },
      },
      slice({ endpoints: pods('b1') }),
    )
    await eventuallySees(LOAD_BALANCER, 80, ['b1 192.168.50.1'])
  })
  after(() => server.kill())

  it('a port that no Service has is refused on each, though the node listens on it', async () => {
    expect(await seen('192.168.50.1', 2222)).to.deep.equal(['node 192.168.50.100'])
    expect(await seen(WEB, 2222)).to.deep.equal(['ECONNREFUSED'])
    expect(await seen(LOAD_BALANCER, 2222)).to.deep.equal(['ECONNREFUSED'])
    expect(await seen(LOAD_BALANCER, NODE_PORT)).to.deep.equal(['ECONNREFUSED'])
  })

  it('an external IP that is the address of the node is refused, and the node stays reachable (kubernetes #127410)', async () => {
    program.lines.length = 0
    const node = {
      kind: 'Node',
      apiVersion: 'v1',
      metadata: { name: 'lab' },
      status: { addresses: [{ type: 'InternalIP', address: '192.168.50.1' }] },
    }
    write('node', node)
    write(
      'bad',
      service({
        name: 'bad',
        clusterIP: '10.96.0.66',
        spec: { externalIPs: ['192.168.50.1', '127.0.0.1', '203.0.113.9'] },
      }),
    )

    await eventually(async () => expect(await boundAddresses()).to.include('203.0.113.9'), PATIENCE_MS)
    expect(await boundAddresses()).not.to.include('192.168.50.1')
    expect(program.complaints(50).map(({ reason }) => reason)).to.deep.equal([
      '192.168.50.1 is an address of this node',
      '127.0.0.1 is a loopback address',
    ])
    expect(await seen('192.168.50.1', 2222)).to.deep.equal(['node 192.168.50.100'])
    const metrics = await (await fetch('http://127.0.0.1:10249/metrics')).text()
    expect(metrics).to.contain('\nkube_ipvs_refused_addresses 2\n')
    write('bad')
  })

  it('strictARP: nobody on the wire is told where they are', async () => {
    const { namespace } = cluster.outside
    const neighbour = async (): Promise<string> => {
      await sh(
        `ip -n ${namespace} neigh flush dev wire0; ip -n ${namespace} route replace ${LOAD_BALANCER}/32 dev wire0`,
      )
      await seen(LOAD_BALANCER, 80)
      return run('ip', '-n', namespace, 'neigh', 'show', LOAD_BALANCER)
    }
    expect(await neighbour()).to.match(/lladdr/)

    await program.stop()
    writeFileSync(config, `${HEAD}clusterCIDR: 10.244.0.0/16\nipvs: {syncPeriod: 2s, strictARP: true}\n`)
    program = await Program.start('--config', config, '--manifests', manifests, '--hostname-override', 'lab')
    expect(await neighbour()).not.to.match(/lladdr/)
    await sh(`
      sysctl -qw net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0
      ip -n ${namespace} route del ${LOAD_BALANCER}/32 dev wire0`)
  })
})

describe('rules and sets', () => {
  const rules = async (): Promise<string> =>
    (await run('iptables-save')).replaceAll(/^#.*$|\[\d+:\d+\]/gm, '')

  it('are put right when somebody flushes them', async () => {
    const before = await rules()
    expect(before).to.contain('KUBE-SERVICES')

    await sh(
      'iptables -t nat -F KUBE-SERVICES; iptables -t nat -D POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING; ipset flush KUBE-CLUSTER-IP',
    )
    expect(await rules()).not.to.equal(before)

    await eventually(async () => expect(await rules()).to.equal(before), PATIENCE_MS, 200)
    await eventually(
      async () => expect(await run('ipset', 'save', 'KUBE-CLUSTER-IP')).to.contain(`${WEB},tcp:80`),
      PATIENCE_MS,
      200,
    )
  })

  it('ipvs.excludeCIDRs: what is somebody else’s stays, what is on an address of ours goes', async () => {
    await program.stop()
    writeFileSync(
      config,
      `${HEAD}clusterCIDR: 10.244.0.0/16\nipvs: {syncPeriod: 2s, excludeCIDRs: [0.0.0.0/0]}\n`,
    )
    await sh(`
      ipvsadm -A -t 198.51.100.1:80 -s rr
      ipvsadm -a -t 198.51.100.1:80 -r 198.51.100.2:80 -m -w 0
      ip addr add 198.18.0.1/32 dev kube-ipvs0
      ipset add KUBE-EXTERNAL-IP 198.18.0.1,tcp:80
      ipvsadm -A -t 198.18.0.1:80 -s rr`)
    program = await Program.start('--config', config, '--manifests', manifests, '--hostname-override', 'lab')

    await eventually(async () => expect(await boundAddresses()).not.to.include('198.18.0.1'), PATIENCE_MS)
    expect((await ipvsadm()).filter((line) => /198\.(51|18)/.test(line))).to.deep.equal([
      '-A -t 198.51.100.1:80 -s rr',
      '-a -t 198.51.100.1:80 -r 198.51.100.2:80 -m -w 0',
    ])
    await sh('ipvsadm -D -t 198.51.100.1:80')
  })
})

describe('UDP', () => {
  it('a sender with a fixed port never reaches a Pod that is gone, through a rolling update', async () => {
    const dns = service({
      name: 'dns',
      clusterIP: '10.96.0.53',
      ports: [{ name: 'dns', port: 53, protocol: 'UDP', nodePort: 30_053 }],
      spec: { type: 'NodePort', externalIPs: ['203.0.113.53'] },
    })
    const dnsSlice = (...names: Parameters<typeof pods>): object =>
      slice({
        name: 'dns-1',
        service: 'dns',
        ports: [{ name: 'dns', port: 8080, protocol: 'UDP' }],
        endpoints: pods(...names),
      })
    write('dns', dns, dnsSlice('a1', 'b1'))
    const frontends = ['10.96.0.53:53', '203.0.113.53:53', '192.168.50.1:30053'] as const
    const answers = async (frontend: string): Promise<string[]> => {
      const [address, port] = frontend.split(':')
      // IPVS tells the replies of one Pod to one client port apart by nothing else.
      const sourcePort = 40_000 + frontends.indexOf(frontend as never)
      const { sequence, errors } = await cluster.outside.connect('udp', address!, Number(port), {
        sourcePort,
      })
      return [...sequence, ...Object.keys(errors)]
    }
    for (const frontend of frontends) {
      await eventually(async () => expect((await answers(frontend))[0]).to.match(/^[ab]1$/), PATIENCE_MS, 200)
    }
    // One Pod after the other is replaced, as a Deployment does.
    for (const names of [
      ['a2', 'b1'],
      ['a2', 'b2'],
      ['a1', 'b2'],
      ['a1', 'b1'],
    ] as const) {
      write('dns', dns, dnsSlice(...names))
      const wanted = pods(...names).map(({ addresses }) => `${(addresses as string[])[0]!}:8080`)
      await eventually(async () => {
        const real = (await ipvsadm()).filter((line) => line.startsWith('-a -u 10.96.0.53'))
        expect(real.map((line) => line.split(' ')[4]).sort()).to.deep.equal(wanted.sort())
      }, PATIENCE_MS)
      await eventually(async () => {
        const tracked = await run('conntrack', '-L', '-p', 'udp', '-s', '192.168.50.100').catch(() => '')
        const live = wanted.map((text) => `src=${text.split(':')[0]!} `)
        expect(
          tracked.split('\n').filter((line) => line !== '' && !live.some((text) => line.includes(text))),
        ).to.deep.equal([])
      }, PATIENCE_MS)
      for (const frontend of frontends) expect(names, frontend).to.include((await answers(frontend))[0])
    }
  })
})

describe('processes', () => {
  it('none is started for a change of Services and endpoints', async () => {
    await program.stop()
    const trace = join(temporaryFolder(), 'trace')
    writeFileSync(config, `${HEAD}clusterCIDR: 10.244.0.0/16\nipvs: {syncPeriod: 1h}\n`)
    const args = ['--config', config, '--manifests', manifests, '--hostname-override', 'lab']
    program = new Program(args, ['strace', '-D', '-f', '--seccomp-bpf', '-e', 'trace=execve', '-o', trace])
    await program.logged('first sync finished', 120_000)
    await program.logged('what becomes of reused source ports', 120_000)
    const started = (): string[] =>
      existsSync(trace)
        ? readFileSync(trace, 'utf8')
            .split('\n')
            .filter((line) => line.includes('execve('))
        : []
    const before = started().length
    expect(before, 'the start itself is seen').to.be.greaterThan(3)

    for (let i = 0; i < 20; i++) {
      const parts = { name: `churn-${i % 5}`, clusterIP: `10.96.1.${i % 5}` }
      write(
        'churn',
        service({
          ...parts,
          ports: [{ name: 'http', port: 80, protocol: 'UDP', nodePort: 31_000 + i }],
          spec: { type: 'NodePort' },
        }),
        slice({
          name: `churn-${i}`,
          service: parts.name,
          ports: [{ name: 'http', port: 8080, protocol: 'UDP' }],
          endpoints: pods(i % 2 === 0 ? 'a1' : 'b1'),
        }),
      )
      await eventually(async () => {
        const port = (await ipvsadm()).filter((line) => line.includes(`192.168.50.1:${31_000 + i} `))
        expect(port).to.have.length(2)
      }, PATIENCE_MS)
    }

    expect(started().slice(before)).to.deep.equal([])
  }).timeout(600_000)
})
