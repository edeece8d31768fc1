/** One change to the kernel, as data: made by plan, executed by kernel, printed by ipvsadm.ts. */
import type { Address } from './address.ts'
import { addBinding, type Binding, removeBinding } from './binding.ts'
import type { KernelObject, KernelState } from './kernel-object.ts'
import type { SetMemberKey } from './sets.ts'
import type { RealServer, VirtualServerId, VirtualServerSettings } from './virtual-server.ts'

export type Operation =
  | {
      readonly kind: 'createVirtualServer' | 'updateVirtualServer'
      readonly of: VirtualServerId
      readonly settings: VirtualServerSettings
    }
  | { readonly kind: 'deleteVirtualServer'; readonly of: VirtualServerId }
  | {
      readonly kind: 'createRealServer' | 'updateRealServer' | 'deleteRealServer'
      readonly of: VirtualServerId
      readonly realServer: RealServer
    }
  | { readonly kind: 'bindAddress' | 'unbindAddress'; readonly address: Address; readonly binding: Binding }
  | { readonly kind: 'addSetMember' | 'deleteSetMember'; readonly member: SetMemberKey }
  /** Forgets tracked UDP flows through a virtual server: all of them, or those to one real server. */
  | { readonly kind: 'deleteFlows'; readonly of: VirtualServerId; readonly to?: RealServer }

export type OperationKind = Operation['kind']

/** The object an operation is about; a real server's is its virtual server. */
export function objectOf(operation: Operation): KernelObject {
  switch (operation.kind) {
    case 'bindAddress':
    case 'unbindAddress':
      return { kind: 'address', key: operation.address }
    case 'addSetMember':
    case 'deleteSetMember':
      return { kind: 'setMember', key: operation.member }
    case 'createVirtualServer':
    case 'updateVirtualServer':
    case 'deleteVirtualServer':
    case 'createRealServer':
    case 'updateRealServer':
    case 'deleteRealServer':
    case 'deleteFlows':
      return { kind: 'virtualServer', key: operation.of.key }
  }
}

/** Changes `state` as the kernel changes when the operation succeeds. */
export function project(state: KernelState, operation: Operation): void {
  switch (operation.kind) {
    case 'createVirtualServer': {
      const { of: id, settings } = operation
      state.virtualServers.set(id.key, { id, settings, realServers: new Map(), isProven: true })
      return
    }
    case 'updateVirtualServer': {
      const known = state.virtualServers.get(operation.of.key)
      if (known !== undefined)
        state.virtualServers.set(known.id.key, { ...known, settings: operation.settings })
      return
    }
    case 'deleteVirtualServer':
      state.virtualServers.delete(operation.of.key)
      return
    case 'createRealServer':
    case 'updateRealServer':
      state.virtualServers
        .get(operation.of.key)
        ?.realServers.set(operation.realServer.key, operation.realServer)
      return
    case 'deleteRealServer':
      state.virtualServers.get(operation.of.key)?.realServers.delete(operation.realServer.key)
      return
    case 'bindAddress':
      addBinding(state.addresses, operation.address, operation.binding)
      return
    case 'unbindAddress':
      removeBinding(state.addresses, operation.address, operation.binding)
      return
    case 'addSetMember':
      state.setMembers.add(operation.member)
      return
    case 'deleteSetMember':
      state.setMembers.delete(operation.member)
      return
    case 'deleteFlows':
      // They are the connection tracking's, and not kept in mind.
      return
  }
}
