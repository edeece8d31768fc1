/** The program as a process: what it prints, and its exit code. Nothing here gets as far as the kernel. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'

const MAIN = join(import.meta.dirname, '../../src/main.ts')

interface Outcome {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function main(...args: readonly string[]): Promise<Outcome> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const [[code], stdout, stderr] = await Promise.all([
    once(child, 'exit') as Promise<[number]>,
    text(child.stdout),
    text(child.stderr),
  ])
  return { code, stdout, stderr }
}

describe('the program', () => {
  let folder: string
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })

  it('prints help, and ends with 0', async () => {
    const { code, stdout } = await main('--help')
    expect(code).to.equal(0)
    expect(stdout).to.match(/^Usage: kube-ipvs \[options\] \[command\]\n/)
    expect(stdout).to.match(/ --cleanup \[value\] +remove everything that is ours/)
    expect(stdout).to.match(/ plan \[options\] +print what would change/)
  })

  it('ends with 1 for a flag that there is not, and says which', async () => {
    expect(await main('--nope')).to.include({ code: 1, stderr: "error: unknown option '--nope'\n" })
  })

  it('ends with 1 for an error, which is one line of JSON with all causes', async () => {
    const to = join(folder, 'none', 'written.yaml')
    const { code, stdout, stderr } = await main(`--write-config-to=${to}`)
    const { level, msg, because } = JSON.parse(stderr) as { level: number; msg: string; because: string[] }

    expect([code, stdout, level]).to.deep.equal([1, '', 60])
    expect(msg).to.match(/^Cannot write configuration .*written\.yaml: ENOENT/)
    expect(because).to.have.length(1)
    expect(because[0]).to.match(/^ENOENT/)
  })

  describe('that prints more than a pipe holds', () => {
    const COUNT = 50_000
    let server: Server
    beforeEach(async () => {
      const virtualServers = Array.from({ length: COUNT }, (_, i) => ({
        virtualServer: `10.96.0.1:${i}/TCP`,
        state: 'unknown',
        scheduler: {},
        failures: [],
        realServers: [],
      }))
      server = createServer((_, response) => response.end(JSON.stringify({ virtualServers })))
      await new Promise<void>((resolve) => server.listen(join(folder, 'socket'), resolve))
    })
    afterEach(() => {
      server.close()
      server.closeAllConnections()
    })

    async function getInto(reader: string): Promise<{ stdout: string; stderr: string }> {
      const command = `"${process.execPath}" "${MAIN}" get --local-socket="${join(folder, 'socket')}" | ${reader}`
      const child = spawn('bash', ['-c', command], { stdio: ['ignore', 'pipe', 'pipe'] })
      const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)])
      return { stdout, stderr }
    }

    it('prints all of it to a slow reader', async () => {
      expect(await getInto('(sleep 2; wc -l)')).to.deep.equal({ stdout: `${COUNT + 2}\n`, stderr: '' })
    })

    it('ends with its reader, who may have seen enough', async () => {
      const { stdout, stderr } = await getInto('head -1')
      expect(stdout).to.match(/^VIRTUAL SERVER .*\n$/)
      expect(stderr).to.equal('')
    })
  })

  it('ends with 0 when it has done what it was asked for', async () => {
    const [config, to] = [join(folder, 'config.conf'), join(folder, 'written.yaml')]
    const HEAD = 'apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\n'
    writeFileSync(config, HEAD)
    expect(await main(`--config=${config}`, `--write-config-to=${to}`)).to.deep.equal({
      ...{ code: 0, stdout: '', stderr: '' },
    })
    expect(readFileSync(to, 'utf8')).to.contain('kind: KubeProxyConfiguration')
  })
})
