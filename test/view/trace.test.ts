/** What follows from what the kernel knows of a flow. */
import { expect } from 'chai'
import { parseFlow } from '../../src/commands/look/trace.ts'
import type { Address } from '../../src/model/address.ts'
import type { RealServerView, VirtualServerView } from '../../src/view/documents.ts'
import { formatTrace } from '../../src/view/trace-text.ts'
import {
  type Traced,
  type TracedConnection,
  type TracedFlow,
  type TracedRules,
  traceView,
} from '../../src/view/trace.ts'

const at = (address: string, port: number): { address: Address; port: number } => ({
  address: address as Address,
  port,
})
const CLIENT = at('10.244.1.2', 40_022)
const VIP = at('10.96.0.10', 80)
const POD = at('10.244.2.3', 8080)

const real = (programmed: number): RealServerView => ({
  realServer: '10.244.2.3:8080',
  pod: 'shop/web-a',
  state: programmed === 0 ? 'draining' : 'programmed',
  weight: { programmed },
})
const served = (...realServers: readonly RealServerView[]): VirtualServerView => ({
  virtualServer: '10.96.0.10:80/TCP',
  service: 'shop/web',
  state: 'programmed',
  scheduler: { programmed: 'rr' },
  failures: [],
  realServers,
})
const connected = (parts: Partial<TracedConnection> = {}): TracedConnection => ({
  client: CLIENT,
  realServer: POD,
  state: 'ESTABLISHED',
  expiresInSeconds: 893,
  isTemplate: false,
  ...parts,
})
const flow = (answers = POD, sees = CLIENT, isAnswered = true): TracedFlow => ({
  original: { source: CLIENT, destination: VIP },
  reply: { source: answers, destination: sees },
  isAnswered,
  timeout: 86_000,
})
const rules = (
  masquerades: Readonly<Record<string, boolean>>,
  parts: Partial<TracedRules> = {},
): TracedRules => ({
  ...{ steps: [], isDropped: false, isUncertain: false },
  masquerades: new Map(Object.entries(masquerades)),
  ...parts,
})
const drop = (chain: string): TracedRules =>
  rules({}, { isDropped: true, steps: [{ at: `filter ${chain}`, rule: '-j DROP', effect: 'it is dropped' }] })

function traced(parts: Partial<Traced>): Traced {
  return {
    ...{
      protocol: 'TCP',
      client: CLIENT,
      destination: VIP,
      source: 'process',
      isForNode: true,
      isServed: true,
    },
    rules: rules({ '10.244.2.3:8080': false }),
    ...{ virtualServer: served(real(1)), connections: [], flows: [] },
    ...parts,
  }
}

describe('traceView', () => {
  const CASES: readonly (readonly [string, Partial<Traced>, readonly RegExp[]])[] = [
    ['no flow', {}, [/it goes to the real server, which will see the client's address$/]],
    [
      'no flow, and it is masqueraded',
      { rules: rules({ a: true, b: true }) },
      [/one of 2 real servers, which will see an address of this node$/],
    ],
    [
      'no flow, and one would get itself',
      { rules: rules({ a: true, b: false }) },
      [/will see the client's address, but for a: that sees an address of this node$/],
    ],
    [
      'no flow, and rules that ask for an interface',
      { rules: rules({ a: false }, { isUncertain: true }) },
      [/will see the client's address, unless a rule applies/],
    ],
    ['nobody takes it', { rules: rules({}) }, [/it is refused, as no real server takes any/]],
    [
      'source ranges drop it',
      { rules: drop('KUBE-SOURCE-RANGES-FIREWALL') },
      [
        /it is dropped by filter KUBE-SOURCE-RANGES-FIREWALL, as the client is in none of loadBalancerSourceRanges/,
      ],
    ],
    [
      'no Service is there',
      { virtualServer: undefined, isServed: false },
      [/no virtual server is at 10\.96\.0\.10:80: this node refuses/],
    ],
    [
      'it is for another node',
      { virtualServer: undefined, isServed: false, isForNode: false },
      [/no address of this node: IPVS has nothing to do with it/],
    ],
    [
      'somebody has deleted it',
      { virtualServer: { ...served(), state: 'pending' }, isServed: false },
      [/is not in the kernel, though shop\/web wants it \(pending\): an audit repairs it/],
    ],
    [
      'a connection',
      { connections: [connected()], flows: [flow()] },
      [
        /a new/,
        /^10\.244\.1\.2:40022 is connected to 10\.244\.2\.3:8080 \(shop\/web-a\), and is seen as 10\.244\.1\.2:40022$/,
      ],
    ],
    [
      'one that is masqueraded',
      { connections: [connected()], flows: [flow(POD, at('192.0.2.1', 51_000))] },
      [/a new/, /is seen as 192\.0\.2\.1:51000$/],
    ],
    [
      'one that the Pod does not answer',
      { connections: [connected({ state: 'SYN_RECV' })], flows: [flow(POD, CLIENT, false)] },
      [/a new/, /which has not answered \(SYN_RECV\), and is seen/],
    ],
    [
      'one that has ended',
      { connections: [connected({ state: 'TIME_WAIT' })], flows: [flow()] },
      [/a new/, /was connected to .*: that has ended \(TIME_WAIT\)$/],
    ],
    [
      'one to a Pod that drains',
      { connections: [connected()], flows: [flow()], virtualServer: served(real(0)) },
      [/a new/, /takes no new connections \(weight 0\)/],
    ],
    [
      'one to a Pod that is gone',
      { connections: [connected({ realServer: at('10.244.9.9', 8080) })], flows: [flow()] },
      [/a new/, /10\.244\.9\.9:8080, which is no real server any more/],
    ],
    [
      'a client that is bound to a Pod',
      { connections: [connected({ client: at('10.244.1.2', 0), isTemplate: true, state: 'NONE' })] },
      [/a new/, /new connections of the client are bound to .*sessionAffinity/],
    ],
    [
      'without connection tracking',
      { connections: [connected()] },
      [/a new/, /is connected/, /net\.ipv4\.vs\.conntrack at 0/],
    ],
    ['a stale flow', { flows: [flow()] }, [/a new/, /though IPVS has no such connection any more/]],
    [
      'a flow from before there was a Service',
      { flows: [flow(VIP)] },
      [/a new/, /reaches 10\.96\.0\.10:80 itself: nobody changes the destination/],
    ],
  ]
  for (const [name, parts, expected] of CASES)
    it(`says what there is: ${name}`, () => {
      const { conclusions } = traceView(traced(parts))
      expect(conclusions.length, conclusions.join('\n')).to.equal(expected.length)
      for (const [i, pattern] of expected.entries()) expect(conclusions[i]).to.match(pattern)
    })

  it('compares all of many connections, and shows some, and how many more there are', () => {
    const ports = Array.from({ length: 100 }, (_, i) => 1_000 + i)
    const connections = ports.map((port) => connected({ client: at('10.244.1.2', port) }))
    const flows = ports
      .toReversed()
      .map((port) => ({ ...flow(), original: { source: at('10.244.1.2', port), destination: VIP } }))
    const view = traceView(traced({ connections, flows }))

    expect(view.connections).to.have.length(20)
    expect(view.more).to.deep.equal({ connections: 80, flows: 80 })
    expect(view.conclusions.join()).not.to.contain('any more')
    expect(formatTrace(view).filter((line) => line === '  and 80 more')).to.have.length(2)
  })

  it('prints every part, and rules without their comments', () => {
    const steps = [
      {
        at: 'nat KUBE-SERVICES',
        rule: '-m comment --comment "a b" -m set --match-set X dst -j Y',
        effect: 'it',
      },
    ]
    const view = traceView(
      traced({ rules: rules({ a: false }, { steps }), connections: [connected()], flows: [flow()] }),
    )
    const text = formatTrace(view).join('\n')
    expect(text).to.contain('TCP 10.244.1.2:40022 -> 10.96.0.10:80')
    expect(text).to.contain('nat KUBE-SERVICES  it  -m set --match-set X dst -j Y')
    expect(text).to.contain('10.244.1.2:40022 -> 10.244.2.3:8080  shop/web-a  ESTABLISHED  ends in 893 s')
    expect(text).to.contain('which sees 10.244.1.2:40022  answered  ends in 86000 s')
  })
})

describe('parseFlow', () => {
  it('reads protocol, client and destination', () => {
    expect(parseFlow(['udp', '[fd00::1]:53', '[fd00::10]:53'])).to.deep.equal({
      protocol: 'UDP',
      client: { address: 'fd00::1', port: 53 },
      destination: { address: 'fd00::10', port: 53 },
    })
    expect(parseFlow(['TCP', '10.0.0.1', '10.96.0.10:80']).client.port).to.equal(undefined)
  })

  for (const [words, reason] of [
    [['icmp', '10.0.0.1', '10.96.0.10:80'], '"icmp" is no protocol'],
    [['toString', '10.0.0.1', '10.96.0.10:80'], 'is no protocol'],
    [['tcp', 'web-a', '10.96.0.10:80'], '"web-a" is no IP address'],
    [['tcp', '10.0.0.1', '10.96.0.10'], 'with a port, such as'],
    [['tcp', '10.0.0.1', 'shop/web:80'], '"shop/web:80" is no IP address with a port'],
    [['tcp', '10.0.0.1', '[fd00::10]:80'], 'not of one family'],
    [['tcp', '10.0.0.1', '10.96.0.10:99999'], '"10.96.0.10:99999" is no IP address'],
    [['tcp', '10.0.0.1:0', '10.96.0.10:80'], '"10.0.0.1:0" is no IP address'],
    [['tcp', '10.0.0.1', '10.96.0.10:80/UDP'], 'is no IP address'],
  ] as const)
    it(`refuses ${words.join(' ')}`, () => {
      expect(() => parseFlow(words)).to.throw(reason)
    })
})
