/**
 * What can happen in a story. Before its first step, and between steps, things are arranged:
 *
 *   kernel has                                      lines of ipvsadm, ipset and ip, as `executed` has them: what was left
 *   somebody runs                                   commands of these, behind our back; one that changes nothing is an error
 *   kernel refuses -A -t 10.96.0.11:80 with ENOMEM [5 times]       operations that begin so; unused, it is an error
 *   kernel loses [3] readings of tables             also: readings, changes; [after 2] [with EINTR]
 *   the next change takes 600ms, and meanwhile      objects change, as below `apply`
 *   kernel answers again                            it refuses and loses nothing more
 *   connections 10.96.0.10:80/TCP 10.244.0.2:8080 active 1 inactive 0
 *   scheduler lc                                    and, all before the start:
 *   node addresses 192.168.50.1 203.0.113.80
 *   minimum sync period 10s                         also later
 *   the rules are missing                           those of iptables
 *
 * Steps: after each, `executed` or a state, `log` and `events` say what must have come of it (story-expectations.ts).
 *
 *   given                 starts the program, if need be, with these objects (story-objects.ts), all of them listed; or
 *   given nothing         a cluster without objects. What is executed then need not be said
 *   start                 without any list
 *   list                  all of them, or: list services nodes servicecidrs
 *   apply                 objects change, or, by `delete ...`, are gone, all at once
 *   delete service web    the same for one object
 *   wait 10s              on the story's clock; also 500ms, 5m
 *   stop, restart         a restart lists what the cluster has
 *   the rules stand
 *   switch the scheduler to lc
 *   bind virtual IPs as route
 *   node addresses become 192.168.50.7
 */
import { constants } from 'node:os'
import { type Address, parseAddress } from '../../src/model/address.ts'
import type { Binding } from '../../src/model/binding.ts'
import type { Kind } from '../support/story.ts'
import { type Change, parseChange, parseYamlChanges } from './story-objects.ts'
import { type Line, type Sentence, StoryError } from './story-parser.ts'
import type { Errno, World } from './story-world.ts'

/** What a sentence was given: its words that vary, and what stands below. */
interface Given {
  readonly words: readonly string[]
  readonly body: readonly Line[]
}

interface Step {
  readonly pattern: RegExp
  /** Whether it has a body. */
  readonly hasBody: boolean
  /** What must come of it has to be said. */
  readonly isEvent: boolean
  readonly act: (world: World, given: Given, file: string) => void | Promise<void>
}

const RESOURCES: Readonly<Record<string, Kind>> = {
  services: 'Service',
  slices: 'EndpointSlice',
  nodes: 'Node',
  servicecidrs: 'ServiceCIDR',
}
const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000 }
const CALLS = {
  'readings of tables': ['readTables'],
  readings: ['readTables', 'readRealServers'],
  changes: ['execute'],
} as const

function errnoOf(text: string): Errno {
  if (!(text in constants.errno)) throw new Error(`"${text}" is no errno`)
  return text as Errno
}

function timeOf(text: string): number {
  const [, number, unit] = /^(\d+)(ms|s|m)$/.exec(text) ?? []
  if (unit === undefined) throw new Error(`"${text}" is no time: 10s, 500ms, 5m`)
  return Number(number) * UNITS[unit]!
}

function addressesOf(text: string): Address[] {
  return text.split(' ').map((word) => {
    const address = parseAddress(word)
    if (address === undefined) throw new Error(`"${word}" is no address`)
    return address
  })
}

function kindsOf(text: string): Kind[] {
  return text.split(' ').map((word) => {
    if (RESOURCES[word] === undefined)
      throw new Error(`"${word}" is none of: ${Object.keys(RESOURCES).join(', ')}`)
    return RESOURCES[word]
  })
}

/** Calls `act` for each line; what it throws names the line. */
function eachLine<Result>(file: string, body: readonly Line[], act: (text: string) => Result): Result[] {
  return body.map(({ number, text }) => {
    try {
      return act(text)
    } catch (error) {
      throw new StoryError(file, number, (error as Error).message, error)
    }
  })
}

function changesOf(file: string, body: readonly Line[]): Change[] {
  if (body[0]?.text.startsWith('apiVersion:') !== true) return eachLine(file, body, parseChange)
  return parseYamlChanges(body.map(({ text }) => text).join('\n'))
}

function edit(world: World, { body }: Given, file: string): void {
  eachLine(file, body, (line) => world.edit(line))
}

async function begin(world: World, changes: readonly Change[]): Promise<void> {
  world.change(changes)
  if (!world.isRunning) await world.start()
  await world.list()
}

async function change(world: World, changes: readonly Change[]): Promise<void> {
  if (!world.isStarted) throw new Error('nothing has been started yet: say "given" before')
  world.change(changes)
  if (world.isRunning) await world.settle()
}

function setAddresses(world: World, text: string): void {
  const addresses = addressesOf(text)
  world.set((story) => {
    story.nodeAddresses = addresses
  })
}

function setScheduler(world: World, scheduler: string): void {
  world.set((story) => {
    story.scheduler = scheduler
  })
}

function setConnections(world: World, [of, to, active, inactive]: readonly string[]): void {
  const virtualServer = world.kernel.state.virtualServers.get(of as never)
  if (virtualServer?.realServers.has(to as never) !== true)
    throw new Error(`${of!} has no real server ${to!}`)
  world.kernel.setConnections(of!, to!, { active: Number(active), inactive: Number(inactive ?? 0) })
}

function lose(world: World, [times, calls, skip, errno]: readonly (string | undefined)[]): void {
  const methods = CALLS[calls as keyof typeof CALLS]
  world.lose(
    methods,
    errno === undefined ? undefined : errnoOf(errno),
    Number(skip ?? 0),
    Number(times ?? Infinity),
  )
}

const arrangement = (pattern: RegExp, act: Step['act'], hasBody = false): Step => ({
  pattern,
  act,
  hasBody,
  isEvent: false,
})
/** An arrangement that a program which runs would not notice. */
const beforeStart = (pattern: RegExp, act: Step['act'], hasBody = false): Step =>
  arrangement(
    pattern,
    (world, given, file) => {
      if (world.isRunning) throw new Error('this is for before the start')
      return act(world, given, file)
    },
    hasBody,
  )
const event = (pattern: RegExp, act: Step['act'], hasBody = false): Step => ({
  pattern,
  act,
  hasBody,
  isEvent: true,
})

const STEPS: readonly Step[] = [
  beforeStart(/^kernel has$/, edit, true),
  arrangement(/^somebody runs$/, edit, true),
  arrangement(
    /^kernel refuses (.+) with (\S+?)(?: (\d+) times)?$/,
    (world, { words: [line, errno, times] }) =>
      world.refuse(line!, errnoOf(errno!), Number(times ?? Infinity)),
  ),
  arrangement(
    /^kernel loses (?:(\d+) )?(readings of tables|readings|changes)(?: after (\d+))?(?: with (\S+))?$/,
    (world, { words }) => lose(world, words),
  ),
  arrangement(
    /^the next change takes (\S+), and meanwhile$/,
    (world, { words, body }, file) => world.delay(timeOf(words[0]!), changesOf(file, body)),
    true,
  ),
  arrangement(/^kernel answers again$/, (world) => world.obey()),
  arrangement(/^connections (\S+) (\S+) active (\d+)(?: inactive (\d+))?$/, (world, { words }) =>
    setConnections(world, words),
  ),
  beforeStart(/^scheduler (\S+)$/, (world, { words }) => setScheduler(world, words[0]!)),
  beforeStart(/^node addresses (?!become)(.+)$/, (world, { words }) => setAddresses(world, words[0]!)),
  arrangement(/^minimum sync period (\S+)$/, (world, { words }) => {
    const ms = timeOf(words[0]!)
    world.set((story) => {
      story.minSyncPeriodMs = ms
    })
  }),
  beforeStart(/^the rules are missing$/, (world) => world.withholdRules()),
  event(/^given$/, (world, { body }, file) => begin(world, changesOf(file, body)), true),
  event(/^given nothing$/, (world) => begin(world, [])),
  event(/^start$/, (world) => world.start()),
  event(/^list$/, (world) => world.list()),
  event(/^list (.+)$/, (world, { words }) => world.list(kindsOf(words[0]!))),
  event(/^apply$/, (world, { body }, file) => change(world, changesOf(file, body)), true),
  event(/^(delete .+)$/, (world, { words }) => change(world, [parseChange(words[0]!)])),
  event(/^wait (\S+)$/, (world, { words }) => world.wait(timeOf(words[0]!))),
  event(/^stop$/, (world) => world.stop()),
  event(/^restart$/, async (world) => {
    await world.stop()
    await begin(world, [])
  }),
  event(/^the rules stand$/, (world) => world.makeRules()),
  event(/^switch the scheduler to (\S+)$/, async (world, { words }) => {
    setScheduler(world, words[0]!)
    world.story.cluster.markAll()
    await world.settle()
  }),
  event(/^bind virtual IPs as (address|route)$/, async (world, { words }) => {
    world.story.vipBinding = words[0] as Binding
    world.story.cluster.markAll()
    await world.settle()
  }),
  event(/^node addresses become (.+)$/, async (world, { words }) => {
    setAddresses(world, words[0]!)
    world.story.cluster.markExposed()
    await world.settle()
  }),
]

/** A step that has been found, ready to be taken. */
export interface FoundStep {
  readonly isEvent: boolean
  readonly act: (world: World) => void | Promise<void>
}

/** The step that a sentence tells; undefined where it tells none. Throws where it has a body and should not, or lacks one. */
export function findStep(file: string, { number, text, body }: Sentence): FoundStep | undefined {
  const step = STEPS.find(({ pattern }) => pattern.test(text))
  if (step === undefined) return undefined
  if (step.hasBody !== body.length > 0)
    throw new StoryError(
      file,
      number,
      step.hasBody ? `below "${text}" is nothing` : `nothing belongs below "${text}"`,
    )
  const words = step.pattern.exec(text)!.slice(1)
  return { isEvent: step.isEvent, act: (world) => step.act(world, { words, body }, file) }
}
