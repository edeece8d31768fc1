/** Reads what `ipvsadm -S -n` prints, and lines of the other tools, as far as our tests write them. */
import { parseAddress, withoutBrackets } from '../../src/model/address.ts'
import type { KnownVirtualServer } from '../../src/model/kernel-object.ts'
import type { Operation } from '../../src/model/operation.ts'
import type { SetMemberKey } from '../../src/model/sets.ts'
import {
  type ForwardingMethod,
  fullPrefix,
  IN_SERVICE,
  PERSISTENT,
  type Protocol,
  realServer,
  SCHEDULER_FLAG_1,
  SCHEDULER_FLAG_2,
  SCHEDULER_FLAG_3,
  virtualServerId,
  type VirtualServerId,
  type VirtualServerKey,
} from '../../src/model/virtual-server.ts'

const PROTOCOLS: Readonly<Record<string, Protocol>> = { '-t': 'TCP', '-u': 'UDP', '--sctp-service': 'SCTP' }
const FORWARDING: Readonly<Record<string, ForwardingMethod>> = {
  '-m': 'masquerade',
  '-g': 'directRoute',
  '-i': 'tunnel',
}
const FLAGS: Readonly<Record<string, number>> = {
  'flag-1': SCHEDULER_FLAG_1,
  'flag-2': SCHEDULER_FLAG_2,
  'flag-3': SCHEDULER_FLAG_3,
  'sh-fallback': SCHEDULER_FLAG_1,
  'sh-port': SCHEDULER_FLAG_2,
  'mh-fallback': SCHEDULER_FLAG_1,
  'mh-port': SCHEDULER_FLAG_2,
}

function socketAddress(text: string): {
  address: NonNullable<ReturnType<typeof parseAddress>>
  port: number
} {
  const colon = text.lastIndexOf(':')
  const address = parseAddress(withoutBrackets(text.slice(0, colon)))
  if (address === undefined) throw new Error(`Cannot parse "${text}" as address and port`)
  return { address, port: Number(text.slice(colon + 1)) }
}

function idOf(words: readonly string[]): VirtualServerId {
  const { address, port } = socketAddress(words[2]!)
  return virtualServerId(address, port, PROTOCOLS[words[1]!]!)
}

function option(words: readonly string[], name: string): string | undefined {
  const at = words.indexOf(name)
  return at < 0 ? undefined : words[at + 1]
}

/** Virtual servers by key. Lines may be indented; empty ones are skipped. */
export function parseIpvsadm(text: string): Map<VirtualServerKey, KnownVirtualServer> {
  const found = new Map<VirtualServerKey, KnownVirtualServer>()
  for (const line of text.split('\n').map((part) => part.trim())) {
    if (line === '') continue
    const words = line.split(/\s+/)
    const id = idOf(words)
    if (words[0] === '-A') {
      const persistence = option(words, '-p')
      const flags = (option(words, '-b') ?? '').split(',').reduce((sum, name) => sum | (FLAGS[name] ?? 0), 0)
      const settings = {
        scheduler: option(words, '-s')!,
        flags: flags | (persistence === undefined ? 0 : PERSISTENT),
        persistenceSeconds: Number(persistence ?? 0),
        persistencePrefix: fullPrefix(id.address),
      }
      found.set(id.key, { id, settings, isProven: true, realServers: new Map() })
    } else if (words[0] === '-a') {
      const { address, port } = socketAddress(option(words, '-r')!)
      const forwarding = FORWARDING[words.find((word) => word in FORWARDING)!]!
      const weight = Number(option(words, '-w'))
      const real = realServer(address, port, { ...IN_SERVICE, forwarding, weight })
      found.get(id.key)!.realServers.set(real.key, real)
    } else throw new Error(`Cannot parse "${line}" as a line of ipvsadm -S`)
  }
  return found
}

const COMMAND = /^(?:ipvsadm|ipset|ip) /

/** `-A`, `-E` and `-D` lines. */
function virtualServerOperation(verb: string, rest: string): Operation {
  if (verb === '-D') return { kind: 'deleteVirtualServer', of: idOf(['-D', ...rest.split(' ')]) }
  const [{ id: of, settings }] = [...parseIpvsadm(`-A ${rest}`).values()] as [KnownVirtualServer]
  return { kind: verb === '-A' ? 'createVirtualServer' : 'updateVirtualServer', of, settings }
}

/** `-a`, `-e` and `-d` lines. */
function realServerOperation(verb: string, rest: string): Operation {
  const server = rest.split(' ').slice(0, 2).join(' ')
  const line = verb === '-d' ? `-a ${rest} -m -w 0` : `-a ${rest}`
  const [{ id: of, realServers }] = [...parseIpvsadm(`-A ${server} -s rr\n${line}`).values()] as [
    KnownVirtualServer,
  ]
  const kinds = { '-a': 'createRealServer', '-e': 'updateRealServer', '-d': 'deleteRealServer' } as const
  return { kind: kinds[verb as '-a'], of, realServer: [...realServers.values()][0]! }
}

const BINDING =
  /^(addr|route) (add|append|del) (?:local )?(\S+)\/(?:32|128) dev (?:kube-ipvs0|lo table local proto 73)$/

/** Reads a line of formatOperation, or of formatCommand, but for tracked flows. Throws for anything else. */
export function parseOperation(text: string): Operation {
  const line = text.replace(COMMAND, '')
  const verb = line.split(' ')[0]!
  const rest = line.slice(verb.length + 1)
  const bound = BINDING.exec(line)
  const address = parseAddress(bound?.[3] ?? '')
  if (address !== undefined) {
    const kind = bound![2] === 'del' ? 'unbindAddress' : 'bindAddress'
    return { kind, address, binding: bound![1] === 'addr' ? 'address' : 'route' }
  }
  const member = /^(add|del) (KUBE-\S+ \S+)$/.exec(line)
  if (member !== null) {
    const kind = member[1] === 'add' ? 'addSetMember' : 'deleteSetMember'
    return { kind, member: member[2] as SetMemberKey }
  }
  if (['-A', '-E', '-D'].includes(verb)) return virtualServerOperation(verb, rest)
  if (['-a', '-e', '-d'].includes(verb)) return realServerOperation(verb, rest)
  throw new Error(`Cannot parse "${text}" as a line of ipvsadm, ipset or ip`)
}
