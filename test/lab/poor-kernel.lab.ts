/** A kernel booted without IPv6, on which ip_vs cannot be loaded at first: run by name, in a machine of its own. */
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { service, slice } from '../support/builders.ts'
import { boundAddresses, ipvsadm, Program, sh, temporaryFolder } from '../support/lab.ts'

const FORBIDDEN = '/etc/modprobe.d/forbidden.conf'
const NO_IPV6 = 'IPv6 is not available on this node: IPv6 cluster IPs are not served'

const WEB = ['-A -t 10.96.0.10:80 -s rr', '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1']

describe('a poor kernel', () => {
  const folder = temporaryFolder()
  let program: Program
  afterEach(() => program.stop())

  before(async () => {
    await sh('ip link set lo up')
    const objects = [
      service({ clusterIP: '10.96.0.10', spec: { clusterIPs: ['10.96.0.10', 'fd00:96::10'] } }),
      slice({ endpoints: ['10.244.0.1'] }),
      service({ name: 'six', clusterIP: 'fd00:96::11' }),
    ]
    writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  })

  it('without ip_vs: exit code and remedy', async () => {
    writeFileSync(FORBIDDEN, 'install ip_vs /bin/false\ninstall xt_set /bin/false\n')
    program = new Program(['--manifests', folder])

    expect(await program.ended()).to.equal(1)
    expect(program.complaints().map(({ level, msg }) => [level, msg])).to.deep.equal([
      [60, 'This kernel has no IPVS: load it with "modprobe ip_vs" (CONFIG_IP_VS), on the host'],
    ])
  })

  it('without xt_set: the rules are missing, which is said once, and everything else is served', async () => {
    writeFileSync(FORBIDDEN, 'install xt_set /bin/false\n')
    program = await Program.start('--manifests', folder)

    expect(await ipvsadm()).to.deep.equal(WEB)
    await sleep(3_000)
    expect(program.complaints().map(({ msg, reason }) => reason ?? msg)).to.deep.equal([
      NO_IPV6,
      'iptables-restore failed for IPv4: this kernel has no xt_set: load it with "modprobe xt_set", on the host',
    ])

    rmSync(FORBIDDEN)
    await program.logged('the rules of iptables are as they should be again')
    expect(await sh('iptables-save')).to.contain('--match-set KUBE-CLUSTER-IP')
  })

  it('without IPv6: IPv4 is served, and what is not is said once', async () => {
    expect(await sh('ls /proc/net/if_inet6 2>&1 || true')).to.contain('No such file')
    program = await Program.start('--manifests', folder)

    expect(await ipvsadm()).to.deep.equal(WEB)
    expect(await boundAddresses()).to.deep.equal(['10.96.0.10'])
    expect(program.complaints().map(({ msg }) => msg)).to.deep.equal([NO_IPV6])
  })
})
