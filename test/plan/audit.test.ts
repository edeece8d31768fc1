import { expect } from 'chai'
import { formatVirtualServers } from '../../src/model/ipvsadm.ts'
import { adoptTables, compareTables, correctRealServers, type Findings } from '../../src/plan/audit.ts'
import { FakeKernel } from '../support/fake-kernel.ts'

const VS = `-A -t 10.96.0.10:80 -s rr
-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1`

/** Corrects the belief `known` by what `actual` shows, but for the real servers. */
async function auditTables(known: FakeKernel, actual: FakeKernel): Promise<Findings> {
  const findings: Findings = { differences: [], foreign: new Set() }
  const comparison = compareTables(await actual.readTables(), known.state, new Set(), findings)
  while (comparison.next().done !== true);
  return findings
}

/** The same, all of it. */
async function audit(known: FakeKernel, actual: FakeKernel) {
  const { differences, foreign } = await auditTables(known, actual)
  const ids = [...known.state.virtualServers.values()].map(({ id }) => id)
  const observed = await actual.readRealServers(ids)
  for (const id of ids) differences.push(...correctRealServers(id, observed.get(id.key)!, known.state))
  return { found: differences.map(({ object, found }) => `${object.key}: ${found}`), foreign: [...foreign] }
}

describe('audit', () => {
  const cases: readonly {
    readonly name: string
    readonly actual: string
    readonly addresses?: readonly string[]
    readonly found: readonly string[]
  }[] = [
    { name: 'finds nothing in an equal state', actual: VS, found: [] },
    {
      name: 'finds a virtual server that is missing',
      actual: '',
      addresses: ['10.96.0.10'],
      found: ['10.96.0.10:80/TCP: virtual server is missing'],
    },
    {
      name: 'finds another scheduler',
      actual: VS.replace('rr', 'wlc'),
      found: ['10.96.0.10:80/TCP: virtual server has other settings'],
    },
    {
      name: 'finds a real server that is missing',
      actual: '-A -t 10.96.0.10:80 -s rr',
      found: ['10.96.0.10:80/TCP: real server 10.244.0.1:8080 is missing'],
    },
    {
      name: 'finds a real server that somebody added',
      actual: `${VS}\n-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1`,
      found: ['10.96.0.10:80/TCP: real server 10.244.0.2:8080 has appeared'],
    },
    {
      name: 'finds another weight',
      actual: VS.replace('-w 1', '-w 5'),
      found: ['10.96.0.10:80/TCP: real server 10.244.0.1:8080 has other settings (weight 5, expected 1)'],
    },
    {
      name: 'finds a virtual server that appeared on our address',
      actual: `${VS}\n-A -t 10.96.0.10:81 -s rr`,
      found: ['10.96.0.10:81/TCP: virtual server has appeared'],
    },
    {
      name: 'finds an address that was unbound, and its virtual servers stay ours',
      actual: VS,
      addresses: [],
      found: ['10.96.0.10: address is missing', 'KUBE-IPVS-IPS 10.96.0.10: set member is missing'],
    },
  ]
  for (const { name, actual, addresses, found } of cases) {
    it(`${name}, and believes it`, async () => {
      const known = new FakeKernel(VS)
      const kernel = new FakeKernel(actual, addresses)

      const first = await audit(known, kernel)
      const second = await audit(known, kernel)

      expect(first.found).to.deep.equal(found)
      expect(first.foreign).to.deep.equal([])
      expect(second.found).to.deep.equal([])
      expect(known.toString()).to.equal(kernel.toString())
      expect(known.state.addresses).to.deep.equal(kernel.state.addresses)
    })
  }

  for (const { name, actual, addresses } of [
    ...cases,
    {
      name: 'takes what is not ours for foreign',
      actual: `${VS}\n-A -t 192.0.2.1:80 -s wlc`,
      addresses: undefined,
    },
    { name: 'keeps what it has made, without its marks', actual: VS, addresses: ['10.96.0.99'] },
  ]) {
    it(`${name}, and adopting believes the same`, async () => {
      const [audited, adopted] = [new FakeKernel(VS), new FakeKernel(VS)]
      const kernel = new FakeKernel(actual, addresses ?? ['10.96.0.10'])

      const { foreign } = await auditTables(audited, kernel)

      expect(adoptTables(await kernel.readTables(), adopted.state)).to.deep.equal(foreign)
      expect(adopted.toString()).to.equal(audited.toString())
      expect(adopted.state.addresses).to.deep.equal(audited.state.addresses)
      expect(adopted.state.setMembers).to.deep.equal(audited.state.setMembers)
    })
  }

  it('adopts what is on our interface, and takes everything else for foreign', async () => {
    const known = new FakeKernel()
    const kernel = new FakeKernel(`${VS}\n-A -t 192.0.2.1:80 -s wlc`, ['10.96.0.10'])

    const { foreign } = await audit(known, kernel)

    expect(formatVirtualServers(known.state)).to.deep.equal(VS.split('\n'))
    expect(foreign).to.deep.equal(['192.0.2.1:80/TCP', '192.0.2.1'])
  })

  it('adopts a virtual server whose address is only in our set: its making was cut short', async () => {
    const known = new FakeKernel()
    const kernel = new FakeKernel(VS)
    kernel.state.addresses.clear()

    const { foreign } = await audit(known, kernel)

    expect(formatVirtualServers(known.state)).to.deep.equal(VS.split('\n'))
    expect(foreign).to.deep.equal([])
  })
})
