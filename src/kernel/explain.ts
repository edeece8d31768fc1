/** Errors of operations in a user's words, with the remedy. */
import { type Address, familyOf } from '../model/address.ts'
import type { Operation } from '../model/operation.ts'
import { schedulerOf } from '../model/schedulers.ts'
import { splitSetMember } from '../model/sets.ts'
import { isNotPermitted, NetlinkError } from '../netlink/error.ts'

const VERBS: Readonly<Record<Exclude<Operation['kind'], 'bindAddress' | 'unbindAddress'>, string>> = {
  createVirtualServer: 'create virtual server',
  updateVirtualServer: 'update virtual server',
  deleteVirtualServer: 'delete virtual server',
  createRealServer: 'add real server',
  updateRealServer: 'update real server',
  deleteRealServer: 'delete real server',
  addSetMember: 'add to set',
  deleteSetMember: 'delete from set',
  deleteFlows: 'forget tracked flows through',
}

function describeBinding({ kind, address, binding }: Extract<Operation, { address: Address }>): string {
  const [verb, preposition] = kind === 'bindAddress' ? ['bind', 'to'] : ['unbind', 'from']
  const what = `Cannot ${verb} ${address}`
  return binding === 'address' ? `${what} ${preposition} kube-ipvs0` : `${what} as a route`
}

/** `Cannot create virtual server 10.96.0.1:443/TCP`. */
export function describeAttempt(operation: Operation): string {
  if ('address' in operation) return describeBinding(operation)
  const verb = `Cannot ${VERBS[operation.kind]}`
  if ('realServer' in operation) return `${verb} ${operation.realServer.key} of ${operation.of.key}`
  if ('of' in operation) return `${verb} ${operation.of.key}`
  const { set, element } = splitSetMember(operation.member)
  return `${verb} ${set}: ${element}`
}

/** What the user can do about a refusal; undefined where the errno says it all. */
function remedy(operation: Operation, error: NetlinkError): string | undefined {
  if ('member' in operation) return error.meaning
  if (isNotPermitted(error)) {
    const isIpv6 = 'address' in operation && familyOf(operation.address) === 'IPv6'
    return isIpv6
      ? 'IPv6 is disabled here (net.ipv6.conf.all.disable_ipv6), or the capability NET_ADMIN is missing'
      : 'run as root, or with the capability NET_ADMIN'
  }
  if ('settings' in operation && error.code === 'ENOENT') {
    const { scheduler } = operation.settings
    return `the scheduler "${scheduler}" is not available: load it with "modprobe ${schedulerOf(scheduler).module}"`
  }
  if (error.code === 'EAFNOSUPPORT' || error.code === 'EOPNOTSUPP') {
    return 'this kernel does not have the address family: enable IPv6, or make the Service single-stack'
  }
  if ('address' in operation && error.code === 'ENETDOWN') return 'lo is down: "ip link set lo up"'
  if (error.code === 'ENOMEM') return 'the kernel is out of memory'
  return undefined
}

/** The error of a failed operation: what was attempted, and why it failed, which many may have in common. */
export class OperationError extends Error {
  override readonly name = 'OperationError'
  readonly reason: string

  constructor(operation: Operation, reason: string, cause: Error) {
    super(`${describeAttempt(operation)}: ${reason}`, { cause })
    this.reason = reason
  }
}

/** The error of a failed operation, with the kernel's error as its cause. */
export function explainFailure(operation: Operation, error: Error): OperationError {
  if (!(error instanceof NetlinkError)) return new OperationError(operation, error.message, error)
  const words = remedy(operation, error)
  const reason = words ?? error.code
  const kernel = error.kernelMessage === undefined ? '' : `, the kernel says "${error.kernelMessage}"`
  return new OperationError(operation, `${reason}${kernel}`, error)
}

/** The netlink error behind an explained one. */
export function netlinkErrorOf(error: unknown): NetlinkError | undefined {
  if (error instanceof NetlinkError) return error
  return error instanceof Error && error.cause instanceof NetlinkError ? error.cause : undefined
}
