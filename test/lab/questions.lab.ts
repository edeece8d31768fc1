/** Questions that operators ask, each answered by one command: what it prints is read. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { endpoint, node, service, slice, TERMINATING, UNREADY } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import {
  clearNode,
  type HeldConnections,
  Host,
  ipvsadm,
  prepareNode,
  Program,
  sh,
  temporaryFolder,
} from '../support/lab.ts'

const folder = temporaryFolder()
const config = join(temporaryFolder(), 'config.yaml')
const ARGS = ['--config', config, '--manifests', folder, '--hostname-override', 'node-1']

const publish = (name: string, ...objects: readonly object[]): void =>
  writeFileSync(join(folder, `${name}.yaml`), objects.map((object) => JSON.stringify(object)).join('\n---\n'))

/** All that a command prints. */
async function answer(...args: readonly string[]): Promise<string> {
  const program = new Program(args)
  await program.ended()
  return [program.stdout, ...program.lines.map(({ msg }) => msg)].join('\n')
}

const created = (day: number): Record<string, unknown> => ({ creationTimestamp: `2026-01-0${day}T00:00:00Z` })
const pod = (name: string, parts: object = {}): Record<string, unknown> => ({
  nodeName: 'node-1',
  targetRef: { kind: 'Pod', name, namespace: 'shop' },
  ...parts,
})
const zone = (name: string): object => ({ hints: { forZones: [{ name }] } })

/** `web-old` is published by the first state only: it drains. */
function web(isFirst: boolean): object[] {
  const endpoints = [
    endpoint('10.244.1.2', pod('web-a', zone('a'))),
    endpoint('10.244.2.2', pod('web-b', zone('a'))),
    endpoint('10.244.9.1', { nodeName: 'node-2', ...zone('b') }),
    endpoint('10.244.1.4', pod('web-starting', { conditions: UNREADY })),
    endpoint('10.244.1.5', pod('web-leaving', { conditions: TERMINATING })),
  ]
  const spec = { sessionAffinity: 'ClientIP', sessionAffinityConfig: { clientIP: { timeoutSeconds: 300 } } }
  const old = { name: 'old', clusterIP: '10.96.0.20' }
  return [
    service({ clusterIP: '10.96.0.10', spec, metadata: created(1) }),
    slice({ endpoints }),
    service(old),
    slice({
      service: 'old',
      endpoints: isFirst ? [endpoint('10.244.1.2', pod('old-a'))] : [endpoint('10.244.2.2')],
    }),
  ]
}

function others(): object[] {
  const status = { loadBalancer: { ingress: [{ ip: '203.0.113.20' }] } }
  return [
    service({ name: 'local', clusterIP: '10.96.0.11', spec: { internalTrafficPolicy: 'Local' } }),
    slice({ service: 'local', endpoints: [endpoint('10.244.9.1')] }),
    service({ name: 'empty', clusterIP: '10.96.0.12' }),
    service({
      name: 'first',
      clusterIP: '10.96.0.13',
      metadata: created(1),
      spec: { externalIPs: ['203.0.113.5'] },
    }),
    service({
      name: 'second',
      clusterIP: '10.96.0.14',
      metadata: created(2),
      spec: { externalIPs: ['203.0.113.5'] },
    }),
    service({
      name: 'greedy',
      clusterIP: '10.96.0.15',
      spec: { externalIPs: ['192.0.2.254', '10.96.0.10'] },
    }),
    {
      ...service({
        name: 'guarded',
        clusterIP: '10.96.0.16',
        spec: {
          type: 'LoadBalancer',
          loadBalancerSourceRanges: ['198.51.100.0/24'],
          externalTrafficPolicy: 'Local',
        },
      }),
      status,
    },
    slice({ service: 'guarded', endpoints: [endpoint('10.244.1.2', pod('guarded-a'))] }),
  ]
}

describe('operators ask', () => {
  let program: Program
  let held: HeldConnections

  before(async () => {
    await prepareNode()
    await sh(`
      ip link add eth0 type dummy
      ip addr add 192.0.2.1/24 dev eth0
      ip link set eth0 up
      ip route add default via 192.0.2.254
      ipvsadm -A -t 192.0.2.1:6443 -s wlc`)
    const pods = [await Host.add('pod1', 1), await Host.add('pod2', 2)]
    const client = await Host.add('client', 100)
    await Promise.all(pods.map((one) => one.serve()))
    writeFileSync(
      config,
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclusterCIDR: 10.244.0.0/16\n',
    )
    publish('node', node('node-1', 'a'))
    publish('web', ...web(true))
    publish('others', ...others())
    program = await Program.start(...ARGS)
    held = await client.hold('tcp', '10.96.0.20', 80, 2)
    publish('web', ...web(false))
    await eventually(
      async () => expect((await ipvsadm()).join('\n')).to.match(/10\.244\.1\.2:8080 .*-w 0/),
      60_000,
    )
  })
  after(async () => {
    await held.close()
    await program.stop()
    await sh('ip route del default; ip link del eth0')
    await clearNode()
  })

  const QUESTIONS: readonly (readonly [string, readonly string[], RegExp])[] = [
    ['Why does this Pod get no traffic? It starts.', ['explain', 'web'], /web-starting .*out: not ready/],
    ['Why does this one get none? It ends.', ['explain', 'web'], /web-leaving .*out: terminating/],
    ['And this one? It is in another zone.', ['explain', 'web'], /10\.244\.9\.1:8080 .*meant for zone b/],
    [
      'And this one? It is on another node.',
      ['explain', 'local'],
      /10\.244\.9\.1:8080 .*on node node-2.*Local/,
    ],
    [
      'Why is it refused? No endpoint is left.',
      ['explain', 'empty'],
      /no endpoint gets traffic: connections are refused/,
    ],
    ['Why is this weight 0?', ['get', 'old'], /10\.244\.1\.2:8080 .* 0 .*2 \+ 0 .*draining/],
    ['Who owns this VIP?', ['get', '10.96.0.20'], /10\.96\.0\.20:80\/TCP +shop\/old:http/],
    ['Which Pods are behind it?', ['get', '10.96.0.10'], /10\.244\.1\.2:8080 +shop\/web-a +node-1/],
    [
      'Ping works, curl does not?',
      ['explain', '10.96.0.10:81'],
      /No Service has 10\.96\.0\.10:81.*answers ping.*10\.96\.0\.10:80/,
    ],
    [
      'Why is the source address the node?',
      ['explain', 'web', '--from', '198.51.100.7'],
      /see the node's address: the client is no Pod/,
    ],
    [
      'What do Pods see of a Pod?',
      ['explain', 'web', '--from', '10.244.9.9'],
      /see the client's own address/,
    ],
    [
      'Why does a Pod see the node when it asks itself?',
      ['explain', 'web', '--from', 'shop/web-a'],
      /web-a +node-1 +in: it sees the node's address/,
    ],
    ['Why does one client always get one Pod?', ['explain', 'web'], /keeps its endpoint for 300 s/],
    [
      'Why does this client get nothing from the load balancer?',
      ['explain', '203.0.113.20:80', '--from', '192.0.2.9'],
      /dropped: the client is in none of loadBalancerSourceRanges/,
    ],
    [
      'And what does an endpoint see of one that may?',
      ['explain', '203.0.113.20:80', '--from', '198.51.100.7'],
      /guarded-a .*in: it sees the client's own address/,
    ],
    [
      'Why is the external IP not mine?',
      ['explain', 'second'],
      /203\.0\.113\.5:80\/TCP: shop\/first is older/,
    ],
    [
      'Why does the node not lose its gateway to a Service?',
      ['explain', 'greedy'],
      /192\.0\.2\.254 is a gateway of this node/,
    ],
    [
      'Why is a cluster IP no external IP?',
      ['explain', 'greedy'],
      /10\.96\.0\.10 is the cluster IP of shop\/web/,
    ],
    [
      'What is this virtual server that no Service has?',
      ['get', '192.0.2.1'],
      /192\.0\.2\.1:6443\/TCP +- .*foreign/,
    ],
    [
      'Which scheduler is it really?',
      ['get', 'web', '-o', 'json'],
      /"scheduler": \{\s+"wanted": "rr",\s+"programmed": "rr"/,
    ],
    [
      'Does the kernel have what the API wants?',
      ['diff', ...ARGS],
      /no difference: the kernel is as the API wants it/,
    ],
    ["What is somebody else's?", ['diff', ...ARGS], /not ours, and left alone:[^]*192\.0\.2\.1:6443\/TCP/],
    ['Is anything wrong here?', ['doctor', '--only', 'sysctls', '--config', config], /sysctls +ok/],
    [
      'What do I send to who helps me?',
      ['report', ...ARGS],
      /==> get[^]*shop\/web[^]*==> iptables-save[^]*KUBE-SERVICES/,
    ],
  ]
  for (const [question, command, said] of QUESTIONS)
    it(`${question} (${command.filter((word) => !ARGS.includes(word)).join(' ')})`, async () => {
      expect(await answer(...command)).to.match(said)
    })
})
