/** Follows a packet through our chains, as iptables has them now. What the chains of others do with it is not followed. */
import type { Address, SocketAddress } from '../../../model/address.ts'
import { contains, parseCidr } from '../../../model/cidr.ts'
import { type SetMemberKey, setMember, splitSetMember, typeOfSet } from '../../../model/sets.ts'
import type { Packet, RuleStep, RuleTrace } from '../rule-trace.ts'
import { JUMPS } from './iptables-rules.ts'
import type { SavedRules, TableName } from './iptables-save.ts'

/** Asks whether a set has an element; undefined: it is none of ours, and not known. */
export type SetQuestion = (set: string, element: SetElement) => boolean | undefined

export interface SetElement {
  readonly address: Address
  readonly port: number
  readonly third: Address | undefined
}

/** Answers for what sets hold now. */
export function setQuestion(
  members: ReadonlySet<SetMemberKey>,
  { protocol }: Pick<Packet, 'protocol'>,
): SetQuestion {
  const networks = [...members].map(splitSetMember).filter(({ set }) => typeOfSet(set) === 'hash:ip,port,net')
  return (set, { address, port, third }) => {
    const at = `${address},${protocol.toLowerCase()}:${port}`
    switch (typeOfSet(set)) {
      case 'bitmap:port':
        return members.has(setMember(set, String(port)))
      case 'hash:ip':
        return members.has(setMember(set, address))
      case 'hash:ip,port':
        return members.has(setMember(set, at))
      case 'hash:ip,port,ip':
        return members.has(setMember(set, `${at},${third ?? ''}`))
      case 'hash:ip,port,net':
        return networks.some((one) => one.set === set && isOf(one.element, at, third))
      case undefined:
        return undefined
    }
  }
}

/** `element` is `ADDRESS,PROTOCOL:PORT,NETWORK`. */
function isOf(element: string, at: string, address: Address | undefined): boolean {
  if (address === undefined || !element.startsWith(`${at},`)) return false
  return isIn(element.slice(at.length + 1), address) === true
}

/** Undefined: it cannot be told from here. */
type Match = boolean | undefined

/** A packet on its way: what rules change of it. */
interface Passing {
  readonly packet: Packet
  readonly isInSet: SetQuestion
  mark: number
  readonly steps: RuleStep[]
  isUncertain: boolean
  isMasqueraded: boolean
}

/** What a chain does with a packet; `end`: nothing, it goes on in the chain before. */
type Verdict = 'accept' | 'drop' | 'end'

/** A jump to itself would never end. */
const DEEPEST = 8

/** The words of a rule; what stands in quotes is one. */
function wordsOf(rule: string): string[] {
  return [...rule.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, word]) => quoted ?? word!)
}

interface Condition {
  readonly name: string
  readonly isNegated: boolean
  readonly values: readonly string[]
}

/** What a rule asks, and what it does: `-j TARGET`, with what follows. */
interface ParsedRule {
  readonly conditions: readonly Condition[]
  readonly target: readonly string[]
}

function parseRule(rule: string): ParsedRule {
  const words = wordsOf(rule)
  const jump = words.findIndex((word) => word === '-j' || word === '-g')
  const asked = jump === -1 ? words : words.slice(0, jump)
  const conditions: Condition[] = []
  let isNegated = false
  for (const word of asked) {
    if (word === '!') isNegated = true
    else if (/^--?[a-z]/.test(word)) {
      conditions.push({ name: word, isNegated, values: [] })
      isNegated = false
    } else (conditions.at(-1)!.values as string[]).push(word)
  }
  return { conditions, target: jump === -1 ? [] : words.slice(jump + 1) }
}

const isIn = (network: string, address: Address): Match => {
  const cidr = parseCidr(network.includes('/') ? network : `${network}/${network.includes(':') ? 128 : 32}`)
  return cidr && contains(cidr, address)
}

/** Which address and port a set is asked for, and which stands after them: `dst,dst,src`. */
function elementAt(directions: string, { packet }: Passing): SetElement {
  const [first, , third] = directions.split(',')
  const at = (direction: string): Address => (direction === 'src' ? packet.source : packet.destination)
  return {
    address: at(first!),
    port: packet.destinationPort,
    third: third === undefined ? undefined : at(third),
  }
}

/** `--mark VALUE/MASK`. */
function isMarked(text: string, mark: number): boolean {
  const [value, mask = 0xffffffff] = text.split('/').map(Number)
  return (mark & mask) >>> 0 === value
}

type Ask = (values: readonly string[], passing: Passing) => Match

/** By the option that asks. Those that only name a match, as `-m set`, and comments ask nothing. */
const ASKED: Readonly<Record<string, Ask>> = {
  '-m': () => true,
  '--comment': () => true,
  '-s': ([network], { packet }) => isIn(network!, packet.source),
  '-d': ([network], { packet }) => isIn(network!, packet.destination),
  '-p': ([protocol], { packet }) => protocol === packet.protocol.toLowerCase(),
  '--match-set': ([set, directions], passing) => passing.isInSet(set!, elementAt(directions!, passing)),
  '--mark': ([text], { mark }) => isMarked(text!, mark),
  '--dst-type': ([type], { packet }) => (type === 'LOCAL' ? packet.isForNode : undefined),
  '--ctstate': ([states]) => states!.split(',').includes('NEW'),
  // The packet that a process of this node sends has come in nowhere.
  '-i': (_, { packet }) => (packet.isOwn ? false : undefined),
}

function matches({ conditions }: ParsedRule, passing: Passing): Match {
  let match: Match = true
  for (const { name, isNegated, values } of conditions) {
    const answer = ASKED[name]?.(values, passing)
    if (answer === isNegated) return false
    if (answer === undefined) match = undefined
  }
  return match
}

function setMark(passing: Passing, text: string): string {
  const [value, mask = 0xffffffff] = text.split('/').map(Number)
  passing.mark = ((passing.mark & ~mask) ^ value!) >>> 0
  return `its mark is 0x${passing.mark.toString(16)} now`
}

/** What a target does, in words, and whether the packet goes on: to the next rule, or in the chain before. */
type Act = (target: readonly string[], passing: Passing) => readonly [string, Verdict | 'return' | 'next']

/** Any other target is a chain. */
const ACTS: Readonly<Record<string, Act>> = {
  ACCEPT: () => ['it passes this table', 'accept'],
  DROP: () => ['it is dropped', 'drop'],
  REJECT: () => ['it is refused', 'drop'],
  RETURN: () => ['it leaves the chain', 'return'],
  MARK: ([, , value], passing) => [setMark(passing, value!), 'next'],
  MASQUERADE: (_, passing) => {
    passing.isMasqueraded = true
    return ['it gets an address of this node', 'accept']
  },
}

const UNKNOWN = 'it may apply: that depends on what is not known here, such as the interface'

function follow(tables: SavedRules, table: TableName, chain: string, passing: Passing, depth = 0): Verdict {
  for (const rule of tables.get(table)?.get(chain) ?? []) {
    const parsed = parseRule(rule)
    const match = matches(parsed, passing)
    if (match === false || depth > DEEPEST) continue
    const step = (effect: string): void => {
      passing.steps.push({ at: `${table} ${chain}`, rule, effect })
    }
    if (match === undefined) {
      passing.isUncertain = true
      step(UNKNOWN)
      continue
    }
    const act = ACTS[parsed.target[0] ?? '']
    if (act === undefined) {
      const verdict = follow(tables, table, parsed.target[0] ?? '', passing, depth + 1)
      if (verdict !== 'end') return verdict
      continue
    }
    const [effect, verdict] = act(parsed.target, passing)
    step(effect)
    if (verdict === 'return') return 'end'
    if (verdict !== 'next') return verdict
  }
  return 'end'
}

/** Our chains that are jumped to from a chain of the kernel, in the order of their jumps. */
function ownChains(tables: SavedRules, table: TableName, hook: string): string[] {
  const ours = new Set(JUMPS[table].map(({ target }) => target))
  const jumps = (tables.get(table)?.get(hook) ?? []).map((rule) => parseRule(rule).target[0] ?? '')
  return jumps.filter((target) => ours.has(target))
}

/** IPVS takes a packet that comes in after filter INPUT, and one of a process of this node right after nat OUTPUT. */
function placesOf({ isOwn }: Packet): readonly (readonly [TableName, string])[] {
  return isOwn
    ? [
        ['mangle', 'OUTPUT'],
        ['nat', 'OUTPUT'],
      ]
    : [
        ['nat', 'PREROUTING'],
        ['filter', 'INPUT'],
      ]
}

/** What our chains at one place do with a packet. */
function pass(tables: SavedRules, table: TableName, hook: string, passing: Passing): Verdict {
  for (const chain of ownChains(tables, table, hook)) {
    const verdict = follow(tables, table, chain, passing)
    if (verdict !== 'end') return verdict
  }
  return 'end'
}

/** A packet as IPVS sends it on to a real server. */
function sentTo({ address, port }: SocketAddress, passing: Passing): Passing {
  const packet = { ...passing.packet, destination: address, destinationPort: port, isForNode: false }
  return { ...passing, packet, steps: [] }
}

/** Ways to several real servers have steps in common. */
function distinct(steps: readonly RuleStep[]): RuleStep[] {
  return [...new Map(steps.map((step) => [`${step.at} ${step.rule}`, step])).values()]
}

/** Follows a packet to IPVS, and out again to each real server. */
export function traceRules(
  tables: SavedRules,
  packet: Packet,
  isInSet: SetQuestion,
  realServers: readonly SocketAddress[],
): RuleTrace {
  const coming: Passing = { packet, isInSet, mark: 0, steps: [], isUncertain: false, isMasqueraded: false }
  for (const [table, hook] of placesOf(packet))
    if (pass(tables, table, hook, coming) === 'drop')
      return { steps: coming.steps, isDropped: true, isUncertain: coming.isUncertain, masquerades: [] }
  const going = realServers.map((realServer) => sentTo(realServer, coming))
  for (const one of going) pass(tables, 'nat', 'POSTROUTING', one)
  return {
    steps: distinct([...coming.steps, ...going.flatMap(({ steps }) => steps)]),
    isDropped: false,
    isUncertain: [coming, ...going].some(({ isUncertain }) => isUncertain),
    masquerades: going.map(({ isMasqueraded }) => isMasqueraded),
  }
}
