/** What `trace` says of flows is what packets do: who answers, and whom it sees, as the kernel has it now. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Trace } from '../../src/view/documents.ts'
import { endpoint, node, service, slice } from '../support/builders.ts'
import { ask, clearNode, Host, prepareNode, Program, sh, temporaryFolder } from '../support/lab.ts'

const folder = temporaryFolder()
const config = join(temporaryFolder(), 'config.yaml')
const ARGS = ['--config', config, '--manifests', folder, '--hostname-override', 'node-1']
const NODE = '192.0.2.1'

const publish = (name: string, ...objects: readonly object[]): void =>
  writeFileSync(join(folder, `${name}.yaml`), objects.map((object) => JSON.stringify(object)).join('\n---\n'))

interface Ended {
  readonly code: number | null
  readonly trace: Trace
}

async function trace(...words: readonly string[]): Promise<Ended> {
  const program = new Program(['trace', ...words, '-o', 'json'])
  const code = await program.ended()
  expect(code, JSON.stringify(program.lines)).to.be.oneOf([0, 1])
  return { code, trace: JSON.parse(program.stdout) as Trace }
}

/** Every frontend has an address of its own, so that each flow is told from the others. */
function objects(pods: readonly Host[]): object[] {
  const ports = [
    { name: 'tcp', port: 80, protocol: 'TCP' },
    { name: 'udp', port: 80, protocol: 'UDP' },
  ]
  const targets = ports.map((port) => ({ ...port, port: 8080 }))
  const served = (name: string, clusterIP: string, parts: object, of: readonly Host[]): object[] => [
    service({ name, clusterIP, ports, ...parts }),
    slice({
      ...{ name, service: name, ports: targets },
      endpoints: of.map(({ ipv4 }, i) =>
        endpoint(ipv4, { nodeName: 'node-1', targetRef: { kind: 'Pod', name: `${name}-${i}` } }),
      ),
    }),
  ]
  const guarded = {
    ...service({
      ...{ name: 'guarded', clusterIP: '10.96.0.13', ports },
      spec: { type: 'LoadBalancer', loadBalancerSourceRanges: ['10.244.1.0/24'] },
    }),
    status: { loadBalancer: { ingress: [{ ip: '203.0.113.20' }] } },
  }
  return [
    ...served('web', '10.96.0.10', {}, pods.slice(1)),
    ...served('own', '10.96.0.11', {}, pods.slice(0, 1)),
    ...served('out', '10.96.0.12', { spec: { externalIPs: ['203.0.113.5'] } }, pods),
    guarded,
    slice({
      ...{ name: 'guarded', service: 'guarded', ports: targets },
      endpoints: [endpoint(pods[0]!.ipv4)],
    }),
    service({ name: 'six', clusterIP: 'fd00:10:96::10', ports, spec: { ipFamilies: ['IPv6'] } }),
    slice({
      ...{ name: 'six', service: 'six', addressType: 'IPv6', ports: targets },
      endpoints: pods.map(({ ipv6 }) => endpoint(ipv6)),
    }),
  ]
}

describe('trace', () => {
  let program: Program
  let pods: Host[]
  let client: Host

  before(async () => {
    await prepareNode()
    await sh(`
      ip link add eth0 type dummy
      ip addr add ${NODE}/24 dev eth0
      ip link set eth0 up`)
    pods = [await Host.add('pod1', 1), await Host.add('pod2', 2)]
    client = await Host.add('client', 100)
    await Promise.all(pods.map((pod) => pod.serve()))
    writeFileSync(
      config,
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclusterCIDR: 10.244.0.0/18,fd00:10:244::/58\n',
    )
    publish('all', node(), ...objects(pods))
    program = await Program.start(...ARGS)
  })
  after(async () => {
    await program.stop('SIGKILL')
    await sh('ip link del eth0')
    await clearNode()
  })

  /** One flow, and what its trace says of it. */
  async function follows(
    from: Host | 'node',
    protocol: 'tcp' | 'udp',
    address: string,
    source: string,
  ): Promise<void> {
    const question = { protocol, address, port: 80, count: 1 }
    const [reply] = from === 'node' ? await ask([question], 10) : await from.ask([question])
    const [name, sees] = Object.keys(reply!.seen)[0]!.split(' ')
    const pod = pods.find((one) => one.name === name)!

    const at = address.includes(':') ? `[${address}]:80` : `${address}:80`
    const { code, trace: found } = await trace(protocol, source, at)
    const text = JSON.stringify(found, undefined, 1)
    expect(code, text).to.equal(0)
    const answers = address.includes(':') ? `[${pod.ipv6}]:8080` : `${pod.ipv4}:8080`
    expect(
      found.connections.map(({ realServer }) => realServer),
      text,
    ).to.include(answers)
    const flow = found.flows.find((one) => one.realServer === answers)
    expect(flow?.sees.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''), text).to.equal(sees)
    const isOfNode = sees !== source
    expect(
      found.rules.some(({ effect }) => effect.includes('an address of this node')),
      text,
    ).to.equal(isOfNode)
  }

  it('follows a Pod to a cluster IP', () => follows(pods[0]!, 'tcp', '10.96.0.10', pods[0]!.ipv4))
  it('follows a datagram', () => follows(pods[0]!, 'udp', '10.96.0.10', pods[0]!.ipv4))
  it('follows a Pod to itself', () => follows(pods[0]!, 'tcp', '10.96.0.11', pods[0]!.ipv4))
  it('follows somebody who is no Pod', () => follows(client, 'tcp', '10.96.0.10', client.ipv4))
  it('follows him to an external IP', () => follows(client, 'tcp', '203.0.113.5', client.ipv4))
  it('follows a Pod to a load balancer that lets it in', () =>
    follows(pods[0]!, 'tcp', '203.0.113.20', pods[0]!.ipv4))
  it('follows a process of the node', () => follows('node', 'tcp', '10.96.0.11', '10.96.0.11'))
  it('follows IPv6', () => follows(client, 'tcp', 'fd00:10:96::10', client.ipv6))

  it('says that source ranges drop it', async () => {
    const question = { protocol: 'tcp', address: '203.0.113.20', port: 80, count: 1 } as const
    const [reply] = await client.ask([question], 3)
    expect(reply!.errors).to.deep.equal({ timeout: 1 })

    const { code, trace: found } = await trace('tcp', client.ipv4, '203.0.113.20:80')
    expect(code).to.equal(1)
    expect(found.conclusions[0]).to.contain('the client is in none of loadBalancerSourceRanges')
    expect(found.rules.at(-1)!.at).to.contain('KUBE-SOURCE-RANGES-FIREWALL')
  })

  it('names Service and Pods, and without the program says what the kernel knows', async () => {
    const { trace: found } = await trace('tcp', client.ipv4, '10.96.0.10:80')
    expect(found.source).to.equal('process')
    expect(found.virtualServer!.service).to.equal('shop/web')
    expect(found.connections[0]!.pod).to.equal('shop/web-0')

    await program.stop('SIGKILL')
    const { code, trace: alone } = await trace('tcp', client.ipv4, '10.96.0.10:80')
    expect(code).to.equal(0)
    expect(alone.source).to.equal('kernel')
    expect(alone.virtualServer!.service).to.equal(undefined)
    expect(alone.connections[0]!.realServer).to.equal(`${pods[1]!.ipv4}:8080`)
    program = await Program.start(...ARGS)
  })

  it('goes by what the kernel has now: a rule that somebody has taken away', async () => {
    await sh('iptables -t nat -F KUBE-POSTROUTING')
    const { trace: found } = await trace('tcp', client.ipv4, '10.96.0.10:80')
    expect(found.conclusions[0]).to.contain("will see the client's address")
  })

  it('says that nobody serves an address', async () => {
    const { code, trace: found } = await trace('tcp', client.ipv4, '10.96.0.10:81')
    expect(code).to.equal(1)
    expect(found.virtualServer).to.equal(undefined)
  })
})
