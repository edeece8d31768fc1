import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { KubeConfig } from '@kubernetes/client-node'
import { expect } from 'chai'
import { apiHosts, type ApiAddresses, followApiAddresses, type LookUp } from '../../src/source/api-address.ts'
import { loadKubeConfig } from '../../src/source/api-client.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, type LogLine, recordingLog } from '../support/log.ts'
import { ManualAlarm } from '../support/manual-alarm.ts'

const kubeconfig = (server: string, proxy?: string): object => ({
  clusters: [{ name: 'c', cluster: { server, ...(proxy !== undefined && { 'proxy-url': proxy }) } }],
  users: [{ name: 'u', user: {} }],
  contexts: [{ name: 'x', context: { cluster: 'c', user: 'u' } }],
  'current-context': 'x',
})

function configOf(server: string, proxy?: string): KubeConfig {
  const config = new KubeConfig()
  config.loadFromString(JSON.stringify(kubeconfig(server, proxy)))
  return config
}

describe('apiHosts', () => {
  const direct = (name: string): object => ({ name, isBehindProxy: false })
  const behind = (name: string): object => ({ name, isBehindProxy: true })
  const cases: readonly [string, string | undefined, object[]][] = [
    ['https://192.0.2.1:6443', undefined, [direct('192.0.2.1')]],
    ['https://api.example.org', undefined, [direct('api.example.org')]],
    ['https://[2001:db8::1]:6443/prefix', undefined, [direct('2001:db8::1')]],
    ['https://[::1]:6443', undefined, [direct('::1')]],
    ['http://API.example.org:8080', undefined, [direct('api.example.org')]],
    [
      'https://api.example.org',
      'http://user:secret@proxy.example.org:3128',
      [behind('api.example.org'), direct('proxy.example.org')],
    ],
    ['https://192.0.2.1', 'socks5://[2001:db8::2]:1080', [behind('192.0.2.1'), direct('2001:db8::2')]],
    ['https://192.0.2.1:6443', 'socks5://192.0.2.1:1080', [direct('192.0.2.1')]],
    ['https://192.0.2.1:6443', 'not a URL', [direct('192.0.2.1')]],
    ['192.0.2.1', undefined, []],
  ]
  for (const [server, proxy, hosts] of cases) {
    it(`of ${server}${proxy === undefined ? '' : ` through ${proxy}`}`, () => {
      expect(apiHosts(configOf(server, proxy))).to.deep.equal(hosts)
    })
  }

  it('are none without a cluster', () => {
    expect(apiHosts(new KubeConfig())).to.deep.equal([])
  })

  describe('are those of', () => {
    let folder: string
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    })
    afterEach(() => {
      rmSync(folder, { recursive: true })
    })

    it('a kubeconfig file, and of --master in its place', () => {
      const file = join(folder, 'kubeconfig')
      writeFileSync(file, JSON.stringify(kubeconfig('https://api.example.org:6443')))

      expect(apiHosts(loadKubeConfig(file))).to.deep.equal([direct('api.example.org')])
      expect(apiHosts(loadKubeConfig(file, 'other.example.org:6443'))).to.deep.equal([
        direct('other.example.org'),
      ])
    })
  })

  it('are not those of a proxy that the environment names: requests do not go through it', () => {
    const program = `
      import { KubeConfig } from '@kubernetes/client-node'
      const config = new KubeConfig()
      config.loadFromString(${JSON.stringify(JSON.stringify(kubeconfig('https://127.0.0.1:1')))})
      const options = {}
      await config.applyToHTTPSOptions(options)
      console.log(options.agent.constructor === (await import('node:https')).Agent, options.agent.options.proxyEnv)`
    const env = { ...process.env, HTTPS_PROXY: 'http://192.0.2.9:3128', https_proxy: 'http://192.0.2.9:3128' }
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', program], { env })

    expect(String(output)).to.equal('true undefined\n')
  })
})

describe('followApiAddresses', () => {
  let server: string
  let proxy: string | undefined
  let names: Record<string, readonly string[] | Error | Promise<readonly string[]>>
  let asked: string[]
  let sets: string[][]
  let lines: LogLine[]
  let alarm: ManualAlarm
  let end: AbortController
  let followed: ApiAddresses

  beforeEach(() => {
    server = 'https://api.example.org:6443'
    proxy = undefined
    names = { 'api.example.org': ['192.0.2.1', '2001:db8::1'] }
    asked = []
    sets = []
    alarm = new ManualAlarm()
    end = new AbortController()
  })
  afterEach(() => {
    end.abort()
  })

  const lookUp: LookUp = async (name) => {
    asked.push(name)
    const answer = await names[name]
    if (answer === undefined) throw new Error(`getaddrinfo ENOTFOUND ${name}`)
    if (answer instanceof Error) throw answer
    return answer
  }
  function start(config = (): KubeConfig => configOf(server, proxy)): void {
    const recording = recordingLog()
    lines = recording.lines
    followed = followApiAddresses({
      config,
      onChange: (addresses) => sets.push([...addresses].sort()),
      log: recording.log,
      signal: end.signal,
      lookUp,
      random: () => 0.5,
      alarm,
    })
  }

  it('looks up the name of the server', async () => {
    start()
    await followed.ready

    expect(sets).to.deep.equal([['192.0.2.1', '2001:db8::1']])
    expect(lines).to.deep.equal([])
  })

  const literals: readonly [string, string][] = [
    ['https://192.0.2.1:6443', '192.0.2.1'],
    ['https://[2001:DB8:0::1]:6443', '2001:db8::1'],
    ['https://[::1]:6443', '::1'],
    ['https://[::ffff:192.0.2.7]:6443', '192.0.2.7'],
    // As the connection is made: octal.
    ['https://010.0.0.1:6443', '8.0.0.1'],
  ]
  for (const [url, address] of literals) {
    it(`looks nothing up for ${url}`, async () => {
      server = url
      start()
      await followed.ready

      expect(sets).to.deep.equal([[address]])
      expect(asked).to.deep.equal([])
    })
  }

  it('takes addresses in any form that the name service has', async () => {
    names['api.example.org'] = ['::ffff:192.0.2.7', 'fe80::1%eth0', '192.0.2.7', 'nonsense']
    start()
    await followed.ready

    expect(sets).to.deep.equal([['192.0.2.7', 'fe80::1']])
  })

  it('looks up the proxy, too', async () => {
    proxy = 'http://proxy.example.org:3128'
    names['proxy.example.org'] = ['192.0.2.9']
    start()
    await followed.ready

    expect(sets).to.deep.equal([['192.0.2.1', '192.0.2.9', '2001:db8::1']])
  })

  it('does not complain about a server that only the proxy knows', async () => {
    proxy = 'http://192.0.2.9:3128'
    names = {}
    start()
    await alarm.next()

    expect(sets).to.deep.equal([['192.0.2.9']])
    names = { 'api.example.org': ['192.0.2.1'] }
    await alarm.next()
    expect(sets.at(-1)).to.deep.equal(['192.0.2.1', '192.0.2.9'])
    expect(complaints(lines, 30)).to.deep.equal([])
    expect(lines).to.have.length(2)
  })

  it('says only what has changed', async () => {
    start()
    await alarm.next()
    names['api.example.org'] = ['2001:db8::1', '192.0.2.1']
    await alarm.next()
    names['api.example.org'] = ['192.0.2.2']
    await alarm.next()
    server = 'https://192.0.2.2'
    await alarm.next()
    server = 'https://192.0.2.3'
    await alarm.next()

    expect(sets).to.deep.equal([['192.0.2.1', '2001:db8::1'], ['192.0.2.2'], ['192.0.2.3']])
    expect(lines).to.deep.equal([])
  })

  it('looks again every 5 minutes with jitter, and 10 s after the last look when it is asked to', async () => {
    start()
    await alarm.next()
    followed.lookAgain()

    expect(alarm.waits).to.deep.equal([
      [10_000, 375_000],
      [10_000, 375_000],
    ])
    expect(alarm.rings).to.equal(1)
    expect(asked).to.have.length(2)
  })

  it('keeps what it knows while a look-up fails, and says so once', async () => {
    start()
    await alarm.next()
    names = {}
    await alarm.next()
    await alarm.next()
    names = { 'api.example.org': ['192.0.2.1', '2001:db8::1'] }
    await alarm.next()
    names = {}
    await alarm.next()

    expect(sets).to.have.length(1)
    const failed = 'cannot look up a host of the API server: an external IP may take its address'
    expect(complaints(lines, 30)).to.deep.equal([
      failed,
      'looked up the host of the API server again',
      failed,
    ])
    expect(lines[0]).to.deep.include({ host: 'api.example.org', addresses: ['192.0.2.1', '2001:db8::1'] })
  })

  it('keeps one host when the other fails', async () => {
    proxy = 'http://proxy.example.org:3128'
    start()
    await followed.ready
    expect(sets).to.deep.equal([['192.0.2.1', '2001:db8::1']])
    names = { 'proxy.example.org': ['192.0.2.9'] }
    await alarm.next()

    expect(sets.at(-1)).to.deep.equal(['192.0.2.1', '192.0.2.9', '2001:db8::1'])
  })

  it('is ready when the first look fails, and says no addresses', async () => {
    names = {}
    start()
    await followed.ready

    expect(sets).to.deep.equal([])
    names = { 'api.example.org': ['192.0.2.1'] }
    await alarm.next()
    expect(sets).to.deep.equal([['192.0.2.1']])
  })

  it('is ready when the name service does not answer', async () => {
    names = { 'api.example.org': new Promise(() => undefined) }
    start()
    const started = performance.now()
    await followed.ready

    expect(performance.now() - started).to.be.within(4_900, 30_000)
    expect(lines[0]).to.have.nested.property('err.message', 'no answer from the name service in 5 s')
  })

  it('keeps what it knows when the kubeconfig cannot be read, and says so once', async () => {
    let isBroken = false
    start(() => {
      if (isBroken) throw new Error('Cannot use kubeconfig')
      return configOf(server)
    })
    await followed.ready
    isBroken = true
    await alarm.next()
    await alarm.next()

    expect(sets).to.have.length(1)
    expect(complaints(lines)).to.deep.equal(['cannot read who the API server is: what is known stays'])
  })

  it('says nothing after its end', async () => {
    const answer = Promise.withResolvers<readonly string[]>()
    names = { 'api.example.org': answer.promise }
    start()
    end.abort()
    answer.resolve(['192.0.2.1'])
    await followed.ready

    expect(sets).to.deep.equal([])
    await eventually(() => expect(alarm.waits).to.have.length(1))
    expect(asked).to.have.length(1)
  })

  it('knows /etc/hosts', async () => {
    const found: string[] = []
    const { log } = recordingLog()
    const { ready } = followApiAddresses({
      config: () => configOf('https://localhost:6443'),
      onChange: (addresses) => found.push(...addresses),
      log,
      signal: end.signal,
    })
    await ready

    expect(found).to.include('127.0.0.1')
  })
})
