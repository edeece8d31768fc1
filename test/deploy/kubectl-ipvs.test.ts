/** The plugin, with a real kubectl, against a stand-in API server: 50 nodes, five of them frozen. */
import { execFile, execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect } from 'chai'
import { ExecServer, type Pod } from '../support/exec-server.ts'

interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  readonly ms: number
}

describe('kubectl ipvs', function () {
  this.timeout(180_000)
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-kubectl-'))
  let server: ExecServer

  before(() => {
    symlinkSync(execFileSync('scripts/kubectl', { encoding: 'utf8' }).trim(), join(folder, 'kubectl'))
    symlinkSync(resolve('deploy/kubectl-ipvs'), join(folder, 'kubectl-ipvs'))
  })
  afterEach(() => {
    server.close()
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })

  async function start(pods: Readonly<Record<string, Pod>>): Promise<void> {
    server = await ExecServer.start(new Map(Object.entries(pods)))
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'x',
      clusters: [{ name: 'x', cluster: { server: server.url } }],
      users: [{ name: 'x', user: {} }],
      contexts: [{ name: 'x', context: { cluster: 'x', user: 'x' } }],
    }
    writeFileSync(join(folder, 'config'), JSON.stringify(config))
  }

  /** Through kubectl itself, which finds the plugin on the PATH. A slow machine has its time, unless a test says otherwise. */
  async function plugin(...args: readonly string[]): Promise<Ended> {
    const env = {
      ...process.env,
      PATH: `${folder}:${process.env.PATH}`,
      KUBECONFIG: join(folder, 'config'),
      HOME: folder,
    }
    const begun = performance.now()
    return new Promise((done) => {
      execFile(
        join(folder, 'kubectl'),
        ['ipvs', '--deadline', '120', ...args],
        { env },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : Number(error.code)
          done({ code, stdout, stderr, ms: performance.now() - begun })
        },
      )
    })
  }

  const healthy: Pod = (command) => ({ stdout: `${command.join(' ')}\nsecond line\n` })
  const frozen: Pod = () => undefined

  it('runs a command on every node, side by side', async () => {
    await start({ 'pod-node-1': healthy, 'pod-node-2': healthy })

    const { code, stdout } = await plugin('get', 'shop/web')
    expect(code).to.equal(0)
    expect(stdout.trimEnd().split('\n')).to.deep.equal([
      'node-1  kube-ipvs get shop/web',
      'node-1  second line',
      'node-2  kube-ipvs get shop/web',
      'node-2  second line',
    ])
  })

  it('runs it on some, and where flags are needed it gives them', async () => {
    await start({ 'pod-node-1': healthy, 'pod-node-2': healthy, 'pod-node-3': healthy })

    const { stdout } = await plugin('--nodes', 'node-1,node-3', 'doctor')
    expect(stdout).not.to.contain('node-2')
    expect(stdout).to.contain(
      'node-3  kube-ipvs doctor --config=/var/lib/kube-proxy/config.conf --hostname-override=node-3',
    )
  })

  it('has the highest exit code of all nodes, and what they say on standard error', async () => {
    const differs: Pod = () => ({ stdout: 'ipvsadm -A\n', code: 1 })
    const lost: Pod = () => ({ stderr: 'kube-ipvs: Cannot read configuration\n', code: 2 })
    await start({ 'pod-node-1': healthy, 'pod-node-2': differs })
    expect((await plugin('diff')).code).to.equal(1)
    server.close()
    await start({ 'pod-node-1': healthy, 'pod-node-2': differs, 'pod-node-3': lost })
    const { code, stdout } = await plugin('diff')
    expect(code).to.equal(2)
    expect(stdout).to.contain('node-3  cannot be asked: kube-ipvs: Cannot read configuration')
  })

  it('takes no failure of kubectl for an answer', async () => {
    await start({
      'pod-node-1': healthy,
      'pod-node-2': () => ({ stderr: 'error: unable to upgrade connection\n', code: -1 }),
    })

    const { code, stdout } = await plugin('diff')
    expect(code).to.equal(2)
    expect(stdout).to.contain('node-2  cannot be asked:')
  })

  it('50 nodes, five of them frozen: those are lines that say so, and nobody waits longer for them', async () => {
    const names = Array.from({ length: 50 }, (_, i) => `node-${i}`)
    const isFrozen = (name: string): boolean => /^node-[1-5]$/.test(name)
    await start(Object.fromEntries(names.map((name) => [`pod-${name}`, isFrozen(name) ? frozen : healthy])))

    const { code, stdout, ms } = await plugin('--deadline', '30', 'get')
    expect(code).to.equal(2)
    for (const name of names)
      expect(stdout).to.contain(isFrozen(name) ? `${name}  no answer within 30 s` : `${name}  kube-ipvs get`)
    expect(stdout.trimEnd().split('\n')).to.have.length(45 * 2 + 5)
    console.log(`      complete after ${(ms / 1_000).toFixed(1)} s, the deadline being 30 s`)
    expect(ms).to.be.within(30_000, 45_000)
  })

  it('says what is wrong with a question, and with a cluster', async () => {
    await start({})
    for (const [args, said] of [
      [['get'], 'no Pod of kube-ipvs in namespace kube-system'],
      [['nonsense'], 'unknown command nonsense'],
      [['--deadline', 'soon', 'get'], '--deadline takes seconds'],
      [['--what'], 'unknown option --what'],
    ] as const) {
      const { code, stderr } = await plugin(...args)
      expect(code).to.equal(2)
      expect(stderr).to.contain(said)
    }
    expect((await plugin('--help')).stdout).to.contain('kubectl ipvs get shop/web')
  })
})
