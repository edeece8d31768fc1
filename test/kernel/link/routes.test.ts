import { expect } from 'chai'
import {
  decodeLink,
  decodeNeighbour,
  decodeNextHopObject,
  decodeRoute,
  encodeLinkDump,
  encodeNeighbourDump,
  encodeNextHopDump,
  encodeRouteDump,
} from '../../../src/kernel/link/route-codec.ts'
import { linksOf, type LinkTables, readLinks } from '../../../src/kernel/link/routes.ts'
import type { Links } from '../../../src/model/claims/surroundings.ts'
import { parseAddress } from '../../../src/model/address.ts'
import { formatCidr, parseCidr } from '../../../src/model/cidr.ts'
import { NetlinkConnection } from '../../../src/netlink/connection.ts'
import { DecodeError } from '../../../src/netlink/error.ts'
import {
  HEADER_BYTES,
  type Message,
  MessageWriter,
  NLM_F_DUMP_INTR,
  readMessages,
} from '../../../src/netlink/message.ts'
import type { Socket } from '../../../src/netlink/socket.ts'
import { recordedMessages, recordedReplies } from '../../support/recorded.ts'
import { rejectionOf } from '../../support/rejection.ts'

const address = (text: string) => parseAddress(text)!
const network = (text: string) => parseCidr(text)!

/** A message out of a structure of so many bytes, in fours, and what follows it. */
function messageOf(
  header: readonly number[],
  follow: (batch: MessageWriter) => void = () => undefined,
): Message {
  const batch = new MessageWriter(1)
  batch.begin(0)
  for (let i = 0; i < header.length; i += 4)
    batch.appendBytes(header[i]!, header[i + 1], header[i + 2], header[i + 3])
  follow(batch)
  batch.end()
  return [...readMessages(Buffer.from(batch.bytes()))][0]!
}

describe('the dumps', () => {
  const dumps: readonly [string, (batch: MessageWriter) => void, number[]][] = [
    [
      'links, without their statistics',
      encodeLinkDump,
      [18, ...Array<number>(16).fill(0), 8, 0, 29, 0, 8, 0, 0, 0],
    ],
    ['routes', encodeRouteDump, [26, ...Array<number>(12).fill(0)]],
    ['next hops', encodeNextHopDump, [106, ...Array<number>(8).fill(0)]],
    ['neighbours', encodeNeighbourDump, [30, ...Array<number>(12).fill(0)]],
  ]
  for (const [name, encode, [type, ...body]] of dumps) {
    it(`ask for all ${name}`, () => {
      const batch = new MessageWriter(1)
      encode(batch)

      const bytes = [...batch.bytes()]
      // NLM_F_DUMP | NLM_F_REQUEST
      expect(bytes.slice(0, 8)).to.deep.equal([HEADER_BYTES + body.length, 0, 0, 0, type, 0, 1, 3])
      expect(bytes.slice(HEADER_BYTES)).to.deep.equal(body)
    })
  }
})

describe('decodeRoute', () => {
  const FAMILY = 0
  const PREFIX = 1
  const TABLE = 4
  const TYPE = 7
  const FLAGS = 8
  /** 10.244.2.0/24 in main by way of 192.0.2.2, unless said otherwise. */
  const routeOf = (
    changes: Readonly<Record<number, number>> = {},
    follow: (batch: MessageWriter) => void = () => undefined,
  ): Message => {
    const header = Object.assign([2, 24, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], changes) as number[]
    return messageOf(header, (batch) => {
      batch.putBytes(1, [10, 244, 2, 0])
      batch.putU32(4, 7)
      batch.putBytes(5, [192, 0, 2, 2])
      follow(batch)
    })
  }

  it('reads where it leads to, and by which way', () => {
    expect(decodeRoute(routeOf())).to.deep.equal({
      destination: network('10.244.2.0/24'),
      hops: [{ gateway: '192.0.2.2', interfaceIndex: 7 }],
      nextHopId: 0,
    })
  })

  it('takes a gateway of the other family', () => {
    const via = messageOf([2, 24, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], (batch) => {
      batch.putU32(4, 7)
      batch.putBytes(18, [10, 0, 0xfe, 0x80, ...Array<number>(13).fill(0), 3])
    })

    expect(decodeRoute(via)!.hops).to.deep.equal([{ gateway: 'fe80::3', interfaceIndex: 7 }])
  })

  it('takes a gateway that is none of IP for none', () => {
    const via = messageOf([2, 24, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], (batch) => {
      batch.putU32(4, 7)
      batch.putBytes(18, [28, 0, 1, 2, 3])
    })

    expect(decodeRoute(via)!.hops).to.deep.equal([{ gateway: undefined, interfaceIndex: 7 }])
  })

  it('leads everywhere without a destination', () => {
    const all = messageOf([10, 0, 0, 0, 254, 2, 0, 1, 0, 0, 0, 0], (batch) => batch.putU32(4, 7))

    expect(decodeRoute(all)!.destination).to.deep.equal(network('::/0'))
  })

  const others: readonly [string, Readonly<Record<number, number>>][] = [
    ['a local one', { [TYPE]: 2 }],
    ['a broadcast one', { [TYPE]: 3 }],
    ['a multicast one', { [TYPE]: 5 }],
    ['a black hole', { [TYPE]: 6 }],
    ['one of the table local', { [TABLE]: 255 }],
    ['one of another family (MPLS)', { [FAMILY]: 28 }],
    ['what a redirect has made of one', { [FLAGS + 1]: 2 }],
  ]
  for (const [name, changes] of others) {
    it(`is none for ${name}`, () => {
      expect(decodeRoute(routeOf(changes))).to.equal(undefined)
    })
  }

  it('is none for one of the table local that says so in an attribute', () => {
    expect(decodeRoute(routeOf({ [TABLE]: 252 }, (batch) => batch.putU32(15, 255)))).to.equal(undefined)
  })

  it('refuses a prefix that is too long', () => {
    expect(() => decodeRoute(routeOf({ [PREFIX]: 33 }))).to.throw(DecodeError, '10.244.2.0/33')
  })

  it('refuses ways that are cut off', () => {
    for (const ways of [
      [7, 0, 0, 0],
      [7, 0, 0, 0, 1, 0, 0, 0],
      [16, 0, 0, 0, 1, 0, 0, 0],
    ])
      expect(() => decodeRoute(routeOf({}, (batch) => batch.putBytes(9, ways)))).to.throw(
        DecodeError,
        'Cannot decode RTA_MULTIPATH',
      )
  })
})

describe('decodeNextHopObject', () => {
  it('refuses a group that is cut off', () => {
    const message = messageOf([2, 0, 0, 0, 0, 0, 0, 0], (batch) => batch.putBytes(2, [1, 0, 0, 0, 1, 0, 0]))

    expect(() => decodeNextHopObject(message)).to.throw(DecodeError, 'Cannot decode NHA_GROUP: 7 bytes')
  })
})

describe('decodeNeighbour', () => {
  /** 192.0.2.2 on interface 7. */
  const neighbourOf = (state: number, flags = 0, family = 2): Message =>
    messageOf([family, 0, 0, 0, 7, 0, 0, 0, state, 0, flags, 1], (batch) => {
      batch.putBytes(1, [192, 0, 2, 2])
      batch.putBytes(2, [2, 0, 0, 0, 0, 0x1a])
    })
  const states: readonly [string, number, boolean][] = [
    ['NONE', 0, false],
    ['INCOMPLETE', 0x01, false],
    ['REACHABLE', 0x02, true],
    ['STALE', 0x04, true],
    ['DELAY', 0x08, true],
    ['PROBE', 0x10, true],
    ['FAILED', 0x20, false],
    ['NOARP', 0x40, false],
    ['PERMANENT', 0x80, true],
  ]
  for (const [name, state, isInUse] of states) {
    it(`${isInUse ? 'is' : 'is not'} one in state ${name}`, () => {
      const expected = { address: '192.0.2.2', interfaceIndex: 7, lladdr: '02:00:00:00:00:1a' }
      expect(decodeNeighbour(neighbourOf(state))).to.deep.equal(isInUse ? expected : undefined)
    })
  }

  it('is not one that we answer for, or of another family', () => {
    expect(decodeNeighbour(neighbourOf(0x80, 0x08))).to.equal(undefined)
    expect(decodeNeighbour(neighbourOf(0x80, 0, 7))).to.equal(undefined)
  })

  it('may have no hardware address', () => {
    const bare = messageOf([2, 0, 0, 0, 7, 0, 0, 0, 0x80, 0, 0, 1], (batch) =>
      batch.putBytes(1, [192, 0, 2, 2]),
    )
    expect(decodeNeighbour(bare)!.lladdr).to.equal(undefined)
  })
})

describe('what a real kernel says of', () => {
  const nameOf = new Map(
    recordedMessages('links')
      .map(decodeLink)
      .map(({ index, name }) => [index, name]),
  )
  const routesOf = (exchange: string): Record<string, string[]> => {
    const routes = recordedMessages(exchange).flatMap((message) => decodeRoute(message) ?? [])
    return Object.fromEntries(
      routes.map(({ destination, hops, nextHopId }) => [
        formatCidr(destination),
        [
          ...hops.map(({ gateway, interfaceIndex }) =>
            `${gateway ?? ''} ${nameOf.get(interfaceIndex)}`.trim(),
          ),
          ...(nextHopId === 0 ? [] : [`object ${nextHopId}`]),
        ],
      ]),
    )
  }
  const COMMON = {
    '0.0.0.0/0': ['192.168.50.254 eth0'],
    '10.244.1.11/32': ['cali1'],
    '10.244.2.0/24': ['192.168.50.2 eth0', '192.168.50.3 eth0'],
    '10.244.3.0/24': ['fe80::3 eth0'],
    '10.244.4.0/24': ['192.168.50.4 eth0'],
    '10.244.5.0/24': ['192.168.50.5 eth0'],
    '192.168.50.0/24': ['eth0'],
    '::/0': ['fe80::254 eth0'],
    'fd00:10:244:2::/64': ['2001:db8::2 eth0', 'fe80::3 eth0'],
    '2001:db8::/64': ['eth0'],
  }

  it('links', () => {
    const links = recordedMessages('links').map(decodeLink)
    expect(links.map(({ name }) => name)).to.include.members(['lo', 'kube-ipvs0', 'eth0', 'cali1'])
    expect(links.filter(({ isLoopback }) => isLoopback).map(({ name }) => name)).to.deep.equal(['lo'])
  })

  it('routes, next hop objects among them', () => {
    expect(routesOf('routes')).to.deep.include({
      ...COMMON,
      '10.244.7.0/24': ['192.168.50.7 eth0', 'object 7'],
      '10.244.8.0/24': ['192.168.50.7 eth0', '192.168.50.8 eth0', 'object 10'],
      'fd00:10:244:9::/64': ['2001:db8::9 eth0', 'object 9'],
      '10.244.1.12/32': ['cali1', 'object 11'],
    })
    expect(routesOf('routes')).not.to.have.any.keys('10.244.1.0/26', '127.0.0.0/8', 'ff00::/8')
  })

  it('routes with next hop objects that it does not look into (nexthop_compat_mode 0)', () => {
    expect(routesOf('routes with next hop objects')).to.deep.include({
      ...COMMON,
      '10.244.7.0/24': ['object 7'],
      '10.244.8.0/24': ['object 10'],
      'fd00:10:244:9::/64': ['object 9'],
      '10.244.1.12/32': ['object 11'],
    })
  })

  it('next hop objects', () => {
    const objects = recordedMessages('next hops').map(decodeNextHopObject)
    expect(
      objects.map(({ id, hop, group }) => [id, hop.gateway, nameOf.get(hop.interfaceIndex), group]),
    ).to.deep.equal([
      [7, '192.168.50.7', 'eth0', []],
      [8, '192.168.50.8', 'eth0', []],
      [9, '2001:db8::9', 'eth0', []],
      [10, undefined, undefined, [7, 8]],
      [11, undefined, 'cali1', []],
    ])
  })

  it('neighbours', () => {
    const neighbours = recordedMessages('neighbours').flatMap((message) => decodeNeighbour(message) ?? [])
    expect(
      neighbours.map(({ address, interfaceIndex, lladdr }) => [address, nameOf.get(interfaceIndex), lladdr]),
    ).to.have.deep.members([
      ['192.168.50.20', 'eth0', '02:00:00:00:00:20'],
      ['192.168.50.21', 'eth0', '02:00:00:00:00:21'],
      ['192.168.50.22', 'eth0', '02:00:00:00:00:22'],
      ['2001:db8::20', 'eth0', '02:00:00:00:00:26'],
    ])
  })
})

describe('linksOf', () => {
  const LINKS = [
    { index: 1, name: 'lo', isLoopback: true },
    { index: 2, name: 'eth0', isLoopback: false },
    { index: 3, name: 'kube-ipvs0', isLoopback: false },
    { index: 4, name: 'eth1', isLoopback: false },
  ]
  const of = (tables: Partial<LinkTables>): Links =>
    linksOf({ links: LINKS, routes: [], nextHops: [], neighbours: [], ...tables })
  const hop = (interfaceIndex: number, gateway?: string) => ({
    gateway: gateway === undefined ? undefined : address(gateway),
    interfaceIndex,
  })
  const route = (destination: string, hops: readonly ReturnType<typeof hop>[], nextHopId = 0) => ({
    destination: network(destination),
    hops,
    nextHopId,
  })
  const OBJECTS = [
    { id: 7, hop: hop(2, '192.0.2.7'), group: [] },
    { id: 8, hop: hop(4, '192.0.2.8'), group: [] },
    { id: 10, hop: hop(0), group: [7, 8, 99] },
    { id: 11, hop: hop(2), group: [] },
    { id: 12, hop: hop(0), group: [] },
  ]

  const gateways: readonly [string, Partial<LinkTables>, Record<string, string>][] = [
    ['the default route', { routes: [route('0.0.0.0/0', [hop(2, '192.0.2.1')])] }, { '192.0.2.1': 'eth0' }],
    [
      'several ways',
      { routes: [route('::/0', [hop(2, 'fe80::1'), hop(4, 'fe80::2'), hop(4)])] },
      { 'fe80::1': 'eth0', 'fe80::2': 'eth1' },
    ],
    [
      'a gateway on two links: the first',
      { routes: [route('::/0', [hop(2, 'fe80::1')]), route('fd00::/8', [hop(4, 'fe80::1')])] },
      { 'fe80::1': 'eth0' },
    ],
    [
      'next hop objects, alone and in a group',
      { routes: [route('10.0.0.0/8', [], 10), route('10.1.0.0/16', [], 7)], nextHops: OBJECTS },
      { '192.0.2.7': 'eth0', '192.0.2.8': 'eth1' },
    ],
    ['objects that no route names: none', { nextHops: OBJECTS }, {}],
    ['an object that is not there', { routes: [route('10.0.0.0/8', [], 98)], nextHops: OBJECTS }, {}],
    [
      'what the kernel says of an object, rather than the object',
      { routes: [route('10.0.0.0/8', [hop(2, '192.0.2.9')], 7)], nextHops: OBJECTS },
      { '192.0.2.9': 'eth0' },
    ],
    [
      'none on lo and kube-ipvs0',
      { routes: [route('10.0.0.0/8', [hop(1, '192.0.2.1'), hop(3, '192.0.2.3'), hop(2, '192.0.2.2')])] },
      { '192.0.2.2': 'eth0' },
    ],
    [
      'one on a link that has come meanwhile',
      { routes: [route('10.0.0.0/8', [hop(5, '192.0.2.1')])] },
      { '192.0.2.1': '#5' },
    ],
  ]
  for (const [name, tables, expected] of gateways) {
    it(`gateways: ${name}`, () => {
      expect(Object.fromEntries(of(tables).gateways)).to.deep.equal(expected)
    })
  }

  it('networks: each once, without default routes, black holes and what is on lo and kube-ipvs0', () => {
    const { routes } = of({
      routes: [
        route('0.0.0.0/0', [hop(2, '192.0.2.1')]),
        route('::/0', [hop(2)]),
        route('192.0.2.0/24', [hop(2)]),
        route('192.0.2.0/24', [hop(4)]),
        route('10.244.1.11/32', [hop(4)]),
        route('10.244.2.0/24', [hop(2, '192.0.2.2')]),
        route('10.244.3.0/24', [], 11),
        route('10.244.4.0/24', [], 12),
        route('fd00:96::10/128', [hop(3)]),
        route('10.9.0.0/16', [hop(1)]),
        route('10.8.0.0/16', []),
      ],
      nextHops: OBJECTS,
    })

    const expected = ['192.0.2.0/24', '10.244.1.11/32', '10.244.2.0/24', '10.244.3.0/24']
    expect(routes.map(formatCidr)).to.deep.equal(expected)
  })

  it('neighbours: those on links, each once', () => {
    const neighbour = (text: string, interfaceIndex: number, lladdr?: string) => ({
      address: address(text),
      interfaceIndex,
      lladdr,
    })
    const { neighbours } = of({
      neighbours: [
        neighbour('192.0.2.2', 2, '02:00:00:00:00:02'),
        neighbour('fe80::2', 2, '02:00:00:00:00:02'),
        neighbour('fe80::2', 4, '02:00:00:00:00:04'),
        neighbour('10.0.0.1', 4),
        neighbour('127.0.0.2', 1),
        neighbour('10.96.0.1', 3, '02:00:00:00:00:03'),
      ],
    })

    expect(Object.fromEntries(neighbours)).to.deep.equal({
      '192.0.2.2': { link: 'eth0', lladdr: '02:00:00:00:00:02' },
      'fe80::2': { link: 'eth0', lladdr: '02:00:00:00:00:02' },
      '10.0.0.1': { link: 'eth1', lladdr: undefined },
    })
  })
})

describe('readLinks', () => {
  const EXCHANGES: Readonly<Record<number, string>> = {
    18: 'links',
    26: 'routes',
    30: 'neighbours',
    106: 'next hops',
  }
  /** Answers as a real kernel has, but for what `change` says. */
  const connect = (
    change: (type: number, replies: Buffer) => Buffer,
    asked: number[] = [],
  ): NetlinkConnection => {
    const addon = {
      open: () => ({}),
      close: () => undefined,
      exchange: async (_socket: unknown, requests: Buffer) => {
        const type = requests.readUInt16LE(4)
        asked.push(type)
        const replies = change(type, Buffer.from(recordedReplies(EXCHANGES[type]!)))
        return Promise.resolve({ replies, errno: 0, step: '', sent: 1 })
      },
    }
    return new NetlinkConnection(addon as unknown as Socket, 0)
  }
  const asIs = (_type: number, replies: Buffer): Buffer => replies

  it('does not ask for objects that no route needs', async () => {
    const asked: number[] = []
    const { gateways, neighbours, routes } = await readLinks(connect(asIs, asked))

    expect(asked).to.deep.equal([18, 26, 30])
    expect(gateways.get(address('192.168.50.8'))).to.equal('eth0')
    expect(neighbours.get(address('192.168.50.20'))).to.deep.equal({
      link: 'eth0',
      lladdr: '02:00:00:00:00:20',
    })
    expect(routes.map(formatCidr)).to.include.members(['10.244.1.11/32', '10.244.8.0/24'])
  })

  it('finds the same when the kernel does not look into objects', async () => {
    const asked: number[] = []
    const bare = (type: number, replies: Buffer): Buffer =>
      type === 26 ? recordedReplies('routes with next hop objects') : replies

    expect(await readLinks(connect(bare, asked))).to.deep.equal(await readLinks(connect(asIs)))
    expect(asked).to.deep.equal([18, 26, 106, 30])
  })

  for (const [type, name] of Object.entries(EXCHANGES)) {
    const change = (of: (replies: Buffer) => Buffer) => (asked: number, replies: Buffer) => {
      const whole = asked === 26 ? recordedReplies('routes with next hop objects') : replies
      return asked === Number(type) ? of(Buffer.from(whole)) : whole
    }

    it(`throws when ${name} keep changing while they are read: what may be a part is none`, async () => {
      const asked: number[] = []
      const interrupted = change((replies) => {
        replies.writeUInt16LE(replies.readUInt16LE(6) | NLM_F_DUMP_INTR, 6)
        return replies
      })

      const error = await rejectionOf(readLinks(connect(interrupted, asked)))
      expect(error).to.have.property('code', 'EINTR')
      expect(asked.filter((one) => one === Number(type))).to.have.length(5)
    })

    it(`throws when ${name} are refused`, async () => {
      const refusal = Buffer.alloc(36)
      refusal.writeUInt32LE(36, 0)
      refusal.writeUInt16LE(2, 4)
      refusal.writeInt32LE(-1, 16)

      const error = await rejectionOf(readLinks(connect(change(() => refusal))))
      expect(String(error)).to.match(/Cannot read the routes and neighbours of the node.*EPERM/)
    })

    it(`throws when ${name} are cut off`, async () => {
      const cut = change((replies) => replies.subarray(0, replies.length - 30))

      expect(await rejectionOf(readLinks(connect(cut)))).to.be.instanceOf(DecodeError)
    })
  }
})
