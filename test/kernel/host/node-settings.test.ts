import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import {
  conntrackMax,
  conntrackSysctls,
  ensureHashSize,
  ensureOomScore,
  isSpared,
} from '../../../src/kernel/host/node-settings.ts'
import { rejectionOf } from '../../support/rejection.ts'
import type { ConntrackSettings } from '../../../src/model/conntrack-settings.ts'

const NONE: ConntrackSettings = {
  maxPerCore: 0,
  min: 131_072,
  tcpEstablishedTimeoutSeconds: 0,
  tcpCloseWaitTimeoutSeconds: 0,
  tcpBeLiberal: false,
  udpTimeoutSeconds: 0,
  udpStreamTimeoutSeconds: 0,
}

describe('conntrackMax', () => {
  const table: readonly [number, number, number, number][] = [
    [0, 131_072, 4, 0],
    [32_768, 131_072, 2, 131_072],
    [32_768, 131_072, 8, 262_144],
    [32_768, 0, 1, 32_768],
    [32_768, 131_072, 64, 1_048_576],
    [1_000_000, 2_000_000, 2, 1_048_576],
    [1, 2_000_000, 2, 2_000_000],
  ]
  for (const [maxPerCore, min, cpus, expected] of table) {
    it(`${maxPerCore} per core, at least ${min}, ${cpus} cores: ${expected}`, () => {
      expect(conntrackMax({ ...NONE, maxPerCore, min }, cpus)).to.equal(expected)
    })
  }
})

describe('conntrackSysctls', () => {
  it('leaves what is not configured', () => {
    expect(conntrackSysctls(NONE, 2)).to.deep.equal([])
  })

  it('sets what is', () => {
    const settings = {
      maxPerCore: 32_768,
      min: 131_072,
      tcpEstablishedTimeoutSeconds: 86_400,
      tcpCloseWaitTimeoutSeconds: 3_600,
      tcpBeLiberal: true,
      udpTimeoutSeconds: 30,
      udpStreamTimeoutSeconds: 180,
    }
    const values = conntrackSysctls(settings, 2).map(({ path, value }) => [path.split('/').at(-1), value])

    expect(Object.fromEntries(values)).to.deep.equal({
      nf_conntrack_max: '131072',
      nf_conntrack_tcp_timeout_established: '86400',
      nf_conntrack_tcp_timeout_close_wait: '3600',
      nf_conntrack_tcp_be_liberal: '1',
      nf_conntrack_udp_timeout: '30',
      nf_conntrack_udp_timeout_stream: '180',
    })
  })
})

describe('settings in files', () => {
  const folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
  const file = join(folder, 'setting')
  after(() => {
    rmSync(folder, { recursive: true })
  })
  const changed = async (before: string, act: () => Promise<void> | void): Promise<string> => {
    writeFileSync(file, before)
    await act()
    return readFileSync(file, 'utf8')
  }

  it('the hash table only grows', async () => {
    expect(await changed('1024\n', () => ensureHashSize(131_072, file))).to.equal('32768')
    expect(await changed('65536\n', () => ensureHashSize(131_072, file))).to.equal('65536\n')
    expect(await changed('1\n', () => ensureHashSize(0, file))).to.equal('1\n')
  })

  it('the OOM score is written when it is another', async () => {
    expect(await changed('0\n', () => ensureOomScore(-999, file))).to.equal('-999')
    expect(await changed('-999\n', () => ensureOomScore(-999, file))).to.equal('-999\n')
  })

  it('the kernel spares what kubelet has seen to', () => {
    const scores: readonly (readonly [number, boolean])[] = [
      [-1000, true],
      [-999, true],
      [-997, true],
      [-996, false],
      [0, false],
      [1000, false],
    ]
    for (const [score, expected] of scores) {
      writeFileSync(file, `${score}\n`)
      expect(isSpared(file), String(score)).to.equal(expected)
    }
  })

  it('what is missing is an error that names it', async () => {
    const missing = join(file, 'missing')
    expect(((await rejectionOf(ensureHashSize(8, missing))) as Error).message).to.contain(missing)
    expect(() => {
      ensureOomScore(-999, missing)
    }).to.throw('SYS_RESOURCE')
  })
})
