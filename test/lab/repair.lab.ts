/**
 * What somebody else changes is repaired by the audit, and reported; what is theirs is left alone. That the audit
 * keeps its interval is shown with a clock of its own in test/loop/audit.test.ts.
 */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { boundAddresses, ipvsadm, prepareNode, Program, run, sh, temporaryFolder } from '../support/lab.ts'

const WANTED = [
  '-A -t 10.96.0.10:80 -s rr',
  '-a -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 1',
  '-a -t 10.96.0.10:80 -r 10.244.0.2:8080 -m -w 1',
]
const FOREIGN = [
  '-A -t 192.0.2.1:80 -s wlc -p 50',
  '-a -t 192.0.2.1:80 -r 192.0.2.9:80 -g -w 7',
  '-A -f 7 -s rr',
]
const AUDIT_SECONDS = 2

describe('edits by somebody else', () => {
  let program: Program
  before(async () => {
    await prepareNode()
    for (const line of FOREIGN) await sh(`ipvsadm ${line}`)
    const folder = temporaryFolder()
    const objects = [service(), slice({ endpoints: ['10.244.0.1', '10.244.0.2'] })]
    writeFileSync(join(folder, 'web.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
    const config = join(temporaryFolder(), 'config.yaml')
    writeFileSync(
      config,
      `apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: ipvs\nipvs: {syncPeriod: ${AUDIT_SECONDS}s}\n`,
    )
    program = await Program.start('--config', config, '--manifests', folder)
  })
  after(() => program.stop())

  const edits: readonly { readonly name: string; readonly edit: string; readonly found: string }[] = [
    {
      name: 'a real server deleted',
      edit: 'ipvsadm -d -t 10.96.0.10:80 -r 10.244.0.1:8080',
      found: 'real server 10.244.0.1:8080 is missing',
    },
    {
      name: 'a real server added',
      edit: 'ipvsadm -a -t 10.96.0.10:80 -r 10.244.0.9:8080 -m',
      found: 'real server 10.244.0.9:8080 has appeared',
    },
    {
      name: 'a weight changed',
      edit: 'ipvsadm -e -t 10.96.0.10:80 -r 10.244.0.1:8080 -m -w 9',
      found: 'real server 10.244.0.1:8080 has other settings (weight 9, expected 1)',
    },
    {
      name: 'the scheduler changed',
      edit: 'ipvsadm -E -t 10.96.0.10:80 -s wlc',
      found: 'virtual server has other settings',
    },
    {
      name: 'a virtual server deleted',
      edit: 'ipvsadm -D -t 10.96.0.10:80',
      found: 'virtual server is missing',
    },
    {
      name: 'a virtual server added to our address',
      edit: 'ipvsadm -A -t 10.96.0.10:81 -s rr',
      found: 'virtual server has appeared',
    },
    {
      name: 'an address unbound',
      edit: 'ip addr del 10.96.0.10/32 dev kube-ipvs0',
      found: 'address is missing',
    },
    {
      name: 'an address bound',
      edit: 'ip addr add 10.96.0.99/32 dev kube-ipvs0',
      found: 'address has appeared',
    },
    { name: 'kube-ipvs0 deleted', edit: 'ip link del kube-ipvs0', found: 'address is missing' },
    { name: 'our set flushed', edit: 'ipset flush KUBE-IPVS-IPS', found: 'set member is missing' },
    { name: 'everything flushed', edit: 'ipvsadm -C', found: 'virtual server is missing' },
  ]
  for (const { name, edit, found } of edits) {
    it(`${name}: repaired by the audit, and reported`, async () => {
      program.lines.length = 0
      await sh(edit)

      await eventually(
        async () => {
          const lines = await ipvsadm()
          expect(lines.filter((line) => line.includes('10.96.'))).to.deep.equal(WANTED)
          expect(await boundAddresses()).to.deep.equal(['10.96.0.10'])
          expect(await run('ipset', 'save', 'KUBE-IPVS-IPS')).to.contain('add KUBE-IPVS-IPS 10.96.0.10\n')
        },
        60_000,
        250,
      )

      expect(program.complaints().map((line) => line.found)).to.include(found)
    })
  }

  it('leaves foreign virtual servers as they are', async () => {
    for (const line of FOREIGN) await sh(`ipvsadm ${line}`)
    await new Promise((resolve) => setTimeout(resolve, 3 * AUDIT_SECONDS * 1_000))

    expect((await ipvsadm()).filter((line) => !line.includes('10.96.')).sort()).to.deep.equal(
      [...FOREIGN].sort(),
    )
  })

  it('was quiet about everything else', () => {
    expect(program.complaints(50)).to.deep.equal([])
  })
})
