import { expect } from 'chai'
import { Mapper } from '../../../src/loop/intake/mapper.ts'
import { Cluster } from '../../../src/model/facts/cluster.ts'
import type { KernelObject } from '../../../src/model/kernel-object.ts'
import { Ledger } from '../../../src/model/claims/ledger.ts'
import { parseEndpointSlice, parseService } from '../../../src/model/facts/parse-facts.ts'
import { service, slice } from '../../support/builders.ts'
import { mapping } from '../../support/mapping.ts'

const YOUNG = '10.96.0.1:80/TCP'
const OLD = '10.96.0.2:80/TCP'

/** Each once. */
function virtualServersAmong(objects: Iterable<KernelObject>): string[] {
  const keys = [...objects].flatMap(({ kind, key }) => (kind === 'virtualServer' ? [key] : []))
  return [...new Set(keys)]
}

/** Two Services, of which the second is the older one, and a mapper of them. */
class Bench {
  readonly cluster = new Cluster('node-1', () => undefined)
  readonly ledger = new Ledger()
  #mapped: string[] = []
  #touched = new Set<KernelObject>()
  readonly mapper = new Mapper({
    cluster: this.cluster,
    ledger: this.ledger,
    reporter: { refusals: () => undefined, refusedEndpoints: () => undefined, lacks: () => undefined },
    mapping,
    onServiceMapped: (name) => this.#mapped.push(name),
    queue: { add: (object) => this.#touched.add(object) },
  })

  constructor() {
    this.put('young', '10.96.0.1', '2026-02-01T00:00:00Z')
    this.put('old', '10.96.0.2', '2026-01-01T00:00:00Z')
  }

  put(name: string, clusterIP: string, creationTimestamp: string): void {
    const parsed = parseService(service({ name, clusterIP, metadata: { creationTimestamp } }))
    this.cluster.services.put(parsed)
  }

  putSlice(of: string): void {
    this.cluster.endpointSlices.put(parseEndpointSlice(slice({ service: of, endpoints: ['10.244.0.1'] })))
  }

  /** Virtual servers that may have to be changed, since the last call. */
  takeTouched(): string[] {
    const touched = virtualServersAmong(this.#touched)
    this.#touched.clear()
    return touched
  }

  takeMapped(): string[] {
    return this.#mapped.splice(0)
  }
}

describe('Mapper', () => {
  let bench: Bench
  beforeEach(() => {
    bench = new Bench()
  })

  it('maps what has changed, once', async () => {
    expect(bench.mapper.takeChanges()).to.equal(true)
    await bench.mapper.mapTaken()

    expect(bench.takeMapped()).to.deep.equal(['shop/young', 'shop/old'])
    expect(bench.takeTouched()).to.deep.equal([YOUNG, OLD])
    expect(bench.mapper.takeChanges()).to.equal(false)
    bench.putSlice('old')
    expect(bench.mapper.takeChanges()).to.equal(true)
    await bench.mapper.mapTaken()
    expect(bench.takeMapped()).to.deep.equal(['shop/old'])
  })

  it('withdraws the claims of a Service that is gone, and says what they were on', async () => {
    bench.mapper.takeChanges()
    await bench.mapper.mapTaken()
    bench.takeTouched()

    bench.cluster.services.remove('shop/old')
    bench.mapper.takeChanges()
    await bench.mapper.mapTaken()

    expect(bench.takeTouched()).to.deep.equal([OLD])
    expect([...bench.ledger.owners()]).to.deep.equal(['shop/young'])
  })

  it('foresees only Services of which a slice is known, and leaves the others for later', async () => {
    bench.putSlice('young')
    bench.putSlice('unheard-of')
    await bench.mapper.foresee()
    expect(bench.takeMapped()).to.deep.equal(['shop/young'])

    expect(bench.mapper.takeChanges()).to.equal(true)
    await bench.mapper.mapTaken()

    expect(bench.takeMapped()).to.have.members(['shop/old', 'shop/unheard-of'])
  })

  it('gives the objects of all Services, the oldest first, and maps each when it is asked for', async () => {
    bench.putSlice('young')
    await bench.mapper.foresee()
    bench.takeMapped()
    bench.mapper.takeChanges()

    const objects = bench.mapper.mapAll()
    expect(bench.takeMapped()).to.deep.equal([])
    const virtualServers = virtualServersAmong(objects)

    expect(virtualServers).to.deep.equal([OLD, YOUNG])
    expect(bench.takeMapped(), 'mapped, as it was not foreseen').to.deep.equal(['shop/old'])
  })
})
