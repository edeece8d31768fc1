/**
 * States and operations as the tools themselves write them: virtual and real servers as `ipvsadm -S -n`
 * does, addresses as `ip -batch` reads them, set members as `ipset save` does, flows as `conntrack -D` takes them.
 */
import { formatSocketAddress } from './address.ts'
import { ROUTE_PROTOCOL } from './binding.ts'
import type { KernelState } from './kernel-object.ts'
import type { Operation } from './operation.ts'
import { schedulerOf } from './schedulers.ts'
import {
  type ForwardingMethod,
  fullPrefix,
  ONE_PACKET,
  PERSISTENT,
  type RealServer,
  type RealServerSettings,
  SCHEDULER_FLAG_1,
  SCHEDULER_FLAG_2,
  SCHEDULER_FLAG_3,
  type Tunnel,
  type VirtualServer,
  type VirtualServerId,
  type VirtualServerSettings,
} from './virtual-server.ts'

const SERVICE_OPTION = { TCP: '-t', UDP: '-u', SCTP: '--sctp-service' } as const
const FORWARDING_OPTION: Readonly<Record<ForwardingMethod, string>> = {
  masquerade: '-m',
  tunnel: '-i',
  directRoute: '-g',
  local: '-g',
}
/** linux/ip_vs.h: IP_VS_TUNNEL_ENCAP_FLAG_CSUM and _REMCSUM. */
const TUNNEL_CHECKSUM = ['--tun-nocsum', '--tun-csum', '--tun-remcsum'] as const

const SCHEDULER_FLAGS = [SCHEDULER_FLAG_1, SCHEDULER_FLAG_2, SCHEDULER_FLAG_3] as const

function selector({ address, port, protocol }: VirtualServerId): string {
  return `${SERVICE_OPTION[protocol]} ${formatSocketAddress(address, port)}`
}

function schedulerFlags({ scheduler, flags }: VirtualServerSettings): string {
  return schedulerOf(scheduler)
    .flagNames.filter((_, i) => (flags & SCHEDULER_FLAGS[i]!) !== 0)
    .join(',')
}

/** ipvsadm prints an IPv4 mask as such, an IPv6 one as its length, and neither when it is full. */
function netmask({ address }: VirtualServerId, prefix: number): string {
  if (prefix === fullPrefix(address)) return ''
  if (fullPrefix(address) === 128) return ` -M ${prefix}`
  const mask = prefix === 0 ? 0 : (~0 << (32 - prefix)) >>> 0
  return ` -M ${[24, 16, 8, 0].map((shift) => (mask >>> shift) & 0xff).join('.')}`
}

function settingsOptions(id: VirtualServerId, settings: VirtualServerSettings): string {
  const flags = schedulerFlags(settings)
  return [
    ` -s ${settings.scheduler}`,
    (settings.flags & PERSISTENT) !== 0
      ? ` -p ${settings.persistenceSeconds}${netmask(id, settings.persistencePrefix)}`
      : '',
    settings.persistenceEngine === undefined ? '' : ` --pe ${settings.persistenceEngine}`,
    (settings.flags & ONE_PACKET) !== 0 ? ' -o' : '',
    flags === '' ? '' : ` -b ${flags}`,
  ].join('')
}

function tunnelOptions({ type, port, flags }: Tunnel): string {
  const checksum = type === 'ipip' ? '' : ` ${TUNNEL_CHECKSUM[flags] ?? `--tun-flags ${flags}`}`
  return type === 'ipip' ? '' : ` --tun-type ${type}${type === 'gue' ? ` --tun-port ${port}` : ''}${checksum}`
}

function realServerOptions(settings: RealServerSettings): string {
  const { forwarding, weight, upperThreshold, lowerThreshold, tunnel } = settings
  return [
    ` ${FORWARDING_OPTION[forwarding]} -w ${weight}`,
    upperThreshold > 0 ? ` -x ${upperThreshold}` : '',
    lowerThreshold > 0 ? ` -y ${lowerThreshold}` : '',
    forwarding === 'tunnel' && tunnel !== undefined ? tunnelOptions(tunnel) : '',
  ].join('')
}

const VERBS = {
  createVirtualServer: '-A',
  updateVirtualServer: '-E',
  deleteVirtualServer: '-D',
  createRealServer: '-a',
  updateRealServer: '-e',
  deleteRealServer: '-d',
} as const

/** One line for one operation. */
export function formatOperation(operation: Operation): string {
  switch (operation.kind) {
    case 'createVirtualServer':
    case 'updateVirtualServer':
      return `${VERBS[operation.kind]} ${selector(operation.of)}${settingsOptions(operation.of, operation.settings)}`
    case 'deleteVirtualServer':
      return `${VERBS[operation.kind]} ${selector(operation.of)}`
    case 'createRealServer':
    case 'updateRealServer': {
      const { key, settings } = operation.realServer
      return `${VERBS[operation.kind]} ${selector(operation.of)} -r ${key}${realServerOptions(settings)}`
    }
    case 'deleteRealServer':
      return `${VERBS[operation.kind]} ${selector(operation.of)} -r ${operation.realServer.key}`
    case 'bindAddress':
    case 'unbindAddress': {
      const { address, binding } = operation
      const isMade = operation.kind === 'bindAddress'
      const network = `${address}/${fullPrefix(address)}`
      if (binding === 'address') return `addr ${isMade ? 'add' : 'del'} ${network} dev kube-ipvs0`
      // Beside the route that an address brings with it: IPv4 would refuse to add another one.
      const verb = isMade ? 'append' : 'del'
      return `route ${verb} local ${network} dev lo table local proto ${ROUTE_PROTOCOL}`
    }
    case 'addSetMember':
      return `add ${operation.member}`
    case 'deleteSetMember':
      return `del ${operation.member}`
    case 'deleteFlows': {
      const { of, to } = operation
      const backend = to === undefined ? '' : ` --reply-src ${to.address} --reply-port-src ${to.port}`
      return `conntrack -D -p udp --orig-dst ${of.address} --orig-port-dst ${of.port}${backend}`
    }
  }
}

/** The same as a command. */
export function formatCommand(operation: Operation): string {
  const line = formatOperation(operation)
  switch (operation.kind) {
    case 'bindAddress':
    case 'unbindAddress':
      return `ip ${line}`
    case 'addSetMember':
    case 'deleteSetMember':
      return `ipset ${line}`
    case 'deleteFlows':
      return line
    case 'createVirtualServer':
    case 'updateVirtualServer':
    case 'deleteVirtualServer':
    case 'createRealServer':
    case 'updateRealServer':
    case 'deleteRealServer':
      return `ipvsadm ${line}`
  }
}

/** A virtual server with its real servers, each a line. */
export function formatVirtualServer({ id, settings, realServers }: VirtualServer): string[] {
  const lines = [formatOperation({ kind: 'createVirtualServer', of: id, settings })]
  const formatReal = (realServer: RealServer): string =>
    formatOperation({ kind: 'createRealServer', of: id, realServer })
  return [...lines, ...[...realServers.values()].map(formatReal)]
}

/** All virtual servers, in the order of their keys, as `ipvsadm -S -n` prints them. */
export function formatVirtualServers({ virtualServers }: Pick<KernelState, 'virtualServers'>): string[] {
  return [...virtualServers.values()]
    .sort((a, b) => (a.id.key < b.id.key ? -1 : 1))
    .flatMap((virtualServer) => formatVirtualServer(virtualServer))
}
