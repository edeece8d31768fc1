/** Kubernetes YAML in, the tools' lines out: each pair of files here is a scenario. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { parseAllDocuments } from 'yaml'
import { type Address, parseAddress } from '../../src/model/address.ts'
import { parseCidr } from '../../src/model/cidr.ts'
import { formatOperation, formatVirtualServers } from '../../src/model/ipvsadm.ts'
import { Story } from '../support/story.ts'

const files = readdirSync(import.meta.dirname)
const names = files.filter((name) => name.endsWith('.yaml')).map((name) => name.replace('.yaml', ''))
const read = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8')

/** What the comments of a scenario say of the node: `# gateways: 192.168.50.254, fd00::1`. */
function lay(story: Story, yaml: string): void {
  const list = (name: string): string[] | undefined =>
    new RegExp(`^# ${name}: (.*)$`, 'm').exec(yaml)?.[1]!.split(', ')
  const addresses = (name: string): Address[] => (list(name) ?? []).map((text) => parseAddress(text)!)
  if (list('node addresses') !== undefined) story.nodeAddresses = addresses('node addresses')
  story.apiAddresses = new Set(addresses('API server'))
  story.peers = new Set(addresses('other nodes'))
  story.links = {
    gateways: new Map(addresses('gateways').map((address) => [address, 'eth0'])),
    neighbours: new Map(
      addresses('neighbours').map((address) => [address, { link: 'eth0', lladdr: `02:${address}` }]),
    ),
    routes: (list('routes') ?? []).map((text) => parseCidr(text)!),
  }
  const allowed = list('allowed')?.map((text) => text.split(' ') as [string, string])
  if (allowed !== undefined)
    story.policy = new Map(allowed.map(([namespace, network]) => [namespace, [parseCidr(network)!]]))
}

async function run(yaml: string): Promise<string[]> {
  const story = new Story()
  story.scheduler = /^# scheduler: (\w+)$/m.exec(yaml)?.[1] ?? 'rr'
  lay(story, yaml)
  const objects = parseAllDocuments(yaml).map((document) => document.toJS() as { kind: string })
  const of = (kind: string): object[] => objects.filter((object) => object.kind === kind)
  await story.list(of('Service'), of('EndpointSlice'), of('Node'), of('ServiceCIDR'))
  await story.stop()
  const { setMembers, addresses: bound } = story.kernel.state
  return [
    ...formatVirtualServers(story.kernel.state),
    ...[...setMembers].sort().map((member) => formatOperation({ kind: 'addSetMember', member })),
    ...[...bound.keys()]
      .sort()
      .map((address) => formatOperation({ kind: 'bindAddress', address, binding: 'address' })),
  ]
}

describe('scenarios', () => {
  for (const name of names) {
    const yaml = read(`${name}.yaml`)
    it(`${name}: ${yaml.split('\n')[0]!.replace('# ', '')}`, async () => {
      const expected = read(`${name}.ipvsadm`)
        .split('\n')
        .filter((line) => line !== '')

      expect((await run(yaml)).sort()).to.deep.equal(expected.sort())
    })
  }

  it('has an expectation for each scenario, and none that nothing reads', () => {
    const expectations = files
      .filter((name) => name.endsWith('.ipvsadm'))
      .map((name) => name.replace('.ipvsadm', ''))

    expect(expectations.sort()).to.deep.equal(names.sort())
  })
})
