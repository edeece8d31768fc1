import type { MappingOptions } from '../../src/model/claims/claim.ts'
import type { Neighbourhood } from '../../src/model/claims/refusal.ts'
import { ALONE } from '../../src/model/claims/surroundings.ts'

/** Nobody has an address. */
export const NOBODY: Neighbourhood = {
  nodeIps: [],
  interfaceAddresses: new Set(),
  apiServers: new Set(),
  serviceCidrs: [],
  clusterIpOwner: () => undefined,
  publisher: () => undefined,
  isPeer: () => false,
  surroundings: ALONE,
  policy: undefined,
}

/** What Services are mapped with on node-1, with everything that a test is not about. */
export function mapping(parts: Partial<MappingOptions> = {}): MappingOptions {
  return {
    nodeName: 'node-1',
    zone: undefined,
    scheduler: 'rr',
    vipBinding: 'address',
    families: new Set(['IPv4', 'IPv6']),
    nodePortAddresses: [],
    neighbourhood: NOBODY,
    allowExternalIps: true,
    drains: new Set(),
    ...parts,
  }
}
