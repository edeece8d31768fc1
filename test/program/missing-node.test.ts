/** Case A13: a name that no Node has is said, once, with the names that there are. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { nameNode } from '../../src/commands/configuration.ts'
import { describeMissingNode, explainMissingNode, type NodeNaming } from '../../src/program/missing-node.ts'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { openOrigin, type Origin } from '../../src/program/origin.ts'
import { Metrics } from '../../src/serve/metrics.ts'
import { ApiServer } from '../support/api-server.ts'
import { service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'

const CONFIGURED: NodeNaming = { name: '192.168.50.9', source: 'hostnameOverride of the configuration' }

describe('nameNode', () => {
  const table: readonly (readonly [string | undefined, string, NodeNaming])[] = [
    ['Flag ', 'field', { name: 'flag', source: '--hostname-override' }],
    [undefined, 'Field', { name: 'field', source: 'hostnameOverride of the configuration' }],
    [undefined, '', { name: 'host.example.com', source: "the host's name" }],
  ]
  for (const [flag, field, expected] of table) {
    it(`${flag ?? 'no flag'}, ${field || 'no field'}: ${expected.name}, by ${expected.source}`, () => {
      const commandLine = { hostnameOverride: flag }
      const naming = nameNode(commandLine, { hostnameOverride: field }, 'Host.example.com')
      expect(naming).to.deep.equal(expected)
    })
  }

  it('refuses a name that is empty', () => {
    const name = (): unknown => nameNode({ hostnameOverride: ' ' }, { hostnameOverride: 'field' }, 'host')
    expect(name).to.throw('This node has no name: set --hostname-override')
  })
})

describe('describeMissingNode', () => {
  const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `n${i + 1}`)
  const table: readonly (readonly [NodeNaming, Parameters<typeof describeMissingNode>[1], string])[] = [
    [
      CONFIGURED,
      { names: ['lab', 'node2'], more: 0 },
      'There is no Node "192.168.50.9" (hostnameOverride of the configuration), so no endpoint counts as local. There are: lab, node2. Correct hostnameOverride of the configuration: it has to be a name that "kubectl get nodes" shows',
    ],
    [
      { name: 'node-1.example.com', source: "the host's name" },
      { names: names(20), more: 4_980 },
      'There is no Node "node-1.example.com" (the host\'s name), so no endpoint counts as local. There are: n1, n2, n3, n4, n5 and 4995 more. Set --hostname-override: it has to be a name that "kubectl get nodes" shows',
    ],
    [
      { name: 'master', source: '--hostname-override' },
      { names: [], more: 0 },
      'There is no Node "master" (--hostname-override), so no endpoint counts as local. There are no Nodes at all. Correct --hostname-override: it has to be a name that "kubectl get nodes" shows',
    ],
    [
      { name: 'master', source: '--hostname-override' },
      undefined,
      'There is no Node "master" (--hostname-override), so no endpoint counts as local. Correct --hostname-override: it has to be a name that "kubectl get nodes" shows',
    ],
  ]
  for (const [naming, known, expected] of table) {
    it(`${naming.name} among ${known?.names.length ?? 'unknown'} names`, () => {
      expect(describeMissingNode(naming, known)).to.equal(expected)
    })
  }
})

describe('explainMissingNode', () => {
  const node = (name: string): object => ({
    apiVersion: 'v1',
    kind: 'Node',
    metadata: { name },
    status: { images: Array.from({ length: 50 }, (_, i) => ({ names: [`registry.example.com/${i}`] })) },
  })
  let folder: string
  let server: ApiServer
  let abort: AbortController

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-nodes-'))
    server = await ApiServer.start()
    abort = new AbortController()
  })
  afterEach(async () => {
    abort.abort()
    await server.close()
    rmSync(folder, { recursive: true })
  })

  /** What is said when the Nodes of an origin have been listed, and what a caller is told. */
  async function said(naming: NodeNaming, choice: { manifests?: string; kubeconfig: string }) {
    const { log, lines } = recordingLog()
    const { signal } = abort
    const metrics = new Metrics({ defaults: false })
    const origin: Origin = openOrigin(choice, {
      nodeName: naming.name,
      metrics,
      log,
      signal,
      onApiMoved: () => undefined,
      onApiLost: () => undefined,
    })
    const cluster = new Cluster(naming.name, () => undefined)
    void origin.follow(cluster, signal)
    await eventually(() => expect(cluster.isListed('nodes')).to.equal(true), 10_000)
    const text = await explainMissingNode({ naming, cluster, origin, log, signal })
    expect(complaints(lines, 50)).to.deep.equal(text === undefined ? [] : [text])
    return { text, lines }
  }
  const kubeconfig = (): string => {
    const file = join(folder, 'kubeconfig')
    writeFileSync(file, server.kubeconfig())
    return file
  }
  const manifests = (...objects: readonly object[]): { manifests: string; kubeconfig: string } => {
    writeFileSync(join(folder, 'all.yaml'), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
    return { manifests: folder, kubeconfig: '' }
  }

  it('with an API server: the names that there are, asked for once, and nothing else of the Nodes', async () => {
    server.load('nodes', Array.from({ length: 30 }, (_, i) => node(`node-${i}`)) as never)
    const { text } = await said(CONFIGURED, { kubeconfig: kubeconfig() })

    expect(text).to.match(/There are: node-\d+, .* and 25 more\. /)
    const unselected = server.requests.filter(
      ({ url }) => url.pathname === '/api/v1/nodes' && !url.searchParams.has('fieldSelector'),
    )
    expect(unselected.map(({ url }) => url.search)).to.deep.equal(['?limit=20'])
    expect(server.listsOfNames).to.equal(1)
  })

  it('with an API server: nothing where the Node is there, which costs no request', async () => {
    server.load('nodes', [node('node-1'), node('node-2')] as never)
    const { text } = await said({ name: 'node-2', source: "the host's name" }, { kubeconfig: kubeconfig() })

    expect(text).to.equal(undefined)
    const asked = server.requests.filter(({ url }) => url.pathname === '/api/v1/nodes')
    expect(asked.every(({ url }) => url.searchParams.has('fieldSelector'))).to.equal(true)
  })

  it('with an API server that does not tell names: without them, and why for who debugs', async () => {
    server.load('nodes', [node('node-1')] as never)
    server.faults.push({ matches: (url) => url.search === '?limit=20', status: 403 })
    const { text, lines } = await said(CONFIGURED, { kubeconfig: kubeconfig() })

    expect(text)
      .to.match(/^There is no Node "192\.168\.50\.9"/)
      .and.not.contain('There are')
    expect(lines.map(({ msg }) => msg)).to.include('cannot list the names of the Nodes')
  })

  it('with manifests that have Nodes: the names of these', async () => {
    const { text } = await said(CONFIGURED, manifests(node('lab'), node('node2')))
    expect(text).to.contain('There are: lab, node2. ')
  })

  it('with manifests that have this Node: nothing', async () => {
    const naming: NodeNaming = { name: 'lab', source: '--hostname-override' }
    expect((await said(naming, manifests(node('lab')))).text).to.equal(undefined)
  })

  it('with manifests that have no Nodes: nothing, as there need be none', async () => {
    expect((await said(CONFIGURED, manifests(service(), slice()))).text).to.equal(undefined)
  })
})
