import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { watchFile } from '../../src/program/follow/watch-file.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'

const text = (scheduler: string): string =>
  `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {scheduler: ${scheduler}}\n`

describe('watchFile', () => {
  let folder: string
  let abort: AbortController
  let seen: string[]
  let refused: string[]
  let lines: ReturnType<typeof recordingLog>['lines']

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    abort = new AbortController()
    seen = []
    refused = []
  })
  afterEach(() => {
    abort.abort()
    rmSync(folder, { recursive: true })
  })

  function start(file: string): void {
    const recording = recordingLog()
    lines = recording.lines
    watchFile({
      file,
      initial: text('rr'),
      onText: (changed) => {
        const scheduler = /scheduler: (\w+)/.exec(changed)?.[1]
        if (scheduler === undefined) return Promise.reject(new Error('it names no scheduler'))
        seen.push(scheduler)
        return Promise.resolve()
      },
      onRefusal: (reason) => refused.push(reason),
      log: recording.log,
      signal: abort.signal,
    })
  }

  it('sees a change, and not a touch', async () => {
    const file = join(folder, 'config.yaml')
    writeFileSync(file, text('rr'))
    start(file)
    writeFileSync(file, text('rr'))
    await new Promise((resolve) => setTimeout(resolve, 300))
    writeFileSync(file, text('lc'))

    await eventually(() => expect(seen).to.deep.equal(['lc']))
  })

  it('keeps the old one when the new one is broken, says so, and sees the next', async () => {
    const file = join(folder, 'config.yaml')
    writeFileSync(file, text('rr'))
    start(file)
    writeFileSync(file, 'mode: [')
    await eventually(() => expect(complaints(lines)).to.have.length(1))
    expect(refused).to.deep.equal(['it names no scheduler'])
    writeFileSync(file, text('sed'))

    await eventually(() => expect(seen).to.deep.equal(['sed']))
  })

  it('sees the symlink swap of a mounted ConfigMap', async () => {
    for (const [version, scheduler] of [
      ['1', 'rr'],
      ['2', 'wlc'],
    ] as const) {
      mkdirSync(join(folder, `..${version}`))
      writeFileSync(join(folder, `..${version}`, 'config.conf'), text(scheduler))
    }
    symlinkSync('..1', join(folder, '..data'))
    symlinkSync('..data/config.conf', join(folder, 'config.conf'))
    start(join(folder, 'config.conf'))

    symlinkSync('..2', join(folder, '..new'))
    renameSync(join(folder, '..new'), join(folder, '..data'))

    await eventually(() => expect(seen).to.deep.equal(['wlc']))
  })

  it('looks again on SIGHUP, as a file that is a link to another folder is not watched there', async () => {
    mkdirSync(join(folder, 'elsewhere'))
    mkdirSync(join(folder, 'here'))
    writeFileSync(join(folder, 'elsewhere', 'config.conf'), text('rr'))
    symlinkSync('../elsewhere/config.conf', join(folder, 'here', 'config.conf'))
    start(join(folder, 'here', 'config.conf'))
    writeFileSync(join(folder, 'elsewhere', 'config.conf'), text('sh'))
    process.kill(process.pid, 'SIGHUP')

    await eventually(() => expect(seen).to.deep.equal(['sh']))
  })

  it('begins nothing when the program has been told to stop before', () => {
    const listeners = process.listenerCount('SIGHUP')
    const file = join(folder, 'config.yaml')
    writeFileSync(file, text('rr'))
    abort.abort()
    start(file)
    expect(process.listenerCount('SIGHUP')).to.equal(listeners)
  })

  it('leaves nothing behind when it stops', () => {
    const listeners = process.listenerCount('SIGHUP')
    const file = join(folder, 'config.yaml')
    writeFileSync(file, text('rr'))
    start(file)
    expect(process.listenerCount('SIGHUP')).to.equal(listeners + 1)
    abort.abort()
    expect(process.listenerCount('SIGHUP')).to.equal(listeners)
  })
})
