import { expect } from 'chai'
import type { Address } from '../../src/model/address.ts'
import { virtualServerId } from '../../src/model/virtual-server.ts'
import { isAt, isMeant, parseSubject } from '../../src/view/subject.ts'

describe('parseSubject', () => {
  const table: readonly (readonly [string, object])[] = [
    ['shop/web', { kind: 'service', name: 'shop/web' }],
    ['web', { kind: 'service', name: 'web' }],
    ['10.96.0.10', { kind: 'address', address: '10.96.0.10' }],
    ['10.96.0.10:443', { kind: 'address', address: '10.96.0.10', port: 443 }],
    ['10.96.0.10:53/udp', { kind: 'address', address: '10.96.0.10', port: 53, protocol: 'UDP' }],
    ['fd00::10', { kind: 'address', address: 'fd00::10' }],
    ['[fd00::10]:443/TCP', { kind: 'address', address: 'fd00::10', port: 443, protocol: 'TCP' }],
    ['10.96.0.300', { kind: 'service', name: '10.96.0.300' }],
    ['10.96.0.10:443/QUIC', { kind: 'service', name: '10.96.0.10:443/QUIC' }],
  ]
  for (const [text, subject] of table)
    it(text, () => {
      expect(parseSubject(text)).to.deep.equal(subject)
    })
})

describe('a subject', () => {
  const key = virtualServerId('10.96.0.10' as Address, 53, 'UDP').key
  const at = (text: string): boolean => isAt(parseSubject(text) as never, key)

  it('means the virtual servers at its address, port and protocol, as far as it says them', () => {
    expect(['10.96.0.10', '10.96.0.10:53', '10.96.0.10:53/UDP'].map(at)).to.deep.equal([true, true, true])
    expect(['10.96.0.1', '10.96.0.10:5', '10.96.0.10:53/TCP'].map(at)).to.deep.equal([false, false, false])
  })

  it('means a Service by its name, with its namespace or without', () => {
    expect(['shop/web', 'web', 'op/web', 'we'].map((name) => isMeant(name, 'shop/web'))).to.deep.equal([
      true,
      true,
      false,
      false,
    ])
  })
})
