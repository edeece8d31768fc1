import { expect } from 'chai'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import type { ObservedRealServer, RealServerKey, VirtualServerKey } from '../../src/model/virtual-server.ts'
import { type GoneSince, planDrain } from '../../src/plan/drain.ts'
import { parseIpvsadm } from '../support/ipvsadm-text.ts'
import { claimsFor, wantedIn } from '../support/states.ts'

const KEY = '10.96.0.10:80/TCP' as VirtualServerKey
const REAL = '10.244.0.1:8080' as RealServerKey
const DEADLINE_MS = 1_000

interface Case {
  readonly name: string
  readonly weight?: number
  readonly active?: number
  readonly inactive?: number
  readonly lingering?: boolean
  readonly wanted?: boolean
  readonly goneSince?: number
  readonly now?: number
  readonly expected: { readonly deleted: boolean; readonly left: number; readonly goneSince?: number }
}

function drain({ weight = 0, active = 0, inactive = 0, lingering, wanted, goneSince, now = 0 }: Case) {
  const text = `-A -t 10.96.0.10:80 -s rr\n-a -t 10.96.0.10:80 -r ${REAL} -m -w ${weight}`
  const { id, realServers } = parseIpvsadm(text).get(KEY)!
  const observed: ObservedRealServer[] = [...realServers.values()].map((realServer) => ({
    ...realServer,
    connections: { active, inactive, persistent: 0 },
  }))
  const claims = claimsFor(
    wanted === true ? text : '-A -t 10.96.0.10:80 -s rr',
    lingering === true ? [REAL] : [],
  )
  const since: GoneSince = new Map(goneSince === undefined ? [] : [[REAL, goneSince]])
  return planDrain({
    of: id,
    wanted: wantedIn(claims, KEY),
    observed,
    goneSince: since,
    now,
    deadlineMs: DEADLINE_MS,
  })
}

describe('planDrain', () => {
  const cases: readonly Case[] = [
    { name: 'deletes an idle one', expected: { deleted: true, left: 0 } },
    {
      name: 'waits for active connections',
      active: 1,
      now: 5,
      expected: { deleted: false, left: 1, goneSince: 5 },
    },
    {
      name: 'waits for inactive connections',
      inactive: 1,
      now: 5,
      expected: { deleted: false, left: 1, goneSince: 5 },
    },
    {
      name: 'remembers since when the endpoint is gone',
      active: 1,
      goneSince: 2,
      now: 5,
      expected: { deleted: false, left: 1, goneSince: 2 },
    },
    {
      name: 'waits until just before the deadline',
      active: 1,
      goneSince: 2,
      now: 1_001,
      expected: { deleted: false, left: 1, goneSince: 2 },
    },
    {
      name: 'deletes a busy one at the deadline',
      active: 1,
      goneSince: 2,
      now: 1_002,
      expected: { deleted: true, left: 0 },
    },
    {
      name: 'sets no deadline while the endpoint is published',
      active: 1,
      lingering: true,
      goneSince: 2,
      now: 9_999,
      expected: { deleted: false, left: 1 },
    },
    {
      name: 'deletes an idle one while the endpoint is published',
      lingering: true,
      expected: { deleted: true, left: 0 },
    },
    {
      name: 'leaves alone what is in service',
      weight: 1,
      wanted: true,
      expected: { deleted: false, left: 0 },
    },
    {
      name: 'leaves alone what is wanted again but not raised yet',
      wanted: true,
      expected: { deleted: false, left: 0 },
    },
    { name: 'leaves alone what has not been quiesced yet', weight: 1, expected: { deleted: false, left: 0 } },
  ]
  for (const testCase of cases) {
    it(testCase.name, () => {
      const { operations, draining, left } = drain(testCase)
      const { deleted, left: expectedLeft, goneSince } = testCase.expected

      expect(operations.map(formatOperation)).to.deep.equal(deleted ? [`-d -t 10.96.0.10:80 -r ${REAL}`] : [])
      expect(left).to.equal(expectedLeft)
      expect(draining.get(REAL)).to.equal(goneSince)
    })
  }
})
