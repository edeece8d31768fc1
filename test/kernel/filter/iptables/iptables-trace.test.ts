/** A packet followed through the rules: what comes of it is what explain says, which knows no rules. */
import { expect } from 'chai'
import { renderRules } from '../../../../src/kernel/filter/iptables/iptables-rules.ts'
import { parseSave } from '../../../../src/kernel/filter/iptables/iptables-save.ts'
import { setQuestion, traceRules } from '../../../../src/kernel/filter/iptables/iptables-trace.ts'
import type { Packet, RuleTrace } from '../../../../src/kernel/filter/rule-trace.ts'
import { type Address, type Family, familyOf } from '../../../../src/model/address.ts'
import type { Claim, VirtualServerClaim } from '../../../../src/model/claims/claim.ts'
import { buildClaims } from '../../../../src/model/claims/claims.ts'
import type { Service } from '../../../../src/model/facts/facts.ts'
import { parseEndpointSlice, parseService } from '../../../../src/model/facts/parse-facts.ts'
import { ipvsIpsMember, type SetMemberKey } from '../../../../src/model/sets.ts'
import { type Client, refusalAt, sightAt } from '../../../../src/view/client.ts'
import { endpoint, service, slice } from '../../../support/builders.ts'
import { asText, optionsFor } from '../../../support/iptables-text.ts'
import { mapping } from '../../../support/mapping.ts'

const NODE_IP = { IPv4: '192.0.2.1', IPv6: 'fd00:192::1' } as unknown as Record<Family, Address>
const POD = { IPv4: '10.244.1.5', IPv6: 'fd00:10:244::5' } as unknown as Record<Family, Address>
const OUTSIDE = { IPv4: '198.51.100.7', IPv6: 'fd00:198::7' } as unknown as Record<Family, Address>
const LOCAL_POD = '10.244.1.2'
const ELSEWHERE = {
  IPv4: { address: '10.244.2.9' as Address, port: 8080 },
  IPv6: { address: 'fd00:10:244::9' as Address, port: 8080 },
}

type Policy = 'Cluster' | 'Local'

function exposed(policy: Policy, ranges: readonly string[] = []): Service {
  const ports = ['TCP', 'UDP', 'SCTP'].map((protocol, i) => ({
    ...{ name: protocol.toLowerCase(), port: 80, protocol, nodePort: 30_080 + i },
  }))
  const spec = {
    ...{ type: 'LoadBalancer', externalTrafficPolicy: policy, loadBalancerSourceRanges: ranges },
    ...{ externalIPs: ['203.0.113.5', 'fd00:203::5'], clusterIPs: ['10.96.0.10', 'fd00:10:96::10'] },
    ...{ ipFamilies: ['IPv4', 'IPv6'], healthCheckNodePort: policy === 'Local' ? 31_000 : 0 },
  }
  const ingress = [{ ip: '203.0.113.20' }, { ip: 'fd00:203::20' }]
  return parseService({ ...service({ ports, spec }), status: { loadBalancer: { ingress } } }).fact!
}

const PORTS = ['TCP', 'UDP', 'SCTP'].map((protocol) => ({
  name: protocol.toLowerCase(),
  port: 8080,
  protocol,
}))
const SLICES = [
  slice({ ports: PORTS, endpoints: [endpoint(LOCAL_POD, { nodeName: 'node-1' })] }),
  slice({ name: 'v6', addressType: 'IPv6', ports: PORTS, endpoints: [endpoint('fd00:10:244::2')] }),
].map((object) => parseEndpointSlice(object).fact!)
const OPTIONS = mapping({ nodePortAddresses: [NODE_IP.IPv4, NODE_IP.IPv6] })

const isVirtualServer = (claim: Claim): claim is VirtualServerClaim => claim.kind === 'virtualServer'

/** The members of sets that a Service makes. */
function membersOf(claims: readonly Claim[]): Set<SetMemberKey> {
  return new Set(
    claims.flatMap((claim) =>
      claim.kind === 'setMember' ? claim.key : claim.kind === 'address' ? ipvsIpsMember(claim.key) : [],
    ),
  )
}

interface Asked {
  readonly claims: readonly Claim[]
  readonly claim: VirtualServerClaim
  readonly kind: Client['kind']
  readonly masqueradeAll?: boolean
  readonly knowsPods?: boolean
  readonly source?: Address
}

function sourceOf({ claim: { vip, virtualServer }, kind }: Asked): Address {
  const family = familyOf(virtualServer.id.address)
  if (kind === 'node') return vip ?? NODE_IP[family]
  return kind === 'pod' ? POD[family] : OUTSIDE[family]
}

function traced(asked: Asked): RuleTrace {
  const { id } = asked.claim.virtualServer
  const family = familyOf(id.address)
  const { masqueradeAll = false, knowsPods = true } = asked
  const rules = renderRules(optionsFor(family, { masqueradeAll, ...(!knowsPods && { local: undefined }) }))
  const packet: Packet = {
    ...{ family, protocol: id.protocol, destination: id.address, destinationPort: id.port },
    ...{ source: asked.source ?? sourceOf(asked), isOwn: asked.kind === 'node', isForNode: true },
  }
  const isInSet = setQuestion(membersOf(asked.claims), packet)
  return traceRules(parseSave(asText(rules)), packet, isInSet, [ELSEWHERE[family]])
}

/** It gets an address of this node on its way to a Pod that did not send it. */
const isMasqueraded = ({ masquerades }: RuleTrace): boolean => masquerades.includes(true)

describe('traceRules', () => {
  for (const policy of ['Cluster', 'Local'] as const) {
    const claims = buildClaims(exposed(policy), SLICES, OPTIONS)
    for (const claim of claims.filter(isVirtualServer))
      for (const kind of ['node', 'pod', 'outside'] as const)
        for (const masqueradeAll of [false, true])
          for (const knowsPods of [true, false])
            it(`agrees with explain: ${policy} ${claim.key}, ${kind}, ${masqueradeAll}, ${knowsPods}`, () => {
              const asked = { claims, claim, kind, masqueradeAll, knowsPods }
              const binding = claim.vip === undefined ? undefined : ('address' as const)
              const { id } = claim.virtualServer
              const frontend = {
                id,
                right: claim.right,
                policy: claim.right === 'clusterIp' ? 'Cluster' : policy,
                binding,
              } as const
              const { seenAs } = sightAt(
                frontend,
                { kind, address: sourceOf(asked) },
                { masqueradeAll, knowsPods },
              )
              // A process on the node has the node's address at a node port, masqueraded or not.
              const isNodesOwn = kind === 'node' && claim.right === 'nodePort' && policy === 'Local'

              expect(isMasqueraded(traced(asked))).to.equal(seenAs === 'node' && !isNodesOwn)
              expect(traced(asked).isDropped).to.equal(false)
            })
  }

  it('drops who is in no source range, and only at the load balancer', () => {
    const guarded = exposed('Cluster', ['198.51.100.0/24'])
    const claims = buildClaims(guarded, SLICES, OPTIONS)
    for (const claim of claims.filter(isVirtualServer))
      for (const source of ['198.51.100.7', '198.51.101.7'] as Address[]) {
        const { id } = claim.virtualServer
        if (familyOf(id.address) === 'IPv6') continue
        const frontend = { id, right: claim.right, policy: 'Cluster', binding: 'address' } as const
        const refusal = refusalAt(frontend, guarded, { kind: 'outside', address: source }, [])
        const { isDropped } = traced({ claims, claim, kind: 'outside', source })
        expect(isDropped, `${source} at ${claim.key}`).to.equal(refusal !== undefined)
      }
  })

  it('masquerades an endpoint that asks for itself, where IPVS sends it there', () => {
    const claims = buildClaims(exposed('Cluster'), SLICES, OPTIONS)
    const packet: Packet = {
      ...{ family: 'IPv4', protocol: 'TCP', source: LOCAL_POD as Address, isOwn: false, isForNode: true },
      ...{ destination: '10.96.0.10' as Address, destinationPort: 80 },
    }
    const saved = parseSave(asText(renderRules(optionsFor('IPv4'))))
    const itself = { address: LOCAL_POD as Address, port: 8080 }
    const { steps, masquerades, isUncertain } = traceRules(
      saved,
      packet,
      setQuestion(membersOf(claims), packet),
      [ELSEWHERE.IPv4, itself],
    )

    expect(masquerades).to.deep.equal([false, true])
    expect(isUncertain).to.equal(false)
    expect(steps.map(({ at }) => at)).to.have.members([
      'nat KUBE-SERVICES',
      'filter KUBE-NODE-PORT',
      'filter KUBE-IPVS-FILTER',
      'filter KUBE-IPVS-ACCEPT',
      'nat KUBE-POSTROUTING',
      'nat KUBE-POSTROUTING',
    ])
  })

  it('refuses what is for a virtual IP and no Service', () => {
    const claims = buildClaims(exposed('Cluster'), SLICES, OPTIONS)
    const claim = claims.filter(isVirtualServer).find(({ key }) => key === '10.96.0.10:80/TCP')!
    const packet: Packet = {
      ...{ family: 'IPv4', protocol: 'TCP', source: OUTSIDE.IPv4, isOwn: false, isForNode: true },
      ...{ destination: claim.virtualServer.id.address, destinationPort: 81 },
    }
    const saved = parseSave(asText(renderRules(optionsFor('IPv4'))))
    const trace = traceRules(saved, packet, setQuestion(membersOf(claims), packet), [])

    expect(trace.isDropped).to.equal(true)
    expect(trace.steps.at(-1)!.effect).to.equal('it is refused')
  })

  it('says where it cannot tell, and what it does not know', () => {
    const saved = parseSave(
      [
        '*nat',
        ':PREROUTING ACCEPT [0:0]',
        ':KUBE-SERVICES - [0:0]',
        '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
        '-A KUBE-SERVICES ! -i cni0 -j KUBE-MARK-MASQ',
        '-A KUBE-SERVICES -m set --match-set theirs dst,dst -j DROP',
        '-A KUBE-SERVICES -p udp -m owner --uid-owner 0 -j DROP',
        'COMMIT',
      ].join('\n'),
    )
    const packet: Packet = {
      ...{ family: 'IPv4', protocol: 'TCP', source: OUTSIDE.IPv4, isOwn: false, isForNode: true },
      ...{ destination: '10.96.0.10' as Address, destinationPort: 80 },
    }
    const { steps, isDropped, isUncertain } = traceRules(saved, packet, setQuestion(new Set(), packet), [
      ELSEWHERE.IPv4,
    ])

    expect({ isDropped, isUncertain }).to.deep.equal({ isDropped: false, isUncertain: true })
    expect(steps.map(({ effect }) => effect.slice(0, 12))).to.deep.equal(['it may apply', 'it may apply'])
  })

  it('follows no chain of somebody else, whatever its name', () => {
    const saved = parseSave(
      '*filter\n:INPUT -\n:KUBE-FIREWALL -\n-A INPUT -j KUBE-FIREWALL\n-A KUBE-FIREWALL -j DROP\nCOMMIT\n',
    )
    const packet: Packet = {
      ...{ family: 'IPv4', protocol: 'TCP', source: OUTSIDE.IPv4, isOwn: false, isForNode: true },
      ...{ destination: '10.96.0.10' as Address, destinationPort: 80 },
    }
    expect(traceRules(saved, packet, () => true, []).isDropped).to.equal(false)
  })

  it('ends where chains jump to each other', () => {
    const saved = parseSave(
      '*nat\n:OUTPUT -\n:KUBE-SERVICES -\n:KUBE-A -\n-A OUTPUT -j KUBE-SERVICES\n-A KUBE-SERVICES -j KUBE-A\n-A KUBE-A -j KUBE-SERVICES\nCOMMIT\n',
    )
    const packet: Packet = {
      ...{ family: 'IPv4', protocol: 'TCP', source: NODE_IP.IPv4, isOwn: true, isForNode: true },
      ...{ destination: '10.96.0.10' as Address, destinationPort: 80 },
    }
    expect(traceRules(saved, packet, () => true, []).steps).to.deep.equal([])
  })
})
