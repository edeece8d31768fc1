/** The node's addresses are followed while interfaces change, and while kube-ipvs0 is filled. */
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import type { NativeExchange } from '../../native/index.d.ts'
import { followNodeAddresses } from '../../src/kernel/link/node-addresses.ts'
import { loadAddon } from '../../src/netlink/socket.ts'
import { eventually } from '../support/eventually.ts'
import { run, sh, temporaryFolder } from '../support/lab.ts'
import { complaints, type LogLine, recordingLog } from '../support/log.ts'
import { rejectionOf } from '../support/rejection.ts'

const LIMIT_MS = 60_000
const BURST = 2_000
type Addon = ReturnType<typeof loadAddon>

const LOST = 'lost notifications of address changes: reading the addresses anew'

/** What a follower has said so far. */
class Followed {
  readonly lists: (readonly string[])[] = []
  readonly lines: LogLine[]
  readonly #end = new AbortController()
  readonly #log

  private constructor() {
    const { log, lines } = recordingLog()
    this.#log = log
    this.lines = lines
  }

  static async start(addon = loadAddon()): Promise<Followed> {
    const followed = new Followed()
    await followNodeAddresses({
      addon,
      onChange: (addresses) => followed.lists.push(addresses),
      log: followed.#log,
      signal: followed.#end.signal,
    })
    return followed
  }

  /** Waits until the list is this one. */
  async sees(...expected: readonly string[]): Promise<void> {
    await eventually(() => expect(this.lists.at(-1)).to.deep.equal(expected), LIMIT_MS)
  }

  lost(): number {
    return this.lines.filter(({ msg }) => msg === LOST).length
  }

  stop(): void {
    this.#end.abort()
  }
}

/** A batch for `ip` with many addresses for kube-ipvs0, and one for eth0 in their midst. */
function batchFile(verb: 'add' | 'del', network: number, inTheMidst: string): string {
  const lines = Array.from({ length: BURST }, (_, i) => {
    return `addr ${verb} 10.${network}.${i >> 8}.${i & 255}/32 dev kube-ipvs0`
  })
  lines.splice(BURST / 2, 0, inTheMidst)
  const file = join(temporaryFolder(), 'batch')
  writeFileSync(file, lines.join('\n') + '\n')
  return file
}

describe('followNodeAddresses', () => {
  let followed: Followed
  beforeEach(async () => {
    await sh(`
      ip link set lo up
      ip link add eth0 type veth peer name eth0-peer
      ip addr add 192.0.2.1/24 dev eth0
      ip addr add 2001:db8::1/64 dev eth0 nodad
      ip link set eth0 up
      ip link set eth0-peer up
      ip link add kube-ipvs0 type dummy
      ip addr add 10.96.0.10/32 dev kube-ipvs0
      ip addr add fd00:96::10/128 dev kube-ipvs0`)
  })
  afterEach(async () => {
    followed.stop()
    await sh(`
      ip link del eth0
      ip link del kube-ipvs0 2>/dev/null || true
      ip link del eth1 2>/dev/null || true`)
  })

  const FIRST = ['127.0.0.1', '192.0.2.1', '2001:db8::1', '::1']

  it('reads all addresses but those of kube-ipvs0 and link-local ones', async () => {
    await eventually(
      async () => expect(await run('ip', 'addr', 'show', 'eth0')).to.contain('fe80::'),
      LIMIT_MS,
    )

    followed = await Followed.start()

    expect(followed.lists).to.deep.equal([FIRST])
  })

  it('takes its own end of a point-to-point link, and an address of both kube-ipvs0 and another interface once', async () => {
    await sh(`
      ip addr add 198.51.100.1 peer 198.51.100.2/32 dev eth0
      ip addr add 10.96.0.10/32 dev eth0
      ip addr add 192.0.2.1/24 dev eth0-peer`)

    followed = await Followed.start()

    expect(followed.lists).to.deep.equal([
      ['10.96.0.10', '127.0.0.1', '192.0.2.1', '198.51.100.1', '2001:db8::1', '::1'],
    ])
  })

  it('hears of addresses and interfaces that come and go', async () => {
    followed = await Followed.start()

    await sh('ip addr add 192.0.2.7/24 dev eth0')
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')
    await sh('ip addr del 192.0.2.7/24 dev eth0')
    await followed.sees(...FIRST)
    await sh('ip addr add 2001:db8::7/64 dev eth0 nodad')
    await followed.sees('127.0.0.1', '192.0.2.1', '2001:db8::1', '2001:db8::7', '::1')
    // An interface that goes down loses its IPv6 addresses and keeps its IPv4 ones.
    await sh('ip link set eth0 down')
    await followed.sees('127.0.0.1', '192.0.2.1', '::1')
    await sh('ip link set eth0 up; ip addr add 2001:db8::1/64 dev eth0 nodad')
    await followed.sees(...FIRST)
    await sh('ip link add eth1 type dummy; ip addr add 203.0.113.1/24 dev eth1')
    await followed.sees('127.0.0.1', '192.0.2.1', '2001:db8::1', '203.0.113.1', '::1')
    await sh('ip link del eth1')
    await followed.sees(...FIRST)

    expect(followed.lists).to.have.length(8)
    expect(complaints(followed.lines)).to.deep.equal([])
  })

  it('says once what happens at once', async () => {
    followed = await Followed.start()
    const file = join(temporaryFolder(), 'batch')
    writeFileSync(file, 'addr add 192.0.2.8/24 dev eth0\naddr add 192.0.2.9/24 dev eth0\n')

    // Nothing is heard before both are there.
    execFileSync('ip', ['-batch', file])

    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.8', '192.0.2.9', '2001:db8::1', '::1')
    expect(followed.lists).to.have.length(2)
  })

  it('does not even read for a burst on kube-ipvs0', async () => {
    const real = loadAddon()
    let readings = 0
    const exchange: Addon['exchange'] = async (...args) => {
      readings++
      return real.exchange(...args)
    }
    followed = await Followed.start({ ...real, exchange })

    await run('ip', '-batch', batchFile('add', 97, 'addr add fd00:97::1/128 dev kube-ipvs0'))
    await sh('ip addr add 192.0.2.7/24 dev eth0')
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')

    // The notifications come in order: those of the burst were heard before that of eth0.
    expect(readings).to.equal(2)
    expect(followed.lines).to.deep.equal([])
  })

  it('hears of another address in the midst of a burst on kube-ipvs0', async () => {
    followed = await Followed.start()

    await run('ip', '-batch', batchFile('add', 97, 'addr add 192.0.2.7/24 dev eth0'))
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')
    await run('ip', '-batch', batchFile('del', 97, 'addr del 192.0.2.7/24 dev eth0'))
    await followed.sees(...FIRST)

    expect(followed.lists).to.have.length(3)
    expect(complaints(followed.lines)).to.deep.equal([])
  })

  it('survives a socket that overflows, and misses nothing', async () => {
    const real = loadAddon()
    // The kernel makes of it the least that there is: one notification or two.
    const listen: Addon['listen'] = (protocol, groups, _, heard) => real.listen(protocol, groups, 1, heard)
    followed = await Followed.start({ ...real, listen })

    // The event loop is held up: nobody takes what is heard, and after a few notifications nothing more is read.
    execFileSync('ip', ['-batch', batchFile('add', 98, 'addr add 192.0.2.7/24 dev eth0')])
    await eventually(() => expect(followed.lost()).to.be.at.least(1), LIMIT_MS)
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')
    await run('ip', '-batch', batchFile('del', 98, 'addr del 192.0.2.7/24 dev eth0'))
    await followed.sees(...FIRST)

    expect(followed.lists).to.have.length(3)
    // The first line may be of a reading that was interrupted.
    const loss = followed.lines.find(({ msg }) => msg === LOST)
    expect(loss).to.have.nested.property('err.code', 'ENOBUFS')
    expect(complaints(followed.lines)).to.deep.equal([])
  })

  it('reads anew, and listens anew, when notifications were lost', async () => {
    const real = loadAddon()
    let isLossy = false
    let opened = 0
    const listen: Addon['listen'] = (protocol, groups, receiveBytes, heard) => {
      opened++
      return real.listen(protocol, groups, receiveBytes, (messages, errno) => {
        if (isLossy) heard(Buffer.alloc(0), 105)
        else heard(messages, errno)
      })
    }
    followed = await Followed.start({ ...real, listen })

    isLossy = true
    await sh('ip addr add 10.98.0.1/32 dev kube-ipvs0; ip addr add 192.0.2.7/24 dev eth0')
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')
    isLossy = false
    await sh('ip addr del 192.0.2.7/24 dev eth0')
    await followed.sees(...FIRST)

    expect(opened).to.be.at.least(2)
    expect(followed.lost()).to.equal(opened - 1)
  })

  it('knows kube-ipvs0 again when it has been made anew', async () => {
    followed = await Followed.start()

    await sh('ip link del kube-ipvs0; ip addr add 192.0.2.7/24 dev eth0')
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')
    await sh('ip link add kube-ipvs0 type dummy; ip addr add 10.96.0.10/32 dev kube-ipvs0')
    await sh('ip addr add fd00:96::10/128 dev kube-ipvs0; ip addr del 192.0.2.7/24 dev eth0')
    await followed.sees(...FIRST)
    await sh('ip link del kube-ipvs0; ip link add kube-ipvs0 type dummy')
    await run('ip', '-batch', batchFile('add', 99, 'addr add 192.0.2.8/24 dev eth0'))
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.8', '2001:db8::1', '::1')

    expect(followed.lists).to.have.length(4)
  })

  it('keeps what it knows while it cannot read, says so once, and goes on when it can', async () => {
    const real = loadAddon()
    let failures = 0
    let isBroken = false
    const addon: Addon = {
      ...real,
      exchange: async (...args): Promise<NativeExchange> => {
        if (!isBroken) return real.exchange(...args)
        failures++
        return { replies: Buffer.alloc(0), errno: 105, step: 'receive', sent: 1 }
      },
    }
    followed = await Followed.start(addon)

    isBroken = true
    await sh('ip addr add 192.0.2.7/24 dev eth0')
    await eventually(() => expect(failures).to.be.at.least(3), LIMIT_MS)
    expect(followed.lists).to.deep.equal([FIRST])
    isBroken = false
    await followed.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')

    expect(complaints(followed.lines, 30)).to.deep.equal([
      'cannot read the addresses of the node: the old ones stay, retrying',
      'read the addresses of the node again',
    ])
  })

  it('throws when the first reading fails', async () => {
    const real = loadAddon()
    const addon: Addon = {
      ...real,
      exchange: async () =>
        Promise.resolve({ replies: Buffer.alloc(0), errno: 105, step: 'receive', sent: 1 }),
    }

    expect(String(await rejectionOf(Followed.start(addon)))).to.match(
      /Cannot read the addresses of the node .*ENOBUFS/,
    )
  })

  it('is silent when it has ended', async () => {
    const other = await Followed.start()
    followed = await Followed.start()
    followed.stop()

    await sh('ip addr add 192.0.2.7/24 dev eth0')
    await other.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '2001:db8::1', '::1')
    await sh('ip addr add 192.0.2.8/24 dev eth0')
    await other.sees('127.0.0.1', '192.0.2.1', '192.0.2.7', '192.0.2.8', '2001:db8::1', '::1')
    other.stop()

    expect(followed.lists).to.deep.equal([FIRST])
  })
})
