import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect } from 'chai'
import {
  type Bridge,
  type BridgeFault,
  type Bridging,
  findBridgeFault,
  readBridging,
  tendBridges,
} from '../../../src/kernel/host/bridges.ts'
import type { Family } from '../../../src/model/address.ts'

const BOTH: ReadonlySet<Family> = new Set(['IPv4', 'IPv6'])
const ONLY_IPV4: ReadonlySet<Family> = new Set(['IPv4'])
const bridge = (name: string, ...own: readonly Family[]): Bridge => ({ name, own: new Set(own) })
const ON = { IPv4: '1', IPv6: '1' }
const OFF = { IPv4: '0', IPv6: '0' }

/** The names of what is switched off, or that the module is missing. */
const told = (fault: BridgeFault | undefined): string =>
  fault === undefined
    ? 'nothing'
    : `${fault.bridges.join()}: ${fault.sysctls?.map(({ path }) => path.slice(-9)).join() ?? 'module'}`

describe('findBridgeFault', () => {
  const table: readonly (readonly [string, readonly Bridge[], Bridging['netfilter'], typeof BOTH, string])[] =
    [
      ['no bridge, no module', [], undefined, BOTH, 'nothing'],
      ['no bridge, switched off', [], OFF, BOTH, 'nothing'],
      ['a bridge, no module', [bridge('cni0')], undefined, BOTH, 'cni0: module'],
      [
        'two bridges, no module',
        [bridge('docker0'), bridge('cni0')],
        undefined,
        BOTH,
        'cni0,docker0: module',
      ],
      ['a bridge, switched on', [bridge('cni0')], ON, BOTH, 'nothing'],
      ['switched off', [bridge('cni0')], OFF, BOTH, 'cni0: -iptables,ip6tables'],
      ['IPv6 off', [bridge('cni0')], { IPv4: '1', IPv6: '0' }, BOTH, 'cni0: ip6tables'],
      ['IPv6 off, not served', [bridge('cni0')], { IPv4: '1', IPv6: '0' }, ONLY_IPV4, 'nothing'],
      ['a kernel without IPv6', [bridge('cni0')], { IPv4: '1' }, ONLY_IPV4, 'nothing'],
      ['off, but on for the bridge', [bridge('cni0', 'IPv4', 'IPv6')], OFF, BOTH, 'nothing'],
      ['off, on for one of two', [bridge('a', 'IPv4'), bridge('b')], OFF, ONLY_IPV4, 'b: -iptables'],
      ['off, on for one family', [bridge('a', 'IPv4')], OFF, BOTH, 'a: -iptables,ip6tables'],
    ]
  for (const [title, bridges, netfilter, families, expected] of table) {
    it(`${title}: ${expected}`, () => {
      expect(told(findBridgeFault({ bridges, netfilter }, families))).to.equal(expected)
    })
  }
})

describe('readBridging', () => {
  const root = mkdtempSync(join(tmpdir(), 'kube-ipvs-bridges-'))
  const write = (path: string, text: string): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }
  after(() => {
    rmSync(root, { recursive: true })
  })

  it('finds nothing where there is nothing', () => {
    expect(readBridging(root)).to.deep.equal({ bridges: [], netfilter: undefined })
  })

  it('finds bridges that have ports, and switches', () => {
    write('sys/class/net/eth0/mtu', '1500\n')
    write('sys/class/net/cni0/brif/veth1/state', '3\n')
    write('sys/class/net/cni0/bridge/nf_call_iptables', '1\n')
    write('sys/class/net/cni0/bridge/nf_call_ip6tables', '0\n')
    mkdirSync(join(root, 'sys/class/net/docker0/brif'), { recursive: true })
    write('proc/sys/net/bridge/bridge-nf-call-iptables', '0\n')

    expect(readBridging(root)).to.deep.equal({
      bridges: [bridge('cni0', 'IPv4')],
      netfilter: { IPv4: '0', IPv6: undefined },
    })
  })
})

describe('tendBridges', () => {
  /** A node whose module can be loaded, or not, and what is said of it. */
  function node(mayLoad: boolean) {
    const state = { bridges: [] as Bridge[], netfilter: undefined as Bridging['netfilter'] }
    const said: string[] = []
    const tend = tendBridges({
      families: BOTH,
      load: async (module) => {
        said.push(`modprobe ${module}`)
        await new Promise(setImmediate)
        if (!mayLoad) throw new Error('Operation not permitted')
        state.netfilter = ON
      },
      onLoaded: (bridges) => said.push(`loaded for ${bridges.join()}`),
      onFault: (fault) => said.push(told(fault)),
      read: () => ({ ...state }),
    })
    return { state, said, tend }
  }

  it('loads nothing before there is a bridge, and then once', async () => {
    const { state, said, tend } = node(true)
    await tend()
    expect(said).to.deep.equal([])

    state.bridges = [bridge('cni0')]
    await Promise.all([tend(), tend()])
    await tend()
    expect(said).to.deep.equal(['modprobe br_netfilter', 'loaded for cni0'])
  })

  it('says once what it may not, and starts no more programs for it', async () => {
    const { state, said, tend } = node(false)
    state.bridges = [bridge('cni0')]
    await tend()
    state.bridges = [bridge('cni0'), bridge('docker0')]
    await tend()
    expect(said).to.deep.equal(['modprobe br_netfilter', 'cni0: module'])
  })

  it('leaves what somebody has switched off, and says each fault once', async () => {
    const { state, said, tend } = node(true)
    state.bridges = [bridge('cni0')]
    state.netfilter = { IPv4: '0', IPv6: '1' }
    await tend()
    await tend()
    state.netfilter = OFF
    await tend()
    state.netfilter = ON
    await tend()
    state.netfilter = OFF
    await tend()
    const both = 'cni0: -iptables,ip6tables'
    expect(said).to.deep.equal(['cni0: -iptables', both, both])
  })
})
