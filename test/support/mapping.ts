import type { MappingOptions } from '../../src/model/claims.ts'

/** What Services are mapped with on node-1, with everything that a test is not about. */
export function mapping(parts: Partial<MappingOptions> = {}): MappingOptions {
  return {
    nodeName: 'node-1',
    zone: undefined,
    scheduler: 'rr',
    families: new Set(['IPv4', 'IPv6']),
    nodePortAddresses: [],
    interfaceAddresses: new Set(),
    neighbourhood: { nodeIps: [], podCidrs: [], apiServers: [] },
    allowExternalIps: true,
    ...parts,
  }
}
