/** The client's side of the local socket: it never hangs, and says why nobody answers. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { ask, NoAnswerError } from '../../src/commands/look/ask.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('ask', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-ask-'))
  const path = join(folder, 'socket')
  let server: Server | undefined
  afterEach(() => {
    server?.close()
    server?.closeAllConnections()
    rmSync(path, { force: true })
  })
  after(() => {
    rmSync(folder, { recursive: true })
  })

  async function serve(handler: Parameters<typeof createServer>[1]): Promise<void> {
    server = createServer({}, handler)
    await new Promise<void>((resolve) => server!.listen(path, resolve))
  }
  const question = (silenceMs?: number): Promise<unknown> => ask(path, '/v1/x', { of: 'a b&c' }, silenceMs)

  it('asks with its words as they are, and returns the document', async () => {
    await serve((request, response) => response.end(JSON.stringify({ url: request.url })))
    expect(await question()).to.deep.equal({ url: '/v1/x?of=a+b%26c' })
  })

  it('throws what the program says', async () => {
    await serve((_, response) => response.writeHead(404).end('There is no Service x\n'))
    const error = await rejectionOf(question())
    expect(error).not.to.be.instanceOf(NoAnswerError)
    expect((error as Error).message).to.equal('There is no Service x')
  })

  it('knows that nobody answers: no socket, a dead one, a frozen process, half an answer', async () => {
    const reasons: string[] = []
    const note = async (): Promise<void> => {
      const error = await rejectionOf(question(50))
      expect(error).to.be.instanceOf(NoAnswerError)
      reasons.push((error as Error).message)
    }
    await note()
    await serve(() => undefined)
    await note()
    server!.closeAllConnections()
    server!.removeAllListeners('request').on('request', (_, response) => {
      response.writeHead(200, { 'Content-Length': 100 })
      response.write('{')
    })
    await note()

    expect(reasons[0]).to.contain('kube-ipvs does not run here')
    expect(reasons[1]).to.contain('it said nothing for')
    expect(reasons[2]).to.contain('it said nothing for')
  })
})
