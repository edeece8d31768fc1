/** What somebody asks about: a Service, an address, or a virtual server. */
import { type Address, parseAddress, withoutBrackets } from '../model/address.ts'
import type { ServiceName } from '../model/facts/facts.ts'
import { virtualServerIdOf, type VirtualServerKey } from '../model/virtual-server.ts'

/** As it is written: `shop/web`, `web`, `10.96.0.10`, `10.96.0.10:443`, `[fd00::10]:53/UDP`. */
export type Subject =
  | { readonly kind: 'service'; readonly name: string }
  | {
      readonly kind: 'address'
      readonly address: Address
      readonly port?: number
      readonly protocol?: string
    }

export function parseSubject(text: string): Subject {
  const address = parseAddress(withoutBrackets(text))
  if (address !== undefined) return { kind: 'address', address }
  const [, host, port, protocol] = /^(.*):(\d{1,5})(?:\/(tcp|udp|sctp))?$/i.exec(text) ?? []
  const at = host === undefined ? undefined : parseAddress(withoutBrackets(host))
  if (at === undefined) return { kind: 'service', name: text }
  return {
    kind: 'address',
    address: at,
    port: Number(port),
    ...(protocol !== undefined && { protocol: protocol.toUpperCase() }),
  }
}

/** The Service is meant by its whole name, or by its name where the namespace is left out. */
export function isMeant(name: string, service: ServiceName): boolean {
  return service === name || service.endsWith(`/${name}`)
}

export function isAt(subject: Subject & { kind: 'address' }, key: VirtualServerKey): boolean {
  const { address, port, protocol } = virtualServerIdOf(key)
  return (
    address === subject.address &&
    (subject.port ?? port) === port &&
    (subject.protocol ?? protocol) === protocol
  )
}
