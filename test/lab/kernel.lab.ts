/** The real kernel: the contract, parity with the fake, and everything of IPVS that the contract does not name. */
import { expect } from 'chai'
import { LinuxKernel } from '../../src/kernel/linux-kernel.ts'
import { hasScheduler } from '../../src/kernel/ipvs/schedulers.ts'
import { netlinkErrorOf } from '../../src/kernel/explain.ts'
import { detectEstimation, tendEstimators } from '../../src/kernel/ipvs/estimators.ts'
import { supportedFamilies } from '../../src/kernel/host/families.ts'
import { formatSysctl } from '../../src/kernel/host/sysctl.ts'
import { formatVirtualServers } from '../../src/model/ipvsadm.ts'
import { emptyKernelState } from '../../src/model/kernel-object.ts'
import { SCHEDULER_NAMES } from '../../src/model/schedulers.ts'
import { loadAddon } from '../../src/netlink/socket.ts'
import {
  clear,
  codesOf,
  dump,
  kernelContract,
  operation,
  randomOperation,
} from '../contract/kernel.contract.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { eventually } from '../support/eventually.ts'
import { ipvsadm, run, sh } from '../support/lab.ts'
import { withRandom } from '../support/random.ts'
import { rejectionOf } from '../support/rejection.ts'

const families = new Set(['IPv4', 'IPv6'] as const)
const open = (readOnly = false): Promise<LinuxKernel> =>
  LinuxKernel.open({ addon: loadAddon(), families, readOnly })

before(() => sh('ip link set lo up'))

describe('LinuxKernel keeps the contract', () => {
  kernelContract(open)
})

describe('LinuxKernel', () => {
  let kernel: LinuxKernel
  before(async () => {
    kernel = await open()
    await kernel.readTables()
  })
  afterEach(() => clear(kernel))
  after(() => {
    kernel.close()
  })

  it('does what the fake does, for 2,000 random operations', () =>
    withRandom(async (random) => {
      const fake = new FakeKernel()
      let refused = 0
      for (let i = 0; i < 20; i++) {
        const operations = Array.from({ length: 100 }, () => randomOperation(random))
        const expected = await codesOf(fake, ...operations)
        refused += expected.filter((name) => name !== undefined).length

        expect(await codesOf(kernel, ...operations)).to.deep.equal(expected)
        expect(await dump(kernel)).to.deep.equal(await dump(fake))
      }
      expect(refused).to.be.within(200, 1_800)
    }))

  it('has estimators that can be made to give way', async () => {
    const before = await detectEstimation()
    const value = (name: string): Promise<string> =>
      run('cat', `/proc/sys/net/ipv4/vs/${name}`).then((text) => text.trim())
    const said: string[] = []
    const tend = tendEstimators({
      chosen: ({ sysctl }) => said.push(formatSysctl(sysctl!)),
      processors: 1_000,
    })
    await tend(100)
    expect(await detectEstimation()).to.equal(before)

    await tend(100_000)
    expect(await detectEstimation()).to.equal('settled')
    const [name, setting] = before === 'threads' ? ['est_nice', '10'] : ['run_estimation', '0']
    expect(said).to.deep.equal([`sysctl -w net.ipv4.vs.${name}=${setting}`])
    expect(await value(name)).to.equal(setting)
    await sh(`sysctl -qw net.ipv4.vs.${name}=${before === 'threads' ? 0 : 1}`)
  })

  it('prints itself as ipvsadm does, and reads what ipvsadm has written', async () => {
    await sh(`
      ipvsadm -A -t 10.96.0.10:80 -s wlc -p 600 -M 255.255.255.0
      ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 3
      ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.2:80 -g -w 1
      ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.3:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
      ipvsadm -A -u [fd00:96::10]:53 -s sh -b sh-fallback,sh-port
      ipvsadm -a -u [fd00:96::10]:53 -r [fd00:10:244::1]:5353 -m -w 1
      ipvsadm -A -u 10.96.0.10:514 -s rr -o
      ipvsadm -A --sctp-service 10.96.0.10:5060 -s mh -b mh-port
      ipvsadm -A -f 7 -s rr`)

    const { virtualServers } = await kernel.readTables()
    const real = await kernel.readRealServers(virtualServers.map(({ id }) => id))
    const state = emptyKernelState()
    for (const { id, settings } of virtualServers) {
      state.virtualServers.set(id.key, {
        id,
        settings,
        isProven: true,
        realServers: new Map(real.get(id.key)!.map((server) => [server.key, server])),
      })
    }

    const text = (await ipvsadm()).filter((line) => !line.includes('-f 7'))
    expect(formatVirtualServers(state).sort()).to.deep.equal(text.sort())
    await sh('ipvsadm -D -f 7')
  })

  it('writes 5,000 operations in one call, and tells which three of them were refused', async () => {
    const ports = Array.from({ length: 2_500 }, (_, i) => 1_000 + i)
    const operations = ports.flatMap((port) => [
      operation(`-A -t 10.96.0.10:${port} -s rr`),
      operation(`-a -t 10.96.0.10:${port} -r 10.244.0.1:${port} -m -w 1`),
    ])
    for (const at of [0, 2_000, 4_999]) operations[at] = operation('-D -t 10.96.0.99:9')

    const refusals = await kernel.execute(operations)

    expect([...refusals].map(([at, error]) => [at, netlinkErrorOf(error)?.code])).to.deep.equal([
      [0, 'ESRCH'],
      [1, 'ESRCH'],
      [2_000, 'ESRCH'],
      [2_001, 'ESRCH'],
      [4_999, 'ESRCH'],
    ])
    // A dump of many parts may be wrong while another namespace changes: see auditor.ts.
    await eventually(
      async () => expect((await kernel.readTables()).virtualServers).to.have.length(2_498),
      60_000,
    )
  })

  it('reads and sets the timeouts', async () => {
    const { ipvs } = kernel
    expect(await ipvs.readTimeouts()).to.deep.equal({ tcp: 900, tcpFin: 120, udp: 300 })
    await ipvs.writeTimeouts({ tcp: 7_200, tcpFin: 0, udp: 0 })
    expect(await ipvs.readTimeouts()).to.deep.equal({ tcp: 7_200, tcpFin: 120, udp: 300 })
    await ipvs.writeTimeouts({ tcp: 900, tcpFin: 0, udp: 0 })
  })

  it('finds every scheduler of Linux, and not one that nobody wrote, and leaves nothing behind', async () => {
    for (const scheduler of SCHEDULER_NAMES)
      expect(await hasScheduler(kernel.ipvs, scheduler), scheduler).to.equal(true)
    expect(await hasScheduler(kernel.ipvs, 'nosuch')).to.equal(false)
    expect(await ipvsadm()).to.deep.equal([])
  })

  it('probes beside a virtual server of somebody else', async () => {
    await sh('ipvsadm -A -t 198.51.100.0:20000 -s rr')

    expect(await hasScheduler(kernel.ipvs, 'wlc')).to.equal(true)
    expect(await ipvsadm()).to.deep.equal(['-A -t 198.51.100.0:20000 -s rr'])
  })

  it('makes kube-ipvs0 as kube-proxy does: a dummy interface that is down', async () => {
    const [link] = JSON.parse(await run('ip', '-j', '-d', 'link', 'show', 'kube-ipvs0')) as {
      flags: string[]
      linkinfo: { info_kind: string }
    }[]

    expect(link!.linkinfo.info_kind).to.equal('dummy')
    expect(link!.flags).not.to.include('UP')
  })

  it('makes kube-ipvs0 and the sets anew when somebody has deleted them', async () => {
    await sh('ip link del kube-ipvs0; ipset destroy KUBE-IPVS-IPS')

    await kernel.readTables()

    const address = '10.96.0.10' as never
    const refusals = await kernel.execute([
      { kind: 'bindAddress', address, binding: 'address' },
      { kind: 'addSetMember', member: 'KUBE-IPVS-IPS 10.96.0.10' as never },
    ])
    expect([...refusals]).to.deep.equal([])
    expect(await run('ipset', 'list', 'KUBE-IPVS-IPS'))
      .to.contain('Type: hash:ip\n')
      .and.to.contain('\n10.96.0.10\n')
  })

  it('only reads when it is told to', async () => {
    await sh('ip link del kube-ipvs0; ipset destroy')
    const reader = await open(true)

    expect(await dump(reader)).to.deep.equal([])
    expect(String(await rejectionOf(reader.execute([operation('-A -t 10.96.0.10:80 -s rr')])))).to.match(
      /opened to read only/,
    )
    expect(await sh('ip link show kube-ipvs0 2>&1 || true')).to.contain('does not exist')
    expect(await run('ipset', 'list', '-n')).to.equal('')
    reader.close()
    await kernel.readTables()
  })

  it('knows which families the node can serve', async () => {
    expect([...(await supportedFamilies())]).to.deep.equal(['IPv4', 'IPv6'])
    await sh('sysctl -qw net.ipv6.conf.all.disable_ipv6=1')
    expect([...(await supportedFamilies())]).to.deep.equal(['IPv4'])
    await sh('sysctl -qw net.ipv6.conf.all.disable_ipv6=0')
  })
})
