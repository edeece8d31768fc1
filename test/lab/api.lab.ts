/**
 * The recorded traffic of a real API server, replayed over real TLS with everything that can go wrong on the way:
 * afterwards the kernel holds what the final objects say, and nothing was deleted that should have stayed.
 */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect } from 'chai'
import { type ApiObject, ApiServer, type Fault } from '../support/api-server.ts'
import { service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { boundAddresses, ipvsadm, prepareNode, Program, temporaryFolder, clearNode } from '../support/lab.ts'
import { type Random, withRandom } from '../support/random.ts'
import {
  emitRecorded,
  loadRecorded,
  recordedAnswer,
  recordedEvents,
  recordedExpiry,
} from '../support/recorded-api.ts'
import { SocksProxy } from '../support/socks-proxy.ts'

const FINAL = readFileSync('test/fixtures/api/final.ipvsadm', 'utf8').trim().split('\n')
/** All that the recorded events take away. */
const RIGHTLY_DELETED = [
  '-D -t 10.96.129.14:80',
  '-D -t 10.96.129.14:9090',
  'addr del 10.96.157.126/32 dev kube-ipvs0',
  '-D -t 10.96.157.126:80',
  'del KUBE-IPVS-IPS 10.96.157.126',
  'del KUBE-CLUSTER-IP 10.96.157.126,tcp:80',
  'del KUBE-CLUSTER-IP 10.96.129.14,tcp:80',
  'del KUBE-CLUSTER-IP 10.96.129.14,tcp:9090',
  'del KUBE-LOOP-BACK 10.244.1.11,tcp:9090,10.244.1.11',
  'del KUBE-LOOP-BACK 10.244.1.14,tcp:9090,10.244.1.14',
]
const isWatch = (url: URL): boolean => url.searchParams.has('watch')
const isList = (url: URL): boolean => !isWatch(url)

describe('recorded traffic of a real API server', () => {
  const folder = temporaryFolder()
  let server: ApiServer
  let program: Program

  before(prepareNode)
  beforeEach(async () => {
    await clearNode()
    server = await ApiServer.start()
    loadRecorded(server)
  })
  afterEach(async () => {
    await program.stop()
    await server.close()
  })

  function begin(proxy?: string, ...action: readonly string[]): Program {
    const tokenFile = join(folder, 'token')
    writeFileSync(tokenFile, server.token)
    writeFileSync(join(folder, 'kubeconfig'), server.kubeconfig(tokenFile, proxy))
    writeFileSync(
      join(folder, 'config.yaml'),
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nclientConnection: {kubeconfig: ${folder}/kubeconfig}\n`,
    )
    program = new Program([
      ...action,
      '--config',
      join(folder, 'config.yaml'),
      '--hostname-override',
      'node-1',
      '-v',
      '4',
    ])
    return program
  }
  const deletions = (): unknown[] =>
    program.lines.map(({ operation }) => operation).filter((line) => /^(-D|addr del|del) /.test(String(line)))

  /** Emits every recorded event; `between` may do harm. */
  async function replay(between: (i: number) => void | Promise<void>): Promise<void> {
    for (const [i, event] of recordedEvents().entries()) {
      emitRecorded(server, event)
      await between(i)
    }
  }
  async function settled(): Promise<void> {
    await eventually(async () => expect((await ipvsadm()).sort()).to.deep.equal(FINAL), 60_000, 250)
    expect(RIGHTLY_DELETED).to.include.members(deletions())
    expect(program.complaints(50)).to.deep.equal([])
  }
  /** One fault of each kind that a request can meet. */
  const refusal = (status: number, matches: Fault['matches'], headers = {}): Fault => ({
    matches,
    status,
    headers,
  })

  it('nothing goes wrong', async () => {
    await begin().logged('first sync finished')
    await replay(() => sleep(5))
    await settled()
    expect(program.complaints()).to.deep.equal([])
    expect(deletions()).to.have.members(RIGHTLY_DELETED)
  })

  it('the API server is behind a proxy that speaks SOCKS', async () => {
    const proxy = await SocksProxy.start()
    await begin(proxy.url).logged('first sync finished')
    await replay(() => sleep(5))
    await settled()
    expect(program.complaints()).to.deep.equal([])
    expect(proxy.asked).to.include(new URL(server.url).port).and.have.lengthOf.at.least(3)
    proxy.close()
  })

  it('connections are cut in the middle of a line', () =>
    withRandom(async (random: Random) => {
      await begin().logged('first sync finished')
      const lines = recordedEvents().map(({ line }) => line)
      await replay(async () => {
        if (random.chance(0.3)) server.cutWatches(random.pick(lines))
        await sleep(random.int(100))
      })
      await settled()
    }))

  it('answers are late, and watches end', () =>
    withRandom(async (random: Random) => {
      server.faults.push({ matches: isList, delayMs: 500 }, { matches: isList, delayMs: 300 })
      await begin().logged('first sync finished')
      await replay(async () => {
        if (random.chance(0.3)) {
          server.faults.push({ matches: isWatch, delayMs: random.int(500) })
          server.endWatches()
        }
        await sleep(random.int(50))
      })
      await settled()
      expect(program.complaints(), 'an ordinary end is not a complaint').to.deep.equal([])
    }))

  it('nothing is served before all is listed, and then everything', async () => {
    const services = Array.from({ length: 250 }, (_, i) =>
      service({ namespace: 'aaa', name: `early-${100 + i}`, clusterIP: `10.96.200.${i}` }),
    ) as unknown as ApiObject[]
    const slices = services.map(({ metadata: { name } }) => {
      const object = slice({ namespace: 'aaa', service: name, endpoints: ['10.244.9.9'] })
      // As large as to come a hundred a page.
      return { ...object, padding: 'x'.repeat(5_000) } as unknown as ApiObject
    })
    server.load('services', services)
    server.load('endpointslices', slices)
    let pages = 0
    const isThirdPage = (url: URL): boolean =>
      isList(url) && url.pathname.includes('endpointslices') && ++pages === 3
    const rest = Promise.withResolvers<undefined>()
    server.faults.push({ matches: isThirdPage, until: rest.promise })
    begin()
    await eventually(() => expect(pages).to.be.at.least(3), 90_000)
    // As long as something would have taken to be served.
    await sleep(5_000)

    const isListed = (): boolean => program.lines.some(({ msg }) => msg === 'all facts are listed')
    expect(isListed()).to.equal(false)
    expect(await ipvsadm()).not.to.include('-A -t 10.96.200.0:80 -s rr')
    expect(await boundAddresses()).not.to.include('10.96.200.0')
    rest.resolve(undefined)
    await program.logged('first sync finished')
    expect(isListed()).to.equal(true)
    expect(await ipvsadm()).to.include.members([
      '-A -t 10.96.200.0:80 -s rr',
      '-a -t 10.96.200.0:80 -r 10.244.9.9:8080 -m -w 1',
    ])
    expect(await boundAddresses()).to.include('10.96.200.249')
    expect(program.complaints()).to.deep.equal([])
    expect(deletions()).to.deep.equal([])
  })

  it('a plan that is stopped before all is listed prints nothing', async () => {
    await begin().logged('first sync finished')
    await program.stop()
    let lists = 0
    server.faults.push({
      matches: (url) => isList(url) && ++lists === 3,
      until: new Promise(() => undefined),
    })
    begin(undefined, 'plan')
    await eventually(() => expect(lists).to.be.at.least(3), 90_000)

    expect(await program.stop('SIGINT')).to.equal(1)
    expect(program.stdout).to.equal('')
    expect(program.complaints(60).map(({ msg }) => msg)).to.deep.equal([
      'Stopped before the plan was complete',
    ])
  })

  for (const form of ['status', 'event'] as const) {
    it(`resource versions expire, told by ${form}`, async () => {
      await begin().logged('first sync finished')
      server.expiredForm = form
      server.expiredEvent = recordedExpiry()
      await replay(async (i) => {
        if (i % 7 === 3) {
          server.cutWatches()
          server.compact()
        }
        await sleep(20)
      })
      await settled()
    })
  }

  it('a page of the list expires, lists are cut off, and credentials are refused', async () => {
    server.faults.push(
      { matches: isList, cutAfter: 0.7 },
      { matches: isList, ...recordedAnswer('services.page-expired') },
      { matches: isList, ...recordedAnswer('unauthorized') },
      { matches: isList, ...recordedAnswer('unauthorized') },
      { matches: isList, cutAfter: 0.99 },
    )
    await begin().logged('first sync finished')
    await replay(() => sleep(5))
    await settled()
    expect(program.complaints().length, 'one complaint a resource at the most').to.be.within(1, 3)
  })

  for (const [status, headers] of [[401], [429, { 'Retry-After': '1' }], [500]] as const) {
    it(`requests are refused with ${status}`, async () => {
      await begin().logged('first sync finished')
      await replay(async (i) => {
        if (i === 10) {
          server.faults.push(
            refusal(status, isWatch, headers),
            refusal(status, isWatch, headers),
            refusal(status, isList, headers),
          )
          server.endWatches()
        }
        await sleep(20)
      })
      await settled()
    })
  }

  it('the token is rotated', async () => {
    await begin().logged('first sync finished')
    await replay(async (i) => {
      if (i === 10) {
        server.token = 'token-2'
        writeFileSync(join(folder, 'token'), server.token)
        server.endWatches()
      }
      await sleep(20)
    })
    await settled()
    expect(program.complaints()).to.deep.equal([])
  })

  it('the API server is dead when the program starts again: the kernel keeps what it has', async () => {
    await begin().logged('first sync finished')
    await eventually(() => expect(server.watching).to.equal(4))
    const before = await ipvsadm()
    await program.stop('SIGKILL')
    server.dead = true

    await begin().logged('lost the API server: retrying')
    await sleep(2_000)
    expect(await ipvsadm()).to.deep.equal(before)
    expect(
      program.lines.map(({ operation }) => operation).filter((line) => line !== undefined),
    ).to.deep.equal([])

    server.dead = false
    await program.logged('first sync finished')
    await replay(() => sleep(5))
    await settled()
  })
})
