/** What follows from what the kernel knows of a flow. */
import { expect } from 'chai'
import { parseFlow } from '../../src/commands/look/trace.ts'
import type { Address } from '../../src/model/address.ts'
import type { RealServerView, VirtualServerView } from '../../src/view/documents.ts'
import {
  formatTrace,
  type Traced,
  type TracedConnection,
  type TracedFlow,
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
const flow = (answers = POD, sees = CLIENT): TracedFlow => ({
  original: { source: CLIENT, destination: VIP },
  reply: { source: answers, destination: sees },
  timeout: 86_000,
})

function conclusions(parts: Partial<Traced>): readonly string[] {
  const traced: Traced = {
    ...{ protocol: 'TCP', client: CLIENT, destination: VIP, source: 'process', isForNode: true },
    rules: { steps: [], isDropped: false, isMasqueraded: false },
    ...{ virtualServer: served(real(1)), connections: [], flows: [] },
    ...parts,
  }
  return traceView(traced).conclusions
}

describe('traceView', () => {
  const CASES: readonly (readonly [string, Partial<Traced>, readonly RegExp[]])[] = [
    ['no flow', {}, [/a new connection goes to the real server, which sees the client's address$/]],
    [
      'no flow, and it is masqueraded',
      {
        rules: { steps: [], isDropped: false, isMasqueraded: true },
        virtualServer: served(real(1), real(1)),
      },
      [/one of 2 real servers, which sees an address of this node$/],
    ],
    ['nobody takes it', { virtualServer: served(real(0)) }, [/no real server takes new connections/]],
    [
      'the rules drop it',
      { rules: { steps: [], isDropped: true, isMasqueraded: false } },
      [/the rules drop/],
    ],
    [
      'no Service is there',
      { virtualServer: undefined },
      [/no virtual server is at 10\.96\.0\.10:80.*itself/],
    ],
    [
      'it is for another node',
      { virtualServer: undefined, isForNode: false },
      [/no address of this node: IPVS has nothing to do with it/],
    ],
    [
      'a connection',
      { connections: [connected()], flows: [flow()] },
      [
        /a new connection/,
        /^10\.244\.1\.2:40022 is connected to 10\.244\.2\.3:8080 \(shop\/web-a\)$/,
        /^10\.244\.2\.3:8080 answers 10\.244\.1\.2:40022, and sees the client's own address$/,
      ],
    ],
    [
      'one that is masqueraded',
      { connections: [connected()], flows: [flow(POD, at('192.0.2.1', 51_000))] },
      [/a new/, /connected/, /sees 192\.0\.2\.1: it is masqueraded$/],
    ],
    [
      'one that the Pod does not answer',
      { connections: [connected({ state: 'SYN_RECV' })], flows: [flow()] },
      [/a new/, /has not answered \(SYN_RECV\)/, /answers/],
    ],
    [
      'one to a Pod that drains',
      { connections: [connected()], flows: [flow()], virtualServer: served(real(0)) },
      [/no real server takes/, /takes no new connections \(weight 0\)/, /answers/],
    ],
    [
      'one to a Pod that is gone',
      { connections: [connected({ realServer: at('10.244.9.9', 8080) })], flows: [flow()] },
      [/a new/, /10\.244\.9\.9:8080, which is no real server any more/, /answers/],
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
    ['a stale flow', { flows: [flow()] }, [/a new/, /IPVS has no such connection any more/]],
    [
      'a flow from before there was a Service',
      { flows: [flow(VIP)] },
      [/a new/, /is not changed by anybody: 10\.96\.0\.10:80 answers itself/],
    ],
  ]
  for (const [name, parts, expected] of CASES)
    it(`says what there is: ${name}`, () => {
      const found = conclusions(parts)
      expect(found.length, found.join('\n')).to.equal(expected.length)
      for (const [i, pattern] of expected.entries()) expect(found[i]).to.match(pattern)
    })

  it('prints every part, and rules without their comments', () => {
    const steps = [
      {
        at: 'nat KUBE-SERVICES',
        rule: '-m comment --comment "a b" -m set --match-set X dst -j Y',
        effect: 'it',
      },
    ]
    const view = traceView({
      ...{ protocol: 'TCP', client: CLIENT, destination: VIP, source: 'process', isForNode: true },
      rules: { steps, isDropped: false, isMasqueraded: false },
      ...{ virtualServer: served(real(1)), connections: [connected()], flows: [flow()] },
    })
    const text = formatTrace(view).join('\n')
    expect(text).to.contain('TCP 10.244.1.2:40022 -> 10.96.0.10:80')
    expect(text).to.contain('nat KUBE-SERVICES  it  -m set --match-set X dst -j Y')
    expect(text).to.contain('10.244.1.2:40022 -> 10.244.2.3:8080  shop/web-a  ESTABLISHED  ends in 893 s')
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
  ] as const)
    it(`refuses ${words.join(' ')}`, () => {
      expect(() => parseFlow(words)).to.throw(reason)
    })
})
