import { expect } from 'chai'
import { defaultConfig } from '../../src/config/config.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import type { Node } from '../../src/model/facts/facts.ts'
import { parseNode, parseService } from '../../src/model/facts/parse-facts.ts'
import { openLife } from '../../src/program/life.ts'
import type { NodeHappening } from '../../src/program/report/node-events.ts'
import { Choice } from '../../src/program/choices/choice.ts'
import { openScheduler, schedulerInUse, wantedScheduler } from '../../src/program/choices/scheduler.ts'
import { service } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { complaints, recordingLog } from '../support/log.ts'

describe('Choice', () => {
  function choose(available: readonly string[]) {
    const { log, lines } = recordingLog()
    const asked: string[] = []
    const changes: string[] = []
    const refusals: string[] = []
    const choice = new Choice<string>({
      ...{ what: 'scheduler', field: 'scheduler' },
      initial: 'rr',
      isAvailable: (name) => {
        asked.push(name)
        return Promise.resolve(available.includes(name))
      },
      remedyFor: (name) => `load it with "modprobe ip_vs_${name}"`,
      onSwitch: (name) => changes.push(name),
      onRefusal: (reason) => refusals.push(reason),
      log,
    })
    return { choice, lines, asked, changes, refusals }
  }

  it('switches to a scheduler that the kernel has', async () => {
    const { choice, changes } = choose(['lc'])
    await choice.want('lc')

    expect(choice.current).to.equal('lc')
    expect(changes).to.deep.equal(['lc'])
  })

  it('asks the kernel nothing about the one in use', async () => {
    const { choice, asked, changes } = choose([])
    await choice.want('rr')

    expect(asked).to.deep.equal([])
    expect(changes).to.deep.equal([])
  })

  it('keeps the one in use when the kernel lacks the other, and says so with the remedy', async () => {
    const { choice, lines, changes, refusals } = choose([])
    await choice.want('wlcc')
    await choice.want('wlcc')
    choice.stop()

    expect(choice.current).to.equal('rr')
    expect(changes).to.deep.equal([])
    expect(refusals).to.deep.equal([
      'The scheduler "wlcc" is not available, rr stays: load it with "modprobe ip_vs_wlcc"',
    ])
    expect(complaints(lines)).to.deep.equal(['the scheduler "wlcc" is not available'])
    expect(lines.at(-1)!.remedy).to.equal('load it with "modprobe ip_vs_wlcc"')
  })

  it('ends where the last wish was, however fast they come', async () => {
    const { choice, changes } = choose(['lc', 'wrr'])
    await Promise.all(['lc', 'nope', 'wrr'].map((name) => choice.want(name)))

    expect(choice.current).to.equal('wrr')
    expect(changes).to.deep.equal(['lc', 'wrr'])
  })

  it('forgets a wish for what is not there when it is taken back', async () => {
    const { choice, refusals } = choose([])
    await choice.want('nope')
    await choice.want('rr')
    await choice.want('nope')
    choice.stop()

    expect(choice.current).to.equal('rr')
    expect(refusals).to.have.length(2)
  })
})

describe('wantedScheduler', () => {
  it('is what the node asks for, or else the configuration', () => {
    expect(wantedScheduler({ node: { scheduler: 'sh' } as Node }, { scheduler: 'lc' })).to.equal('sh')
    expect(wantedScheduler({ node: { scheduler: undefined } as Node }, { scheduler: 'lc' })).to.equal('lc')
    expect(wantedScheduler({ node: undefined }, { scheduler: 'lc' })).to.equal('lc')
  })
})

describe('schedulerInUse', () => {
  const OURS = '-A -t 10.96.0.10:80 -s wrr'
  const THEIRS = '-A -t 192.168.50.1:80 -s sh'
  const table: readonly (readonly [string, readonly string[], boolean | Error, string])[] = [
    ['ours have', [OURS], true, 'wrr'],
    ['ours have, not what stands before it on an address that is not ours', [THEIRS, OURS], true, 'wrr'],
    ['is configured, where nothing is ours', [THEIRS], true, 'lc'],
    ['is rr, where the kernel lacks the configured one', [], false, 'rr'],
    ['is rr, where the kernel does not say what it has', [], new Error('EPERM'), 'rr'],
  ]
  for (const [what, servers, available, expected] of table) {
    it(`is what ${what}: ${expected}`, async () => {
      const kernel = new FakeKernel(servers.join('\n'), ['10.96.0.10'])
      const isAvailable = (): Promise<boolean> =>
        available instanceof Error ? Promise.reject(available) : Promise.resolve(available)
      expect(await schedulerInUse(await kernel.readTables(), 'lc', isAvailable)).to.equal(expected)
    })
  }
})

describe('openScheduler', () => {
  async function open(scheduler: string) {
    const told: string[] = []
    const events: NodeHappening[] = []
    const cluster = new Cluster('node-1', () => undefined)
    cluster.services.put(parseService(service()))
    cluster.takeDirty()
    const kernel = new FakeKernel('-A -t 10.96.0.10:80 -s rr')
    const life = openLife(new AbortController().signal)
    const choice = await openScheduler({
      // It can say nothing: no other scheduler is available.
      kernel: { ipvs: {} as never },
      tables: await kernel.readTables(),
      ...{ cluster, life, log: recordingLog().log },
      current: { config: { ...defaultConfig(), scheduler } },
      metrics: { setScheduler: (name) => void told.push(name) },
      recordNodeEvent: (event) => void events.push(event),
    })
    return { choice, cluster, events, told, life }
  }
  const annotated = (name: string): unknown => ({
    metadata: { name: 'node-1', annotations: { 'kube-ipvs.io/scheduler': name } },
  })

  it('begins with the one that the kernel has, and tells it', async () => {
    const { choice, told, life } = await open('lc')
    expect([choice.current, told]).to.deep.equal(['rr', ['rr']])
    await life.end()
  })

  it('hears what the node asks for; what is not available is an Event, and nothing changes', async () => {
    const { choice, cluster, events, told, life } = await open('rr')
    cluster.nodes.put(parseNode(annotated('sh')))
    await eventually(() => expect(events).to.have.length(1))

    expect(events[0]).to.include({
      type: 'Warning',
      reason: 'SchedulerUnavailable',
      action: 'SwitchScheduler',
      note: 'The scheduler "sh" is not available, rr stays: load it with "modprobe ip_vs_sh"',
    })
    expect([choice.current, told, cluster.takeDirty()]).to.deep.equal(['rr', ['rr'], []])
    await life.end()
  })
})
