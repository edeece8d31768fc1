import { expect } from 'chai'
import { encodeRealServer, realServerDecoder } from '../../../src/kernel/ipvs/real-server-codec.ts'
import { decodeTimeouts } from '../../../src/kernel/ipvs/timeouts-codec.ts'
import { encodeVirtualServer, virtualServerDecoder } from '../../../src/kernel/ipvs/virtual-server-codec.ts'
import { addressFromBytes, familyOf } from '../../../src/model/address.ts'
import { formatVirtualServer } from '../../../src/model/ipvsadm.ts'
import {
  type ForwardingMethod,
  fullPrefix,
  type Protocol,
  type RealServerSettings,
  realServer,
  virtualServerId,
  type VirtualServerSettings,
} from '../../../src/model/virtual-server.ts'
import { decodeReply } from '../../../src/netlink/connection.ts'
import { type Message, MessageWriter, readMessages } from '../../../src/netlink/message.ts'
import { bodyOf, withBody } from '../../support/message.ts'
import { type Random, withRandom } from '../../support/random.ts'
import { recordedMessages, recordedReplies } from '../../support/recorded.ts'

const GENL_FAMILY_ID = 0x1c
const decodeVirtualServer = virtualServerDecoder()
const decodeRealServer = realServerDecoder()

describe('virtualServerDecoder', () => {
  it('reads what a real kernel sends for every kind of virtual server, but those by firewall mark', () => {
    const services = recordedMessages('services').flatMap((message) => decodeVirtualServer(message) ?? [])

    const lines = services.flatMap(({ id, settings }) =>
      formatVirtualServer({ id, settings, realServers: new Map() }),
    )
    expect(lines.sort()).to.deep.equal([
      '-A --sctp-service [fd00:96::10]:5060 -s mh -p 10800 -M 64 -b mh-port',
      '-A -t 10.96.0.10:80 -s rr',
      '-A -u 10.96.0.10:5060 -s sh -p 600 -M 255.255.255.0 --pe sip -b sh-fallback,sh-port',
      '-A -u 10.96.0.10:514 -s wrr -o',
    ])
  })
})

describe('realServerDecoder', () => {
  it('reads every forwarding method, weight, threshold and tunnel, also of the other family', () => {
    const web = virtualServerId(addressFromBytes(Uint8Array.of(10, 96, 0, 10)), 80, 'TCP')
    const destinations = recordedMessages('destinations').map((message) => decodeRealServer(message, 'IPv4'))

    const realServers = new Map(destinations.map((destination) => [destination.key, destination]))
    const settings = { scheduler: 'rr', flags: 0, persistenceSeconds: 0, persistencePrefix: 32 }
    expect(formatVirtualServer({ id: web, settings, realServers }).slice(1).sort()).to.deep.equal([
      '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1',
      '-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 0 -x 100 -y 50',
      '-a -t 10.96.0.10:80 -r 10.244.0.3:80 -g -w 65535',
      '-a -t 10.96.0.10:80 -r 10.244.0.4:80 -i -w 3 --tun-type gue --tun-port 6080 --tun-csum',
      '-a -t 10.96.0.10:80 -r [fd00:1::5]:80 -i -w 3',
    ])
    expect(destinations[0]!.connections).to.deep.equal({ active: 0, inactive: 0, persistent: 0 })
  })

  it('takes the family of the virtual server where a kernel before 3.18 does not send one', () => {
    const [message] = recordedMessages('destinations of IPv6')
    const body = Buffer.from(bodyOf(message!))
    // IPVS_DEST_ATTR_ADDR_FAMILY, 2 bytes, becomes an attribute nobody knows.
    const at = body.indexOf(Buffer.from([6, 0, 11, 0, 10, 0]))
    body.writeUInt16LE(99, at + 2)

    expect(decodeRealServer(withBody(message!, body), 'IPv6').key).to.equal('[fd00:1::1]:5060')
  })
})

describe('decodeTimeouts', () => {
  it("reads the kernel's defaults", () => {
    expect(decodeTimeouts(recordedMessages('timeouts')[0]!)).to.deep.equal({
      tcp: 900,
      tcpFin: 120,
      udp: 300,
    })
  })
})

describe('acknowledgements of a real kernel', () => {
  it('name the request that failed, and why', () => {
    const replies = recordedReplies('refusals')
    const [first] = readMessages(replies)

    const { refusals } = decodeReply(replies, first!.place, 'Cannot test')

    const byRequest = [...refusals].map(([place, { code }]) => [place, code])
    expect(byRequest).to.deep.equal([
      [0, 'EEXIST'],
      [1, 'ENOENT'],
      [2, 'ENOENT'],
      [3, 'EOPNOTSUPP'],
    ])
  })
})

describe('encodeVirtualServer and encodeRealServer', () => {
  const web = virtualServerId(addressFromBytes(Uint8Array.of(10, 96, 0, 10)), 443, 'TCP')
  const bytesOf = (write: (batch: MessageWriter) => void): number[] => {
    const batch = new MessageWriter(1)
    write(batch)
    return [...batch.bytes().subarray(16)]
  }

  it('write a virtual server as linux/ip_vs.h lays it out', () => {
    const settings = { scheduler: 'sh', flags: 9, persistenceSeconds: 600, persistencePrefix: 24 }

    // prettier-ignore
    expect(bytesOf((batch) => encodeVirtualServer(batch, GENL_FAMILY_ID, 'NEW', web, settings))).to.deep.equal([
      0x01, 0x01, 0x00, 0x00, // IPVS_CMD_NEW_SERVICE, version 1
      0x48, 0x00, 0x01, 0x00, // IPVS_CMD_ATTR_SERVICE
      0x06, 0x00, 0x01, 0x00, // AF
      0x02, 0x00, 0x00, 0x00,
      0x06, 0x00, 0x02, 0x00, // PROTOCOL
      0x06, 0x00, 0x00, 0x00,
      0x08, 0x00, 0x03, 0x00, // ADDR
      0x0a, 0x60, 0x00, 0x0a,
      0x06, 0x00, 0x04, 0x00, // PORT, network byte order
      0x01, 0xbb, 0x00, 0x00,
      0x07, 0x00, 0x06, 0x00, // SCHED_NAME
      0x73, 0x68, 0x00, 0x00,
      0x0c, 0x00, 0x07, 0x00, // FLAGS: flags, mask
      0x09, 0x00, 0x00, 0x00,
      0xff, 0xff, 0xff, 0xff,
      0x08, 0x00, 0x08, 0x00, // TIMEOUT
      0x58, 0x02, 0x00, 0x00,
      0x08, 0x00, 0x09, 0x00, // NETMASK, network byte order
      0xff, 0xff, 0xff, 0x00,
    ])
  })

  it('write a real server as linux/ip_vs.h lays it out', () => {
    const real = realServer(addressFromBytes(Uint8Array.of(10, 244, 0, 1)), 8080)

    // prettier-ignore
    expect(bytesOf((batch) => encodeRealServer(batch, GENL_FAMILY_ID, 'SET', web, real)).slice(40)).to.deep.equal([
      0x3c, 0x00, 0x02, 0x00, // IPVS_CMD_ATTR_DEST
      0x06, 0x00, 0x0b, 0x00, // ADDR_FAMILY
      0x02, 0x00, 0x00, 0x00,
      0x08, 0x00, 0x01, 0x00, // ADDR
      0x0a, 0xf4, 0x00, 0x01,
      0x06, 0x00, 0x02, 0x00, // PORT, network byte order
      0x1f, 0x90, 0x00, 0x00,
      0x08, 0x00, 0x03, 0x00, // FWD_METHOD
      0x00, 0x00, 0x00, 0x00,
      0x08, 0x00, 0x04, 0x00, // WEIGHT
      0x01, 0x00, 0x00, 0x00,
      0x08, 0x00, 0x05, 0x00, // U_THRESH
      0x00, 0x00, 0x00, 0x00,
      0x08, 0x00, 0x06, 0x00, // L_THRESH
      0x00, 0x00, 0x00, 0x00,
    ])
  })

  it('name a virtual server for deletion by its identity alone', () => {
    expect(bytesOf((batch) => encodeVirtualServer(batch, GENL_FAMILY_ID, 'DEL', web))).to.have.length(40)
  })
})

describe('codec', () => {
  function randomAddress(random: Random) {
    return addressFromBytes(Uint8Array.from({ length: random.pick([4, 16]) }, () => random.int(256)))
  }
  function randomSettings(random: Random, address: ReturnType<typeof randomAddress>): VirtualServerSettings {
    const engine = random.chance(0.2) ? { persistenceEngine: 'sip' } : {}
    return {
      scheduler: random.pick(['rr', 'wlc', 'lblcr', 'some_scheduler']),
      flags: random.pick([0, 1, 4, 8, 16, 32, 61]),
      persistenceSeconds: random.int(100_000),
      persistencePrefix: random.int(fullPrefix(address) + 1),
      ...engine,
    }
  }
  function randomRealSettings(random: Random): RealServerSettings {
    const forwarding = random.pick<ForwardingMethod>(['masquerade', 'tunnel', 'directRoute', 'local'])
    const tunnel = {
      type: random.pick(['ipip', 'gue', 'gre'] as const),
      port: random.int(65_536),
      flags: random.int(3),
    }
    return {
      forwarding,
      weight: random.int(65_536),
      upperThreshold: random.int(2 ** 31),
      lowerThreshold: random.int(2 ** 31),
      ...(forwarding === 'tunnel' ? { tunnel } : {}),
    }
  }
  function only(write: (batch: MessageWriter) => void): Message {
    const batch = new MessageWriter(1)
    write(batch)
    return [...readMessages(batch.bytes())][0]!
  }

  it('decodes what it encodes, for 2,000 random virtual servers', () =>
    withRandom((random) => {
      for (let i = 0; i < 2_000; i++) {
        const address = randomAddress(random)
        const id = virtualServerId(address, random.int(65_536), random.pick<Protocol>(['TCP', 'UDP', 'SCTP']))
        const settings = randomSettings(random, address)

        const message = only((batch) => encodeVirtualServer(batch, GENL_FAMILY_ID, 'NEW', id, settings))

        // The kernel adds IP_VS_SVC_F_HASHED.
        expect(decodeVirtualServer(message)).to.deep.equal({ id, settings })
      }
    }))

  it('decodes what it encodes, for 2,000 random real servers', () =>
    withRandom((random) => {
      for (let i = 0; i < 2_000; i++) {
        const of = virtualServerId(randomAddress(random), 80, 'TCP')
        const real = realServer(randomAddress(random), random.int(65_536), randomRealSettings(random))

        const message = only((batch) => {
          encodeRealServer(batch, GENL_FAMILY_ID, 'NEW', of, real)
        })
        const counters = counted(bodyOf(message))

        expect(decodeRealServer(withBody(message, counters), familyOf(of.address))).to.deep.equal({
          ...real,
          connections: { active: 3, inactive: 2, persistent: 1 },
        })
      }
    }))

  /** The kernel's answer has connection counts at the end of IPVS_CMD_ATTR_DEST, the last attribute. */
  function counted(body: Buffer): Buffer {
    const service = body.readUInt16LE(4)
    const destination = 4 + service
    const counts = Buffer.from([8, 0, 7, 0, 3, 0, 0, 0, 8, 0, 8, 0, 2, 0, 0, 0, 8, 0, 9, 0, 1, 0, 0, 0])
    const longer = Buffer.concat([body, counts])
    longer.writeUInt16LE(longer.readUInt16LE(destination) + counts.length, destination)
    return longer
  }
})
