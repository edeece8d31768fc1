import { expect } from 'chai'
import { decodeAddressMessage, encodeAddress } from '../../src/kernel/link/address-codec.ts'
import { decodeSetPart, decodeSetType, encodeMember } from '../../src/kernel/filter/iptables/ipset-codec.ts'
import { decodeLocalRoute, encodeLocalRoute } from '../../src/kernel/link/local-route-codec.ts'
import { parseAddress } from '../../src/model/address.ts'
import { type Message, MessageWriter } from '../../src/netlink/message.ts'
import { RECORDED, recordedMessages } from '../support/recorded.ts'

const VIP = parseAddress('10.96.0.10')!

function bytesOf(write: (batch: MessageWriter) => void): number[] {
  const batch = new MessageWriter(1)
  write(batch)
  return [...batch.bytes()]
}

describe('address codec', () => {
  it('reads the addresses of our interface, and none of another', () => {
    const messages = recordedMessages('addresses')

    const read = (index: number): unknown[] => messages.map((message) => decodeAddressMessage(message, index))
    expect(read(RECORDED.interfaceIndex)).to.deep.equal(['10.96.0.10', '192.0.2.1', 'fd00:96::10'])
    expect(read(RECORDED.interfaceIndex + 1)).to.deep.equal([undefined, undefined, undefined])
  })

  it('writes a /32 that must be new', () => {
    // prettier-ignore
    expect(bytesOf((batch) => encodeAddress(batch, 'NEW', VIP, 7))).to.deep.equal([
      0x28, 0x00, 0x00, 0x00, // length
      0x14, 0x00, 0x01, 0x06, // RTM_NEWADDR, CREATE | EXCL | REQUEST
      0x01, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00,
      0x02, 0x20, 0x00, 0x00, // family, prefix length, flags, scope
      0x07, 0x00, 0x00, 0x00, // interface
      0x08, 0x00, 0x02, 0x00, // IFA_LOCAL
      0x0a, 0x60, 0x00, 0x0a,
      0x08, 0x00, 0x01, 0x00, // IFA_ADDRESS
      0x0a, 0x60, 0x00, 0x0a,
    ])
  })
})

describe('local route codec', () => {
  it('writes a local route on lo with our number, beside any other', () => {
    // prettier-ignore
    expect(bytesOf((batch) => encodeLocalRoute(batch, 'NEW', VIP))).to.deep.equal([
      0x2c, 0x00, 0x00, 0x00, // length
      0x18, 0x00, 0x01, 0x0c, // RTM_NEWROUTE, CREATE | APPEND | REQUEST
      0x01, 0x00, 0x00, 0x00,
      0x00, 0x00, 0x00, 0x00,
      0x02, 0x20, 0x00, 0x00, // family, prefix length, source, tos
      0xff, 0x49, 0xfe, 0x02, // table local, protocol 73, scope host, type local
      0x00, 0x00, 0x00, 0x00,
      0x08, 0x00, 0x01, 0x00, // RTA_DST
      0x0a, 0x60, 0x00, 0x0a,
      0x08, 0x00, 0x04, 0x00, // RTA_OIF
      0x01, 0x00, 0x00, 0x00,
    ])
  })

  const message = (edit: (bytes: Buffer) => void = () => undefined): Message => {
    const buffer = Buffer.from(bytesOf((batch) => encodeLocalRoute(batch, 'NEW', VIP)))
    edit(buffer)
    return { type: 24, flags: 0, sequence: 1, buffer, start: 16, end: buffer.length } as never
  }

  it('reads what it writes, and nothing of another kind', () => {
    expect(decodeLocalRoute(message())).to.equal(VIP)
    const others: Readonly<Record<string, (bytes: Buffer) => void>> = {
      'another table': (bytes) => bytes.writeUInt8(254, 20),
      'another protocol': (bytes) => bytes.writeUInt8(2, 21),
      'another type': (bytes) => bytes.writeUInt8(1, 23),
      'a network': (bytes) => bytes.writeUInt8(24, 17),
      'another link': (bytes) => bytes.writeUInt32LE(7, 40),
    }
    for (const [name, edit] of Object.entries(others))
      expect(decodeLocalRoute(message(edit)), name).to.equal(undefined)
  })

  it('throws for what is no route', () => {
    expect(() => decodeLocalRoute({ ...message(), end: 20 })).to.throw('Cannot decode a route: 4 bytes')
  })
})

describe('set codec', () => {
  it('reads type and members of both families', () => {
    const read = (name: string) => recordedMessages(name).map(decodeSetPart)

    const header = { name: 'KUBE-IPVS-IPS', type: 'hash:ip', family: 2, maxElements: 65_536, isOdd: false }
    expect(read('set')).to.deep.equal([{ header, elements: ['10.96.0.10', '10.96.0.11'] }])
    expect(read('set of IPv6')).to.deep.equal([
      { header: { ...header, name: 'KUBE-6-IPVS-IPS', family: 10 }, elements: ['fd00:96::10'] },
    ])
    const [loopBacks] = read('set of loop-backs')
    expect(loopBacks!.header).to.include({ type: 'hash:ip,port,ip', maxElements: 100_000 })
    expect(loopBacks!.elements).to.deep.equal(['10.244.0.1,udp:53,10.244.0.1'])
    expect(read('set of frontends')[0]!.elements).to.have.members(['10.96.0.10,tcp:80', '10.96.0.10,sctp:81'])
    expect(read('set of networks')[0]!.elements).to.have.members([
      'fd00:203::80,tcp:80,fd00:1::/64',
      'fd00:203::80,tcp:80,fd00:2::1',
    ])
    expect(read('set of ports')[0]).to.deep.include({ elements: ['30080'] })
    expect(read('set of ports')[0]!.header).to.include({ type: 'bitmap:port', family: 0, isOdd: false })
    expect(read('set with a timeout')[0]!.header).to.include({ isOdd: true })
  })

  it('reads the newest revision of a set type that the kernel has', () => {
    expect(recordedMessages('full set type').map(decodeSetType)).to.deep.equal([5])
  })

  it('writes a member as ipset does', () => {
    // prettier-ignore
    expect(bytesOf((batch) => encodeMember(batch, 'ADD', { name: 'KUBE-IPVS-IPS', type: 'hash:ip' }, VIP)).slice(16)).to.deep.equal([
      0x02, 0x00, 0x00, 0x00, // nfgenmsg
      0x05, 0x00, 0x01, 0x00, // IPSET_ATTR_PROTOCOL
      0x06, 0x00, 0x00, 0x00,
      0x12, 0x00, 0x02, 0x00, // IPSET_ATTR_SETNAME
      ...Buffer.from('KUBE-IPVS-IPS\0'), 0x00, 0x00,
      0x10, 0x00, 0x07, 0x80, // IPSET_ATTR_DATA, nested
      0x0c, 0x00, 0x01, 0x80, // IPSET_ATTR_IP, nested
      0x08, 0x00, 0x01, 0x40, // IPSET_ATTR_IPADDR_IPV4, network byte order
      0x0a, 0x60, 0x00, 0x0a,
    ])
  })
})
