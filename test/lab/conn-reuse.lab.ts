/** The probe for conn_reuse_mode on a real kernel, which has the mode that works (5.9 and later). */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import {
  CONN_REUSE_PROBE,
  type ConnReuse,
  decideConnReuse,
  probeConnReuse,
  type Reuse,
  runConnReuseProbe,
} from '../../src/kernel/ipvs/conn-reuse.ts'
import { loadAddon } from '../../src/netlink/socket.ts'
import { eventually } from '../support/eventually.ts'
import { prepareNode, run, sh } from '../support/lab.ts'

/** This file is also the program that is started. */
const PROGRAM = join(process.cwd(), '.cache/bundles/conn-reuse.lab.cjs')
const SYSCTLS = '/proc/sys/net/ipv4/vs'
const STALLING = `stall${process.pid}`

const namespace = (): string => readlinkSync('/proc/self/ns/net')

/** A slow machine may need a second try; it never gives a wrong answer. */
async function known(): Promise<ConnReuse> {
  return eventually(async () => {
    const found = await probeConnReuse(PROGRAM)
    if (found.mode === undefined) throw new Error(found.reason)
    return found
  }, 60_000)
}

/** All of the node that the probe makes in its own namespace. */
async function nodeState(): Promise<unknown> {
  const sysctls = readdirSync(SYSCTLS).map((name) => [name, readFileSync(join(SYSCTLS, name), 'utf8')])
  const texts = ['ipvsadm -Sn', 'ipvsadm -Lcn', 'ip -o addr', 'ip -o link', 'iptables-nft-save']
  return {
    sysctls,
    texts: await Promise.all(texts.map(sh)),
  }
}

function describeProbe(): void {
  describe('the probe for conn_reuse_mode', () => {
    before(async () => {
      await prepareNode()
      await sh(`
        modprobe ip_vs
        ipvsadm -A -t 127.0.0.10:8080 -s rr
        ipvsadm -a -t 127.0.0.10:8080 -r 10.244.0.1:8080 -m -w 1
        sysctl -qw net.ipv4.vs.conn_reuse_mode=0 net.ipv4.vs.conntrack=0 net.ipv4.vs.expire_nodest_conn=0`)
    })

    it('finds mode 1, and leaves the node and the machine as they are', async () => {
      const before = await nodeState()

      expect(await known()).to.deep.equal({
        mode: 1,
        reason: 'mode 1 schedules a reused source port anew, without a stall',
      })
      await eventually(async () => expect(await nodeState()).to.deep.equal(before), 60_000)
    })

    it('finds mode 0 where mode 1 stalls', async () => {
      // Connection tracking misses the end of each connection: to this kernel, too, the old one is in use then.
      await sh(`
        ip netns add ${STALLING}
        ip netns exec ${STALLING} iptables-nft -t raw -A OUTPUT -p tcp --tcp-flags FIN FIN -j CT --notrack
        ip netns exec ${STALLING} sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1`)
      const probe = [process.execPath, PROGRAM, CONN_REUSE_PROBE, namespace()]
      const reuses = JSON.parse(await run('ip', 'netns', 'exec', STALLING, ...probe)) as Reuse[]
      await sh(`ip netns del ${STALLING}`)

      // Both are answered, by another server each, but not at once.
      expect(reuses.map(({ synRetransmissions }) => synRetransmissions)).to.deep.equal([1, 1])
      expect(new Set(reuses.map(({ answeredBy }) => answeredBy))).to.have.all.keys('127.0.0.11', '127.0.0.12')
      expect(decideConnReuse(reuses).mode).to.equal(0)
    })

    it('refuses to run in the namespace of the node', async () => {
      const before = await nodeState()
      const message = await run(process.execPath, PROGRAM, CONN_REUSE_PROBE, namespace()).then(
        () => 'it ran',
        (error: unknown) => (error as { stderr: string }).stderr,
      )

      expect(message).to.equal('this is not a network namespace of its own')
      expect(await nodeState()).to.deep.equal(before)
    })

    it('says that it may not', async () => {
      const wrapper = ['setpriv', '--bounding-set=-sys_admin', process.execPath, PROGRAM, 'probe']
      const found = JSON.parse(await run(wrapper[0]!, ...wrapper.slice(1))) as ConnReuse

      expect(found).to.deep.equal({
        reason: 'the probe could not run: unshare: unshare failed: Operation not permitted',
      })
    })
  })
}

if (process.argv[2] === CONN_REUSE_PROBE) void runConnReuseProbe(loadAddon(), process.argv[3])
else if (process.argv[2] === 'probe')
  void probeConnReuse(PROGRAM).then((found) => process.stdout.write(JSON.stringify(found)))
else describeProbe()
