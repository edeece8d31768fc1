/**
 * Services and slices that name what others have: the API server's address, another node's, a gateway's, a neighbour's,
 * the node itself. Nobody loses what they have, and whatever else these Services ask for is served.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { relay } from '../support/api-relay.ts'
import { type ApiObject, ApiServer } from '../support/api-server.ts'
import { endpoint, service, slice } from '../support/builders.ts'
import { buildCluster, type ClusterLab, fixtureObjects } from '../support/cluster-lab.ts'
import { eventually } from '../support/eventually.ts'
import {
  ask,
  boundAddresses,
  clearNode,
  ConfigMapVolume,
  type Host,
  ipvsadm,
  Program,
  run,
  sh,
  temporaryFolder,
} from '../support/lab.ts'

type Json = Record<string, unknown>

const NODE = '192.168.50.1'
const NODE2 = '192.168.50.2'
/** Where the API server is: an address of the outside host. */
const API = '192.168.50.100'
const API_NAME = 'api.lab'
const GATEWAY = '192.168.50.254'
/** Another address of the outside host, which speaks with nobody of its own accord. */
const NEIGHBOUR = '192.168.50.101'
/** Of kubelets, as it were. */
const KUBELET = 10_250
const UNANSWERED = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'timeout']
const CONFIG = {
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: 'ipvs',
  clusterCIDR: '10.244.0.0/16,fd00:10:244::/48',
}
const http = (port = 80, parts: Json = {}): Json => ({
  ...{ name: 'http', port, targetPort: 8080, protocol: 'TCP' },
  ...parts,
})
const withBalancer = (object: Json, ...ips: readonly string[]): Json => ({
  ...object,
  status: { loadBalancer: { ingress: ips.map((ip) => ({ ip })) } },
})

const DASHBOARD = service({
  ...{ name: 'dashboard', namespace: 'kube-system', clusterIP: '10.96.0.51' },
  ports: [http(443)],
  spec: { externalIPs: [API, '203.0.113.51'] },
})
/** As k3s' ServiceLB writes it: the addresses of all nodes. */
const TRAEFIK = withBalancer(
  service({
    ...{ name: 'traefik', namespace: 'kube-system', clusterIP: '10.96.0.61' },
    ports: [http(80, { nodePort: 30_961 })],
    spec: { type: 'LoadBalancer' },
  }),
  ...[NODE, NODE2],
)

describe('what others have', () => {
  let cluster: ClusterLab
  let program: Program | undefined
  let host: ChildProcess

  before(async () => {
    cluster = await buildCluster()
    const { outside, node2 } = cluster
    await sh(`
      ip -n ${outside.namespace} addr add ${NEIGHBOUR}/32 dev wire0
      ip -n ${outside.namespace} route add 10.244.1.0/24 via ${NODE}`)
    host = spawn('python3', ['test/support/traffic.py', 'serve', 'node', '8080'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await Promise.all([once(host.stdout!, 'data'), outside.serve(), node2.serve(KUBELET)])
  })
  after(async () => {
    host.kill()
    await cluster.remove()
  })
  async function end(): Promise<void> {
    await program?.stop()
    program = undefined
    await clearNode()
  }

  /** Who answers, and which errors there are, each once; undefined asks from the node. */
  async function answers(
    client: Host | undefined,
    address: string,
    port = 80,
    { count = 4, seconds = 10 } = {},
  ): Promise<string> {
    const questions = [{ protocol: 'tcp', address, port, count } as const]
    const [reply] = await (client === undefined ? ask(questions, seconds) : client.ask(questions, seconds))
    const names = Object.keys(reply!.seen).map((text) => text.split(' ')[0]!)
    return [...new Set([...names, ...Object.keys(reply!.errors)])].sort().join(' and ')
  }
  const soonAnswers = (client: Host, address: string, port: number, expected: string): Promise<unknown> =>
    eventually(async () => expect(await answers(client, address, port)).to.equal(expected), 60_000, 250)
  /** Why external addresses of a Service, or its endpoints, are not served. */
  const reasons = (name: string, msg = 'an external address is not served'): unknown[] =>
    program!.lines.filter((line) => line.msg === msg && line.service === name).map(({ reason }) => reason)
  const soonReasons = (name: string, expected: readonly string[], msg?: string): Promise<unknown> =>
    eventually(() => expect(reasons(name, msg)).to.have.members(expected), 60_000)
  const node2Answers = async (): Promise<void> => {
    expect(await answers(undefined, NODE2, KUBELET)).to.equal('node2')
    expect(await answers(cluster.pod, NODE2, KUBELET)).to.equal('node2')
    expect(await boundAddresses()).to.not.include(NODE2)
  }
  /** A slice with one endpoint, a1. */
  const sliceOf = (of: Json): Json => {
    const { name, namespace } = of.metadata as { name: string; namespace: string }
    return slice({
      ...{ service: name, namespace },
      endpoints: [endpoint(cluster.local[0].ipv4, { nodeName: 'lab' })],
    })
  }

  describe('the API server, and its Nodes', () => {
    const folder = temporaryFolder()
    const hosts = join(folder, 'hosts')
    let server: ApiServer
    let closeRelay: () => void

    before(async () => {
      server = await ApiServer.start([API, API_NAME])
      closeRelay = await relay(cluster.outside, API, 6443, server.url)
      server.load('nodes', fixtureObjects('nodes') as unknown as ApiObject[])
      put(service({ name: 'plain', clusterIP: '10.96.0.50' }))
      // The mounts are the test's own.
      writeFileSync(hosts, `${readFileSync('/etc/hosts', 'utf8')}\n${API} ${API_NAME}\n`)
      await sh(`mount --bind ${hosts} /etc/hosts`)
    })
    after(async () => {
      await end()
      closeRelay()
      await server.close()
      await sh('umount /etc/hosts')
    })

    function put(object: Json): void {
      server.put('services', object)
      server.put('endpointslices', sliceOf(object))
    }
    /** Starts the program when somebody has left the API server's address bound. */
    async function startBehind(port: number, url: string): Promise<void> {
      await sh(`
        ip link add kube-ipvs0 type dummy
        ip addr add ${API}/32 dev kube-ipvs0
        ipset create KUBE-IPVS-IPS hash:ip
        ipset add KUBE-IPVS-IPS ${API}
        ipvsadm -A -t ${API}:${port} -s rr
        ipvsadm -a -t ${API}:${port} -r ${cluster.local[0].ipv4}:8080 -m`)
      expect(await answers(undefined, API, port), 'the node is cut off').to.equal('a1')
      writeFileSync(join(folder, 'kubeconfig'), server.kubeconfig().replace(server.url, url))
      const clientConnection = { kubeconfig: join(folder, 'kubeconfig') }
      writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...CONFIG, clientConnection }))
      program = new Program(['--config', join(folder, 'config.json'), '--hostname-override', 'lab'])
      await program.logged('first sync finished', 90_000)
    }
    async function apiIsFree(): Promise<void> {
      expect(await boundAddresses()).to.not.include(API)
      expect((await ipvsadm()).filter((line) => line.includes(API))).to.deep.equal([])
      expect(await run('ipset', 'list', 'KUBE-IPVS-IPS')).to.not.contain(`${API}\n`)
      expect(await answers(undefined, API, 8080)).to.equal('outside')
      expect(await answers(cluster.pod, API, 8080)).to.equal('outside')
    }
    const listsOfNodes = (): number =>
      server.requests.filter(
        ({ url: { pathname, searchParams } }) =>
          pathname === '/api/v1/nodes' && !searchParams.has('fieldSelector'),
      ).length
    const events = (service: string): string[] =>
      server.events
        .filter(({ reason, regarding }) => reason === 'ExternalAddressRefused' && regarding.name === service)
        .map(({ note }) => note)

    it('a start unbinds what was left bound, and lists', async () => {
      await startBehind(6443, `https://${API}:6443`)
      await apiIsFree()
      expect(program!.lines.map(({ msg }) => msg)).to.include(
        'the address of the API server is bound on this node: unbinding it',
      )
      expect(await answers(cluster.pod, '10.96.0.50')).to.equal('a1')
    })

    it('an external IP that is its address is refused, while all else of the Service is served', async () => {
      expect(listsOfNodes(), 'no Service names an external address').to.equal(0)
      put(DASHBOARD)
      const note = `Not served: ${API} is an address of the API server`
      await eventually(() => expect(events('dashboard')).to.deep.equal([note]), 60_000)
      await soonAnswers(cluster.outside, '203.0.113.51', 443, 'a1')
      expect(await answers(cluster.pod, '10.96.0.51', 443)).to.equal('a1')
      await apiIsFree()
      expect(listsOfNodes(), 'a Service names one').to.be.at.least(1)
    })

    it("a load balancer's that is, is, too", async () => {
      const object = service({ name: 'balanced', clusterIP: '10.96.0.52', spec: { type: 'LoadBalancer' } })
      put(withBalancer(object, API, '203.0.113.52'))
      await soonReasons('shop/balanced', [`${API} is an address of the API server`])
      await soonAnswers(cluster.outside, '203.0.113.52', 80, 'a1')
      await apiIsFree()
    })

    it("a load balancer's that are the nodes' are refused: the other node is reached as before", async () => {
      await node2Answers()
      put(TRAEFIK)
      await eventually(() => expect(events('traefik')).to.have.length(2), 60_000)
      expect(events('traefik')).to.have.members([
        `Not served: ${NODE} is an address of this node`,
        `Not served: ${NODE2} is an address of another node`,
      ])
      await soonAnswers(cluster.pod, '10.96.0.61', 80, 'a1')
      await node2Answers()
    })

    it('the API server is known by a name: a start with the Services unbinds its address, too', async () => {
      await end()
      await startBehind(443, `https://${API_NAME}:6443`)
      expect(reasons('kube-system/dashboard')).to.deep.equal([`${API} is an address of the API server`])
      await apiIsFree()
      expect(await answers(cluster.outside, '203.0.113.51', 443)).to.equal('a1')
      put(service({ name: 'late', clusterIP: '10.96.0.53' }))
      await soonAnswers(cluster.pod, '10.96.0.53', 80, 'a1')
    })
  })

  describe('other nodes, links, endpoints and namespaces', () => {
    const [volume, folder] = [new ConfigMapVolume(), temporaryFolder()]
    const FOREIGN = [
      `-A -t ${NODE}:6443 -s wlc`,
      `-a -t ${NODE}:6443 -r 192.168.50.11:6443 -m -w 1`,
      '-A -t 198.51.100.1:80 -s wlc',
    ]
    const ANYTHING = { '*': ['0.0.0.0/0'] }

    const write = (name: string, ...objects: Json[]): void => {
      writeFileSync(
        join(folder, `${name}.yaml`),
        objects.map((object) => JSON.stringify(object)).join('\n---\n'),
      )
    }
    const remove = (name: string): void => {
      rmSync(join(folder, `${name}.yaml`))
    }
    /** The files as a ConfigMap has them. */
    const publish = (config: Json, namespaces: unknown = ANYTHING): void => {
      volume.publish({
        'config.conf': JSON.stringify({ ...CONFIG, ...config }),
        'external-addresses.yaml': JSON.stringify({
          ...{ apiVersion: 'kube-ipvs.io/v1alpha1', kind: 'ExternalAddressPolicy' },
          namespaces,
        }),
      })
    }
    const configure = async (config: Json): Promise<void> => {
      program!.lines.length = 0
      publish(config)
      await program!.logged('applied the new configuration', 60_000)
    }
    const unanswered = async (address: string, port = 80): Promise<void> => {
      expect(await answers(cluster.outside, address, port, { seconds: 4 })).to.be.oneOf(UNANSWERED)
    }

    before(async () => {
      await sh(`
        ip route add default via ${GATEWAY} dev wire0
        ip -n ${cluster.outside.namespace} route add 192.168.50.70/32 via ${NODE}
        ipvsadm -A -t ${NODE}:6443 -s wlc
        ipvsadm -a -t ${NODE}:6443 -r 192.168.50.11:6443 -m
        ipvsadm -A -t 198.51.100.1:80 -s wlc`)
      expect(await answers(undefined, NEIGHBOUR, 8080)).to.equal('outside')
      const linked = service({
        ...{ name: 'linked', clusterIP: '10.96.0.71' },
        spec: { externalIPs: [GATEWAY, NEIGHBOUR, '203.0.113.9'] },
      })
      write('linked', linked, sliceOf(linked))
      write('nodes', ...fixtureObjects('nodes'))
      publish({})
      program = await Program.start(
        ...['--config', join(volume.folder, 'config.conf'), '--manifests', folder],
        ...['--hostname-override', 'lab'],
      )
    })
    after(async () => {
      await end()
      await sh(`ip route del default via ${GATEWAY}`)
    })

    it("a gateway's and a neighbour's address are refused: the node still reaches the neighbour", async () => {
      await soonAnswers(cluster.outside, '203.0.113.9', 80, 'a1')
      expect(reasons('shop/linked')).to.have.length(2)
      expect(reasons('shop/linked').join()).to.contain(`${GATEWAY} is a gateway of this node on wire0`)
      expect(reasons('shop/linked').join()).to.contain(`${NEIGHBOUR} is in use by a neighbour on wire0`)
      expect(await boundAddresses()).to.not.include.oneOf([GATEWAY, NEIGHBOUR])
      expect(await answers(undefined, NEIGHBOUR, 8080)).to.equal('outside')
    })

    it("the neighbour's is served when the neighbour is gone", async () => {
      await sh(`ip neigh flush to ${NEIGHBOUR}`)
      await eventually(async () => expect(await boundAddresses()).to.include(NEIGHBOUR), 90_000, 500)
      await soonAnswers(cluster.pod, NEIGHBOUR, 80, 'a1')
      expect(await boundAddresses()).to.not.include(GATEWAY)
      remove('linked')
    })

    it("addresses of the nodes as a load balancer's are refused: the other node is reached as before", async () => {
      await node2Answers()
      write('traefik', TRAEFIK, sliceOf(TRAEFIK))
      await soonReasons('kube-system/traefik', [
        `${NODE} is an address of this node`,
        `${NODE2} is an address of another node`,
      ])
      await soonAnswers(cluster.pod, '10.96.0.61', 80, 'a1')
      expect(await answers(cluster.outside, NODE, 30_961)).to.equal('a1')
      await node2Answers()
    })

    it('endpoints that lead to the node itself get nothing; the node as a host of Pods does', async () => {
      const [good] = cluster.local
      const bad = ['127.0.0.1', '169.254.169.254', '10.96.0.82']
      write(
        'endpoints',
        service({ name: 'mixed', clusterIP: '10.96.0.81' }),
        slice({ service: 'mixed', endpoints: [...bad, good.ipv4] }),
        service({ name: 'host', clusterIP: '10.96.0.82' }),
        slice({ service: 'host', endpoints: [endpoint(NODE, { nodeName: 'lab' })] }),
      )
      await soonAnswers(cluster.pod, '10.96.0.82', 80, 'node')
      expect(await answers(cluster.pod, '10.96.0.81', 80, { count: 20 })).to.equal('a1')
      const said = reasons('shop/mixed', 'an endpoint is not served')
      expect(said).to.have.length(3)
      for (const address of bad) expect(said.join()).to.contain(`${address} is a`)
      expect(reasons('shop/host', 'an endpoint is not served')).to.deep.equal([])
      const metrics = await (await fetch('http://127.0.0.1:10249/metrics')).text()
      expect(metrics).to.match(/^kube_ipvs_refused_endpoints 3$/m)
    })

    it('a namespace loses its external IP with its network, live, and gets it back; a broken list changes nothing', async () => {
      const owners = [
        service({ name: 'own', clusterIP: '10.96.0.91', spec: { externalIPs: ['203.0.113.91'] } }),
        service({
          ...{ name: 'other', namespace: 'team-b', clusterIP: '10.96.0.92' },
          spec: { externalIPs: ['203.0.113.92'] },
        }),
      ]
      write('owners', ...owners, ...owners.map(sliceOf))
      await soonAnswers(cluster.outside, '203.0.113.91', 80, 'a1')
      const onlyOther = async (): Promise<void> => {
        expect(await boundAddresses()).to.not.include('203.0.113.91')
        await unanswered('203.0.113.91')
        expect(await answers(cluster.pod, '10.96.0.91')).to.equal('a1')
        expect(await answers(cluster.outside, '203.0.113.92')).to.equal('a1')
      }

      const others = { 'team-b': ['203.0.113.0/24'] }
      publish({}, { ...others, shop: ['198.51.100.0/24'] })
      const why = 'is in no network that namespace shop may use (ExternalAddressPolicy)'
      await soonReasons('shop/own', [`203.0.113.91 ${why}`])
      await eventually(async () => expect(await boundAddresses()).to.not.include('203.0.113.91'), 60_000, 250)
      await onlyOther()

      publish({}, { ...others, shop: ['0.0.0.0/nonsense'] })
      const { err } = await program!.logged('cannot use the new configuration: the old one stays')
      expect(JSON.stringify(err)).to.contain('external-addresses.yaml').and.contain('namespaces.shop[0]')
      await onlyOther()

      publish({}, { ...others, shop: ['203.0.113.91/32'] })
      await soonAnswers(cluster.outside, '203.0.113.91', 80, 'a1')
      expect(await answers(cluster.outside, '203.0.113.92')).to.equal('a1')
      remove('owners')
    })

    it('excludeCIDRs cover everything: of a Service that is gone nothing answers, and what is foreign stays', async () => {
      await configure({ ipvs: { excludeCIDRs: ['0.0.0.0/0'] } })
      const [a1, a2] = cluster.local
      const old = service({
        ...{ name: 'old', clusterIP: '10.96.0.101', spec: { type: 'LoadBalancer' } },
        ports: [http(80, { nodePort: 30_801 })],
      })
      const both = [a1, cluster.remote[0]].map(({ ipv4 }) => ipv4)
      write('old', withBalancer(old, '203.0.113.101'), slice({ service: 'old', endpoints: both }))
      await soonAnswers(cluster.pod, '10.96.0.101', 80, 'a1 and b1')
      expect(await answers(cluster.outside, '203.0.113.101')).to.equal('a1 and b1')
      expect(await answers(cluster.outside, NODE, 30_801)).to.equal('a1 and b1')

      remove('old')
      write(
        'new',
        service({ name: 'new', namespace: 'team-b', clusterIP: '10.96.0.101', ports: [http(8080)] }),
        slice({ service: 'new', namespace: 'team-b', endpoints: [a2.ipv4] }),
      )
      await soonAnswers(cluster.pod, '10.96.0.101', 8080, 'a2')
      await soonAnswers(cluster.pod, '10.96.0.101', 80, 'ECONNREFUSED')
      await unanswered('203.0.113.101')
      await unanswered(NODE, 30_801)
      const left = await ipvsadm()
      expect(left.filter((line) => /10\.96\.0\.101:80 |203\.0\.113\.101|:30801/.test(line))).to.deep.equal([])
      expect(left).to.include.members(FOREIGN)
    })

    for (const [name, detect] of [
      ['ClusterCIDR', {}],
      ['InterfaceNamePrefix', { detectLocal: { interfaceNamePrefix: 'v-' } }],
    ] as const) {
      it(`clusterCIDR is the network of nodes and load balancers, under ${name}: an address in it is served`, async () => {
        await configure({ clusterCIDR: '192.168.50.0/24', detectLocalMode: name, ...detect })
        const internal = service({
          ...{ name: 'internal', clusterIP: '10.96.0.72', spec: { type: 'LoadBalancer' } },
          ports: [http(80, { nodePort: 30_971 })],
        })
        const both = [cluster.local[0], cluster.remote[0]].map(({ ipv4 }) => ipv4)
        write(
          'internal',
          withBalancer(internal, '192.168.50.70'),
          slice({ service: 'internal', endpoints: both }),
        )
        await soonAnswers(cluster.outside, '192.168.50.70', 80, 'a1 and b1')
        expect(await answers(cluster.pod, '192.168.50.70')).to.equal('a1 and b1')
        expect(reasons('shop/internal')).to.deep.equal([])
        remove('internal')
        await eventually(
          async () => expect(await boundAddresses()).to.not.include('192.168.50.70'),
          60_000,
          250,
        )
      })
    }
  })
})
