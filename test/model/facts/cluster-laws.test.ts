/** What the cluster keeps beside the facts, to be quick, is what one would find by looking at all of them. */
import { expect } from 'chai'
import type { Address } from '../../../src/model/address.ts'
import { formatCidr } from '../../../src/model/cidr.ts'
import { clusterIpNetworks } from '../../../src/model/facts/cluster-ip-range.ts'
import { Cluster } from '../../../src/model/facts/cluster.ts'
import type { EndpointSlice, Service } from '../../../src/model/facts/facts.ts'
import { parseEndpointSlice, parseService } from '../../../src/model/facts/parse-facts.ts'
import { service, slice } from '../../support/builders.ts'
import { type Random, withRandom } from '../../support/random.ts'

const HISTORIES = 100
const EVENTS = 40
/** Few, so that they meet: 10.0 is where endpoints are, 10.96 where cluster IPs are, and some are in the other's. */
const ADDRESSES = [
  '10.0.0.1',
  '10.0.0.2',
  '10.0.1.1',
  '10.96.0.1',
  '10.96.0.2',
  '10.96.7.1',
  'fd00::1',
  'fd00:1::1',
]

class World {
  readonly cluster = new Cluster('node-1', () => undefined)
  readonly services = new Map<string, Service>()
  readonly slices = new Map<string, EndpointSlice>()
  readonly #random: Random

  constructor(random: Random) {
    this.#random = random
  }

  event(): void {
    const namespace = this.#random.pick(['default', 'shop'])
    const name = this.#random.pick(['kubernetes', 'web'])
    if (this.#random.chance(0.5)) this.#service(namespace, name)
    else this.#slice(namespace, name)
    this.cluster.takeDirty()
  }

  #some(most: number): string[] {
    return this.#random.shuffle(ADDRESSES).slice(0, this.#random.int(most + 1))
  }

  #service(namespace: string, name: string): void {
    const clusterIP = this.#random.pick(ADDRESSES)
    const object = parseService(service({ namespace, name, clusterIP, spec: { externalIPs: this.#some(2) } }))
    if (this.#random.chance(0.3)) {
      this.services.delete(object.name)
      this.cluster.services.remove(object.name)
    } else {
      this.services.set(object.name, object.fact!)
      this.cluster.services.put(object)
    }
  }

  #slice(namespace: string, of: string): void {
    const endpoints = this.#some(3).filter((address) => !address.includes(':'))
    const object = parseEndpointSlice(slice({ namespace, service: of, endpoints }))
    if (this.#random.chance(0.3)) {
      this.slices.delete(object.name)
      this.cluster.endpointSlices.remove(object.name)
    } else {
      this.slices.set(object.name, object.fact!)
      this.cluster.endpointSlices.put(object)
    }
  }

  /** Networks of 256 in which there are addresses of Services as well as endpoints. */
  mixed(): string[] {
    const network = (address: Address): string => address.slice(0, Math.max(address.lastIndexOf('.'), 0))
    const services = [...this.services.values()].flatMap((one) => [...one.clusterIps, ...one.externalIps])
    const endpoints = [...this.slices.values()].flatMap((one) => one.endpoints.map(({ address }) => address))
    return services.map(network).filter((one) => endpoints.map(network).includes(one))
  }

  range(): string[] {
    const clusterIps = [...this.services.values()].flatMap(({ name, clusterIps }) =>
      clusterIps.map((address) => [name, address] as const),
    )
    return clusterIpNetworks(clusterIps).map(formatCidr)
  }
}

describe('the cluster, in any history,', () => {
  it('knows whether endpoints are close to addresses of Services', () =>
    withRandom((random) => {
      const seen = { mixed: 0, apart: 0 }
      for (let history = 0; history < HISTORIES; history++) {
        const world = new World(random)
        for (let event = 0; event < EVENTS; event++) {
          world.event()
          expect(world.cluster.addresses.isMixed).to.equal(world.mixed().length > 0)
          seen[world.cluster.addresses.isMixed ? 'mixed' : 'apart']++
        }
      }
      expect(Math.min(seen.mixed, seen.apart)).to.be.above(HISTORIES)
    }))

  it('knows the network of the cluster IPs', () =>
    withRandom((random) => {
      const seen = new Set<string>()
      for (let history = 0; history < HISTORIES; history++) {
        const world = new World(random)
        for (let event = 0; event < EVENTS; event++) {
          world.event()
          const range = world.cluster.clusterIpNetworks().map(formatCidr)
          expect(range).to.have.members(world.range())
          seen.add(range.join())
        }
      }
      expect(seen.size).to.be.above(10)
    }))
})
