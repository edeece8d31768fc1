import { once } from 'node:events'
import { request } from 'node:http'
import { connect, createServer, type Server } from 'node:net'
import { mock } from 'node:test'
import { expect } from 'chai'
import type { Family } from '../../src/model/address.ts'
import { HealthNodePorts, retryMs, type ServiceHealth } from '../../src/serve/health-node-ports.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'
import { withRandom } from '../support/random.ts'

const LOCALHOST: Readonly<Record<Family, readonly string[]>> = { IPv4: ['127.0.0.1'], IPv6: ['::1'] }

interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, unknown>>
  readonly body: string
}

/** Ports that nothing listens on at the moment, below those that clients are given. */
async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = []
  for (let port = 21_000 + (process.pid % 5_000); ports.length < count; port++) {
    const server = createServer()
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false)).listen(port, '::', () => resolve(true))
    })
    if (isFree) {
      server.close()
      await once(server, 'close')
      ports.push(port)
    }
  }
  return ports
}

async function ask(address: string, port: number, method = 'GET', path = '/'): Promise<Answer> {
  const asked = request({ host: address, port, method, path, agent: false }).end()
  const [response] = (await once(asked, 'response')) as [AsyncIterable<Buffer> & Partial<Answer>]
  let body = ''
  for await (const chunk of response) body += chunk.toString()
  const { statusCode, headers } = response as unknown as { statusCode: number; headers: Answer['headers'] }
  return { status: statusCode, headers, body }
}

/** Which Service answers there, and with which count; undefined: nobody. */
async function whoAnswers(address: string, port: number): Promise<string | undefined> {
  const answer = await ask(address, port).catch(() => undefined)
  if (answer === undefined) return undefined
  const { service, localEndpoints } = JSON.parse(answer.body) as {
    service: { namespace: string; name: string }
    localEndpoints: number
  }
  return `${service.namespace}/${service.name} ${localEndpoints}`
}

/** Sockets of this process that listen. */
const listening = (): number =>
  process.getActiveResourcesInfo().filter((name) => name === 'TCPServerWrap').length

/** The same, once the sockets closed last are closed indeed. */
async function settledListening(): Promise<number> {
  for (let i = 0; i < 3; i++) await new Promise(setImmediate)
  return listening()
}

const health = (port: number, counts: Readonly<Partial<Record<Family, number>>>): ServiceHealth => ({
  port,
  localEndpoints: new Map(Object.entries(counts) as [Family, number][]),
})

describe('HealthNodePorts', () => {
  let addresses: Record<Family, readonly string[]>
  let healthy: boolean
  let faults: readonly string[]
  let recorded: ReturnType<typeof recordingLog>
  let ports: HealthNodePorts
  let port: number
  let otherPort: number
  let blocker: Server | undefined
  let failures: string[]

  beforeEach(async () => {
    addresses = { ...LOCALHOST }
    healthy = true
    faults = []
    recorded = recordingLog()
    const { log } = recorded
    failures = []
    ports = new HealthNodePorts({
      addresses: (family) => addresses[family],
      isHealthy: () => healthy,
      faults: () => faults,
      onFailure: (service, reason) => failures.push(`${service}: ${reason}`),
      log,
    })
    ;[port, otherPort] = (await freePorts(2)) as [number, number]
  })
  afterEach(() => {
    mock.timers.reset()
    ports.close()
    blocker?.close()
    blocker = undefined
  })

  const block = async (address = '127.0.0.1'): Promise<void> => {
    blocker = createServer().listen(port, address)
    await once(blocker, 'listening')
  }
  const answers = (address: string, at: number, expected: string | undefined) =>
    eventually(async () => expect(await whoAnswers(address, at)).to.equal(expected), 60_000)

  const table: readonly (readonly [count: number, healthy: boolean, status: number])[] = [
    [2, true, 200],
    [1, true, 200],
    [0, true, 503],
    [2, false, 503],
    [0, false, 503],
  ]
  for (const [count, isHealthy, status] of table) {
    it(`says ${status} for ${count} endpoints on a node that is ${isHealthy ? '' : 'not '}healthy`, async () => {
      healthy = isHealthy
      ports.update('shop/web', health(port, { IPv4: count }))
      const answer = await eventually(() => ask('127.0.0.1', port), 60_000)

      expect(answer.status).to.equal(status)
      expect(answer.headers).to.include({
        'content-type': 'application/json',
        'x-content-type-options': 'nosniff',
        'x-load-balancing-endpoint-weight': String(count),
      })
      expect(answer.body).to.equal(
        `{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n` +
          `\t"localEndpoints": ${count},\n\t"serviceProxyHealthy": ${isHealthy}\n}`,
      )
    })
  }

  it("says what is missing, after kube-proxy's words", async () => {
    healthy = false
    faults = ['no rules', 'no set']
    ports.update('shop/web', health(port, { IPv4: 1 }))
    const { status, body } = await eventually(() => ask('127.0.0.1', port), 60_000)

    expect(status).to.equal(503)
    expect(body).to.match(
      /"serviceProxyHealthy": false,\n\t"reasons": \[\n\t\t"no rules",\n\t\t"no set"\n\t\]\n\}$/,
    )
  })

  it('answers any path and method', async () => {
    ports.update('shop/web', health(port, { IPv4: 1 }))
    await answers('127.0.0.1', port, 'shop/web 1')

    for (const method of ['GET', 'HEAD', 'POST', 'DELETE', 'OPTIONS']) {
      for (const path of ['/', '/healthz', '/a/b?c=d', '*']) {
        const { status, body } = await ask('127.0.0.1', port, method, path)
        expect([method, path, status, body === '']).to.deep.equal([method, path, 200, method === 'HEAD'])
      }
    }
  })

  it('says for each family what that family has, and nothing of one the Service lacks', async () => {
    ports.update('shop/web', health(port, { IPv4: 2, IPv6: 0 }))
    ports.update('shop/four', health(otherPort, { IPv4: 1 }))

    await answers('127.0.0.1', port, 'shop/web 2')
    await answers('::1', port, 'shop/web 0')
    await answers('127.0.0.1', otherPort, 'shop/four 1')
    expect(await whoAnswers('::1', otherPort)).to.equal(undefined)
  })

  it('takes all addresses of either family on one port', async () => {
    addresses = { IPv4: ['0.0.0.0'], IPv6: ['::'] }
    ports.update('shop/web', health(port, { IPv4: 1, IPv6: 2 }))

    await answers('127.0.0.1', port, 'shop/web 1')
    await answers('127.0.0.2', port, 'shop/web 1')
    await answers('::1', port, 'shop/web 2')
    expect(complaints(recorded.lines)).to.deep.equal([])
  })

  it('changes counts without listening anew', async () => {
    ports.update('shop/web', health(port, { IPv4: 1 }))
    await answers('127.0.0.1', port, 'shop/web 1')
    const client = connect(port, '127.0.0.1')
    await once(client, 'connect')
    ports.update('shop/web', health(port, { IPv4: 7 }))

    client.write('GET / HTTP/1.1\r\nHost: node\r\n\r\n')
    const [answer] = (await once(client, 'data')) as [Buffer]
    expect(answer.toString()).to.contain('X-Load-Balancing-Endpoint-Weight: 7\r\n')
    client.destroy()
  })

  it('moves to another port, and ends the connections of the old one', async () => {
    ports.update('shop/web', health(port, { IPv4: 1 }))
    await answers('127.0.0.1', port, 'shop/web 1')
    const client = connect(port, '127.0.0.1')
    client.on('error', () => undefined)
    await once(client, 'connect')
    // A request that does not end: the connection is not idle.
    client.write('GET / HT')
    await answers('127.0.0.1', port, 'shop/web 1')
    const closed = once(client, 'close')
    ports.update('shop/web', health(otherPort, { IPv4: 1 }))

    await closed
    await answers('127.0.0.1', otherPort, 'shop/web 1')
    expect(await whoAnswers('127.0.0.1', port)).to.equal(undefined)
  })

  it('closes with its Service', async () => {
    ports.update('shop/web', health(port, { IPv4: 1 }))
    await answers('127.0.0.1', port, 'shop/web 1')
    ports.update('shop/web', undefined)

    await answers('127.0.0.1', port, undefined)
  })

  it('follows the addresses of the node, and leaves alone what stays', async () => {
    ports.update('shop/web', health(port, { IPv4: 1 }))
    await answers('127.0.0.1', port, 'shop/web 1')
    const client = connect(port, '127.0.0.1')
    await once(client, 'connect')
    addresses = { IPv4: ['127.0.0.1', '127.0.0.2'], IPv6: [] }
    ports.readdress()
    await answers('127.0.0.2', port, 'shop/web 1')
    client.write('GET / HTTP/1.1\r\nHost: node\r\n\r\n')
    await once(client, 'data')
    client.destroy()

    addresses = { IPv4: ['127.0.0.2'], IPv6: [] }
    ports.readdress()
    await answers('127.0.0.1', port, undefined)
    await answers('127.0.0.2', port, 'shop/web 1')
  })

  it('says once that a port is taken, tries again, and says once that it has it', async () => {
    await block()
    ports.update('shop/web', health(port, { IPv4: 1, IPv6: 1 }))
    await answers('::1', port, 'shop/web 1')
    await eventually(() => expect(complaints(recorded.lines)).to.not.be.empty, 60_000)
    // Neither a new count nor new addresses are a reason to say it again.
    ports.update('shop/web', health(port, { IPv4: 2, IPv6: 1 }))
    ports.readdress()
    blocker!.close()

    await answers('127.0.0.1', port, 'shop/web 2')
    const lines = recorded.lines.map(({ level, msg, service, port, address, err }) => {
      return { level, msg, service, port, address, code: (err as { code?: string } | undefined)?.code }
    })
    const where = { service: 'shop/web', port, address: '127.0.0.1' }
    expect(lines).to.deep.equal([
      { level: 50, msg: 'cannot listen for health checks: retrying', ...where, code: 'EADDRINUSE' },
      { level: 30, msg: 'listening for health checks at last', ...where, code: undefined },
    ])
    expect(failures).to.have.length(1)
    expect(failures[0]).to.match(/^shop\/web: .*EADDRINUSE/)
  })

  it('stops trying when the Service goes', async () => {
    addresses.IPv4 = ['127.0.0.2', '127.0.0.1']
    await block('0.0.0.0')
    ports.update('shop/web', health(port, { IPv4: 1 }))
    await eventually(() => expect(complaints(recorded.lines)).to.have.length(2), 60_000)
    ports.update('shop/web', undefined)
    // The next one fails later, and so is back later than the first would be.
    addresses.IPv4 = ['127.0.0.1']
    ports.update('shop/next', health(port, { IPv4: 1 }))
    await eventually(() => expect(complaints(recorded.lines)).to.have.length(3), 60_000)
    blocker!.close()

    await answers('127.0.0.1', port, 'shop/next 1')
    expect(await whoAnswers('127.0.0.2', port)).to.equal(undefined)
  })

  const handOvers: readonly (readonly [title: string, giveUp: () => void])[] = [
    ['goes', () => ports.update('shop/first', undefined)],
    ['moves', () => ports.update('shop/first', health(otherPort, { IPv4: 1 }))],
    ['has that family no more', () => ports.update('shop/first', health(port, { IPv6: 1 }))],
  ]
  for (const [title, giveUp] of handOvers) {
    it(`leaves a port to the first Service that has it, until that ${title}`, async () => {
      // No time passes, so nothing is tried again for the time's sake.
      mock.timers.enable({ apis: ['setTimeout'] })
      ports.update('shop/first', health(port, { IPv4: 1 }))
      ports.update('shop/second', health(port, { IPv4: 2 }))
      ports.update('shop/third', health(port, { IPv4: 3 }))
      await eventually(() => expect(complaints(recorded.lines)).to.have.length(2), 60_000)
      ports.update('shop/first', health(port, { IPv4: 4 }))
      await answers('127.0.0.1', port, 'shop/first 4')

      giveUp()
      await answers('127.0.0.1', port, 'shop/second 2')
      expect(recorded.lines.map(({ level, service }) => [level, service])).to.deep.equal([
        [50, 'shop/second'],
        [50, 'shop/third'],
        [30, 'shop/second'],
      ])
    })
  }

  it('exchanges the ports of two Services without a complaint', async () => {
    ports.update('shop/a', health(port, { IPv4: 1 }))
    ports.update('shop/b', health(otherPort, { IPv4: 2 }))
    await answers('127.0.0.1', otherPort, 'shop/b 2')
    ports.update('shop/a', health(otherPort, { IPv4: 1 }))
    ports.update('shop/b', health(port, { IPv4: 2 }))

    await answers('127.0.0.1', otherPort, 'shop/a 1')
    await answers('127.0.0.1', port, 'shop/b 2')
    expect(complaints(recorded.lines)).to.deep.equal([])
  })

  it('has one listener where one is wanted and none elsewhere, over 1,000 random updates', () =>
    withRandom(async (random) => {
      const choice = await freePorts(4)
      const before = await settledListening()
      const wanted = new Map<string, ServiceHealth>()
      /** By place, the Services that want it, with their counts. */
      const claims = (): Map<string, string[]> => {
        const found = new Map<string, string[]>()
        for (const [service, { port, localEndpoints }] of wanted)
          for (const [family, count] of localEndpoints)
            for (const address of addresses[family]) {
              const place = `${address} ${port}`
              found.set(place, [...(found.get(place) ?? []), `${service} ${count}`])
            }
        return found
      }
      const check = async (): Promise<void> => {
        const places = claims()
        expect(listening() - before).to.equal(places.size)
        for (const [place, claimants] of places) {
          const [address, port] = place.split(' ')
          expect(await whoAnswers(address!, Number(port)), place).to.be.oneOf(claimants)
        }
      }
      const counts = [{ IPv4: 1 }, { IPv6: 2 }, { IPv4: 3, IPv6: 0 }, { IPv4: 4, IPv6: 5 }, {}]
      for (let i = 1; i <= 1_000; i++) {
        const service = `shop/${random.int(6)}`
        const next = random.chance(0.3) ? undefined : health(random.pick(choice), random.pick(counts))
        if (next === undefined) wanted.delete(service)
        else wanted.set(service, next)
        ports.update(service, next)
        if (random.chance(0.1)) {
          addresses = { ...LOCALHOST, IPv4: random.pick([['127.0.0.1'], ['127.0.0.1', '127.0.0.2'], []]) }
          ports.readdress()
        }
        if (random.chance(0.5)) await new Promise(setImmediate)
        if (i % 50 === 0) await eventually(check, 60_000)
      }
      ports.close()
      expect(await settledListening()).to.equal(before)
    }))
})

describe('retryMs', () => {
  it('doubles from 1 s to 1 minute', () =>
    expect([1, 2, 3, 6, 7, 8, 2_000].map(retryMs)).to.deep.equal([
      1_000, 2_000, 4_000, 32_000, 60_000, 60_000, 60_000,
    ]))
})
