import { expect } from 'chai'
import { decodeAddressMessage, encodeAddress } from '../../src/kernel/address-codec.ts'
import { decodeSetPart, decodeSetType, encodeMember } from '../../src/kernel/ipset-codec.ts'
import { parseAddress } from '../../src/model/address.ts'
import { MessageWriter } from '../../src/netlink/message.ts'
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

describe('set codec', () => {
  it('reads type and members of both families', () => {
    const read = (name: string) => recordedMessages(name).map(decodeSetPart)

    expect(read('set')).to.deep.equal([{ type: 'hash:ip', members: ['10.96.0.10', '10.96.0.11'] }])
    expect(read('set of IPv6')).to.deep.equal([{ type: 'hash:ip', members: ['fd00:96::10'] }])
    expect(read('set of another type')[0]!.type).to.equal('hash:ip,port')
  })

  it('reads the newest revision of a set type that the kernel has', () => {
    expect(recordedMessages('full set type').map(decodeSetType)).to.deep.equal([5])
  })

  it('writes a member as ipset does', () => {
    // prettier-ignore
    expect(bytesOf((batch) => encodeMember(batch, 'ADD', 'KUBE-IPVS-IPS', VIP)).slice(16)).to.deep.equal([
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
