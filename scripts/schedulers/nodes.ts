/**
 * Eight nodes around the namespace in which this runs, which is where the clients are; behind the nodes are the Pods:
 *
 *   clients ── node 1 ──┐
 *   10.244.n.2 ...      ├── Pods 10.245.0.1 to 16
 *           └─ node 8 ──┘
 *
 * Each node has its own IPVS and its own kube-ipvs, and beside that what kube-proxy's mode nftables does.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { service, slice } from '../../test/support/builders.ts'
import { eventually } from '../../test/support/eventually.ts'
import { namespaceOf, OWN_RUN, Program, sh, temporaryFolder } from '../../test/support/lab.ts'
import { type Choice, NODES, numbers, PODS } from './plan.ts'
import { ALL_PODS, clientAddress, PORT, startPods } from './traffic.ts'

const ALL = numbers(NODES)
const namespace = (node: number): string => namespaceOf(`node${node}`)
const PODS_NAMESPACE = namespaceOf('pods')
const inside = (of: string): string[] => ['ip', 'netns', 'exec', of]

/** Each measurement has a virtual IP of its own: nothing is left of the connections before. */
const virtualIp = (number: number, choice: Choice): string =>
  `10.${choice === 'random' ? 97 : 96}.0.${number}`

const addPods = (): string => `
  ip netns add ${PODS_NAMESPACE}
  ip -n ${PODS_NAMESPACE} link set lo up
  ${ALL_PODS.map(({ address }) => `ip -n ${PODS_NAMESPACE} addr add ${address}/32 dev lo`).join('\n')}`

/** A client's packets take the way of its own node: which one, its address says. */
const addNode = (node: number): string => {
  const own = namespace(node)
  return `
    ip netns add ${own}
    ip netns exec ${own} sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0
    ip link add node${node} type veth peer name clients netns ${own}
    ip -n ${own} link add pods type veth peer name node${node} netns ${PODS_NAMESPACE}
    ip addr add ${clientAddress(node)}/24 dev node${node}
    ip -n ${own} addr add 10.244.${node}.1/24 dev clients
    ip -n ${own} addr add 10.246.${node}.1/24 dev pods
    ip -n ${PODS_NAMESPACE} addr add 10.246.${node}.2/24 dev node${node}
    ip link set node${node} up
    ip -n ${own} link set lo up
    ip -n ${own} link set clients up
    ip -n ${own} link set pods up
    ip -n ${PODS_NAMESPACE} link set node${node} up
    ip rule add from ${clientAddress(node)} lookup ${100 + node}
    ip route add default via 10.244.${node}.1 table ${100 + node}
    ip -n ${own} route add 10.245.0.0/24 via 10.246.${node}.2
    ip -n ${PODS_NAMESPACE} route add 10.244.${node}.0/24 via 10.246.${node}.1`
}

/** One Pod of all, at random, for each connection. */
const addRandomChoice = (node: number): string => `
  ip netns exec ${namespace(node)} nft -f - <<END
  table ip random-choice {
    chain services {
      type nat hook prerouting priority dstnat
      ip daddr 10.97.0.0/24 tcp dport ${PORT} dnat to numgen random mod ${PODS} map {
        ${ALL_PODS.map(({ address }, pod) => `${pod} : ${address}`).join(', ')}
      }
    }
  }
END`

/** As many Services as there are measurements, all with the same Pods. */
function publish(folder: string, services: number): void {
  const port = { name: 'http', port: PORT, protocol: 'TCP' }
  const endpoints = ALL_PODS.map(({ address }) => address)
  const objects = numbers(services).flatMap((number) => [
    service({ name: `web-${number}`, clusterIP: virtualIp(number, 'rr'), ports: [port] }),
    slice({ name: `web-${number}`, service: `web-${number}`, ports: [port], endpoints }),
  ])
  writeFileSync(join(folder, 'web.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
}

function configure(file: string, scheduler: string): void {
  const head = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'
  writeFileSync(file, `${head}clusterCIDR: 10.244.0.0/15\nipvs:\n  scheduler: ${scheduler}\n`)
}

/** Waits until every virtual server of every node has it. */
async function waitFor(scheduler: string, services: number): Promise<void> {
  const count = ALL.map(
    (node) =>
      `ip netns exec ${namespace(node)} ipvsadm -S -n | grep -c -- '^-A .* -s ${scheduler}\\( \\|$\\)' || true`,
  ).join('\n')
  await eventually(
    async () => {
      const counts = (await sh(count)).trim().split('\n')
      if (counts.some((found) => Number(found) !== services))
        throw new Error(`virtual servers with ${scheduler}: ${counts.join(', ')} of ${services}`)
    },
    120_000,
    200,
  )
}

export interface Nodes {
  /** Has all nodes choose Pods in this way; returns the virtual IP of a measurement. */
  readonly use: (choice: Choice, number: number) => Promise<string>
  /** Ends Pods and programs. */
  readonly end: () => Promise<void>
}

/** Lays the network, and starts Pods and programs; `services` is how many measurements there can be. */
export async function buildNodes(services: number): Promise<Nodes> {
  await sh(['ip link set lo up', addPods(), ...ALL.map(addNode)].join('\n'))
  const [folder, config] = [temporaryFolder(), join(temporaryFolder(), 'config.yaml')]
  publish(folder, services)
  configure(config, 'rr')
  const pods = await startPods(ALL_PODS, PORT, inside(PODS_NAMESPACE))
  const programs = ALL.map((node) => {
    const args = ['--config', config, '--manifests', folder, '--hostname-override', `node-${node}`]
    return new Program(args, [...inside(namespace(node)), ...OWN_RUN])
  })
  await Promise.all(programs.map((program) => program.logged('first sync finished', 300_000)))
  await sh(ALL.map(addRandomChoice).join('\n'))
  return {
    use: async (choice, number) => {
      if (choice !== 'random') {
        configure(config, choice)
        await waitFor(choice, services)
      }
      return virtualIp(number, choice)
    },
    end: async () => {
      pods.kill()
      await Promise.all(programs.map((program) => program.stop()))
    },
  }
}
