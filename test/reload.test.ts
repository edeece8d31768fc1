import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { watchConfig } from '../src/reload.ts'
import { eventually } from './support/eventually.ts'
import { complaints, recordingLog } from './support/log.ts'

const text = (scheduler: string): string =>
  `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {scheduler: ${scheduler}}\n`

describe('watchConfig', () => {
  let folder: string
  let abort: AbortController
  let seen: string[]
  let lines: ReturnType<typeof recordingLog>['lines']

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    abort = new AbortController()
    seen = []
  })
  afterEach(() => {
    abort.abort()
    rmSync(folder, { recursive: true })
  })

  function start(file: string): void {
    const recording = recordingLog()
    lines = recording.lines
    const changed = ({ config }: { config: { scheduler: string } }): Promise<void> => {
      seen.push(config.scheduler)
      return Promise.resolve()
    }
    watchConfig(file, text('rr'), changed, { log: recording.log, signal: abort.signal })
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
})
