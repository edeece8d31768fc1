import { mock } from 'node:test'
import { expect } from 'chai'
import { type Config, defaultConfig } from '../../src/config/config.ts'
import { LinuxKernel } from '../../src/kernel/linux-kernel.ts'
import {
  bridgeRemedy,
  openKernel,
  setOomScore,
  timeoutsToWrite,
  wantedSysctls,
} from '../../src/program/node-setup.ts'
import { recordingLog } from '../support/log.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('setOomScore', () => {
  it('says in one line, without a stack, what the kernel refuses', () => {
    const { log, lines } = recordingLog()
    // Nobody may: scores end at 1000.
    setOomScore(5000, log)

    expect(lines).to.have.length(1)
    expect(lines[0]).not.to.have.property('err')
    expect(lines[0]!.reason).to.contain('Cannot set /proc/self/oom_score_adj to 5000')
  })
})

describe('wantedSysctls', () => {
  const pathsOf = (config: Config): string[] => wantedSysctls(config).map(({ path }) => path)

  it('has strict ARP where the configuration asks for it', () => {
    const arp = ['net/ipv4/conf/all/arp_ignore', 'net/ipv4/conf/all/arp_announce']
    expect(pathsOf({ ...defaultConfig(), strictArp: true })).to.include.members(arp)
    expect(pathsOf(defaultConfig())).not.to.include.oneOf(arp)
  })

  it('has those that serving takes, and those of the connection tracking that are configured', () => {
    const conntrack = { ...defaultConfig().conntrack, udpTimeoutSeconds: 30 }
    expect(pathsOf({ ...defaultConfig(), conntrack })).to.include.members([
      'net/ipv4/vs/conntrack',
      'net/netfilter/nf_conntrack_udp_timeout',
    ])
    expect(pathsOf(defaultConfig())).not.to.include('net/netfilter/nf_conntrack_udp_timeout')
  })
})

describe('timeoutsToWrite', () => {
  const NOW = { tcp: 900, tcpFin: 120, udp: 300 }
  const table: readonly (readonly [string, readonly [number, number, number], boolean])[] = [
    ['nothing is configured', [0, 0, 0], false],
    ['they are as configured', [900, 120, 300], false],
    ['the one that is configured is so', [0, 120, 0], false],
    ['TCP differs', [600, 0, 0], true],
    ['TCP after a FIN differs', [0, 60, 0], true],
    ['UDP differs', [900, 120, 30], true],
  ]
  for (const [when, [tcp, tcpFin, udp], writes] of table) {
    it(`${writes ? 'all' : 'none'} when ${when}`, () => {
      const timeouts = { tcpTimeoutSeconds: tcp, tcpFinTimeoutSeconds: tcpFin, udpTimeoutSeconds: udp }
      const config = { ...defaultConfig(), ...timeouts }
      expect(timeoutsToWrite(config, NOW)).to.deep.equal(writes ? { tcp, tcpFin, udp } : undefined)
    })
  }
})

describe('bridgeRemedy', () => {
  it('is a command, and for a module what makes it last', () => {
    expect(bridgeRemedy({ bridges: ['cni0'], sysctls: undefined })).to.deep.equal({
      command: 'modprobe br_netfilter',
      onBoot: 'echo br_netfilter > /etc/modules-load.d/br_netfilter.conf',
    })
    const sysctls = ['iptables', 'ip6tables'].map((name) => ({
      path: `net/bridge/bridge-nf-call-${name}`,
      value: '1',
    }))
    expect(bridgeRemedy({ bridges: ['cni0'], sysctls })).to.deep.equal({
      command:
        'sysctl -w net.bridge.bridge-nf-call-iptables=1; sysctl -w net.bridge.bridge-nf-call-ip6tables=1',
    })
  })
})

describe('openKernel', () => {
  afterEach(() => {
    mock.restoreAll()
  })

  it('does not load a module for who only reads: it says what the kernel says', async () => {
    const opened = mock.method(LinuxKernel, 'open', () => Promise.reject(new Error('no IPVS')))
    const { log, lines } = recordingLog()
    const options = { addon: {} as never, families: new Set(['IPv4'] as const), readOnly: true }
    expect(await rejectionOf(openKernel(options, log))).to.have.property('message', 'no IPVS')
    expect([opened.mock.callCount(), lines]).to.deep.equal([1, []])
  })
})
