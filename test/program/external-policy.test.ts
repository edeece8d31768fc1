import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { ExternalPolicy } from '../../src/model/claims/external-policy.ts'
import {
  applyPolicy,
  followPolicy,
  openPolicy,
  policyFileBeside,
} from '../../src/program/follow/external-policy.ts'
import type { NodeHappening } from '../../src/program/report/node-events.ts'
import { eventually } from '../support/eventually.ts'
import { recordingLog } from '../support/log.ts'
import { rejectionOf } from '../support/rejection.ts'

const FILE = '/etc/kube-ipvs/external-addresses.yaml'
const textOf = (namespaces: unknown): string =>
  JSON.stringify({ apiVersion: 'kube-ipvs.io/v1alpha1', kind: 'ExternalAddressPolicy', namespaces })
const SHOP = textOf({ shop: ['192.0.2.0/24'] })

function setUp() {
  const { log, lines } = recordingLog('info')
  const events: NodeHappening[] = []
  const current: { policy: ExternalPolicy | undefined } = { policy: undefined }
  let marked = 0
  const users = {
    current,
    cluster: { markExposed: () => marked++ },
    recordNodeEvent: (event: NodeHappening) => void events.push(event),
    log,
  }
  return { users, current, events, lines, marked: () => marked }
}

describe('the list of external addresses', () => {
  it('is beside the configuration', () => {
    expect(policyFileBeside('/etc/kube-ipvs/config.conf')).to.equal(FILE)
  })

  it('that is new is applied to every Service that is reached from outside', () => {
    const { users, current, events, lines, marked } = setUp()
    applyPolicy(FILE, SHOP, users)

    expect([...current.policy!.keys()]).to.deep.equal(['shop'])
    expect([events, marked()]).to.deep.equal([[], 1])
    expect(lines.map(({ msg, file, namespaces }) => [msg, file, namespaces])).to.deep.equal([
      ['applied the list of external addresses', FILE, 1],
    ])
  })

  it('that is gone restricts nobody, which is said, in the log and as an Event', () => {
    const { users, current, events, lines, marked } = setUp()
    applyPolicy(FILE, SHOP, users)
    applyPolicy(FILE, '', users)

    const note = `There is no ${FILE} any more: every namespace may have any external address`
    expect(current.policy).to.equal(undefined)
    expect(marked()).to.equal(2)
    expect(lines.at(-1)).to.include({ level: 40, msg: note })
    expect(events).to.deep.equal([
      { type: 'Warning', reason: 'ExternalAddressPolicyGone', action: 'ReadConfiguration', note },
    ])
  })

  it('that is broken changes nothing', () => {
    const { users, current, marked } = setUp()
    applyPolicy(FILE, SHOP, users)
    const before = current.policy
    expect(() => applyPolicy(FILE, textOf(7), users)).to.throw(`Cannot use ${FILE}`)
    expect([current.policy, marked()]).to.deep.equal([before, 1])
  })

  describe('in a folder', () => {
    let folder: string
    let file: string
    let abort: AbortController
    beforeEach(() => {
      abort = new AbortController()
      folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
      file = join(folder, 'external-addresses.yaml')
    })
    afterEach(() => {
      abort.abort()
      rmSync(folder, { recursive: true })
    })

    it('need not be there', async () => {
      expect(await openPolicy(file)).to.deep.equal({ file, text: '', policy: undefined })
    })

    it('is not empty: without a word, it would restrict nobody', async () => {
      writeFileSync(file, ' \n')
      expect(await rejectionOf(openPolicy(file))).to.have.property(
        'message',
        `Cannot use ${file}: it is empty; without it, every namespace may have any address`,
      )
    })

    it('is followed: what comes is applied, and what is broken is refused by an Event', async () => {
      const { users, current, events } = setUp()
      followPolicy(await openPolicy(file), { ...users, life: { signal: abort.signal } })
      writeFileSync(file, SHOP)
      await eventually(() => expect([...current.policy!.keys()]).to.deep.equal(['shop']))

      writeFileSync(file, textOf(7))
      await eventually(() =>
        expect(events.map(({ reason }) => reason)).to.deep.equal(['ConfigurationRefused']),
      )
      expect([...current.policy!.keys()]).to.deep.equal(['shop'])
    })
  })
})
