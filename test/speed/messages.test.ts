/** `npm run bench:host` does the work that it measures. */
import { expect } from 'chai'
import { Load, pagesOf } from '../../scripts/speed/load.ts'
import { Host } from '../../scripts/speed/messages.ts'

const SIZE = { services: 20, endpoints: 2 }

describe('the way that bench:host measures', () => {
  const load = new Load(SIZE)
  let host: Host
  beforeEach(async () => {
    host = new Host()
    await host.start(pagesOf(load))
  })

  it('leads from JSON to a message for each object', () => {
    const { virtualServers, addresses, setMembers } = host.known
    const realServers = [...virtualServers.values()].reduce((sum, { realServers: { size } }) => sum + size, 0)

    expect([virtualServers.size, realServers, addresses.size, setMembers.size]).to.deep.equal([
      20, 40, 20, 40,
    ])
    expect(host.sink.messages).to.equal(20 + 40 + 20 + 40)
    expect(host.sink.bytes).to.equal(20 * 276 + 40 * 116)
    expect(host.sink.sum).to.not.equal(0)
  })

  it('makes the same messages of the same objects', async () => {
    const other = new Host()
    await other.start(pagesOf(new Load(SIZE)))

    expect(other.sink).to.deep.include({ bytes: host.sink.bytes, sum: host.sink.sum })
  })

  it('makes one message of an endpoint that is not ready any more', async () => {
    await host.change(load.slice(7, new Set([1])))

    expect(host.sink.messages).to.equal(121)
    const realServers = [...host.known.virtualServers.values()].flatMap((virtualServer) => [
      ...virtualServer.realServers.values(),
    ])
    expect(realServers.filter(({ settings }) => settings.weight === 0)).to.have.length(1)
  })
})
