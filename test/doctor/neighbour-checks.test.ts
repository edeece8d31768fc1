/** Other proxies and firewalls: what counts as a fault, and what cannot be seen. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { checkRivals, droppingChains } from '../../src/doctor/neighbour-checks.ts'
import { parseCidr } from '../../src/model/cidr.ts'

describe('checkRivals', () => {
  let proc: string
  beforeEach(() => {
    proc = mkdtempSync(join(tmpdir(), 'kube-ipvs-proc-'))
    run(2, 'kthreadd')
  })
  afterEach(() => {
    rmSync(proc, { recursive: true })
  })

  function run(pid: number, name: string, ...args: readonly string[]): void {
    mkdirSync(join(proc, String(pid)))
    writeFileSync(join(proc, String(pid), 'comm'), `${name}\n`)
    writeFileSync(join(proc, String(pid), 'cmdline'), [name, ...args].join('\0'))
  }
  const found = (cidrs: readonly string[] = []): string[] =>
    checkRivals({ excludeCidrs: cidrs.map((cidr) => parseCidr(cidr)!) }, proc).map(({ what }) => what)

  it('names who writes the same tables', () => {
    for (const [i, name] of ['kube-proxy', 'keepalived', 'kube-vip', 'kube-router'].entries())
      run(10 + i, name)
    expect(found()).to.deep.equal([
      'kube-proxy runs on this node',
      'keepalived runs on this node',
      'kube-vip runs on this node',
      'kube-router runs on this node',
    ])
  })

  it('does not mind those whose addresses are excluded, or that leave Services alone', () => {
    run(10, 'keepalived')
    run(11, 'kube-vip')
    run(12, 'kube-router', '--run-router', '--run-service-proxy=false')
    expect(found(['192.0.2.0/24'])).to.deep.equal([])
  })

  it('says that it cannot see the processes of the host, which is no fault', () => {
    rmSync(join(proc, '2'), { recursive: true })
    run(1, 'node')
    expect(checkRivals({ excludeCidrs: [] }, proc)).to.have.length(1)
    expect(checkRivals({ excludeCidrs: [] }, proc)[0]).to.include({ isNote: true })
  })
})

describe('droppingChains', () => {
  const chain = (parts: object): object => ({
    chain: { family: 'inet', table: 'fw', name: 'in', hook: 'input', policy: 'drop', ...parts },
  })
  const found = (...chains: object[]): string[] =>
    droppingChains(JSON.stringify({ nftables: [{ metainfo: {} }, ...chains] })).map(({ what }) => what)

  it('names chains that drop what they do not accept, on the way to Services', () => {
    expect(found(chain({}), chain({ name: 'pass', hook: 'forward' }))).to.have.length(2)
  })

  it('does not mind others: accepting ones, other hooks, and those of iptables', () => {
    const others = [
      chain({ policy: 'accept' }),
      chain({ hook: 'output' }),
      chain({ hook: undefined, policy: undefined }),
      chain({ family: 'ip', table: 'filter', name: 'FORWARD', hook: 'forward' }),
      chain({ family: 'ip6', table: 'filter', name: 'INPUT' }),
    ]
    expect(found(...others)).to.deep.equal([])
  })
})
