/** Kubernetes YAML in, the tools' lines out: each pair of files here is a scenario. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { parseAllDocuments } from 'yaml'
import { parseAddress } from '../../src/model/address.ts'
import { formatOperation, formatVirtualServers } from '../../src/model/ipvsadm.ts'
import { Story } from '../support/story.ts'

const files = readdirSync(import.meta.dirname)
const names = files.filter((name) => name.endsWith('.yaml')).map((name) => name.replace('.yaml', ''))
const read = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8')

async function run(yaml: string): Promise<string[]> {
  const story = new Story()
  story.scheduler = /^# scheduler: (\w+)$/m.exec(yaml)?.[1] ?? 'rr'
  const addresses = /^# node addresses: (.*)$/m.exec(yaml)?.[1]
  if (addresses !== undefined) story.nodeAddresses = addresses.split(', ').map((text) => parseAddress(text)!)
  const objects = parseAllDocuments(yaml).map((document) => document.toJS() as { kind: string })
  const of = (kind: string): object[] => objects.filter((object) => object.kind === kind)
  await story.list(of('Service'), of('EndpointSlice'), of('Node'))
  await story.stop()
  const { setMembers, addresses: bound } = story.kernel.state
  return [
    ...formatVirtualServers(story.kernel.state),
    ...[...setMembers].sort().map((member) => formatOperation({ kind: 'addSetMember', member })),
    ...[...bound].sort().map((address) => formatOperation({ kind: 'bindAddress', address })),
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
