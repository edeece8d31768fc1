/** Draining by hand, with connections: they go on, new ones go elsewhere, and a restart ends it. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { endpoint, node, service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import {
  clearNode,
  type HeldConnections,
  Host,
  ipvsadm,
  prepareNode,
  Program,
  temporaryFolder,
} from '../support/lab.ts'

const VIP = '10.96.0.10'
const folder = temporaryFolder()
const ARGS = ['--manifests', folder, '--hostname-override', 'node-1']

/** What a command prints, and its exit code. */
async function command(...args: readonly string[]): Promise<readonly [number | null, string]> {
  const program = new Program(args)
  const code = await program.ended()
  return [code, [program.stdout, ...program.lines.map(({ msg }) => msg)].join('\n')]
}

async function weightsAre(expected: readonly string[]): Promise<void> {
  await eventually(async () => {
    const lines = (await ipvsadm()).filter((line) => line.startsWith('-a'))
    expect(lines.map((line) => line.replace(/^.*-r (\S+).*-w (\d+).*$/, '$1 $2'))).to.have.members(expected)
  }, 60_000)
}

describe('drain', () => {
  let program: Program
  let client: Host
  let held: HeldConnections

  before(async () => {
    await prepareNode()
    const pods = [await Host.add('pod1', 1), await Host.add('pod2', 2)]
    client = await Host.add('client', 100)
    await Promise.all(pods.map((pod) => pod.serve()))
    const endpoints = pods.map(({ ipv4, name }) =>
      endpoint(ipv4, { nodeName: 'node-1', targetRef: { kind: 'Pod', name: `web-${name}` } }),
    )
    const objects = [node(), service({ clusterIP: VIP }), slice({ endpoints })]
    writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
    program = await Program.start(...ARGS)
    held = await client.hold('tcp', VIP, 80, 4)
  })
  after(async () => {
    await held.close()
    await program.stop('SIGKILL')
    await clearNode()
  })

  it('sends new connections elsewhere, and breaks none', async () => {
    const [code, text] = await command('drain', 'shop/web-pod1')
    expect(code, text).to.equal(0)
    expect(text).to.match(/^shop\/web-pod1: no new connections since/m)
    expect(text).to.contain('shop/web: 1 endpoint is left')

    await weightsAre(['10.244.1.2:8080 0', '10.244.2.2:8080 1'])
    expect((await client.connect('tcp', VIP, 80, { count: 6 })).answers).to.deep.equal({ pod2: 6 })
    expect(await held.open()).to.equal(4)
  })

  it('is no difference, and no fault', async () => {
    const [code, text] = await command('diff', ...ARGS)
    expect(code, text).to.equal(0)
    expect(text).to.contain('# drained by hand, until "kube-ipvs undrain shop/web-pod1"')
    expect((await command('doctor', '--only', 'process', ...ARGS))[1]).to.contain(
      'shop/web-pod1 is drained by hand',
    )
  })

  it('ends with undrain', async () => {
    expect((await command('undrain', 'web-pod1'))[1]).to.contain('Nothing is drained by hand on node node-1')
    await weightsAre(['10.244.1.2:8080 1', '10.244.2.2:8080 1'])
    expect(await held.open()).to.equal(4)
  })

  it('ends with the process, too', async () => {
    await command('drain', '10.244.2.2')
    await weightsAre(['10.244.1.2:8080 1', '10.244.2.2:8080 0'])
    await program.stop('SIGKILL')
    expect(await command('drain', '10.244.2.2').then(([code]) => code)).to.equal(1)
    program = await Program.start(...ARGS)
    await weightsAre(['10.244.1.2:8080 1', '10.244.2.2:8080 1'])
    expect((await command('drain'))[1]).to.contain('Nothing is drained by hand')
    expect(await held.open()).to.equal(4)
    expect(held.broken).to.deep.equal({})
  })
})
