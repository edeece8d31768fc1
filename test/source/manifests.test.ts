import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { Cluster } from '../../src/model/facts/cluster.ts'
import { followManifests, parseManifest } from '../../src/source/manifests.ts'
import { service, slice } from '../support/builders.ts'
import { eventually } from '../support/eventually.ts'
import { complaints, recordingLog } from '../support/log.ts'
import { rejectionOf } from '../support/rejection.ts'

describe('parseManifest', () => {
  const parse = (text: string) => {
    const { objects, problems, isWhole } = parseManifest('/m/a.yaml', text)
    return { names: [...objects.keys()], problems, isWhole }
  }

  it('reads several documents, JSON and Lists', () => {
    const list = JSON.stringify({ kind: 'List', items: [service({ name: 'b' }), slice({ service: 'b' })] })
    // Of an API server: the items do not say what they are.
    const { kind: _, ...item } = service({ name: 'c' })
    const services = JSON.stringify({ kind: 'ServiceList', items: [item] })

    expect(
      parse(`${JSON.stringify(service())}\n---\n# nothing\n---\n${list}\n---\n${services}\n`),
    ).to.deep.equal({
      names: ['Service shop/web', 'Service shop/b', 'EndpointSlice shop/b-1', 'Service shop/c'],
      problems: [],
      isWhole: true,
    })
  })

  it('names the file and the line of malformed YAML, and reads the other documents', () => {
    const { names, problems, isWhole } = parse(
      `kind: Service\nmetadata: {name: web\n---\n${JSON.stringify(service())}`,
    )

    expect(names).to.deep.equal(['Service shop/web'])
    expect(problems).to.have.length(1)
    expect(problems[0]).to.match(/^Cannot read a document of manifest \/m\/a\.yaml: .* at line 3/)
    expect(isWhole).to.equal(false)
  })

  it('names an unknown kind, and reads the other documents', () => {
    const { names, problems } = parse(
      `kind: Deployment\n---\n${JSON.stringify(service())}\n---\nmetadata: {}\n`,
    )

    expect(names).to.deep.equal(['Service shop/web'])
    expect(problems).to.deep.equal([
      'Ignored an object of manifest /m/a.yaml: kind is "Deployment", expected Service, EndpointSlice, Node, ServiceCIDR',
      'Ignored an object of manifest /m/a.yaml: kind is missing, expected Service, EndpointSlice, Node, ServiceCIDR',
    ])
  })

  it('says which field of which object is wrong, and where', () => {
    expect(parse(JSON.stringify(service({ ports: [{ port: 0 }] }))).problems).to.deep.equal([
      'Cannot use Service shop/web: spec.ports[0].port is 0, expected a number from 1 to 65535 (manifest /m/a.yaml)',
    ])
  })

  for (const text of ['7', '"text"', '[]', '- a\n- b']) {
    it(`survives ${JSON.stringify(text)}`, () => {
      expect(parse(text).problems).to.have.length.greaterThan(0)
    })
  }
})

describe('followManifests', () => {
  let folder: string
  let cluster: Cluster
  let abort: AbortController
  let running: Promise<void>
  let lines: ReturnType<typeof recordingLog>['lines']

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'kube-ipvs-'))
    cluster = new Cluster('node-1', () => undefined)
    abort = new AbortController()
  })
  afterEach(async () => {
    abort.abort()
    await running.catch(() => undefined)
    rmSync(folder, { recursive: true, force: true })
  })

  const write = (name: string, ...objects: object[]): void => {
    writeFileSync(join(folder, name), objects.map((object) => JSON.stringify(object)).join('\n---\n'))
  }
  async function start(): Promise<void> {
    const recording = recordingLog()
    lines = recording.lines
    running = followManifests({ directory: folder, cluster, log: recording.log, signal: abort.signal })
    await eventually(() => expect(cluster.synced).to.equal(true))
  }
  const clusterIp = (name: string): string | undefined => cluster.service(`shop/${name}`)?.clusterIps[0]

  it('reads what is there, then follows new, changed and deleted files', async () => {
    write('a.yaml', service({ name: 'a' }))
    write('ignored.txt', service({ name: 'x' }))
    write('.hidden.yaml', service({ name: 'y' }))
    await start()
    expect(cluster.serviceCount).to.equal(1)

    write('b.json', service({ name: 'b' }))
    await eventually(() => expect(clusterIp('b')).to.equal('10.96.0.10'))
    write('b.json', service({ name: 'b', clusterIP: '10.96.0.11' }))
    await eventually(() => expect(clusterIp('b')).to.equal('10.96.0.11'))
    rmSync(join(folder, 'a.yaml'))
    await eventually(() => expect(clusterIp('a')).to.equal(undefined))

    expect(complaints(lines)).to.deep.equal([])
  })

  it('marks only what has changed', async () => {
    write('a.yaml', service({ name: 'a' }), service({ name: 'b' }))
    write('c.yaml', service({ name: 'c' }))
    await start()
    cluster.takeDirty()

    write('c.yaml', service({ name: 'c', clusterIP: '10.96.0.11' }))

    await eventually(() => expect(clusterIp('c')).to.equal('10.96.0.11'))
    expect(cluster.takeDirty()).to.deep.equal(['shop/c'])
  })

  it('keeps what a file gave before it became malformed, and takes up what can be read', async () => {
    write('a.yaml', service({ name: 'a' }), service({ name: 'b' }))
    await start()

    writeFileSync(
      join(folder, 'a.yaml'),
      `kind: [\n---\n${JSON.stringify(service({ name: 'a', clusterIP: '10.96.0.11' }))}`,
    )

    await eventually(() => expect(clusterIp('a')).to.equal('10.96.0.11'))
    expect(clusterIp('b')).to.equal('10.96.0.10')
    expect(complaints(lines)).to.have.length(1)
  })

  it('keeps an object whose new version cannot be used', async () => {
    write('a.yaml', service({ name: 'a' }))
    await start()

    write('a.yaml', service({ name: 'a', ports: [{ port: 99_999 }] }), service({ name: 'b' }))

    await eventually(() => expect(clusterIp('b')).to.equal('10.96.0.10'))
    expect(cluster.service('shop/a')?.ports[0]?.port).to.equal(80)
  })

  it('takes an empty file for one that is being written', async () => {
    write('a.yaml', service({ name: 'a' }))
    await start()

    writeFileSync(join(folder, 'a.yaml'), '')

    await eventually(() => expect(complaints(lines)).to.have.length(1))
    expect(clusterIp('a')).to.equal('10.96.0.10')
  })

  it('follows the symlink swap of a mounted ConfigMap', async () => {
    for (const [version, address] of [
      ['1', '10.96.0.10'],
      ['2', '10.96.0.11'],
    ] as const) {
      mkdirSync(join(folder, `..${version}`))
      writeFileSync(
        join(folder, `..${version}`, 'a.yaml'),
        JSON.stringify(service({ name: 'a', clusterIP: address })),
      )
    }
    symlinkSync('..1', join(folder, '..data'))
    symlinkSync('..data/a.yaml', join(folder, 'a.yaml'))
    await start()
    expect(clusterIp('a')).to.equal('10.96.0.10')

    symlinkSync('..2', join(folder, '..new'))
    renameSync(join(folder, '..new'), join(folder, '..data'))

    await eventually(() => expect(clusterIp('a')).to.equal('10.96.0.11'))
  })

  it('fails at the start when there is no such directory', async () => {
    running = followManifests({
      directory: join(folder, 'none'),
      cluster,
      log: recordingLog().log,
      signal: abort.signal,
    })

    expect(String(await rejectionOf(running))).to.equal(
      `Error: Cannot watch the manifests in ${join(folder, 'none')}`,
    )
  })
})
