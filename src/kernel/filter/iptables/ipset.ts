/** Our sets in the kernel's ipset, over nfnetlink. No process is started. */
import type { Family } from '../../../model/address.ts'
import { setMember, type SetMemberKey, type SetSpec, setsOf, splitSetMember } from '../../../model/sets.ts'
import { NetlinkConnection } from '../../../netlink/connection.ts'
import { isNotFound, NetlinkError, type Refusals } from '../../../netlink/error.ts'
import type { MessageWriter } from '../../../netlink/message.ts'
import type { Socket } from '../../../netlink/socket.ts'
import { mapInTurns, oneAtATime } from '../../../waiting/turns.ts'
import {
  decodeSetPart,
  decodeSetType,
  encodeMember,
  encodeSetCreate,
  encodeSetDestroy,
  encodeSetList,
  encodeSetSwap,
  encodeSetTypeGet,
  MAX_ELEMENTS,
  type SetHeader,
} from './ipset-codec.ts'
import { explainSetError, SET_IS_FULL, withMeaning } from './ipset-errors.ts'
import { familyNumber } from '../../address-family.ts'
import type { MemberChange } from '../filter.ts'
import { NETLINK_NETFILTER } from '../../netfilter.ts'

/** Where a set is made anew before it takes the place of the old one. */
const NEW_SET = 'KUBE-NEW-SET'
const CHANGE = 'Cannot change sets'
/** Members written in one exchange. */
const BATCH_MEMBERS = 5_000
/** Parts of a list, each with hundreds of members, that are decoded in one go. */
const PARTS_PER_TURN = 2

/** A set that we can use. */
interface OpenSet {
  readonly spec: SetSpec
  readonly maxElements: number
  /** Members, at most: deletions of what is not there do not count. */
  size: number
}

/** A set as the kernel lists it; undefined when there is none. */
type Listed = { readonly header: SetHeader; readonly elements: string[] } | undefined

export class Ipset {
  readonly #connection: NetlinkConnection
  /** For the lists, which changes do not wait for. */
  readonly #reader: NetlinkConnection
  readonly #specs: ReadonlyMap<string, SetSpec>
  /** Of each kind that has been asked for, its newest revision, or why it cannot be used. */
  readonly #revisions = new Map<string, number | Error>()
  /** By name. A set that cannot be used is here with the reason. */
  readonly #sets = new Map<string, OpenSet | Error>()
  /** Changes: none comes between a set and the one that takes its place, and there is one KUBE-NEW-SET. */
  readonly #inTurn = oneAtATime()
  /** Sets that were not there when last read. */
  #missing: readonly SetSpec[] = []

  /** The sets of these families are ours. */
  constructor(addon: Socket, families: Iterable<Family>) {
    this.#connection = new NetlinkConnection(addon, NETLINK_NETFILTER)
    this.#reader = new NetlinkConnection(addon, NETLINK_NETFILTER)
    this.#specs = new Map([...families].flatMap(setsOf).map((spec) => [spec.name, spec]))
  }

  /** Names of the sets that are there. */
  get names(): ReadonlySet<string> {
    return new Set([...this.#sets].filter(([, set]) => !(set instanceof Error)).map(([name]) => name))
  }

  /** Commands that make the sets that were not there. */
  get creations(): string[] {
    return this.#missing.map(formatSetCreate)
  }

  /** Why sets cannot be used, by name. */
  get faults(): ReadonlyMap<string, Error> {
    return new Map([...this.#sets].flatMap(([name, set]) => (set instanceof Error ? [[name, set]] : [])))
  }

  /**
   * The members of all sets that can be used. Unless `readOnly`, a set that is missing is made, and one with odd
   * options (members that expire) is made anew. One that cannot be used is kept as a fault: it costs its own members.
   */
  async read(readOnly: boolean): Promise<Set<SetMemberKey>> {
    const listed = await this.#list([...this.#specs.keys()])
    this.#missing = [...this.#specs.values()].filter(({ name }) => listed.get(name) === undefined)
    const made = await this.#create(readOnly ? [] : this.#missing)
    const members = new Set<SetMemberKey>()
    for (const spec of this.#specs.values()) {
      const found = listed.get(spec.name)
      try {
        const set = made.get(spec) ?? (readOnly ? reading(spec, found) : await this.#adopt(spec, found!))
        this.#sets.set(spec.name, set)
        if (set instanceof Error || set.size === 0) continue
        for (const element of found!.elements) members.add(setMember(spec.name, element))
      } catch (error) {
        this.#sets.set(spec.name, error as Error)
      }
    }
    return members
  }

  /**
   * Executes changes in order, each on its own. Throws when it cannot say what became of them.
   */
  async execute(changes: readonly MemberChange[]): Promise<Refusals> {
    return this.#inTurn(() => this.#execute(changes))
  }

  async #execute(changes: readonly MemberChange[]): Promise<Refusals> {
    const cramped = await this.#makeRoom(changes)
    const refusals = new Map<number, Error>()
    const batch = this.#connection.batch()
    const attempted: number[] = []
    for (const [i, { verb, member }] of changes.entries()) {
      const { set: name, element } = splitSetMember(member)
      const set = (verb === 'ADD' ? cramped.get(name) : undefined) ?? this.#sets.get(name)
      if (set === undefined || set instanceof Error)
        refusals.set(i, set ?? new Error(`There is no set for ${member}`))
      else {
        attempted.push(i)
        encodeMember(batch, verb, set.spec, element)
        set.size += verb === 'ADD' ? 1 : -1
      }
    }
    const reply = await this.#connection.exchange(batch, CHANGE)
    for (const [n, error] of reply.refusals) {
      const i = attempted[n]!
      refusals.set(i, withMeaning(error, CHANGE))
      this.#uncount(changes[i]!, error.errno === SET_IS_FULL)
    }
    return refusals
  }

  /** Destroys all of our sets. Throws an AggregateError with those that cannot be, as rules ask them. */
  async destroy(): Promise<void> {
    const failures: Error[] = []
    for (const name of [...this.#specs.keys(), NEW_SET]) {
      await this.#run(`Cannot destroy set ${name}`, (batch) => {
        encodeSetDestroy(batch, name)
      }).catch((error: unknown) => {
        if (!isNotFound(error)) failures.push(error as Error)
      })
    }
    if (failures.length > 0)
      throw new AggregateError(failures, 'Cannot destroy all sets: delete the rules that ask them')
  }

  close(): void {
    this.#connection.close()
    this.#reader.close()
  }

  /** A set that is full is so whatever we have counted, as while it was read: the next attempt makes it larger. */
  #uncount({ verb, member }: MemberChange, isFull: boolean): void {
    const set = this.#sets.get(splitSetMember(member).set)
    if (set === undefined || set instanceof Error) return
    set.size -= verb === 'ADD' ? 1 : -1
    if (isFull) set.size = Math.max(set.size, set.maxElements)
  }

  /**
   * Sets that would become too full for these changes are made anew, larger, before they are. Returns why some cannot be:
   * while somebody lists a set, it cannot be replaced.
   */
  async #makeRoom(changes: readonly MemberChange[]): Promise<Map<string, Error>> {
    const cramped = new Map<string, Error>()
    const added = new Map<string, number>()
    for (const { verb, member } of changes) {
      if (verb !== 'ADD') continue
      const { set } = splitSetMember(member)
      added.set(set, (added.get(set) ?? 0) + 1)
    }
    for (const [name, count] of added) {
      const set = this.#sets.get(name)
      if (set === undefined || set instanceof Error || set.maxElements === 0) continue
      if (set.size + count > set.maxElements)
        await this.#grow(set, set.size + count).catch((error: unknown) => cramped.set(name, error as Error))
    }
    return cramped
  }

  async #grow({ spec, maxElements }: OpenSet, needed: number): Promise<void> {
    let larger = maxElements
    while (larger < needed + needed / 4) larger *= 2
    this.#sets.set(spec.name, await this.#makeAnew(spec, larger))
  }

  async #list(names: readonly string[]): Promise<Map<string, Listed>> {
    const batch = this.#reader.batch()
    for (const name of names) encodeSetList(batch, name)
    const { messages, refusals } = await this.#reader.exchange(batch, 'Cannot read sets')
    const found = new Map<string, Listed>()
    const parts = await mapInTurns(messages, decodeSetPart, PARTS_PER_TURN)
    for (const [i, message] of messages.entries()) {
      const { header, elements } = parts[i]!
      const name = names[message.place]!
      const before = found.get(name)
      if (before !== undefined) before.elements.push(...elements)
      else if (header !== undefined) found.set(name, { header, elements })
    }
    for (const error of refusals.values()) if (!isNotFound(error)) throw explainSetError(error)
    return found
  }

  async #adopt(spec: SetSpec, found: NonNullable<Listed>): Promise<OpenSet> {
    if (!hasKind(found.header, spec)) {
      await this.#run(`Cannot destroy set ${spec.name}`, (batch) => {
        encodeSetDestroy(batch, spec.name)
      }).catch((cause: unknown) => {
        throw wrongKind(spec, found.header, cause)
      })
      return this.#createOne(spec, MAX_ELEMENTS)
    }
    const { isOdd, maxElements } = found.header
    if (isOdd) return this.#inTurn(() => this.#makeAnew(spec, Math.max(maxElements, MAX_ELEMENTS)))
    return { spec, maxElements, size: found.elements.length }
  }

  /** What becomes of each: at a first start there are dozens, and they take two exchanges. */
  async #create(
    specs: readonly SetSpec[],
    maxElements = MAX_ELEMENTS,
  ): Promise<Map<SetSpec, OpenSet | Error>> {
    await this.#findRevisions(specs)
    const made = new Map(specs.map((spec) => [spec, this.#empty(spec, maxElements)]))
    const possible = specs.filter((spec) => !(made.get(spec) instanceof Error))
    const batch = this.#connection.batch()
    for (const spec of possible)
      encodeSetCreate(batch, spec, this.#revisions.get(setTypeKey(spec)) as number, maxElements)
    const { refusals } = await this.#connection.exchange(batch, 'Cannot create sets')
    for (const [i, error] of refusals) {
      const spec = possible[i]!
      const named = new NetlinkError(`Cannot create set ${spec.name}`, error.errno, error)
      made.set(spec, explainSetError(named))
    }
    return made
  }

  async #createOne(spec: SetSpec, maxElements: number): Promise<OpenSet> {
    const set = (await this.#create([spec], maxElements)).get(spec)!
    if (set instanceof Error) throw set
    return set
  }

  /** A set before it is made; an error where the kernel does not have its type. */
  #empty(spec: SetSpec, maxElements: number): OpenSet | Error {
    const revision = this.#revisions.get(setTypeKey(spec))
    if (revision instanceof Error) return revision
    return { spec, maxElements: spec.type === 'bitmap:port' ? 0 : maxElements, size: 0 }
  }

  /** The newest revisions that the kernel has of these types. */
  async #findRevisions(specs: readonly SetSpec[]): Promise<void> {
    const kinds = new Map(specs.map((spec) => [setTypeKey(spec), spec]))
    const unknown = [...kinds].filter(([kind]) => typeof this.#revisions.get(kind) !== 'number')
    const batch = this.#connection.batch()
    for (const [, spec] of unknown) encodeSetTypeGet(batch, spec)
    const { messages, refusals } = await this.#connection.exchange(batch, 'Cannot ask for types of sets')
    for (const [i, cause] of refusals) {
      const [kind, spec] = unknown[i]!
      this.#revisions.set(kind, missingType(spec, cause))
    }
    for (const message of messages) {
      const [kind] = unknown[message.place]!
      this.#revisions.set(kind, decodeSetType(message))
    }
  }

  /** Makes a set with the same members, and lets it take the place of the old one, which rules may ask meanwhile. */
  async #makeAnew(spec: SetSpec, maxElements: number): Promise<OpenSet> {
    const elements = (await this.#list([spec.name])).get(spec.name)?.elements ?? []
    const destroy = (batch: MessageWriter): void => {
      encodeSetDestroy(batch, NEW_SET)
    }
    await this.#run(`Cannot destroy set ${NEW_SET}`, destroy).catch((error: unknown) => {
      if (!isNotFound(error)) throw error
    })
    const set = await this.#createOne({ ...spec, name: NEW_SET }, maxElements)
    for (let start = 0; start < elements.length; start += BATCH_MEMBERS) {
      await this.#run(`Cannot fill set ${NEW_SET} for ${spec.name}`, (batch) => {
        for (const element of elements.slice(start, start + BATCH_MEMBERS)) {
          encodeMember(batch, 'ADD', { name: NEW_SET, type: spec.type }, element)
        }
      })
    }
    await this.#run(`Cannot replace set ${spec.name}`, (batch) => {
      encodeSetSwap(batch, NEW_SET, spec.name)
      encodeSetDestroy(batch, NEW_SET)
    })
    return { ...set, spec, size: elements.length }
  }

  /** Sends requests that must all succeed. */
  async #run(action: string, build: (batch: MessageWriter) => void): Promise<void> {
    const batch = this.#connection.batch()
    build(batch)
    const { refusals } = await this.#connection.exchange(batch, action)
    for (const error of refusals.values()) throw explainSetError(error)
  }
}

/** Sets of a kind are made in the same way. */
function setTypeKey({ type, family }: SetSpec): string {
  return `${type} ${family}`
}

function missingType({ type }: SetSpec, cause: Error): Error {
  const module = `ip_set_${type.replace(':', '_').replaceAll(',', '')}`
  return new Error(`Cannot use sets of type ${type}: load it with "modprobe ${module}"`, { cause })
}

function hasKind({ type, family }: SetHeader, spec: SetSpec): boolean {
  if (type !== spec.type) return false
  return spec.type === 'bitmap:port' || family === familyNumber(spec.family)
}

/** As `ipset save` prints it. */
function formatSetCreate({ name, type, family }: SetSpec): string {
  const options =
    type === 'bitmap:port'
      ? 'range 0-65535'
      : `family ${family === 'IPv4' ? 'inet' : 'inet6'} hashsize 1024 maxelem ${MAX_ELEMENTS}`
  return `ipset create ${name} ${type} ${options}`
}

function wrongKind({ name, type, family }: SetSpec, { type: found }: SetHeader, cause?: unknown): Error {
  const message = `Cannot use set ${name}: it is of type ${found}, expected ${type} of ${family}, and rules ask it: delete these, then "ipset destroy ${name}"`
  return new Error(message, { cause })
}

/** As #adopt, but changes nothing. */
function reading(spec: SetSpec, found: Listed): OpenSet {
  if (found !== undefined && !hasKind(found.header, spec)) throw wrongKind(spec, found.header)
  return { spec, maxElements: found?.header.maxElements ?? MAX_ELEMENTS, size: found?.elements.length ?? 0 }
}
