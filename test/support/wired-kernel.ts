/**
 * A kernel whose operations take their time, as over netlink: those of one kind go over one wire, one after the other,
 * and different wires do not wait for each other. It notes what was seen to happen in a wrong order.
 */
import type { Kernel } from '../../src/kernel/kernel.ts'
import { executeInRuns, type Wire } from '../../src/kernel/runs.ts'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import { addressOf } from '../../src/model/kernel-object.ts'
import { objectOf, type Operation } from '../../src/model/operation.ts'
import { setMember } from '../../src/model/sets.ts'
import type { Refusals } from '../../src/netlink/error.ts'
import { breathe } from '../../src/waiting/turns.ts'
import { FakeKernel } from './fake-kernel.ts'

export class WiredKernel implements Kernel {
  readonly inner: FakeKernel
  /** Turns of the event loop that a run of operations takes on each wire. */
  readonly turns: Record<Wire, number> = { ipvs: 1, address: 1, set: 1, flow: 1 }
  /** What was wrong when an operation was executed. */
  readonly faults: string[] = []
  /** The most calls of `execute` that were under way together. */
  atOnce = 0
  #underWay = 0
  readonly #tails = new Map<Wire, Promise<unknown>>()

  constructor(inner = new FakeKernel()) {
    this.inner = inner
  }

  readTables: Kernel['readTables'] = () => this.inner.readTables()
  readRealServers: Kernel['readRealServers'] = (ids) => this.inner.readRealServers(ids)

  execute: Kernel['execute'] = async (operations) => {
    this.atOnce = Math.max(this.atOnce, ++this.#underWay)
    const refusals = await executeInRuns(operations, (wire, run) => this.#send(wire, run))
    this.#underWay--
    return refusals
  }

  close(): void {
    // Nothing is open.
  }

  /** A run waits for those before it on its wire, and only for them. */
  async #send(wire: Wire, run: readonly Operation[]): Promise<Refusals> {
    const before = this.#tails.get(wire) ?? Promise.resolve()
    const sent = before.then(async () => {
      for (let turn = 0; turn < this.turns[wire]; turn++) await breathe()
      for (const operation of run) this.#check(operation)
      return this.inner.execute(run)
    })
    this.#tails.set(wire, sent)
    return sent
  }

  /** Make before break, as whoever sends packets meanwhile would see it. */
  #check(operation: Operation): void {
    const { virtualServers, addresses, setMembers } = this.inner.state
    const address = addressOf(objectOf(operation))
    const fault = (what: string): void => {
      this.faults.push(`${formatOperation(operation)}: ${what}`)
    }
    if (address === undefined) return
    const isServed = [...virtualServers.values()].some(({ id }) => id.address === address)
    const isMarked = setMembers.has(setMember('KUBE-IPVS-IPS', address))
    if (operation.kind === 'bindAddress' && !isServed) fault('no virtual server is there')
    if (operation.kind === 'createVirtualServer' && !isMarked)
      fault('nothing says yet that the address is ours')
    if (operation.kind === 'deleteVirtualServer' && addresses.has(address))
      fault('its address is still bound')
    if (operation.kind === 'deleteSetMember' && isServed) fault('virtual servers are still there')
  }
}
