/** Virtual IPs as routes instead of addresses: switched under load, killed in the middle, seen from outside, cleaned up. */
import { type ChildProcess, spawn } from 'node:child_process'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { endpoint, node, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import {
  boundAddresses,
  clearNode,
  type HeldConnections,
  Host,
  prepareNode,
  Program,
  run,
  sh,
  temporaryFolder,
} from '../support/lab.ts'

const VIPS = { IPv4: '10.96.0.10', IPv6: 'fd00:10:96::10' }
const CONNECTIONS = 100
/** Nobody holds a connection to it. */
const SIDE = { IPv4: '10.96.0.60', IPv6: 'fd00:10:96::60' }
const ALL = [...Object.values(VIPS), ...Object.values(SIDE)]
const MANY = 1_000
const KILLS = 4
/** Services that are switched when it is killed. */
const FEW = 600
/** Not ours: a local route that somebody else has made. */
const FOREIGN = '192.0.2.77'

const folder = temporaryFolder()
const config = join(temporaryFolder(), 'config.yaml')
const ARGS = ['--config', config, '--manifests', folder, '--hostname-override', 'node-1']

const publish = (name: string, ...objects: readonly object[]): void =>
  writeFileSync(join(folder, `${name}.yaml`), objects.map((object) => JSON.stringify(object)).join('\n---\n'))

function annotate(binding: string | undefined): void {
  const annotations = binding === undefined ? {} : { 'kube-ipvs.io/vip-binding': binding }
  const { metadata, ...rest } = node() as { metadata: object }
  publish('node', { ...rest, metadata: { ...metadata, annotations } })
}

/** The addresses of our routes, sorted. */
async function routes(): Promise<string[]> {
  const list = async (family: string): Promise<string> =>
    run('ip', family, 'route', 'show', 'table', 'local', 'proto', '73')
  const text = `${await list('-4')}\n${await list('-6')}`
  return [...text.matchAll(/^local (\S+) dev lo/gm)].map((match) => match[1]!).sort()
}

const manyVips = Array.from({ length: MANY }, (_, i) => `10.97.${i >> 8}.${i & 255}`)
const many = (vips = manyVips): object[] =>
  vips.map((clusterIP, i) => service({ name: `many-${i}`, clusterIP }))

/** Waits until everything is bound in one way, and nothing in the other. */
async function boundAs(binding: 'address' | 'route', vips: readonly string[], ms = 60_000): Promise<void> {
  await eventually(async () => {
    const [own, other] = binding === 'address' ? [boundAddresses, routes] : [routes, boundAddresses]
    expect(await own()).to.deep.equal([...vips].sort())
    expect(await other()).to.deep.equal([])
  }, ms)
}

/** Waits until some are bound in the new way. */
async function untilBegun(binding: 'address' | 'route'): Promise<void> {
  const found = binding === 'address' ? boundAddresses : routes
  await eventually(async () => expect(await found()).not.to.deep.equal([]), 60_000, 5)
}

describe('virtual IPs as routes', () => {
  const pods: Host[] = []
  let client: Host
  let program: Program
  let held: HeldConnections[]

  before(async () => {
    await prepareNode()
    await sh(`ip route add local ${FOREIGN}/32 dev lo table local proto static`)
    for (const i of [1, 2]) pods.push(await Host.add(`pod${i}`, i))
    client = await Host.add('client', 100)
    await Promise.all(pods.map((pod) => pod.serve()))
    publish(
      'web',
      service({ clusterIP: VIPS.IPv4, spec: { clusterIPs: Object.values(VIPS) } }),
      slice({ name: 'web-4', endpoints: pods.map(({ ipv4 }) => endpoint(ipv4)) }),
      slice({ name: 'web-6', addressType: 'IPv6', endpoints: pods.map(({ ipv6 }) => endpoint(ipv6)) }),
    )
    publish(
      'side',
      service({ name: 'side', clusterIP: SIDE.IPv4, spec: { clusterIPs: Object.values(SIDE) } }),
      slice({ service: 'side', name: 'side-4', endpoints: pods.map(({ ipv4 }) => endpoint(ipv4)) }),
      slice({
        service: 'side',
        name: 'side-6',
        addressType: 'IPv6',
        endpoints: pods.map(({ ipv6 }) => endpoint(ipv6)),
      }),
    )
    annotate(undefined)
    writeFileSync(
      config,
      'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {syncPeriod: 2s}\n',
    )
    program = await Program.start(...ARGS)
    held = [
      await client.hold('tcp', VIPS.IPv4, 80, CONNECTIONS),
      await client.hold('tcp', VIPS.IPv6, 80, CONNECTIONS),
    ]
  })
  after(async () => {
    await program.stop('SIGKILL')
    await Promise.all([...pods, client].map((host) => host.remove()))
  })

  const allOpen = async (): Promise<void> => {
    for (const connections of held) {
      expect(await connections.open()).to.equal(CONNECTIONS)
      expect(connections.broken).to.deep.equal({})
    }
  }

  for (const binding of ['route', 'address', 'route'] as const)
    it(`are bound as ${binding} when the Node asks for it: no connection ends, and new ones are answered`, async () => {
      let isOver = false
      const asking = (async () => {
        const errors: unknown[] = []
        while (!(isOver as boolean)) {
          const questions = Object.values(VIPS).map(
            (address) => ({ protocol: 'tcp', address, port: 80, count: 5 }) as const,
          )
          for (const reply of await client.ask(questions)) errors.push(...Object.keys(reply.errors))
        }
        return errors
      })()
      annotate(binding)
      await boundAs(binding, ALL)
      await sleep(1_000)
      isOver = true

      expect(await asking).to.deep.equal([])
      await allOpen()
      expect(await run('ip', '-br', 'link', 'show', 'kube-ipvs0')).to.contain('kube-ipvs0')
      expect(await routes()).not.to.include(FOREIGN)
    })

  it('answer as addresses do: pings, addrtype LOCAL, and ports that no Service has', async () => {
    const seen: Record<string, unknown[]> = {}
    for (const binding of ['address', 'route'] as const) {
      annotate(binding)
      await boundAs(binding, ALL)
      seen[binding] = []
      for (const [family, vip] of Object.entries(VIPS)) seen[binding].push(...(await answersOf(family, vip)))
    }
    expect(seen.route).to.deep.equal(seen.address)
    expect(seen.route).to.include.members(['ECONNREFUSED', 'local'])
  })

  async function answersOf(family: string, vip: string): Promise<string[]> {
    const tables = family === 'IPv4' ? 'iptables' : 'ip6tables'
    const rule = `PREROUTING -d ${vip} -m addrtype --dst-type LOCAL -m comment --comment ask-${family}`
    await sh(`${tables} -t mangle -A ${rule}`)
    const ping = await sh(
      `ip netns exec ${client.namespace} busybox ping -c 1 -W 5 ${vip} >/dev/null 2>&1 && echo pong || echo none`,
    )
    const [reply] = await client.ask([{ protocol: 'tcp', address: vip, port: 81, count: 1 }])
    const counted = await run(tables, '-t', 'mangle', '-nvxL', 'PREROUTING')
    await sh(`${tables} -t mangle -D ${rule}`)
    const isLocal = new RegExp(`^ *[1-9]\\d* .*ask-${family}`, 'm').test(counted)
    return [`ping: ${ping.trim()}`, ...Object.keys(reply!.errors), isLocal ? 'local' : 'not local']
  }

  it('are asked for by neighbours as addresses are: with strictARP not, without it over IPv4', async () => {
    const { namespace } = client
    const isAnswered = async (vip: string): Promise<boolean> => {
      await sh(`ip netns exec ${namespace} busybox ping -c 1 -W 2 ${vip} >/dev/null || true`)
      const text = await run('ip', '-n', namespace, 'neigh', 'show', vip, 'dev', 'eth0')
      return text.includes('lladdr')
    }
    const seen: Record<string, boolean[]> = {}
    await sh(`
      ip -n ${namespace} route add ${SIDE.IPv4}/32 dev eth0
      ip -n ${namespace} -6 route add ${SIDE.IPv6}/128 dev eth0`)
    for (const binding of ['route', 'address'] as const) {
      annotate(binding)
      await boundAs(binding, ALL)
      seen[binding] = []
      for (const ignore of [1, 0]) {
        await sh(`sysctl -qw net.ipv4.conf.all.arp_ignore=${ignore}; ip -n ${namespace} neigh flush all`)
        for (const vip of Object.values(SIDE)) seen[binding].push(await isAnswered(vip))
      }
    }
    await sh(`
      ip -n ${namespace} route del ${SIDE.IPv4}/32 dev eth0
      ip -n ${namespace} -6 route del ${SIDE.IPv6}/128 dev eth0`)

    expect(seen.route).to.deep.equal(seen.address)
    expect(seen.route).to.deep.equal([false, false, true, false])
  })

  it('come back when somebody deletes them, and one that nobody wants goes', async () => {
    annotate('route')
    await boundAs('route', ALL)
    await sh(`
      ip route del local ${SIDE.IPv4}/32 dev lo table local proto 73
      ip route add local 10.96.0.99/32 dev lo table local proto 73`)

    await boundAs('route', ALL)
    await allOpen()
  })

  it('come and go by the thousand, and whoever follows addresses hears nothing', async () => {
    const heard = listen('address')
    publish('many', ...many())
    await boundAs('route', [...ALL, ...manyVips], 120_000)
    rmSync(join(folder, 'many.yaml'))
    await boundAs('route', ALL, 120_000)

    expect(await heard.end()).to.equal('')
  })

  it('converge after a kill in the middle of a switch, and none is unbound meanwhile', async () => {
    const few = manyVips.slice(0, FEW)
    publish('many', ...many(few))
    const all = [...ALL, ...few]
    await boundAs('route', all, 120_000)
    let halves = 0
    for (let kill = 0; kill < KILLS; kill++) {
      const binding = kill % 2 === 0 ? 'address' : 'route'
      annotate(binding)
      await untilBegun(binding)
      await program.stop('SIGKILL')
      const [addresses, local] = [await boundAddresses(), await routes()]
      expect([...new Set([...addresses, ...local])].sort()).to.deep.equal([...all].sort())
      if (addresses.length > 0 && local.length > 0) halves++
      program = await Program.start(...ARGS)
      await boundAs(binding, all, 120_000)
    }
    expect(halves, 'killed where some were bound in one way, and some in the other').to.be.above(0)
    await allOpen()
    rmSync(join(folder, 'many.yaml'))
    await boundAs('route', ALL, 120_000)
  })

  it('are not made where the kernel takes none: addresses stay, and it is said', async () => {
    annotate('address')
    await boundAs('address', ALL)
    // Without lo there is nothing to lead to.
    await sh('ip link set lo down')
    const before = program.lines.length
    annotate('route')
    await eventually(() => {
      const said = program.lines.slice(before).map(({ msg }) => msg)
      expect(said).to.include('the VIP binding "route" is not available')
    }, 30_000)
    expect(await boundAddresses()).to.have.members(ALL)
    await sh('ip link set lo up')
    annotate(undefined)
  })

  it('are planned as commands, which lead there', async () => {
    await program.stop()
    const plan = async (): Promise<string[]> => {
      const planned = new Program(['plan', ...ARGS, '--vip-binding', 'route'])
      await planned.ended()
      return planned.stdout.trim().split('\n')
    }
    const commands = await plan()
    expect(commands).to.include(`ip route append local ${VIPS.IPv4}/32 dev lo table local proto 73`)
    expect(commands).to.include(`ip addr del ${VIPS.IPv6}/128 dev kube-ipvs0`)
    await sh(commands.join('\n'))

    expect(await plan()).to.deep.equal(['# no change: the kernel is as it should be'])
    await boundAs('route', ALL)
  })

  it('are gone after --cleanup, and what is not ours is not', async () => {
    const cleaned = new Program(['--cleanup', ...ARGS])
    expect(await cleaned.ended()).to.equal(0)

    expect(await routes()).to.deep.equal([])
    expect(await run('ip', 'route', 'show', 'table', 'local', FOREIGN)).to.contain(FOREIGN)
    await clearNode().catch(() => undefined)
  })
})

/** What `ip monitor` prints until `end`. */
function listen(what: string): { end(): Promise<string> } {
  const monitor: ChildProcess = spawn('ip', ['monitor', what], { stdio: ['ignore', 'pipe', 'inherit'] })
  let text = ''
  monitor.stdout!.on('data', (chunk: Buffer) => (text += chunk.toString()))
  return {
    async end() {
      await sleep(500)
      monitor.kill()
      return text
    },
  }
}
