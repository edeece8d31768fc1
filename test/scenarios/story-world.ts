/** What a story acts on: a cluster that remembers its objects, a kernel, and the proxy between them, which may be restarted. */
import { constants } from 'node:os'
import { formatOperation } from '../../src/model/ipvsadm.ts'
import { type Operation, project } from '../../src/model/operation.ts'
import { NetlinkError } from '../../src/netlink/error.ts'
import type { Happening } from '../../src/source/events.ts'
import { FakeKernel } from '../support/fake-kernel.ts'
import { parseOperation } from '../support/ipvsadm-text.ts'
import { type Kind, Story } from '../support/story.ts'
import type { Change } from './story-objects.ts'

export type Errno = keyof typeof constants.errno
type Method = Parameters<FakeKernel['beforeCall']>[0]

/** What the kernel refuses: lines that begin so, as often as that. */
interface Refusal {
  readonly prefix: string
  readonly errno: Errno
  left: number
  isUsed: boolean
}

/** Calls of the kernel that are lost: `skip` go through before, `left` do not. */
interface Outage {
  readonly methods: readonly Method[]
  readonly errno: Errno | undefined
  skip: number
  left: number
}

/** What has happened since the step before, in order. */
export interface Seen {
  readonly executed: readonly string[]
  readonly refused: readonly string[]
  /** Calls that read the kernel. */
  readonly reads: readonly string[]
  readonly log: readonly string[]
  readonly events: readonly string[]
  /** How often the kernel was said to be as it should be, and what had led there. */
  readonly settled: number
  readonly triggers: readonly string[]
}

const KINDS: readonly Kind[] = ['Service', 'EndpointSlice', 'Node', 'ServiceCIDR']
const READS: Readonly<Record<string, string>> = { readTables: 'tables', readRealServers: 'real servers' }
/** So many turns of the event loop without an operation: nothing more will come while the rules are missing. */
const QUIET_TURNS = 200

function formatEvent({ type, reason, regarding, note }: Happening): string {
  const name = regarding.namespace === undefined ? regarding.name : `${regarding.namespace}/${regarding.name}`
  return `${type} ${reason} ${name}: ${note}`
}

export class World {
  readonly kernel = new FakeKernel()
  readonly #objects = new Map<string, Change>()
  /** What every proxy is started with. */
  readonly #settings: ((story: Story) => void)[] = []
  readonly #refusals: Refusal[] = []
  readonly #outages: Outage[] = []
  /** What happens while the kernel is busy with its next change. */
  #meanwhile: (() => void) | undefined
  readonly #refused: string[] = []
  readonly #reads: string[] = []
  #rules: PromiseWithResolvers<undefined> | undefined
  #story: Story | undefined
  #isStopped = true

  constructor() {
    this.kernel.refuse = (operation) => this.#refuse(operation)
    this.kernel.beforeCall = (method) => this.#beforeCall(method)
  }

  /** The proxy that runs, or ran last. Throws before the first start. */
  get story(): Story {
    if (this.#story === undefined) throw new Error('nothing has been started yet: say "given" before')
    return this.#story
  }

  get isStarted(): boolean {
    return this.#story !== undefined
  }

  get isRunning(): boolean {
    return !this.#isStopped
  }

  // --- The kernel -----------------------------------------------------------------------------------------

  #refuse(operation: Operation): Errno | undefined {
    const line = formatOperation(operation)
    const refusal = this.#refusals.find(({ prefix, left }) => left > 0 && line.startsWith(prefix))
    if (refusal === undefined) return undefined
    refusal.left--
    refusal.isUsed = true
    this.#refused.push(line)
    return refusal.errno
  }

  #beforeCall(method: Method): void {
    if (method in READS) this.#reads.push(READS[method]!)
    if (method === 'execute') this.#pass()
    for (const outage of this.#outages) {
      if (!outage.methods.includes(method) || outage.left === 0) continue
      if (outage.skip > 0) outage.skip--
      else {
        outage.left--
        throw outage.errno === undefined
          ? new Error('lost')
          : new NetlinkError('Cannot ask the kernel', constants.errno[outage.errno])
      }
    }
  }

  #pass(): void {
    const happen = this.#meanwhile
    this.#meanwhile = undefined
    happen?.()
  }

  /** The next change takes so long, and meanwhile the cluster changes. */
  delay(ms: number, changes: readonly Change[]): void {
    this.#meanwhile = () => {
      this.story.bell.now += ms
      this.change(changes)
    }
  }

  refuse(prefix: string, errno: Errno, times: number): void {
    this.#refusals.push({ prefix, errno, left: times, isUsed: false })
  }

  lose(methods: readonly Method[], errno: Errno | undefined, skip: number, times: number): void {
    this.#outages.push({ methods, errno, skip, left: times })
  }

  /** The kernel refuses nothing more, and loses no call. Throws where it did so less often than said. */
  obey(): void {
    for (const { prefix, isUsed, left } of this.#refusals.splice(0))
      if (!isUsed || (left > 0 && left < Infinity))
        throw new Error(`nothing like "${prefix}" was tried so often: the kernel has refused less than said`)
    for (const { left, skip } of this.#outages.splice(0))
      if (skip > 0 || (left > 0 && left < Infinity))
        throw new Error('the kernel was not asked so often as to lose a call')
    if (this.#meanwhile !== undefined) throw new Error('the kernel was given no change that takes its time')
  }

  /** Somebody changes the kernel behind our back. Throws where that changes nothing. */
  edit(line: string): void {
    const before = this.#picture()
    project(this.kernel.state, parseOperation(line))
    if (this.#picture() === before) throw new Error(`"${line}" changes nothing`)
  }

  #picture(): string {
    const { addresses, setMembers } = this.kernel.state
    return [this.kernel.toString(), ...addresses, ...setMembers].join('\n')
  }

  // --- The proxy ------------------------------------------------------------------------------------------

  /** Set now, and again after each start. */
  set(setting: (story: Story) => void): void {
    this.#settings.push(setting)
    if (this.isRunning) setting(this.story)
  }

  withholdRules(): void {
    this.#rules = Promise.withResolvers<undefined>()
    this.#rules.promise.catch(() => undefined)
  }

  async makeRules(): Promise<void> {
    this.#rules?.resolve(undefined)
    this.#rules = undefined
    await this.settle()
  }

  async start(): Promise<void> {
    if (this.isRunning) throw new Error('it runs already')
    this.#isStopped = false
    const before = this.#story
    this.#story = new Story(this.kernel, this.#rules && { rules: this.#rules.promise })
    // What the last one has said at its end is not lost.
    this.story.lines.push(...(before?.lines ?? []))
    this.story.events.push(...(before?.events ?? []))
    for (const setting of this.#settings) setting(this.story)
    await this.settle()
  }

  async stop(): Promise<void> {
    if (!this.isRunning) return
    this.#isStopped = true
    const stopped = this.story.stop()
    this.#rules?.reject(new Error('stopped'))
    await stopped
  }

  async wait(ms: number): Promise<void> {
    await this.story.advance(ms)
  }

  /** Until the proxy has nothing left to do at this time. */
  async settle(): Promise<void> {
    const settled = this.story.bell.settle()
    await (this.#rules === undefined ? settled : Promise.race([settled, this.#untilQuiet()]))
  }

  async #untilQuiet(): Promise<void> {
    const { executed } = this.kernel
    for (let quiet = 0, before = executed.length; quiet < QUIET_TURNS; quiet++) {
      await new Promise(setImmediate)
      if (executed.length !== before) quiet = 0
      before = executed.length
    }
  }

  // --- The cluster ----------------------------------------------------------------------------------------

  /** Changes objects, all at once; a proxy that runs is told, but has no turn yet. */
  change(changes: readonly Change[]): void {
    for (const change of changes) {
      const key = `${change.kind} ${change.name}`
      if (change.object === undefined && !this.#objects.delete(key)) throw new Error(`there is no ${key}`)
      if (change.object !== undefined) this.#objects.set(key, change)
      if (this.isRunning) this.#tell(change)
    }
  }

  #tell({ kind, name, object }: Change): void {
    if (!this.story.cluster.synced) return
    if (object === undefined) this.story.remove(kind, name)
    else this.story.tell(object)
  }

  /** The first list of some resources; all, unless given. */
  async list(kinds: readonly Kind[] = KINDS): Promise<void> {
    for (const kind of kinds) {
      const objects = [...this.#objects.values()].filter((change) => change.kind === kind)
      this.story.replace(
        kind,
        objects.map(({ object }) => object!),
      )
    }
    await this.settle()
  }

  /** What has happened since this was asked last. */
  take(): Seen {
    const { story } = this
    const settled = story.settled.splice(0)
    const triggers = settled.flat().map(({ family, at }) => `${family} ${new Date(at).toISOString()}`)
    return {
      executed: story.takeExecuted(),
      refused: this.#refused.splice(0),
      reads: this.#reads.splice(0),
      log: story.takeComplaints(),
      events: story.events.splice(0).map(formatEvent),
      settled: settled.length,
      triggers,
    }
  }
}
