/** What a new configuration does: it is applied in place, has the program start anew, or is refused. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { parseAddress } from '../../src/model/address.ts'
import { type Config, type LoadedConfig, parseConfig } from '../../src/config/config.ts'
import { initially } from '../../src/program/current.ts'
import { fieldsForRestart, followConfig, reconfigure } from '../../src/program/follow/configuration.ts'
import type { NodeHappening } from '../../src/program/report/node-events.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'

const HEAD = { apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode: 'ipvs' }
const textOf = (fields: object): string => JSON.stringify({ ...HEAD, ...fields })
const load = (text: string): LoadedConfig => parseConfig('config.yaml', text)
const configured = (fields: object): LoadedConfig => load(textOf(fields))

describe('fieldsForRestart', () => {
  const { config: before } = configured({})
  const table: readonly (readonly [keyof Config, Partial<Config>])[] = [
    ['kubeconfig', { kubeconfig: '/other' }],
    ['hostnameOverride', { hostnameOverride: 'other' }],
    ['healthzBindAddress', { healthzBindAddress: '127.0.0.1:1' }],
    ['metricsBindAddress', { metricsBindAddress: '127.0.0.1:1' }],
    ['bindAddressHardFail', { bindAddressHardFail: true }],
  ]
  for (const [field, change] of table) {
    it(`${field} is read once`, () =>
      expect(fieldsForRestart(before, { ...before, ...change })).to.deep.equal([field]))
  }

  it('all others are read whenever they are needed', () => {
    const others: Partial<Config> = {
      ...{
        scheduler: 'lc',
        syncPeriodMs: 1,
        minSyncPeriodMs: 1,
        tcpTimeoutSeconds: 1,
        tcpFinTimeoutSeconds: 1,
      },
      ...{ udpTimeoutSeconds: 1, bindAddress: parseAddress('192.0.2.1')!, nodePortAddresses: ['primary'] },
      ...{
        clusterCidrs: [],
        detectLocalMode: 'NodeCIDR',
        bridgeInterface: 'br0',
        interfaceNamePrefix: 'veth',
      },
      ...{
        masqueradeAll: true,
        masqueradeBit: 1,
        excludeCidrs: [],
        strictArp: true,
        allowExternalIps: false,
      },
      ...{ conntrack: { ...before.conntrack, min: 1 }, oomScoreAdj: 1, verbosity: 4 },
    }
    const known = [...Object.keys(others), ...table.map(([field]) => field)]
    expect(known, 'a new field has to be on one side').to.have.members(Object.keys(before))
    expect(fieldsForRestart(before, { ...before, ...others })).to.deep.equal([])
  })
})

/** Ends what the last setUp has begun. */
let abort: AbortController

/** What is told of a new configuration, in order. */
function setUp(scheduler = 'rr') {
  const { log, lines } = recordingLog('info')
  const said: string[] = []
  const events: NodeHappening[] = []
  abort = new AbortController()
  const current = initially(configured({}), undefined)
  const choice = {
    current: scheduler,
    want: (wanted: string) => Promise.resolve(void said.push(`want ${wanted}`)),
  }
  const parts = {
    current,
    cluster: { node: undefined, markExposed: () => void said.push('map') },
    rulesBell: { ring: () => void said.push('rules') },
    scheduler: choice,
    setUpNode: ({ strictArp }: Config) =>
      Promise.resolve(void said.push(`node, strictARP ${String(strictArp)}`)),
    readdress: () => void said.push('health'),
    life: { signal: abort.signal, restart: () => void said.push('restart') },
    log,
    choice: { manifests: '/manifests', kubeconfig: '' },
    reportConfig: ({ config }: LoadedConfig) => void said.push(`log ${config.verbosity}`),
    recordNodeEvent: (event: NodeHappening) => void events.push(event),
  }
  return { parts, current, said, events, lines }
}

describe('reconfigure', () => {
  it('in place: maps, writes rules, sets up the node, asks for the scheduler, and listens anew', async () => {
    const { parts, current, said, lines } = setUp('lc')
    const next = configured({ ipvs: { scheduler: 'lc', strictARP: true } })
    await reconfigure(parts, next)

    expect(said).to.deep.equal(['map', 'rules', 'node, strictARP true', 'want lc', 'health'])
    expect([current.config, current.document]).to.deep.equal([next.config, next.document])
    expect(lines.map(({ msg, scheduler }) => [msg, scheduler])).to.deep.equal([
      ['applied the new configuration', 'lc'],
    ])
  })

  it('what the node asks for wins over the scheduler of the configuration', async () => {
    const { parts, said } = setUp()
    const cluster = { ...parts.cluster, node: { scheduler: 'sh' } as never }
    await reconfigure({ ...parts, cluster }, configured({ ipvs: { scheduler: 'lc' } }))
    expect(said).to.include('want sh')
  })

  it('by a restart: nothing else is done, and the old one counts until then', async () => {
    const { parts, current, said, lines } = setUp()
    const before = current.config
    await reconfigure(parts, configured({ metricsBindAddress: '127.0.0.1:1', ipvs: { scheduler: 'lc' } }))

    expect(said).to.deep.equal(['restart'])
    expect(current.config).to.equal(before)
    expect(lines.map(({ msg, fields }) => [msg, fields])).to.deep.equal([
      ['starting anew with the new configuration', ['metricsBindAddress']],
    ])
  })
})

describe('followConfig', () => {
  let folder: string
  let file: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    file = join(folder, 'config.yaml')
    writeFileSync(file, textOf({}))
  })
  afterEach(() => {
    abort.abort()
    rmSync(folder, { recursive: true })
  })

  it('applies a change, which the log follows first', async () => {
    const { parts, said, events } = setUp()
    followConfig({ path: file, text: textOf({}), load }, parts)
    writeFileSync(file, textOf({ logging: { verbosity: 4 } }))

    await eventually(() => expect(said.at(-1)).to.equal('health'))
    expect(said[0]).to.equal('log 4')
    expect(events).to.deep.equal([])
  })

  const refused: readonly (readonly [string, object, string])[] = [
    ['is none', { mode: 'iptables' }, 'mode: expected "ipvs"'],
    ['names an API server that cannot be asked', { clientConnection: { kubeconfig: '/none' } }, '/none'],
  ]
  for (const [what, fields, reason] of refused) {
    it(`refuses one that ${what}: the old one stays, and an Event says so`, async () => {
      const { parts, said, events, lines } = setUp()
      const choice = { ...parts.choice, manifests: what === 'is none' ? '/manifests' : undefined }
      followConfig({ path: file, text: textOf({}), load }, { ...parts, choice })
      writeFileSync(file, textOf(fields))

      await eventually(() => expect(events).to.have.length(1))
      expect(events[0]).to.include({
        type: 'Warning',
        reason: 'ConfigurationRefused',
        action: 'ReadConfiguration',
      })
      expect(events[0]!.note)
        .to.match(/^The new configuration cannot be used, the old one stays: /)
        .and.contain(reason)
      expect(said).to.deep.equal([])
      expect(complaints(lines)).to.deep.equal(['cannot use the new configuration: the old one stays'])
    })
  }
})
