/** What traffic depends on is broken for real: the node says so, when it lasts, and by name; and what one Service breaks is not. */
import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { endpoint, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { clearNode, prepareNode, Program, run, sh, temporaryFolder } from '../support/lab.ts'

const PATIENCE_MS = 60_000
const CONFIG = {
  apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
  kind: 'KubeProxyConfiguration',
  mode: 'ipvs',
  ipvs: { syncPeriod: '1s', minSyncPeriod: '0s' },
}
const SET = 'KUBE-6-LOAD-BALANCER-SOURCE-CID'
const NOT_WRITTEN = /^iptables-(nft-|legacy-)?restore failed for IPv4: broken by the test$/
const NO_SET = `Cannot use set ${SET}: it is of type hash:net, expected hash:ip,port,net`

/** A load balancer for some clients only, and a Service with an endpoint that the kernel refuses. */
function objects(): object[] {
  const restricted = {
    ...service({
      name: 'restricted',
      spec: {
        type: 'LoadBalancer',
        clusterIPs: ['10.96.0.10', 'fd00:10:96::10'],
        loadBalancerSourceRanges: ['192.0.2.0/24', '2001:db8::/64'],
        externalTrafficPolicy: 'Local',
        healthCheckNodePort: 32_041,
      },
    }),
    status: { loadBalancer: { ingress: [{ ip: '203.0.113.10' }, { ip: 'fd00:203::10' }] } },
  }
  return [
    restricted,
    slice({ service: 'restricted', endpoints: [endpoint('10.244.0.1', { nodeName: 'lab' })] }),
    service({ name: 'refused', clusterIP: '10.96.0.11' }),
    // The broadcast address of a link.
    slice({ service: 'refused', endpoints: ['10.9.9.255'] }),
  ]
}

/** Programs that write rules, and fail while a file is there. */
function breakablePrograms(): { readonly folder: string; readonly breakage: string } {
  const folder = join(temporaryFolder(), 'bin')
  const breakage = join(folder, 'broken')
  mkdirSync(folder)
  for (const name of ['iptables', 'ip6tables'].flatMap((tables) =>
    ['', '-nft', '-legacy'].map((variant) => `${tables}${variant}-restore`),
  )) {
    const script = `#!/bin/sh
PATH=/usr/sbin:/sbin:/usr/bin:/bin
[ "$1" = --version ] || [ ! -e ${breakage} ] || { echo "broken by the test" >&2; exit 1; }
exec ${name} "$@"
`
    writeFileSync(join(folder, name), script)
    chmodSync(join(folder, name), 0o755)
  }
  return { folder, breakage }
}

interface Answer {
  readonly status: number
  readonly reasons: readonly string[]
}

async function ask(url: string): Promise<Answer> {
  const response = await fetch(url)
  const { reasons = [] } = (await response.json()) as { reasons?: string[] }
  return { status: response.status, reasons }
}
const healthz = (): Promise<Answer> => ask('http://127.0.0.1:10256/healthz')
const livez = (): Promise<Answer> => ask('http://127.0.0.1:10256/livez')
const checked = (): Promise<Answer> => ask('http://127.0.0.1:32041/')

async function metric(name: string): Promise<number> {
  const text = await (await fetch('http://127.0.0.1:10249/metrics')).text()
  return Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1])
}

describe('a node on which something is missing', () => {
  const { folder, breakage } = breakablePrograms()
  let program: Program
  let brokenAt: number

  before(async () => {
    await prepareNode()
    await sh('ip link add link9 up type dummy; ip addr add 10.9.9.1/24 broadcast 10.9.9.255 dev link9')
    const [config, manifests] = [join(temporaryFolder(), 'config.json'), temporaryFolder()]
    writeFileSync(config, JSON.stringify(CONFIG))
    writeFileSync(
      join(manifests, 'all.yaml'),
      objects()
        .map((object) => JSON.stringify(object))
        .join('\n---\n'),
    )
    const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'lab' } }
    writeFileSync(join(manifests, 'node.yaml'), JSON.stringify(node))
    program = new Program(
      ['--config', config, '--manifests', manifests, '--hostname-override', 'lab'],
      ['env', `PATH=${folder}:${process.env.PATH}`],
    )
    await program.logged('wrote the rules of iptables')
  })
  after(async () => {
    await program.stop()
    await sh('ip6tables -F ELSEWHERE; ip6tables -X ELSEWHERE').catch(() => '')
    await clearNode()
    await sh('ip link del link9')
  })

  it('a real server that the kernel refuses does not count', async () => {
    await eventually(
      async () => expect(await metric('kube_ipvs_failing_objects')).to.be.greaterThan(0),
      PATIENCE_MS,
    )

    expect(await metric('kube_ipvs_faults')).to.equal(0)
    for (const asked of [healthz, livez, checked])
      await eventually(
        async () => expect(await asked()).to.deep.equal({ status: 200, reasons: [] }),
        PATIENCE_MS,
      )
  })

  it('rules that cannot be written, and a set that cannot be used, are said at once', async () => {
    writeFileSync(breakage, '')
    brokenAt = Date.now()
    await sh(`
      iptables -t nat -F KUBE-SERVICES
      for table in filter mangle; do ip6tables -t $table -F KUBE-SOURCE-RANGES-FIREWALL; done
      ipset destroy ${SET}
      ipset create ${SET} hash:net family inet6
      ip6tables -N ELSEWHERE
      ip6tables -A ELSEWHERE -m set --match-set ${SET} dst`)

    await eventually(async () => {
      const { reasons } = await healthz()
      expect(reasons.some((reason) => NOT_WRITTEN.test(reason))).to.equal(true)
      expect(reasons.some((reason) => reason.startsWith(NO_SET))).to.equal(true)
    }, PATIENCE_MS)
    expect(await metric('kube_ipvs_faults')).to.be.greaterThan(1)
  })

  it('and so is whose source ranges are not enforced, once', async () => {
    const told = (): unknown[] =>
      program.lines
        .filter(({ msg }) => msg === 'source ranges are not enforced')
        .map(({ level, family, services }) => [level, family, services])
    const expected = [
      [50, 'IPv4', 'shop/restricted'],
      [50, 'IPv6', 'shop/restricted'],
    ]
    await eventually(() => expect(told()).to.have.deep.members(expected), PATIENCE_MS)
    expect((await healthz()).reasons.join('\n')).to.contain(
      'Source ranges of shop/restricted are not enforced for IPv4',
    )
  })

  it('after a minute, load balancers and kubelet are told, and why', async () => {
    if (Date.now() - brokenAt < 50_000)
      expect([(await healthz()).status, (await livez()).status, (await checked()).status]).to.deep.equal([
        200, 200, 200,
      ])
    for (const asked of [healthz, livez, checked]) {
      const { status, reasons } = await eventually(async () => {
        const answer = await asked()
        expect(answer.status).to.equal(503)
        return answer
      }, 120_000)
      expect(status).to.equal(503)
      expect(reasons.some((reason) => NOT_WRITTEN.test(reason))).to.equal(true)
    }
    expect(Date.now() - brokenAt).to.be.greaterThan(59_000)
    expect(
      program.lines.filter(({ msg }) => msg === 'source ranges are not enforced'),
      'said once',
    ).to.have.length(2)
  })

  it('what is mended counts no more; the rest does, until it is, too', async () => {
    rmSync(breakage)
    await program.logged('source ranges are enforced again')
    const { status, reasons } = await healthz()
    expect([status, reasons.filter((reason) => reason.startsWith(NO_SET)).length]).to.deep.equal([503, 1])
    expect(reasons.filter((reason) => NOT_WRITTEN.test(reason))).to.deep.equal([])
    expect(await run('iptables', '-t', 'nat', '-S', 'KUBE-SERVICES')).to.contain('KUBE-CLUSTER-IP')

    await sh(`ip6tables -F ELSEWHERE; ip6tables -X ELSEWHERE`)
    for (const asked of [healthz, livez, checked])
      await eventually(
        async () => expect(await asked()).to.deep.equal({ status: 200, reasons: [] }),
        PATIENCE_MS,
      )
    // Its members are tried again after a pause of their own.
    await eventually(
      async () => expect(await run('ipset', 'save', SET)).to.contain('2001:db8::/64'),
      2 * PATIENCE_MS,
    )
    expect(await run('ip6tables', '-S', 'KUBE-SOURCE-RANGES-FIREWALL')).to.contain(SET)
    expect(await metric('kube_ipvs_faults')).to.equal(0)
    expect(
      program.lines
        .filter(({ msg }) => msg === 'source ranges are enforced again')
        .map(({ family }) => family),
    ).to.have.members(['IPv4', 'IPv6'])
  })
})
