/** The main job on a real kernel, told as a story: a node, three Pods and a client, each in a namespace of its own. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { endpoint, service, slice, TERMINATING } from '../test/support/builders.ts'
import { eventually } from '../test/support/eventually.ts'
import {
  Host,
  ipvsadm,
  prepareNode,
  Program,
  run,
  sh,
  temporaryFolder,
  type Traffic,
} from '../test/support/lab.ts'

const VIP = '10.96.0.10'
const VIP6 = 'fd00:10:96::10'
const NODE_PORT = 30_080
/** The node's address on the wire to the world outside, and who is there. */
const NODE_IP = '192.0.2.1'
const OUTSIDE_IP = '192.0.2.77'
const folder = temporaryFolder()
const config = join(temporaryFolder(), 'config.yaml')

const bold = (text: string): string => `\x1b[1m${text}\x1b[0m`
const dim = (text: string): string => `\x1b[2m${text}\x1b[0m`
let chapter = 0

function tell(title: string, ...lines: readonly string[]): void {
  console.log(`\n${bold(`${++chapter}. ${title}`)}`)
  for (const line of lines) console.log(`   ${line}`)
}

/** Runs a command on the node and shows what a person would see. */
async function show(command: string): Promise<void> {
  console.log(dim(`\n   node# ${command}`))
  const [name, ...args] = command.split(' ')
  for (const line of (await run(name!, ...args)).trimEnd().split('\n')) console.log(`   ${line.trimEnd()}`)
}

function showAnswers(from: string, { answers, errors }: Traffic): void {
  console.log(dim(`\n   ${from}`))
  for (const [name, count] of Object.entries(answers).sort()) {
    console.log(`   ${name}  ${'█'.repeat(count)} ${count}`)
  }
  for (const [name, count] of Object.entries(errors)) console.log(`   ${name}: ${count}`)
}

function configure(scheduler: string): void {
  const head = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'
  writeFileSync(config, `${head}clusterCIDR: 10.244.0.0/16\nipvs:\n  scheduler: ${scheduler}\n`)
}

/** A host that is not of the cluster. */
async function addOutside(): Promise<Host> {
  const outside = Host.of('outside', OUTSIDE_IP, '2001:db8::77')
  const { namespace: ns } = outside
  await sh(`
    ip netns add ${ns}
    ip link add v-outside type veth peer name eth0 netns ${ns}
    ip addr add ${NODE_IP}/24 dev v-outside
    ip link set v-outside up
    ip -n ${ns} addr add ${OUTSIDE_IP}/24 dev eth0
    ip -n ${ns} link set eth0 up
    ip -n ${ns} route add default via ${NODE_IP}`)
  return outside
}

interface Publication {
  /** By name: Pods that are leaving. */
  readonly conditions?: Readonly<Record<string, object>>
  readonly externalTrafficPolicy?: 'Cluster' | 'Local'
}

/** Writes the Service and its slices, as the control plane would. */
function publish(
  pods: readonly Host[],
  { conditions = {}, externalTrafficPolicy = 'Cluster' }: Publication = {},
): void {
  const ports = ['TCP', 'UDP', 'SCTP'].map((protocol) => ({
    name: protocol.toLowerCase(),
    port: 80,
    protocol,
    ...(protocol === 'TCP' && { nodePort: NODE_PORT }),
  }))
  const targets = ports.map(({ name, protocol }) => ({ name, protocol, port: 8080 }))
  const entry = (address: string, name: string): Record<string, unknown> =>
    endpoint(address, { nodeName: 'node-1', ...(name in conditions && { conditions: conditions[name] }) })
  const spec = { type: 'NodePort', clusterIPs: [VIP, VIP6], externalTrafficPolicy }
  const objects = [
    service({ clusterIP: VIP, ports, spec }),
    slice({ name: 'web-4', ports: targets, endpoints: pods.map(({ ipv4, name }) => entry(ipv4, name)) }),
    slice({
      name: 'web-6',
      ports: targets,
      addressType: 'IPv6',
      endpoints: pods.map(({ ipv6, name }) => entry(ipv6, name)),
    }),
  ]
  writeFileSync(join(folder, 'web.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
}

const showSources = ({ sources }: Traffic): void => {
  console.log(`   The Pods saw: ${Object.keys(sources).join(', ')}`)
}

const start = (): Promise<Program> =>
  Program.start('--config', config, '--manifests', folder, '--hostname-override', 'node-1')

/** What the running program says of a client. */
async function explain(what: string, from: string): Promise<void> {
  console.log(dim(`\n   # kube-ipvs explain ${what} --from ${from}`))
  const explained = new Program(['explain', what, '--from', from])
  await explained.ended()
  for (const line of explained.stdout.trimEnd().split('\n')) console.log(`   ${line}`)
}

const until = (text: string, isThere = true): Promise<void> =>
  eventually(
    async () => {
      if ((await ipvsadm()).some((line) => line.includes(text)) !== isThere)
        throw new Error(`waiting for "${text}"`)
    },
    60_000,
    100,
  )

async function main(): Promise<void> {
  console.log(bold('\nkube-ipvs: Services become IPVS virtual servers, in a real kernel'))
  console.log(
    dim('Setting up: three Pods and a client, each in a network namespace with a wire to the node ...'),
  )
  await prepareNode()
  const pods = await Promise.all([1, 2, 3].map((i) => Host.add(`pod${i}`, i)))
  const client = await Host.add('client', 100)
  const outside = await addOutside()
  await Promise.all(pods.map((pod) => pod.serve()))
  configure('rr')
  publish(pods)

  let program = await start()
  tell(
    'kube-ipvs has read a Service and its EndpointSlices',
    `shop/web is ${VIP} and ${VIP6}, port 80, over TCP, UDP and SCTP.`,
  )
  await show('ipvsadm -Ln')
  await show('ip -br addr show kube-ipvs0')

  tell('A client connects, and rr takes turns')
  showAnswers(`client$ 30 TCP connections to ${VIP}:80`, await client.connect('tcp', VIP, 80, { count: 30 }))
  showAnswers(`client$ 9 UDP requests to [${VIP6}]:80`, await client.connect('udp', VIP6, 80, { count: 9 }))
  showAnswers(`client$ 9 SCTP associations to ${VIP}:80`, await client.connect('sctp', VIP, 80, { count: 9 }))

  tell(
    'From outside, the Service is port 30080 of the node',
    'Any node may be asked, and any Pod answers: so that it answers this way, it sees the node as its client.',
  )
  const request = (): Promise<Traffic> => outside.connect('tcp', NODE_IP, NODE_PORT, { count: 6 })
  let answers = await request()
  showAnswers(`outside (${OUTSIDE_IP})$ 6 TCP connections to ${NODE_IP}:${NODE_PORT}`, answers)
  showSources(answers)
  console.log('\n   With externalTrafficPolicy: Local only Pods of this node answer, and see who asks:')
  publish(pods, { externalTrafficPolicy: 'Local' })
  await eventually(async () => {
    await run('ipset', 'test', 'KUBE-NODE-PORT-LOCAL-TCP', String(NODE_PORT))
  }, 60_000)
  answers = await request()
  showAnswers(`outside (${OUTSIDE_IP})$ 6 TCP connections to ${NODE_IP}:${NODE_PORT}`, answers)
  showSources(answers)

  tell(
    'Six long connections are open, two a Pod',
    'The scheduler is switched to lc in the configuration file, while they go on.',
  )
  const held = await client.hold('tcp', VIP, 80, 6)
  configure('lc')
  await until(`-t ${VIP}:80 -s lc`)
  await show(`ipvsadm -Ln -t ${VIP}:80`)
  console.log(`   Open connections: ${await held.open()} of 6`)

  tell('pod3 is asked to leave', 'It gets no new connections (weight 0), and those that it has go on.')
  publish(pods, { conditions: { pod3: TERMINATING } })
  await until(`-t ${VIP}:80 -r ${pods[2]!.ipv4}:8080 -m -w 0`)
  await show(`ipvsadm -Ln -t ${VIP}:80`)
  showAnswers(`client$ 10 TCP connections to ${VIP}:80`, await client.connect('tcp', VIP, 80, { count: 10 }))
  console.log(`   Open connections: ${await held.open()} of 6`)

  tell(
    'kube-ipvs is killed (kill -9) and started again',
    'What is in the kernel serves on. The new process reads it, and finds nothing to change.',
  )
  await program.stop('SIGKILL')
  console.log(`   Killed.     Open connections: ${await held.open()} of 6`)
  program = await start()
  const changes = Object.values(await program.changes()).reduce((sum, count) => sum + count, 0)
  console.log(
    `   Restarted.  Open connections: ${await held.open()} of 6. Changes made to the kernel: ${changes}`,
  )

  tell(
    'The long connections end, and pod3 is gone',
    'Its real server is deleted when its last connection is forgotten, or after the deadline; UDP had none to wait for.',
  )
  await held.close()
  publish(pods.slice(0, 2))
  await sleep(3_000)
  await show(`ipvsadm -Ln -u ${VIP}:80`)

  tell('Why all that?', 'kube-ipvs explain: which endpoints get traffic, and whose address they see.')
  await explain(`${NODE_IP}:${NODE_PORT}`, OUTSIDE_IP)
  await explain(`${VIP}:80/TCP`, client.ipv4)

  await program.stop()
  console.log(
    `\n${bold('That is all.')} Stopping kube-ipvs left the kernel as it is: the Service still answers.`,
  )
  showAnswers(`client$ 6 TCP connections to ${VIP}:80`, await client.connect('tcp', VIP, 80, { count: 6 }))
  await Promise.all([...pods, client, outside].map((host) => host.remove()))
}

void main().then(() => process.exit(0))
