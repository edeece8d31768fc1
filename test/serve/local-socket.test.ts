/** The local socket, with real sockets: who may open it, what it takes, and what a dead process leaves. */
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { expect } from 'chai'
import type { Routes } from '../../src/serve/http.ts'
import { serveLocally } from '../../src/serve/local-socket.ts'
import { recordingLog } from '../support/log.ts'

const ROUTES: Routes = { '/v1/name': () => ({ status: 200, type: 'text/plain', body: 'kube-ipvs' }) }

describe('serveLocally', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-socket-'))
  let ends: AbortController[] = []
  let path: string
  beforeEach(() => {
    path = join(folder, 'run', 'socket')
  })
  afterEach(() => {
    for (const end of ends) end.abort()
    ends = []
    rmSync(join(folder, 'run'), { recursive: true, force: true })
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })

  async function open(at = path): Promise<string[]> {
    const end = new AbortController()
    ends.push(end)
    const { log, lines } = recordingLog()
    await serveLocally(at, ROUTES, { log, signal: end.signal })
    return lines.map(({ err }) => (err as Error | undefined)?.message ?? '')
  }
  async function ask(url: string): Promise<{ status: number; body: string }> {
    return new Promise((resolve, reject) => {
      request({ socketPath: path, path: url }, (response) => {
        text(response).then((body) => resolve({ status: response.statusCode!, body }), reject)
      })
        .on('error', reject)
        .end()
    })
  }

  it('answers, and is for root alone', async () => {
    await open()

    expect(await ask('/v1/name')).to.deep.equal({ status: 200, body: 'kube-ipvs' })
    expect(statSync(path).mode & 0o777).to.equal(0o600)
    expect(statSync(join(folder, 'run')).mode & 0o777).to.equal(0o700)
  })

  it('leaves the mask of the process as it was', async () => {
    const modeOf = (name: string): number => {
      writeFileSync(join(folder, name), '')
      const { mode } = statSync(join(folder, name))
      rmSync(join(folder, name))
      return mode
    }
    const before = modeOf('before')
    await open()
    expect(modeOf('after')).to.equal(before)
  })

  it('takes the place of a socket that a dead process has left', async () => {
    mkdirSync(join(folder, 'run'))
    const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 9))`
    spawnSync(process.execPath, ['-e', script])
    expect(existsSync(path)).to.equal(true)

    expect(await open()).to.deep.equal([])
    expect((await ask('/v1/name')).status).to.equal(200)
  })

  it('does not take that of a file', async () => {
    mkdirSync(join(folder, 'run'))
    writeFileSync(path, 'precious')

    expect((await open()).join()).to.contain('is no socket')
    expect(readFileSync(path, 'utf8')).to.equal('precious')
  })

  it('does not take that of a process that lives, and says so', async () => {
    await open()

    expect((await open()).join()).to.contain('another process answers on it')
    expect((await ask('/v1/name')).status).to.equal(200)
  })

  it('says that a path is too long, which the kernel would cut off', async () => {
    const long = join(folder, 'x'.repeat(120))

    expect((await open(long)).join()).to.contain('longer than 107 bytes')
    expect(readdirSync(folder)).to.deep.equal([])
  })

  it('is not there when its path is empty, and goes with the program', async () => {
    await open('')
    await open()
    ends[1]!.abort()
    expect(existsSync(path)).to.equal(false)
  })

  for (const url of ['/', '/v1', '/v1/name/', '/../etc/shadow', '/v1/../v1/name/x', '//', '/__proto__'])
    it(`knows no other path: ${url}`, async () => {
      await open()
      expect((await ask(url)).status).to.be.oneOf([400, 404])
    })

  it('refuses requests that are too large or none, and goes on', async () => {
    await open()
    const raw = async (sent: string): Promise<string> => {
      const socket = connect(path)
      socket.on('error', () => undefined)
      socket.end(sent)
      return (await text(socket)).split('\r\n')[0]!
    }

    expect(await raw(`GET /v1/name?${'x'.repeat(20_000)} HTTP/1.1\r\nHost: a\r\n\r\n`)).to.contain('431')
    expect(await raw('\0\x01\x02\r\n\r\n')).to.contain('400')
    expect((await ask('/v1/name')).status).to.equal(200)
  })
})
