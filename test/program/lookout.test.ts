/** Nothing external is served before whoever else may have the address has been looked for. */
import { expect } from 'chai'
import { Lookout, type LookoutOptions } from '../../src/program/lookout.ts'
import { type Address, parseAddress } from '../../src/model/address.ts'
import { parseCidr } from '../../src/model/cidr.ts'
import type { Links } from '../../src/model/claims/surroundings.ts'
import { openAlarm } from '../../src/waiting/alarm.ts'
import { recordingLog } from '../support/log.ts'

const ip = (text: string): Address => parseAddress(text)!
const VIP = ip('203.0.113.1')
const OTHER = ip('192.168.50.2')
const NO_LINKS: Links = { gateways: new Map(), neighbours: new Map(), routes: [] }

class Bench {
  external = new Set([VIP])
  links: Links | Error = NO_LINKS
  peers: ReadonlySet<Address> | undefined = new Set()
  podCidrs = [parseCidr('10.244.1.0/24')!]
  now = 0
  considered = 0
  readonly marked: string[] = []
  readonly recording = recordingLog('debug')
  readonly lookout = new Lookout({
    cluster: {
      externalAddresses: () => new Set(this.external),
      markNaming: (addresses: Iterable<Address>) => this.marked.push([...addresses].join()),
      markExposed: () => this.marked.push('all'),
      ...nodeOf(this),
    } as unknown as LookoutOptions['cluster'],
    readLinks: () => (this.links instanceof Error ? Promise.reject(this.links) : Promise.resolve(this.links)),
    peers: { consider: () => this.considered++, addresses: () => this.peers },
    alarm: openAlarm(),
    log: this.recording.log,
    signal: new AbortController().signal,
    now: () => this.now,
  })

  async look(): Promise<string[]> {
    await this.lookout.look()
    return this.marked.splice(0)
  }
}

function nodeOf(bench: Bench): { readonly node: object } {
  return {
    get node() {
      return { podCidrs: bench.podCidrs }
    },
  }
}

describe('Lookout', () => {
  let bench: Bench
  beforeEach(() => {
    bench = new Bench()
  })

  it('knows nothing before it has looked, and marks what has been looked for', async () => {
    expect(bench.lookout.current.isSeen(VIP)).to.equal(false)
    expect(bench.lookout.isDone).to.equal(false)

    expect(await bench.look()).to.deep.equal([VIP])
    expect(bench.lookout.isDone).to.equal(true)
    expect(await bench.look(), 'once').to.deep.equal([])
  })

  it('has to look again for an address that is named later', async () => {
    await bench.look()
    bench.external.add(OTHER)

    expect(bench.lookout.isDone).to.equal(false)
    expect(bench.lookout.current.isSeen(VIP)).to.equal(true)
    expect(await bench.look()).to.deep.equal([OTHER])
  })

  it('marks an address that somebody else has got, and that he gives up', async () => {
    await bench.look()
    bench.links = { ...NO_LINKS, neighbours: new Map([[VIP, { link: 'eth0', lladdr: '02::1' }]]) }
    expect(await bench.look()).to.deep.equal([VIP])
    bench.links = { ...NO_LINKS, gateways: new Map([[VIP, 'eth0']]) }
    expect(await bench.look()).to.deep.equal([VIP])
    bench.links = NO_LINKS
    bench.peers = new Set([VIP])
    expect(await bench.look()).to.deep.equal([VIP])
    bench.peers = new Set([OTHER])
    expect(await bench.look()).to.deep.equal([VIP])
    expect(await bench.look()).to.deep.equal([])
  })

  it('takes an address on the link of another node for what that one announces', async () => {
    const lladdr = '02:00:00:00:00:02'
    bench.peers = new Set([OTHER])
    bench.links = {
      ...NO_LINKS,
      neighbours: new Map([
        [OTHER, { link: 'eth0', lladdr }],
        [VIP, { link: 'eth0', lladdr }],
      ]),
    }
    await bench.look()

    expect([...bench.lookout.current.neighbours.keys()]).to.deep.equal([])
  })

  it('marks everything when the networks of Pods turn out to be used', async () => {
    await bench.look()
    bench.links = { ...NO_LINKS, routes: [parseCidr('10.244.1.7/32')!] }

    expect(await bench.look()).to.deep.equal(['all'])
    expect(bench.lookout.current.podCidrs).to.deep.equal(bench.podCidrs)
    bench.links = { ...NO_LINKS, routes: [parseCidr('10.0.0.0/8')!] }
    expect(await bench.look(), 'a larger network proves nothing').to.deep.equal(['all'])
  })

  it('waits for the addresses of other nodes, but not for ever', async () => {
    bench.peers = undefined
    expect(await bench.look()).to.deep.equal([])
    bench.now = 29_999
    expect(await bench.look()).to.deep.equal([])
    expect(bench.lookout.isDone).to.equal(false)

    bench.now = 30_000
    expect(await bench.look()).to.deep.equal([VIP])
  })

  it('goes on with what it knew when it cannot read, and says so once', async () => {
    bench.links = { ...NO_LINKS, gateways: new Map([[VIP, 'eth0']]) }
    await bench.look()
    bench.links = new Error('interrupted')
    await bench.look()
    await bench.look()

    expect(bench.lookout.current.gateways.get(VIP)).to.equal('eth0')
    expect(bench.recording.lines.filter(({ level }) => level >= 40)).to.have.length(1)
    bench.links = NO_LINKS
    await bench.look()
    expect(bench.recording.lines.at(-1)?.msg).to.equal('read the routes and neighbours of the node again')
  })

  it('is not done by a first reading that fails, but does not wait for ever', async () => {
    bench.links = new Error('interrupted')
    await bench.look()
    expect(bench.lookout.isDone).to.equal(false)
    bench.links = NO_LINKS
    await bench.look()
    expect(bench.lookout.isDone).to.equal(true)

    const other = new Bench()
    other.links = new Error('interrupted')
    await other.look()
    other.now = 30_000
    await other.look()
    expect(other.lookout.isDone).to.equal(true)
  })

  it('looks for nothing while nobody names an external address', async () => {
    bench.external.clear()
    bench.links = new Error('not to be read')

    expect(await bench.look()).to.deep.equal([])
    expect(bench.lookout.isDone).to.equal(true)
    expect(bench.recording.lines).to.deep.equal([])
  })
})
